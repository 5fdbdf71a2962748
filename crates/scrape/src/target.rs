//! Targets: from discovered labels to a URL and the labels of its series.

use model::relabel::{self, Rule};
use model::time::parse_duration;
use model::{Labels, LabelsBuilder, Millis};

use crate::config::ScrapeConfig;
use crate::parse::proto::Histograms;

const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const PATH: &str = "__metrics_path__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const PARAM: &str = "__param_";
const META: &str = "__meta_";
/// Switches about histograms that relabelling may turn for a target.
const SWITCHES: [(&str, &str); 3] = [
    (
        "__convert_classic_histograms_to_nhcb__",
        "convert classic histograms to nhcb",
    ),
    (
        "__always_scrape_classic_histograms__",
        "always scrape classic histograms",
    ),
    ("__scrape_native_histograms__", "scrape native histograms"),
];

/// Something to be scraped.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Labels before relabelling.
    pub(crate) discovered: Labels,
    /// Labels of its series: those after relabelling that do not begin with `__`.
    pub(crate) labels: Labels,
    /// Who it is: its labels after relabelling, and its URL.
    pub(crate) key: u64,
    /// What its series are: their labels and the URL they come from.
    pub(crate) identity: u64,
    pub(crate) url: String,
    pub(crate) interval: Millis,
    pub(crate) timeout: Millis,
    /// What becomes of its histograms.
    pub(crate) histograms: Histograms,
}

/// What becomes of discovered labels.
#[derive(Debug)]
pub(crate) enum Made {
    Target(Box<Target>),
    /// Relabelling dropped it; the labels are those before.
    Dropped(Labels),
}

/// The labels that a target has before relabelling: its own, those of its group, and the job's.
pub(crate) fn discovered(config: &ScrapeConfig, own: &Labels, group: &Labels) -> Labels {
    let mut builder = group.overlay(own).builder();
    let truth = |value: Option<bool>| value.unwrap_or(false).to_string();
    let mut fill = |name: &str, value: String| {
        if builder.get(name).is_empty() {
            builder.set(name, value);
        }
    };
    fill("job", config.job_name.clone());
    fill(INTERVAL, config.scrape_interval.to_string());
    fill(TIMEOUT, config.scrape_timeout.to_string());
    fill(PATH, config.metrics_path.clone());
    fill(SCHEME, config.scheme.clone());
    let switches = [
        config.convert_classic_histograms_to_nhcb,
        config.always_scrape_classic_histograms,
        config.scrape_native_histograms,
    ];
    for ((name, _), value) in SWITCHES.iter().zip(switches) {
        fill(name, truth(value));
    }
    for (name, values) in &config.params {
        if let Some(first) = values.first() {
            fill(&format!("{PARAM}{name}"), first.clone());
        }
    }
    builder.build()
}

impl Target {
    /// Makes a target of what was discovered.
    pub(crate) fn make(
        config: &ScrapeConfig,
        rules: &[Rule],
        own: &Labels,
        group: &Labels,
    ) -> Result<Made, String> {
        let discovered = discovered(config, own, group);
        let Some(all) = complete(&discovered, rules)? else {
            return Ok(Made::Dropped(discovered));
        };
        let get = |name: &str| all.get(name).unwrap_or("");
        let (interval, timeout) = times(get(INTERVAL), get(TIMEOUT))?;
        let switched = |which: usize| {
            let text = SWITCHES.get(which).map_or("", |(name, _)| get(name));
            matches!(text, "1" | "t" | "T" | "TRUE" | "true" | "True")
        };
        let labels = Labels::from_sorted(all.iter().filter(|(name, _)| !name.starts_with("__")));
        let url = url(config, &all);
        let key = fnv(&format!("{:016}{url}", all.hash64()));
        let identity = fnv(&format!("{:016}{url}", labels.hash64()));
        Ok(Made::Target(Box::new(Target {
            discovered,
            labels,
            key,
            identity,
            url,
            interval,
            timeout,
            histograms: Histograms {
                convert: switched(0),
                classic: switched(1),
                native: switched(2),
            },
        })))
    }
}

