//! Names of OpenTelemetry as Prometheus writes them (`github.com/prometheus/otlptranslator`).

/// How names are translated (`otlp.translation_strategy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Letters, digits and underscores, with unit and kind at the end.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// Letters, digits and underscores.
    UnderscoreEscapingWithoutSuffixes,
    /// Any UTF-8, with unit and kind at the end.
    NoUtf8EscapingWithSuffixes,
    /// As they come.
    NoTranslation,
}

impl std::str::FromStr for Strategy {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "" | "UnderscoreEscapingWithSuffixes" => Ok(Self::UnderscoreEscapingWithSuffixes),
            "UnderscoreEscapingWithoutSuffixes" => Ok(Self::UnderscoreEscapingWithoutSuffixes),
            "NoUTF8EscapingWithSuffixes" => Ok(Self::NoUtf8EscapingWithSuffixes),
            "NoTranslation" => Ok(Self::NoTranslation),
            other => Err(format!("unsupported OTLP translation strategy {other:?}")),
        }
    }
}

impl Strategy {
    /// Whether names may hold anything.
    pub(super) fn utf8(self) -> bool {
        matches!(self, Self::NoUtf8EscapingWithSuffixes | Self::NoTranslation)
    }

    fn suffixes(self) -> bool {
        matches!(
            self,
            Self::UnderscoreEscapingWithSuffixes | Self::NoUtf8EscapingWithSuffixes
        )
    }
}

/// What the suffix of a name depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suffix {
    Counter,
    Gauge,
    None,
}

const UNITS: [(&str, &str); 26] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];
const PER: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

fn spelled<'a>(units: &[(&str, &'a str)], unit: &'a str) -> &'a str {
    let known = units.iter().find(|(short, _)| *short == unit);
    known.map_or(unit, |(_, long)| *long)
}

/// The unit in words, and what it is per.
fn unit_suffixes(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let plain = |part: &str| {
        let part = part.trim();
        (!part.is_empty() && !part.contains(['{', '}'])).then(|| part.to_owned())
    };
    let main = plain(main).map_or(String::new(), |m| spelled(&UNITS, &m).to_owned());
    let per = plain(per).map_or(String::new(), |p| format!("per_{}", spelled(&PER, &p)));
    (main, per)
}

/// The unit as metadata names it.
pub(super) fn unit(unit: &str) -> String {
    let (main, per) = unit_suffixes(unit);
    let parts = [clean(&main), clean(&per)];
    let parts: Vec<&str> = parts
        .iter()
        .map(String::as_str)
        .filter(|p| !p.is_empty())
        .collect();
    parts.join("_")
}

fn clean(unit: &str) -> String {
    tokens(unit).collect::<Vec<_>>().join("_")
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':'))
        .filter(|t| !t.is_empty())
}

/// The name of a metric.
pub(super) fn metric(strategy: Strategy, name: &str, unit: &str, kind: Suffix) -> String {
    let (main, per) = match strategy.suffixes() {
        true => unit_suffixes(unit),
        false => Default::default(),
    };
    let last = match kind {
        Suffix::Counter if strategy.suffixes() => "total",
        Suffix::Gauge if strategy.suffixes() && unit == "1" => "ratio",
        _ => "",
    };
    if strategy.utf8() {
        let mut out = name.to_owned();
        let mut end = Vec::new();
        for suffix in [last, &per] {
            if !suffix.is_empty() {
                if let Some(short) = out.strip_suffix(suffix) {
                    out = short.strip_suffix(['_', '.']).unwrap_or(short).to_owned();
                }
                end.push(suffix.to_owned());
            }
        }
        if !main.is_empty() && !out.ends_with(&main) {
            end.push(main);
        }
        for suffix in end.iter().rev() {
            out.push('_');
            out.push_str(suffix);
        }
        return out;
    }
    let mut out = if strategy.suffixes() {
        let (main, per) = (clean(&main), clean(&per));
        let mut parts: Vec<&str> = tokens(name).collect();
        let missing = |parts: &[&str], part: &str| !part.is_empty() && !parts.contains(&part);
        let (add_main, add_per) = (missing(&parts, &main), missing(&parts, &per));
        if add_main {
            parts.push(&main);
        }
        if add_per {
            parts.push(&per);
        }
        if !last.is_empty() {
            parts.retain(|p| *p != last);
            parts.push(last);
        }
        parts.join("_")
    } else {
        name.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':' || c == '_'))
            .filter(|t| !t.is_empty())
            .collect::<Vec<_>>()
            .join("_")
    };
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

