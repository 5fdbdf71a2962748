//! Families: one instrument for each combination of label values.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::desc::{Desc, Error, Kind};
use crate::histogram::Histogram;
use crate::snapshot::{Metric, MetricFamily, Value};
use crate::summary::Summary;
use crate::value::{Counter, FloatCounter, FloatGauge, Gauge};

/// What a [`Family`] can hold. The six instruments of this crate are all there is.
pub trait Instrument: sealed::Sealed + Clone + Send + Sync + 'static {
    /// The kind of its values.
    const KIND: Kind;
}

pub(crate) mod sealed {
    use super::*;

    pub trait Sealed: Sized {
        /// Bucket bounds or quantiles; nothing for plain numbers.
        type Options: Clone + PartialEq + Send + Sync + 'static;
        fn valid(options: &Self::Options) -> bool;
        fn create(options: &Self::Options) -> Self;
        fn read(&self) -> Value;
    }
}

macro_rules! number {
    ($($type:ty: $kind:ident),*) => {$(
        impl Instrument for $type {
            const KIND: Kind = Kind::$kind;
        }
        impl sealed::Sealed for $type {
            type Options = ();
            fn valid((): &()) -> bool {
                true
            }
            fn create((): &()) -> Self {
                Self::default()
            }
            fn read(&self) -> Value {
                Value::Number(self.get() as f64)
            }
        }
    )*};
}

number!(Counter: Counter, FloatCounter: Counter, Gauge: Gauge, FloatGauge: Gauge);

impl Instrument for Histogram {
    const KIND: Kind = Kind::Histogram;
}

impl sealed::Sealed for Histogram {
    type Options = Arc<[f64]>;

    fn valid(bounds: &Arc<[f64]>) -> bool {
        bounds.iter().all(|b| b.is_finite()) && bounds.is_sorted_by(|a, b| a < b)
    }

    fn create(bounds: &Arc<[f64]>) -> Self {
        Histogram::new(bounds)
    }

    fn read(&self) -> Value {
        self.value()
    }
}

impl Instrument for Summary {
    const KIND: Kind = Kind::Summary;
}

impl sealed::Sealed for Summary {
    type Options = Arc<[f64]>;

    fn valid(quantiles: &Arc<[f64]>) -> bool {
        quantiles.iter().all(|q| (0.0..=1.0).contains(q))
    }

    fn create(quantiles: &Arc<[f64]>) -> Self {
        Summary::new(quantiles)
    }

    fn read(&self) -> Value {
        self.value()
    }
}

type Member<M, const N: usize> = ([Arc<str>; N], M);

/// Instruments of one name, told apart by the values of `N` labels.
#[derive(Clone)]
pub struct Family<M: Instrument, const N: usize>(Arc<Inner<M, N>>);

struct Inner<M: Instrument, const N: usize> {
    desc: Desc,
    options: <M as sealed::Sealed>::Options,
    /// Sorted by label values.
    members: RwLock<Vec<Member<M, N>>>,
}

impl<M: Instrument, const N: usize> Family<M, N> {
    pub(crate) fn new(desc: Desc, options: <M as sealed::Sealed>::Options) -> Result<Self, Error> {
        desc.check()?;
        if !M::valid(&options) {
            return Err(Error::InvalidOptions(desc.name.to_string()));
        }
        Ok(Self(Arc::new(Inner {
            desc,
            options,
            members: RwLock::default(),
        })))
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.desc == other.0.desc && self.0.options == other.0.options
    }

    /// What the family is.
    pub fn desc(&self) -> &Desc {
        &self.0.desc
    }

    /// The member with these label values, made now if it is new. Keep the handle where it is
    /// used often: this takes a lock and searches.
    pub fn with(&self, values: &[&str; N]) -> M {
        let members = self.0.members.read();
        if let Ok(at) = find(&members, values) {
            return members[at].1.clone();
        }
        drop(members);
        self.insert(values)
    }

    fn insert(&self, values: &[&str; N]) -> M {
        let mut members = self.0.members.write();
        match find(&members, values) {
            Ok(at) => members[at].1.clone(),
            Err(at) => {
                let made = M::create(&self.0.options);
                members.insert(at, (values.map(Arc::from), made.clone()));
                made
            }
        }
    }

    /// Removes the member with these label values; handles that are still held count for nobody.
    pub fn remove(&self, values: &[&str; N]) {
        let mut members = self.0.members.write();
        if let Ok(at) = find(&members, values) {
            members.remove(at);
        }
    }

    /// Keeps the members whose label values `keep` approves of.
    pub fn retain(&self, mut keep: impl FnMut(&[Arc<str>; N]) -> bool) {
        self.0.members.write().retain(|(key, _)| keep(key));
    }

    /// Removes all members.
    pub fn clear(&self) {
        self.0.members.write().clear();
    }

    pub(crate) fn snapshot(&self) -> MetricFamily {
        let members: Vec<Member<M, N>> = self.0.members.read().clone();
        MetricFamily {
            desc: self.0.desc.clone(),
            metrics: members
                .into_iter()
                .map(|(key, m)| Metric {
                    labels: key.into(),
                    value: m.read(),
                })
                .collect(),
        }
    }
}

impl<M: Instrument, const N: usize> std::fmt::Debug for Family<M, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Family")
            .field("desc", &self.0.desc)
            .finish_non_exhaustive()
    }
}

fn find<M, const N: usize>(members: &[Member<M, N>], values: &[&str; N]) -> Result<usize, usize> {
    members.binary_search_by(|(key, _)| key.iter().map(|k| &**k).cmp(values.iter().copied()))
}
