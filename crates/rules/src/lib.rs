//! evaluate rule groups: record into a Sink, alert to Alertmanager