/// How names of labels are translated.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LabelNames {
    pub(super) utf8: bool,
    /// Put `key` before names that begin with one underscore.
    pub(super) sanitize_underscore: bool,
    /// Keep several underscores in a row.
    pub(super) preserve_underscores: bool,
}

impl LabelNames {
    /// The name of a label.
    pub(super) fn label(self, name: &str) -> String {
        if self.utf8 {
            return name.to_owned();
        }
        let mut out = String::with_capacity(name.len() + 4);
        for c in name.chars() {
            let c = if c.is_ascii_alphanumeric() { c } else { '_' };
            if c == '_' && !self.preserve_underscores && out.ends_with('_') {
                continue;
            }
            out.push(c);
        }
        if out.starts_with(|c: char| c.is_ascii_digit()) {
            out.insert_str(0, "key_");
        } else if self.sanitize_underscore && out.starts_with('_') && !out.starts_with("__") {
            out.insert_str(0, "key");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_get_units_and_kinds() {
        use Strategy::*;
        use Suffix::*;
        for (strategy, name, unit, kind, want) in [
            (
                UnderscoreEscapingWithSuffixes,
                "http.server.duration",
                "ms",
                None,
                "http_server_duration_milliseconds",
            ),
            (
                UnderscoreEscapingWithSuffixes,
                "requests",
                "1",
                Counter,
                "requests_total",
            ),
            (
                UnderscoreEscapingWithSuffixes,
                "total.requests",
                "{request}",
                Counter,
                "requests_total",
            ),
            (
                UnderscoreEscapingWithSuffixes,
                "cpu.utilization",
                "1",
                Gauge,
                "cpu_utilization_ratio",
            ),
            (
                UnderscoreEscapingWithSuffixes,
                "speed",
                "m/s",
                Gauge,
                "speed_meters_per_second",
            ),
            (
                UnderscoreEscapingWithSuffixes,
                "5xx",
                "",
                Counter,
                "_5xx_total",
            ),
            (
                UnderscoreEscapingWithSuffixes,
                "a_seconds",
                "s",
                None,
                "a_seconds",
            ),
            (
                UnderscoreEscapingWithoutSuffixes,
                "http.server__x",
                "ms",
                Counter,
                "http_server__x",
            ),
            (
                NoUtf8EscapingWithSuffixes,
                "http.server",
                "By/s",
                Counter,
                "http.server_bytes_per_second_total",
            ),
            (
                NoUtf8EscapingWithSuffixes,
                "a.total",
                "",
                Counter,
                "a_total",
            ),
            (NoTranslation, "http.server", "ms", Counter, "http.server"),
        ] {
            assert_eq!(metric(strategy, name, unit, kind), want, "{name} {unit}");
        }
        assert_eq!(unit("By/s"), "bytes_per_second");
    }

    #[test]
    fn labels_are_made_valid() {
        let names = LabelNames {
            utf8: false,
            sanitize_underscore: true,
            preserve_underscores: true,
        };
        assert_eq!(names.label("http..é"), "http___");
        assert_eq!(names.label("1a"), "key_1a");
        assert_eq!(names.label("_a"), "key_a");
        assert_eq!(names.label("__a"), "__a");
        let collapsing = LabelNames {
            preserve_underscores: false,
            ..names
        };
        assert_eq!(collapsing.label("a..b"), "a_b");
        assert_eq!(
            LabelNames {
                utf8: true,
                ..names
            }
            .label("a.b"),
            "a.b"
        );
    }
}
