//! pull samples from targets into a Sink
