//! pushed samples: remote write and OTLP in, tenants, routing, remote write out
