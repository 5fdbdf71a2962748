//! The registry: who is asked at a scrape.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::desc::{Desc, Error, Kind};
use crate::family::{Family, Instrument, sealed::Sealed};
use crate::histogram::Histogram;
use crate::snapshot::{Metric, MetricFamily, Value};
use crate::summary::Summary;
use crate::value::{Counter, FloatCounter, FloatGauge, Gauge};

/// All metrics of one process (or of one test). Clones are the same registry.
///
/// Registering a family a second time with the same kind, help, labels and options returns the
/// one that is there, so that a room may be opened twice; anything else under a taken name is
/// [`Error::Conflict`]. A collector's name can be taken only once; [`Registry::remove`] frees it.
#[derive(Clone, Default)]
pub struct Registry(Arc<RwLock<Inner>>);

#[derive(Default)]
struct Inner {
    entries: BTreeMap<Arc<str>, Entry>,
    next: u64,
}

#[derive(Clone)]
struct Entry {
    /// The `Family<M, N>` itself, to be returned again; nothing for a collector.
    family: Option<Arc<dyn Any + Send + Sync>>,
    collector: Arc<dyn Collector>,
    /// Families of one collector share its number.
    number: u64,
}

/// Something that is asked for its values at each scrape.
///
/// It is called outside all locks of the registry, on the thread that scrapes: it may lock and
/// compute a little, but must not wait for anything.
pub trait Collector: Send + Sync {
    /// The families it will give, always the same.
    fn describe(&self) -> Vec<Desc>;
    /// Gives the values: [`Samples::push`] takes the index of a family in [`Self::describe`].
    fn collect(&self, samples: &mut Samples);
}

/// Where a [`Collector`] puts its values.
#[derive(Debug)]
pub struct Samples(Vec<MetricFamily>);

impl Samples {
    /// Adds a member to family number `family`. Values beyond the family's labels are dropped,
    /// missing ones are empty; a number of no family is ignored.
    pub fn push(&mut self, family: usize, labels: &[&str], value: f64) {
        self.push_value(family, labels, Value::Number(value));
    }

    /// Like [`Self::push`], for histograms and summaries.
    pub fn push_value(&mut self, family: usize, labels: &[&str], value: Value) {
        if let Some(family) = self.0.get_mut(family) {
            let mut labels: Vec<Arc<str>> = labels.iter().map(|&l| l.into()).collect();
            labels.resize(family.desc.labels.len(), Arc::from(""));
            family.metrics.push(Metric { labels, value });
        }
    }

    pub(crate) fn push_family(&mut self, family: MetricFamily) {
        self.0.push(family);
    }
}

struct FromClosure<F> {
    desc: Desc,
    read: F,
}

impl<F: Fn(&mut dyn FnMut(&[&str], f64)) + Send + Sync> Collector for FromClosure<F> {
    fn describe(&self) -> Vec<Desc> {
        vec![self.desc.clone()]
    }

    fn collect(&self, samples: &mut Samples) {
        (self.read)(&mut |labels, value| samples.push(0, labels, value));
    }
}

impl<M: Instrument, const N: usize> Collector for Family<M, N> {
    fn describe(&self) -> Vec<Desc> {
        Vec::new() // gives its family whole, see `collect`
    }

    fn collect(&self, samples: &mut Samples) {
        samples.push_family(self.snapshot());
    }
}

