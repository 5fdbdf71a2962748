//! What a client of `/federate` reads, and how names that are no old ones are spelled for it, as `expfmt.Negotiate` and
//! `model.EscapeName` of Prometheus' Go library have it.

use std::borrow::Cow;
use std::fmt::Write as _;

use model::labels::is_legacy_metric_name;

/// How names outside `[a-zA-Z_:][a-zA-Z0-9_:]*` are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escaping {
    /// As they are; in text, in quotes.
    AllowUtf8,
    /// `_` for every other character: what a client gets that does not say.
    Underscores,
    /// `_dot_` for a dot, `__` for an underscore and for every other character.
    Dots,
    /// `U__`, and every other character by its number: `U__my_2e_name`.
    Values,
}

impl Escaping {
    const ALL: [Self; 4] = [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values];

    fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    /// The name as it is spelled.
    pub(super) fn apply(self, name: &str) -> Cow<'_, str> {
        if self == Self::AllowUtf8 || is_legacy_metric_name(name) {
            return Cow::Borrowed(name);
        }
        let mut out = String::with_capacity(name.len() + 8);
        if self == Self::Values {
            out.push_str("U__");
        }
        for (i, c) in name.char_indices() {
            let fits =
                c.is_ascii_alphabetic() || matches!(c, '_' | ':') || (c.is_ascii_digit() && i > 0);
            match (self, c) {
                (Self::Dots | Self::Values, '_') => out.push_str("__"),
                (Self::Dots, '.') => out.push_str("_dot_"),
                _ if fits => out.push(c),
                (Self::Dots, _) => out.push_str("__"),
                // Writing to a string cannot fail.
                (Self::Values, c) => drop(write!(out, "_{:x}_", u32::from(c))),
                (_, _) => out.push('_'),
            }
        }
        Cow::Owned(out)
    }
}

/// What is written: delimited protobuf or text, with names spelled so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) protobuf: bool,
    pub(super) escaping: Escaping,
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
            escaping: Escaping::Underscores,
        };
        for (_, media, params) in parts {
            let scheme = get(&params, "escaping");
            if let Some(known) = Escaping::ALL.into_iter().find(|e| e.as_str() == scheme) {
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
    fn names_are_spelled_as_in_go() {
        for (name, underscores, dots, values) in [
            ("up", "up", "up", "up"),
            ("a:b_c", "a:b_c", "a:b_c", "a:b_c"),
            ("my.na_me", "my_na_me", "my_dot_na__me", "U__my_2e_na__me"),
            ("1é/x", "___x", "______x", "U___31__e9__2f_x"),
        ] {
            assert_eq!(Escaping::Underscores.apply(name), underscores);
            assert_eq!(Escaping::Dots.apply(name), dots);
            assert_eq!(Escaping::Values.apply(name), values);
            assert_eq!(Escaping::AllowUtf8.apply(name), name);
        }
    }

    #[test]
    fn the_best_known_format_is_chosen() {
        const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for (accept, protobuf, escaping) in [
            ("", false, Escaping::Underscores),
            ("*/*", false, Escaping::Underscores),
            (
                "text/plain;version=0.0.4;escaping=allow-utf-8",
                false,
                Escaping::AllowUtf8,
            ),
            (
                "text/plain; version=1.0.0; escaping=dots;q=0.5",
                false,
                Escaping::Dots,
            ),
            ("text/plain;escaping=nonsense", false, Escaping::Underscores),
            (
                &format!("{PROTOBUF};q=0.7,text/plain;version=0.0.4;q=0.3"),
                true,
                Escaping::Underscores,
            ),
            (
                &format!("{PROTOBUF};escaping=values;q=0.3,text/plain;q=0.7"),
                false,
                Escaping::Underscores,
            ),
            (
                &format!("text/plain;q=0.1,{PROTOBUF};escaping=values"),
                true,
                Escaping::Values,
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
