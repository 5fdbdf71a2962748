//! Which format a client wants.

/// A format that [`encode`](crate::encode) writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// Prometheus' text format, version 0.0.4.
    #[default]
    Text,
    /// OpenMetrics 0.0.1: the same bytes as 1.0.0 under the older version's name.
    OpenMetricsOld,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The `Content-Type` of a body in this format.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetricsOld => "application/openmetrics-text; version=0.0.1; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The best format for an `Accept` header: the highest `q` wins, the earlier one at a tie.
    /// What we cannot write is passed over; if nothing is left, or without a header, text.
    pub fn negotiate(accept: &str) -> Format {
        let mut best = (0.0, Format::Text);
        for item in accept.split(',') {
            let mut params = item.split(';').map(str::trim);
            let media = params.next().unwrap_or("").to_ascii_lowercase();
            let (mut quality, mut version) = (1.0, "");
            for (key, value) in params.filter_map(|p| p.split_once('=')) {
                let value = value.trim().trim_matches('"');
                match key.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = value.parse().unwrap_or(0.0),
                    "version" => version = value,
                    _ => {}
                }
            }
            let format = match (media.as_str(), version) {
                ("application/openmetrics-text", "1.0.0") => Format::OpenMetrics,
                ("application/openmetrics-text", "" | "0.0.1") => Format::OpenMetricsOld,
                // Our names need no escaping, so 1.0.0 of the text format is the same bytes; we
                // answer with the version that everybody reads.
                ("text/plain", "" | "0.0.4" | "1.0.0") | ("text/*" | "*/*", _) => Format::Text,
                _ => continue,
            };
            if quality > best.0 {
                best = (quality, format);
            }
        }
        best.1
    }
}