// === impl Registry ===

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// A counter of whole things.
    pub fn counter(&self, name: &str, help: &str) -> Result<Counter, Error> {
        Ok(self.counters(name, help, [])?.with(&[]))
    }

    /// A family of counters of whole things.
    pub fn counters<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
    ) -> Result<Family<Counter, N>, Error> {
        self.family(name, help, labels, ())
    }

    /// A counter of a quantity, such as seconds.
    pub fn float_counter(&self, name: &str, help: &str) -> Result<FloatCounter, Error> {
        Ok(self.float_counters(name, help, [])?.with(&[]))
    }

    /// A family of counters of a quantity.
    pub fn float_counters<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
    ) -> Result<Family<FloatCounter, N>, Error> {
        self.family(name, help, labels, ())
    }

    /// A gauge of whole things.
    pub fn gauge(&self, name: &str, help: &str) -> Result<Gauge, Error> {
        Ok(self.gauges(name, help, [])?.with(&[]))
    }

    /// A family of gauges of whole things.
    pub fn gauges<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
    ) -> Result<Family<Gauge, N>, Error> {
        self.family(name, help, labels, ())
    }

    /// A gauge of a quantity.
    pub fn float_gauge(&self, name: &str, help: &str) -> Result<FloatGauge, Error> {
        Ok(self.float_gauges(name, help, [])?.with(&[]))
    }

    /// A family of gauges of a quantity.
    pub fn float_gauges<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
    ) -> Result<Family<FloatGauge, N>, Error> {
        self.family(name, help, labels, ())
    }

    /// A histogram with these upper bounds (finite and ascending; `+Inf` is added).
    pub fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Result<Histogram, Error> {
        Ok(self.histograms(name, help, [], bounds)?.with(&[]))
    }

    /// A family of histograms with these upper bounds.
    pub fn histograms<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        bounds: &[f64],
    ) -> Result<Family<Histogram, N>, Error> {
        self.family(name, help, labels, bounds.into())
    }

    /// A summary with these quantiles; with none it costs two numbers.
    pub fn summary(&self, name: &str, help: &str, quantiles: &[f64]) -> Result<Summary, Error> {
        Ok(self.summaries(name, help, [], quantiles)?.with(&[]))
    }

    /// A family of summaries with these quantiles.
    pub fn summaries<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        quantiles: &[f64],
    ) -> Result<Family<Summary, N>, Error> {
        self.family(name, help, labels, quantiles.into())
    }

    fn family<M: Instrument, const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        options: <M as Sealed>::Options,
    ) -> Result<Family<M, N>, Error> {
        let desc = Desc::new(M::KIND, name, help, &labels);
        let made = Family::<M, N>::new(desc, options)?;
        let mut inner = self.0.write();
        if let Some(entry) = inner.entries.get(name) {
            return entry
                .family
                .as_ref()
                .and_then(|f| f.downcast_ref::<Family<M, N>>())
                .filter(|there| there.is_same(&made))
                .cloned()
                .ok_or_else(|| Error::Conflict(name.to_owned()));
        }
        let number = inner.number();
        let entry = Entry {
            family: Some(Arc::new(made.clone())),
            collector: Arc::new(made.clone()),
            number,
        };
        inner.entries.insert(name.into(), entry);
        Ok(made)
    }

    /// A single value that `read` computes at each scrape, for numbers kept elsewhere as atomics.
    pub fn callback(
        &self,
        kind: Kind,
        name: &str,
        help: &str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.callbacks(kind, name, help, &[], move |push| push(&[], read()))
    }

    /// A family whose members `read` computes at each scrape: it calls its argument once for each
    /// member, with label values and value.
    pub fn callbacks(
        &self,
        kind: Kind,
        name: &str,
        help: &str,
        labels: &[&str],
        read: impl Fn(&mut dyn FnMut(&[&str], f64)) + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.collector(FromClosure {
            desc: Desc::new(kind, name, help, labels),
            read,
        })
    }

    /// Adds a collector; fails if one of its names is invalid or taken, and then adds nothing.
    pub fn collector(&self, collector: impl Collector + 'static) -> Result<(), Error> {
        let collector = Arc::new(collector);
        let descs = collector.describe();
        let mut inner = self.0.write();
        for (i, desc) in descs.iter().enumerate() {
            desc.check()?;
            let twice = descs[..i].iter().any(|d| d.name == desc.name);
            if twice || inner.entries.contains_key(&desc.name) {
                return Err(Error::Conflict(desc.name.to_string()));
            }
        }
        let number = inner.number();
        for desc in descs {
            let collector: Arc<dyn Collector> = collector.clone();
            inner.entries.insert(
                desc.name,
                Entry {
                    family: None,
                    collector,
                    number,
                },
            );
        }
        Ok(())
    }

    /// Forgets the family or collector that owns `name` (a collector with all its names). Says
    /// whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let mut inner = self.0.write();
        let Some(number) = inner.entries.get(name).map(|e| e.number) else {
            return false;
        };
        inner.entries.retain(|_, e| e.number != number);
        true
    }

    /// All values now, families ordered by name. A family without members is left out.
    pub fn gather(&self) -> Vec<MetricFamily> {
        let mut entries: Vec<Entry> = self.0.read().entries.values().cloned().collect();
        entries.sort_by_key(|e| e.number);
        entries.dedup_by_key(|e| e.number);
        let mut families = Vec::with_capacity(entries.len());
        for entry in entries {
            let descs = entry.collector.describe().into_iter();
            let empty = descs.map(|desc| MetricFamily {
                desc,
                metrics: Vec::new(),
            });
            let mut samples = Samples(empty.collect());
            entry.collector.collect(&mut samples);
            families.extend(samples.0.into_iter().filter(|f| !f.metrics.is_empty()));
        }
        families.sort_by(|a, b| a.desc.name.cmp(&b.desc.name));
        families
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.read().entries.keys())
            .finish()
    }
}

impl Inner {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}
