//! What a client of `/federate` reads, as `expfmt.Negotiate` of Prometheus' Go library has it.

use model::escaping::EscapingScheme;

/// What is written: delimited protobuf or text, with names spelled so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) protobuf: bool,
    pub(super) escaping: EscapingScheme,
}

impl Format {
    /// What the `Accept` header of a request asks for: the first that is known, by its `q`.
    pub(super) fn of(accept: &str) -> Self {
        let parts = accept.split(',').map(|part| {
            let mut pieces = part.split(';').map(str::trim);
            let media = pieces.next().unwrap_or("");
            let params: Vec<(&str, &str)> = pieces.filter_map(|p| p.split_once('=')).collect();
            (media, params)
        });
        let get = |params: &[(&str, &str)], name: &str| {
            let found = params.iter().find(|(n, _)| n.trim() == name);
            found.map_or(String::new(), |(_, v)| {
                v.trim().trim_matches('"').to_owned()
            })
        };
        let mut parts: Vec<_> = parts
            .map(|(media, params)| {
                let quality = get(&params, "q").parse::<f64>().unwrap_or(1.0);
                (quality, media, params)
            })
            .collect();
        parts.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut format = Self {
            protobuf: false,
            escaping: EscapingScheme::Underscores,
        };
        for (_, media, params) in parts {
            if let Ok(known) = get(&params, "escaping").parse() {
                format.escaping = known;
            }
            let family = get(&params, "proto") == "io.prometheus.client.MetricFamily";
            if media == "application/vnd.google.protobuf"
                && family
                && get(&params, "encoding") == "delimited"
            {
                format.protobuf = true;
                break;
            }
            if media == "text/plain" && matches!(get(&params, "version").as_str(), "" | "0.0.4") {
                break;
            }
        }
        format
    }

    /// The `Content-Type` of what is written.
    pub(super) fn content_type(self) -> String {
        let media = match self.protobuf {
            true => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
            false => "text/plain; version=0.0.4; charset=utf-8",
        };
        format!("{media}; escaping={}", self.escaping.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_known_format_is_chosen() {
        const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for (accept, protobuf, escaping) in [
            ("", false, EscapingScheme::Underscores),
            ("*/*", false, EscapingScheme::Underscores),
            (
                "text/plain;version=0.0.4;escaping=allow-utf-8",
                false,
                EscapingScheme::AllowUtf8,
            ),
            (
                "text/plain; version=1.0.0; escaping=dots;q=0.5",
                false,
                EscapingScheme::Dots,
            ),
            (
                "text/plain;escaping=nonsense",
                false,
                EscapingScheme::Underscores,
            ),
            (
                &format!("{PROTOBUF};q=0.7,text/plain;version=0.0.4;q=0.3"),
                true,
                EscapingScheme::Underscores,
            ),
            (
                &format!("{PROTOBUF};escaping=values;q=0.3,text/plain;q=0.7"),
                false,
                EscapingScheme::Underscores,
            ),
            (
                &format!("text/plain;q=0.1,{PROTOBUF};escaping=values"),
                true,
                EscapingScheme::Values,
            ),
        ] {
            assert_eq!(
                Format::of(accept),
                Format { protobuf, escaping },
                "{accept}"
            );
        }
    }
}
