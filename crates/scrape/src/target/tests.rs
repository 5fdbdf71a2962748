use super::*;
use crate::config::Global;

fn config(yaml: &str) -> ScrapeConfig {
    let mut config: ScrapeConfig = serde_saphyr::from_str(yaml).unwrap();
    let mut global = Global::default();
    global.complete().unwrap();
    config.complete(&global).unwrap();
    config
}

fn make(yaml: &str, own: &[(&str, &str)], group: &[(&str, &str)]) -> Result<Made, String> {
    let config = config(yaml);
    let rules = relabel::compile(&config.relabel_configs, config.validation()).unwrap();
    let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
    Target::make(&config, &rules, &labels(own), &labels(group))
}

fn target(yaml: &str, own: &[(&str, &str)], group: &[(&str, &str)]) -> Target {
    match make(yaml, own, group) {
        Ok(Made::Target(target)) => *target,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_plain_target() {
    let t = target(
        "job_name: node",
        &[("__address__", "db:9100"), ("__meta_x", "y")],
        &[("env", "prod"), ("__meta_x", "group's")],
    );
    assert_eq!(
        t.labels.to_string(),
        r#"{env="prod", instance="db:9100", job="node"}"#
    );
    assert_eq!(t.url, "http://db:9100/metrics");
    assert_eq!((t.interval, t.timeout), (60_000, 10_000));
    assert_eq!(t.discovered.get("__meta_x"), Some("y"));
    assert_eq!(t.discovered.get("__scrape_interval__"), Some("1m"));
    assert_eq!(
        t.discovered.get("__scrape_native_histograms__"),
        Some("false")
    );
}

#[test]
fn parameters_path_and_scheme_make_the_url() {
    let yaml = "job_name: probe\nmetrics_path: /pro be\nscheme: https\nparams: {module: [a b, c], z: ['1']}\n\
                relabel_configs:\n- {source_labels: [__address__], target_label: __param_target}\n\
                - {target_label: __address__, replacement: 'blackbox:9115'}";
    let t = target(yaml, &[("__address__", "example.org:80")], &[]);
    assert_eq!(
        t.url,
        "https://blackbox:9115/pro%20be?module=a+b&module=c&target=example.org%3A80&z=1"
    );
    assert_eq!(t.labels.get("instance"), Some("blackbox:9115"));
}

#[test]
fn relabelling_sets_times_and_drops() {
    let yaml = "job_name: a\nrelabel_configs:\n\
                - {target_label: __scrape_interval__, replacement: 5s}\n\
                - {target_label: __scrape_timeout__, replacement: 5s}\n\
                - {source_labels: [keep], regex: 'yes', action: keep}";
    let t = target(yaml, &[("__address__", "h:1"), ("keep", "yes")], &[]);
    assert_eq!((t.interval, t.timeout), (5_000, 5_000));
    assert!(matches!(
        make(yaml, &[("__address__", "h:1")], &[]),
        Ok(Made::Dropped(_))
    ));
}

#[test]
fn targets_that_cannot_be() {
    for (own, wanted) in [
        (vec![("job", "x")], "no address"),
        (
            vec![("__address__", "http://h:1")],
            "\"http://h:1\" is not a valid hostname",
        ),
        (
            vec![("__address__", "h"), ("__scrape_interval__", "x")],
            "error parsing scrape interval",
        ),
        (
            vec![("__address__", "h"), ("__scrape_interval__", "0s")],
            "scrape interval cannot be 0",
        ),
        (
            vec![("__address__", "h"), ("__scrape_timeout__", "2m")],
            "scrape timeout cannot be greater than scrape interval (\"2m\" > \"1m\")",
        ),
        (
            vec![
                ("__address__", "h"),
                ("__scrape_native_histograms__", "maybe"),
            ],
            "error parsing scrape native histograms",
        ),
    ] {
        let error = make("job_name: a", &own, &[]).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn the_key_is_prometheus_own() {
    // FNV-1a of known texts.
    assert_eq!(fnv(""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fnv("a"), 0xaf63_dc4c_8601_ec8c);
}
