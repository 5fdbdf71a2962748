//! The stores that a querier knows: found, asked who they are, dropped when they are gone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use discovery::dns::Dns;
use metrics::{Counter, Kind as MetricKind, Registry};
use model::time::{Clock as _, WallClock};
use model::{
    Answer, BoxFuture, Cancel, Extent, Kind, LabelSelect, Labels, Matcher, Millis, Rows, Scope,
    Select, Source, SourceError, Str, TimeRange, View,
};
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use wire::grpc::{Channel, ChannelSettings, Meters};

mod selector;

pub use selector::Selector;

use crate::Proxy;
use crate::remote::{About, Remote};

/// How soon an endpoint that went silent is asked again, and its name looked up: a restart is over in
/// seconds, and the one after it in a row must not go before this one is back in use.
const SOON: Duration = Duration::from_secs(1);

/// For how long after its last answer that is done.
const HOPE: Duration = Duration::from_secs(60);

/// An endpoint as it was configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointSpec {
    /// `host:port`, or one of `dns+`, `dnssrv+`, `dnssrvnoa+`, `dnsdualstack+` before it.
    pub address: String,
    /// Kept, whatever becomes of it: its failure is always told.
    pub strict: bool,
    /// All its addresses are equal: one of them is asked.
    pub group: bool,
    /// How it is called.
    pub channel: ChannelSettings,
}

/// How endpoints are kept.
#[derive(Clone)]
pub struct EndpointsOptions {
    /// How often each is asked who it is.
    pub info_interval: Duration,
    /// How long the answer may take.
    pub info_timeout: Duration,
    /// An endpoint that has not answered for so long is dropped, unless it is strict.
    pub unhealthy_timeout: Duration,
    /// How often names are looked up.
    pub dns_interval: Duration,
    /// How long the next message of an answer may take.
    pub response_timeout: Option<Duration>,
    /// Which parts of stores are looked at; none: all.
    pub selector: Option<Selector>,
}

impl std::fmt::Debug for EndpointsOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointsOptions").finish_non_exhaustive()
    }
}

impl Default for EndpointsOptions {
    fn default() -> Self {
        Self {
            info_interval: Duration::from_secs(5),
            info_timeout: Duration::from_secs(5),
            unhealthy_timeout: Duration::from_secs(300),
            dns_interval: Duration::from_secs(30),
            response_timeout: None,
            selector: None,
        }
    }
}

/// What is known of an endpoint, for people.
#[derive(Clone, Debug)]
pub struct EndpointStatus {
    /// Its address.
    pub name: String,
    /// When it was asked last, ms.
    pub last_check: Millis,
    /// Why it did not answer; empty if it did.
    pub last_error: String,
    /// What it said when it answered last.
    pub about: Option<Arc<About>>,
}

/// The endpoints: a source over all that are stores.
pub struct Endpoints {
    inner: Arc<Inner>,
}

struct Inner {
    specs: RwLock<Vec<EndpointSpec>>,
    options: EndpointsOptions,
    members: RwLock<Arc<BTreeMap<String, Arc<Member>>>>,
    /// Addresses by configured name, as they were found last.
    resolved: Mutex<HashMap<String, (Instant, Vec<String>)>>,
    dns: Dns,
    /// Lookups and failures, under the names of today and under those that dashboards still read.
    lookups: [Counter; 2],
    failures: [Counter; 2],
    calls: Meters,
    runtime: Handle,
}

/// An endpoint as a question finds it.
pub struct Known {
    /// What it is called: its address, or the name of its group.
    pub name: Str,
    /// What it said when it answered last.
    pub about: Option<Arc<About>>,
    /// The connection to it.
    pub channel: Channel,
    /// Why it does not answer now.
    pub error: Option<String>,
}

struct Member {
    spec: EndpointSpec,
    /// Where it is.
    address: String,
    remote: Arc<Remote>,
    state: Mutex<State>,
}

struct State {
    last_check: Millis,
    last_error: String,
    answered: Option<Instant>,
    since: Instant,
}

