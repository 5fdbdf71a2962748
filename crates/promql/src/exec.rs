//! The physical operators: how a plan is carried out, series-major and streaming.

pub(crate) mod aggregate;
pub(crate) mod block;
pub(crate) mod collect;
pub(crate) mod context;
pub(crate) mod exchange;
pub(crate) mod gather;
pub(crate) mod generate;
pub(crate) mod histogram;
pub(crate) mod index;
pub(crate) mod info;
pub(crate) mod join;
pub(crate) mod lanes;
pub(crate) mod limit;
pub(crate) mod meter;
pub(crate) mod operator;
pub(crate) mod pipe;
pub(crate) mod remote;
pub(crate) mod result;
pub(crate) mod scalar;
pub(crate) mod scan;
pub(crate) mod selects;
pub(crate) mod set;
pub(crate) mod sort;
pub(crate) mod stage;
pub(crate) mod subquery;
pub(crate) mod tally;
