//! `--query.mode=distributed`: endpoints that are queriers themselves evaluate parts of queries.

use std::sync::Arc;

use anyhow::Result;
use api::client::GrpcQuerier;
use model::{Labels, Str};
use promql::peers::{Parties, Peer, Peers};
use promql::value::QueryOptions;
use store::Endpoints;

use crate::kingpin::Typed;
use crate::outpost::{content, listed};

/// How leaf queriers are told apart.
pub(super) struct Options {
    replica_labels: Arc<[Str]>,
    partition_labels: Vec<Str>,
    /// Why nothing can be left to leaf queriers.
    hindrance: Option<&'static str>,
}

impl Options {
    pub(super) fn from_flags(typed: &Typed<'_>, replica_labels: &[Str]) -> Result<Self> {
        let partition_labels: Vec<Str> = listed(typed, "query.partition-label")
            .into_iter()
            .map(Into::into)
            .collect();
        if let Some(both) = partition_labels.iter().find(|l| replica_labels.contains(l)) {
            let message = format!("{both} is a replica label; replicas have the same data");
            return Err(typed.error("query.partition-label", message).into());
        }
        let hindrance = if typed.switch("query.enforce-tenancy") {
            Some("--query.enforce-tenancy is kept here")
        } else if content(typed, "selector.relabel-config")?.is_some() {
            Some("--selector.relabel-config chooses among the data of endpoints")
        } else {
            None
        };
        match hindrance {
            Some(why) => tracing::warn!(
                "distributed query mode has no effect: {why}, so all queries are evaluated in this process"
            ),
            None => tracing::info!("distributed query mode is enabled"),
        }
        Ok(Self {
            replica_labels: replica_labels.into(),
            partition_labels,
            hindrance,
        })
    }
}

/// The endpoints that are queriers.
pub(super) struct Leaves {
    endpoints: Arc<Endpoints>,
    options: Options,
}

impl Leaves {
    pub(super) fn new(endpoints: Arc<Endpoints>, options: Options) -> Self {
        Self { endpoints, options }
    }
}

impl Peers for Leaves {
    fn parties(&self, options: &QueryOptions) -> Option<Parties> {
        let gather = &options.gather;
        // Stores and parts of series can be chosen here alone, and the service counts in seconds.
        if self.options.hindrance.is_some()
            || !gather.stores.is_empty()
            || gather.shard.is_some()
            || gather.max_resolution % 1000 != 0
        {
            return None;
        }
        let named = gather.replica_labels.as_ref();
        let replica_labels = Arc::clone(named.unwrap_or(&self.options.replica_labels));
        let mut parties = Parties {
            partition: self.options.partition_labels.clone(),
            ..Parties::default()
        };
        for endpoint in self.endpoints.known(None) {
            // What has never answered may have anything, and that it is missing is said here.
            let about = endpoint.about?;
            let Some(store) = &about.store else {
                continue;
            };
            let sets = store.parts.iter().map(|(labels, _)| {
                let kept = labels.iter();
                let kept = kept.filter(|(name, _)| !replica_labels.iter().any(|l| **l == **name));
                Labels::from_pairs(kept)
            });
            let mut sets: Vec<Labels> = sets.collect();
            sets.sort();
            sets.dedup();
            match about.query {
                false => parties.others.extend(sets),
                true => parties.peers.push(Peer {
                    name: endpoint.name,
                    evaluator: Arc::new(Leaf {
                        querier: GrpcQuerier(endpoint.channel),
                        replica_labels: Arc::clone(&replica_labels),
                    }),
                    labels: sets,
                }),
            }
        }
        Some(parties)
    }
}

/// One of them, asked for answers without replicas.
struct Leaf {
    querier: GrpcQuerier,
    replica_labels: Arc<[Str]>,
}

impl Leaf {
    fn without_replicas(&self, options: &mut QueryOptions) {
        options.gather.replica_labels = Some(Arc::clone(&self.replica_labels));
    }
}

type Answer = model::BoxFuture<'static, Result<promql::QueryResult, promql::QueryError>>;

impl promql::Evaluator for Leaf {
    fn instant(&self, mut query: promql::InstantQuery) -> Answer {
        self.without_replicas(&mut query.options);
        promql::Evaluator::instant(&self.querier, query)
    }

    fn range(&self, mut query: promql::RangeQuery) -> Answer {
        self.without_replicas(&mut query.options);
        promql::Evaluator::range(&self.querier, query)
    }
}