/// The labels of a target after relabelling, those with `__` that are not from discovery included;
/// none if it is dropped.
fn complete(discovered: &Labels, rules: &[Rule]) -> Result<Option<Labels>, String> {
    let Some(relabelled) = relabel::process(discovered, rules) else {
        return Ok(None);
    };
    let get = |name: &str| relabelled.get(name).unwrap_or("");
    let address = get(ADDRESS);
    check_address(address)?;
    times(get(INTERVAL), get(TIMEOUT))?;
    for (name, what) in SWITCHES {
        if !matches!(
            get(name),
            "" | "1"
                | "t"
                | "T"
                | "TRUE"
                | "true"
                | "True"
                | "0"
                | "f"
                | "F"
                | "FALSE"
                | "false"
                | "False"
        ) {
            return Err(format!(
                "error parsing {what}: parsing {:?}: invalid syntax",
                get(name)
            ));
        }
    }
    let mut builder = LabelsBuilder::default();
    for (name, value) in relabelled
        .iter()
        .filter(|(name, _)| !name.starts_with(META))
    {
        builder.set(name, value);
    }
    if builder.get("instance").is_empty() {
        builder.set("instance", address);
    }
    Ok(Some(builder.build()))
}

/// The labels that a target of this job has before relabelling, and those after it (none if
/// relabelling drops it), or why it cannot be a target.
pub fn explain(
    config: &ScrapeConfig,
    own: &Labels,
    group: &Labels,
) -> (Labels, Result<Labels, String>) {
    let before = discovered(config, own, group);
    let scheme = config.validation();
    let after = match relabel::compile(&config.relabel_configs, scheme) {
        Ok(rules) => complete(&before, &rules).map(Option::unwrap_or_default),
        Err(error) => Err(error.to_string()),
    };
    (before, after)
}

/// Whether an address can be one: a URL in its place is the commonest mistake.
pub(crate) fn check_address(address: &str) -> Result<(), String> {
    if address.is_empty() {
        return Err("no address".to_owned());
    }
    discovery::config::check_address(address)
}

fn times(interval_text: &str, timeout_text: &str) -> Result<(Millis, Millis), String> {
    let interval =
        parse_duration(interval_text).map_err(|e| format!("error parsing scrape interval: {e}"))?;
    if interval == 0 {
        return Err("scrape interval cannot be 0".to_owned());
    }
    let timeout =
        parse_duration(timeout_text).map_err(|e| format!("error parsing scrape timeout: {e}"))?;
    if timeout == 0 {
        return Err("scrape timeout cannot be 0".to_owned());
    }
    if timeout > interval {
        return Err(format!(
            "scrape timeout cannot be greater than scrape interval ({timeout_text:?} > {interval_text:?})"
        ));
    }
    Ok((interval, timeout))
}

/// The URL to ask: as Go prints one of these parts.
fn url(config: &ScrapeConfig, labels: &Labels) -> String {
    let get = |name: &str| labels.get(name).unwrap_or("");
    let mut params = config.params.clone();
    for (name, value) in labels {
        if let Some(name) = name.strip_prefix(PARAM) {
            let values = params.entry(name.to_owned()).or_default();
            match values.first_mut() {
                Some(first) => value.clone_into(first),
                None => values.push(value.to_owned()),
            }
        }
    }
    let mut url = format!("{}://{}", get(SCHEME), get(ADDRESS));
    let path = get(PATH);
    if !path.is_empty() && !path.starts_with('/') {
        url.push('/');
    }
    escape(path, b"$&+,/:;=@-_.~", false, &mut url);
    let mut separator = '?';
    for (name, values) in &params {
        for value in values {
            url.push(separator);
            separator = '&';
            escape(name, b"-_.~", true, &mut url);
            url.push('=');
            escape(value, b"-_.~", true, &mut url);
        }
    }
    url
}

fn escape(text: &str, kept: &[u8], plus: bool, out: &mut String) {
    for b in text.bytes() {
        match b {
            b' ' if plus => out.push('+'),
            b if b.is_ascii_alphanumeric() || kept.contains(&b) => out.push(char::from(b)),
            b => {
                use std::fmt::Write as _;
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
}

/// FNV-1a, 64 bits: what Prometheus spreads scrapes by.
pub(crate) fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, b| {
        (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