impl Member {
    /// Whether it went silent a moment ago and may be back at once.
    fn is_awaited(&self) -> bool {
        let state = self.state.lock();
        !state.last_error.is_empty() && state.answered.unwrap_or(state.since).elapsed() < HOPE
    }
}

impl Endpoints {
    /// Knows of `specs`; nothing is asked before [`Endpoints::update`].
    pub fn new(
        specs: Vec<EndpointSpec>,
        options: EndpointsOptions,
        runtime: Handle,
        registry: &Registry,
    ) -> Result<Self, metrics::Error> {
        let lookups =
            |name: &str| registry.counter(name, "The number of DNS lookups resolutions attempts.");
        let failures = |name: &str| registry.counter(name, "The number of DNS lookup failures.");
        let inner = Arc::new(Inner {
            specs: RwLock::new(specs),
            options,
            members: RwLock::default(),
            resolved: Mutex::default(),
            dns: Dns::default(),
            calls: Meters::of_clients(registry)?,
            lookups: [
                lookups("thanos_query_endpoints_dns_lookups_total")?,
                lookups("thanos_query_store_apis_dns_lookups_total")?,
            ],
            failures: [
                failures("thanos_query_endpoints_dns_failures_total")?,
                failures("thanos_query_store_apis_dns_failures_total")?,
            ],
            runtime,
        });
        let weak = Arc::downgrade(&inner);
        registry.callback(
            MetricKind::Gauge,
            "thanos_store_nodes_grpc_connections",
            "Number of gRPC connection to Store APIs that answer.",
            move || {
                let members = weak.upgrade().map(|inner| inner.members.read().clone());
                let healthy = |m: &&Arc<Member>| m.state.lock().last_error.is_empty();
                members.map_or(0.0, |m| m.values().filter(healthy).count() as f64)
            },
        )?;
        Ok(Self { inner })
    }

    /// Takes over other endpoints; those that stay keep their connections.
    pub fn set(&self, specs: Vec<EndpointSpec>) {
        *self.inner.specs.write() = specs;
    }

    /// Looks names up where it is time to, and asks every endpoint who it is.
    pub async fn update(&self) {
        self.round(true).await;
    }

    /// One round of questions: to all, or to those alone that are new or awaited.
    async fn round(&self, all: bool) {
        let inner = &self.inner;
        let specs = inner.specs.read().clone();
        let mut wanted: BTreeMap<String, (EndpointSpec, String)> = BTreeMap::new();
        for spec in specs {
            let addresses = inner.resolve(&spec).await;
            if spec.group {
                // Any of them will do: the one in use while it answers, else the next.
                let used = inner.members.read().get(&spec.address).cloned();
                let turn = used.map_or(0, |member| {
                    let answers = member.state.lock().last_error.is_empty();
                    let at = addresses.iter().position(|a| *a == member.address);
                    at.map_or(0, |at| at + usize::from(!answers))
                });
                let at = turn.checked_rem(addresses.len()).unwrap_or(0);
                if let Some(address) = addresses.get(at) {
                    let address = address.clone();
                    wanted.insert(spec.address.clone(), (spec, address));
                }
                continue;
            }
            for address in addresses {
                wanted.insert(address.clone(), (spec.clone(), address));
            }
        }
        let before = inner.members.read().clone();
        let mut members = BTreeMap::new();
        for (name, (spec, address)) in wanted {
            let known = before.get(&name).filter(|m| m.spec == spec && !spec.group);
            let member = match known {
                Some(member) => Arc::clone(member),
                None => match Channel::new(&address, &spec.channel) {
                    Ok(channel) => Arc::new(Member {
                        remote: Arc::new(Remote::new(
                            channel.counted(&inner.calls),
                            inner.options.response_timeout,
                            inner.runtime.clone(),
                        )),
                        state: Mutex::new(State {
                            last_check: 0,
                            last_error: "not asked yet".to_owned(),
                            answered: None,
                            since: Instant::now(),
                        }),
                        spec,
                        address,
                    }),
                    Err(error) => {
                        tracing::warn!(endpoint = name, %error, "an endpoint cannot be used");
                        continue;
                    }
                },
            };
            members.insert(name, member);
        }
        let due = |member: &&Arc<Member>| all || member.is_awaited();
        let asked = members.iter().filter(|(_, member)| due(member));
        let asked = asked.map(|(name, member)| async move {
            let answer = member.remote.ask(inner.options.info_timeout).await;
            let mut state = member.state.lock();
            state.last_check = WallClock.now();
            match answer {
                Ok(about) => {
                    if !state.last_error.is_empty() {
                        tracing::info!(
                            endpoint = name,
                            component = about.component,
                            "endpoint answers"
                        );
                    }
                    state.answered = Some(Instant::now());
                    state.last_error.clear();
                }
                Err(e) => {
                    if state.last_error != e.message {
                        tracing::warn!(
                            endpoint = name,
                            error = e.message,
                            "endpoint does not answer"
                        );
                    }
                    state.last_error = e.message;
                }
            }
        });
        futures_util::future::join_all(asked).await;
        // One that looks dead stays in the list, so that queries can say what they miss; after a
        // while it is only asked on, unless it is strict.
        *inner.members.write() = Arc::new(members);
    }

