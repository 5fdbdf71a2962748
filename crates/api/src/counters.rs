//! What is counted of answers beside the requests themselves, under Prometheus' names.

use metrics::{Counter, Error, Gauge, Registry};

/// Instruments of the API. The default ones are shown by no registry.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub(crate) federation_errors: Counter,
    pub(crate) reads: Gauge,
    pub(crate) scrapes: Gauge,
    pub(crate) scrapes_ok: Counter,
    pub(crate) scrapes_failed: Counter,
}

impl Counters {
    /// Instruments that `registry` shows: those of `/metrics`, which every process has.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        let scrapes = registry.counters(
            "promhttp_metric_handler_requests_total",
            "Total number of scrapes by HTTP status code.",
            ["code"],
        )?;
        // Go's handler shows this one as well; here nobody is turned away.
        scrapes.with(&["503"]);
        Ok(Self {
            scrapes: registry.gauge(
                "promhttp_metric_handler_requests_in_flight",
                "Current number of scrapes being served.",
            )?,
            scrapes_ok: scrapes.with(&["200"]),
            scrapes_failed: scrapes.with(&["500"]),
            ..Self::default()
        })
    }

    /// The same with what is counted of federation and remote read.
    pub fn of_server(registry: &Registry) -> Result<Self, Error> {
        Ok(Self {
            federation_errors: registry.counter(
                "prometheus_web_federation_errors_total",
                "Total number of errors that occurred while sending federation responses.",
            )?,
            reads: registry.gauge(
                "prometheus_remote_read_handler_queries",
                "The current number of remote read queries that are either in execution or queued on the handler.",
            )?,
            ..Self::new(registry)?
        })
    }
}