    /// Updates again and again until `stop`.
    pub async fn run(&self, stop: Cancel) {
        let every = self.inner.options.info_interval;
        let mut asked = Instant::now();
        loop {
            let left = every.saturating_sub(asked.elapsed());
            let awaits = self.inner.members.read().values().any(|m| m.is_awaited());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(if awaits { left.min(SOON) } else { left }) => {}
            }
            let all = asked.elapsed() >= every;
            if all {
                asked = Instant::now();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.round(all) => {}
            }
        }
    }

    /// All endpoints, by address.
    pub fn status(&self) -> Vec<EndpointStatus> {
        let members = self.inner.members.read().clone();
        members
            .iter()
            .map(|(name, member)| {
                let state = member.state.lock();
                EndpointStatus {
                    name: name.clone(),
                    last_check: state.last_check,
                    last_error: state.last_error.clone(),
                    about: member.remote.about(),
                }
            })
            .collect()
    }

    /// The endpoints that a question may go to; those that are gone for good are left out.
    pub fn known(&self, scope: Option<&Scope>) -> Vec<Known> {
        let members = self.inner.members.read().clone();
        let mut known = Vec::new();
        for (name, member) in members.iter() {
            if let Some(scope) = scope
                && !scope.gather.stores.is_empty()
                && !scope.gather.stores.iter().any(|list| fits(list, name))
            {
                continue;
            }
            let state = member.state.lock();
            let silent = state.answered.unwrap_or(state.since).elapsed();
            let answers = state.last_error.is_empty();
            if !answers && !member.spec.strict && silent >= self.inner.options.unhealthy_timeout {
                continue;
            }
            known.push(Known {
                name: name.as_str().into(),
                about: member.remote.about(),
                channel: member.remote.channel(),
                error: (!answers)
                    .then(|| format!("the endpoint does not answer: {}", state.last_error)),
            });
        }
        known
    }

    /// The stores that a query asks, with their names.
    fn stores(&self, scope: Option<&Scope>) -> Vec<(Str, Arc<dyn Source>)> {
        let members = self.inner.members.read().clone();
        let mut stores: Vec<(Str, Arc<dyn Source>)> = Vec::new();
        for (name, member) in members.iter() {
            if let Some(scope) = scope
                && !scope.gather.stores.is_empty()
                && !scope.gather.stores.iter().any(|list| fits(list, name))
            {
                continue;
            }
            let state = member.state.lock();
            let about = member.remote.about();
            if about.as_ref().is_some_and(|a| a.store.is_none()) {
                continue;
            }
            if state.last_error.is_empty() {
                stores.push((
                    name.as_str().into(),
                    Arc::clone(&member.remote) as Arc<dyn Source>,
                ));
                continue;
            }
            let silent = state.answered.unwrap_or(state.since).elapsed();
            if member.spec.strict || silent < self.inner.options.unhealthy_timeout {
                let down = Down {
                    message: format!("the endpoint does not answer: {}", state.last_error),
                    extent: member.remote.extent(),
                };
                stores.push((name.as_str().into(), Arc::new(down)));
            }
        }
        match &self.inner.options.selector {
            None => stores,
            Some(selector) => stores
                .into_iter()
                .filter_map(|(name, store)| Some((name, selector::select(store, selector)?)))
                .collect(),
        }
    }
}

/// Whether a store's address satisfies all matchers; it has no other label.
fn fits(matchers: &[Matcher], address: &str) -> bool {
    matchers.iter().all(|m| match &*m.name {
        "__address__" => m.matches(address),
        _ => m.matches(""),
    })
}

impl Inner {
    /// How long such an answer to a lookup is good for. What was started anew may have another address,
    /// and while it was not ready its name may have had none.
    fn lookup_interval(&self, addresses: &[String]) -> Duration {
        let members = self.members.read().clone();
        let mut found = addresses.iter().filter_map(|a| members.get(a));
        let soon = addresses.is_empty() || found.any(|member| member.is_awaited());
        match soon {
            true => SOON.min(self.options.dns_interval),
            false => self.options.dns_interval,
        }
    }

    /// The addresses of an endpoint; those known from before when they cannot be looked up.
    async fn resolve(&self, spec: &EndpointSpec) -> Vec<String> {
        if !discovery::dns::is_dynamic(&spec.address) {
            return vec![spec.address.clone()];
        }
        let known = self.resolved.lock().get(&spec.address).cloned();
        if let Some((at, addresses)) = &known
            && at.elapsed() < self.lookup_interval(addresses)
        {
            return addresses.clone();
        }
        self.lookups.iter().for_each(Counter::inc);
        match self.dns.lookup(&spec.address).await {
            Ok(addresses) => {
                let entry = (Instant::now(), addresses.clone());
                self.resolved.lock().insert(spec.address.clone(), entry);
                addresses
            }
            Err(error) => {
                self.failures.iter().for_each(Counter::inc);
                tracing::warn!(%error, "an endpoint's name cannot be looked up; what was known stays");
                known.map(|k| k.1).unwrap_or_default()
            }
        }
    }
}

impl Source for Endpoints {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        let stores = self.stores(Some(&scope));
        Proxy::new(stores, self.inner.runtime.clone()).open(scope)
    }

    fn extent(&self) -> Arc<Extent> {
        Proxy::new(self.stores(None), self.inner.runtime.clone()).extent()
    }
}

/// A store that is known not to answer: asking it fails at once.
struct Down {
    message: String,
    extent: Arc<Extent>,
}

impl Down {
    fn error(&self) -> SourceError {
        SourceError::new(Kind::Unavailable, self.message.clone())
    }
}

impl Source for Down {
    fn open(&self, _: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        Ok(Box::new(Down {
            message: self.message.clone(),
            extent: Arc::clone(&self.extent),
        }))
    }

    fn extent(&self) -> Arc<Extent> {
        // What it has got since it was last asked is not known.
        Arc::new(Extent {
            parts: self
                .extent
                .parts
                .iter()
                .map(|(labels, range)| (labels.clone(), TimeRange::new(range.min, Millis::MAX)))
                .collect::<Vec<(Labels, TimeRange)>>(),
            capabilities: self.extent.capabilities,
        })
    }
}

type Names = BoxFuture<'static, Result<Answer<Vec<Str>>, SourceError>>;

impl View for Down {
    fn select(&self, _: Select) -> Rows {
        Rows::Stream(Box::pin(futures_util::stream::iter([Err(self.error())])))
    }

    fn label_names(&self, _: LabelSelect) -> Names {
        Box::pin(std::future::ready(Err(self.error())))
    }

    fn label_values(&self, _: Str, _: LabelSelect) -> Names {
        Box::pin(std::future::ready(Err(self.error())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_addresses_is_looked_up_again_soon() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let options = EndpointsOptions::default();
        let handle = runtime.handle().clone();
        let endpoints =
            Endpoints::new(Vec::new(), options.clone(), handle, &Registry::new()).unwrap();
        let interval = |addresses: &[String]| endpoints.inner.lookup_interval(addresses);
        assert_eq!(
            interval(&["10.0.0.1:10901".to_owned()]),
            options.dns_interval
        );
        assert_eq!(interval(&[]), SOON);
    }
}
