//! Rules, one by one and against Prometheus' own vectors.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Config, NameScheme, compile, process};
use crate::Labels;

fn labels(value: &Value) -> Labels {
    let pairs = value.as_object().unwrap().iter();
    Labels::from_pairs(pairs.map(|(n, v)| (n.as_str(), v.as_str().unwrap())))
}

fn configs(value: &Value) -> Result<Vec<Config>, String> {
    serde_json::from_value(value.clone()).map_err(|e| e.to_string())
}

fn run(rules: Value, input: Value) -> Option<String> {
    let rules = compile(&configs(&rules).unwrap(), NameScheme::Utf8).unwrap();
    process(&labels(&input), &rules).map(|l| l.to_string())
}

fn refused(rule: Value, scheme: NameScheme) -> String {
    match configs(&json!([rule])) {
        Err(e) => e,
        Ok(configs) => compile(&configs, scheme).unwrap_err().to_string(),
    }
}

fn data(file: &str) -> Option<String> {
    let root = std::env::var_os("EPIMETHEUS_DATA")
        .map(PathBuf::from)
        .unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").into());
    let path = root.join("relabel").join(file);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(e) => {
            println!("SKIPPED: {}: {e}", path.display());
            None
        }
    }
}

#[test]
fn prometheus_cases() {
    let Some(text) = data("cases.jsonl") else {
        return;
    };
    let mut count = 0;
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let mut rules = case["relabel_configs"].clone();
        for rule in rules.as_array_mut().unwrap() {
            // Here, unlike in YAML, empty means default.
            rule.as_object_mut().unwrap().retain(|_, v| v != "");
        }
        let rules = compile(&configs(&rules).unwrap(), NameScheme::Utf8).unwrap();
        let ours = process(&labels(&case["input"]), &rules);
        let want = case["keep"]
            .as_bool()
            .unwrap()
            .then(|| labels(&case["output"]));
        assert_eq!(ours, want, "{line}");
        count += 1;
    }
    println!("{count} cases");
    assert!(count > 0);
}

#[test]
fn prometheus_verdicts() {
    let Some(text) = data("validate.jsonl") else {
        return;
    };
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let mut rule = case["relabel_config"].clone();
        let rule = rule.as_object_mut().unwrap();
        let scheme = match rule
            .remove("_name_validation_scheme")
            .unwrap()
            .as_str()
            .unwrap()
        {
            "model.UTF8Validation" => NameScheme::Utf8,
            _ => NameScheme::Legacy,
        };
        if rule.get("replacement") == Some(&json!("DefaultRelabelConfig.Replacement")) {
            rule.remove("replacement");
        }
        // These rules were made without defaults.
        rule.entry("action").or_insert(Value::Null);
        let verdict = match configs(&json!([rule])) {
            Err(e) => Err(e),
            Ok(configs) => compile(&configs, scheme)
                .map(|_| ())
                .map_err(|e| e.to_string()),
        };
        assert_eq!(
            verdict.is_ok(),
            case["accept"].as_bool().unwrap(),
            "{line}: {verdict:?}"
        );
        if let Err(e) = verdict {
            assert!(
                e.contains(case["error_contains"].as_str().unwrap()),
                "{line}: {e}"
            );
        }
    }
}

#[test]
fn every_action() {
    let input = json!({"__name__": "m", "a": "Foo", "b": "bar", "c_x": "1", "c_y": "2"});
    for (rules, want) in [
        (json!([]), Some(r#"m{a="Foo", b="bar", c_x="1", c_y="2"}"#)),
        (
            json!([{"action": "keep", "source_labels": ["a", "b"], "regex": "F.+;bar"}]),
            Some(r#"m{a="Foo", b="bar", c_x="1", c_y="2"}"#),
        ),
        (
            json!([{"action": "KEEP", "source_labels": ["a"], "regex": "foo"}]),
            None,
        ),
        (
            json!([{"action": "drop", "source_labels": ["a"], "regex": "(?i)foo"}]),
            None,
        ),
        (
            json!([{"action": "drop", "source_labels": ["none"], "regex": ""}]),
            None,
        ),
        (
            json!([{"action": "drop", "source_labels": ["none"], "regex": null}]),
            None,
        ),
        (
            json!([{"action": "keepequal", "source_labels": ["b"], "target_label": "a"}]),
            None,
        ),
        (
            json!([{"action": "labelkeep", "regex": "__name__|c_.*"}]),
            Some(r#"m{c_x="1", c_y="2"}"#),
        ),
        (
            json!([{"action": "labeldrop", "regex": ".*[_bc].*"}]),
            Some(r#"{a="Foo"}"#),
        ),
        (
            json!([{"action": "labelmap", "regex": "c_(.)"}, {"action": "labeldrop", "regex": "c_.|[ab]"}]),
            Some(r#"m{x="1", y="2"}"#),
        ),
        (
            json!([{"action": "labelmap", "regex": "c_.", "replacement": "b"}]),
            Some(r#"m{a="Foo", b="2", c_x="1", c_y="2"}"#),
        ),
        (
            json!([{"target_label": "b", "replacement": ""}, {"target_label": "a", "replacement": null}]),
            Some(r#"m{c_x="1", c_y="2"}"#),
        ),
        (
            json!([{"source_labels": ["a", "b"], "separator": "", "target_label": "b"},
                {"action": "labeldrop", "regex": "c.*"}]),
            Some(r#"m{a="Foo", b="Foobar"}"#),
        ),
        (
            json!([{"source_labels": ["a"], "regex": "(F)(.*)", "target_label": "${1}_${2}", "replacement": "$2$1"},
                {"action": "labelkeep", "regex": "F.*"}]),
            Some(r#"{F_oo="ooF"}"#),
        ),
        (
            json!([{"source_labels": ["a"], "regex": "x", "target_label": "b", "replacement": "y"}]),
            Some(r#"m{a="Foo", b="bar", c_x="1", c_y="2"}"#),
        ),
        (
            json!([{"action": "uppercase", "source_labels": ["a"], "target_label": "a"},
                {"action": "lowercase", "source_labels": ["a"], "target_label": "b"},
                {"action": "labelkeep", "regex": "[ab]"}]),
            Some(r#"{a="FOO", b="foo"}"#),
        ),
        (
            json!([{"target_label": "t", "replacement": "x"}, {"target_label": "t", "replacement": "y"},
                {"action": "labelkeep", "regex": "t"}, {"action": "keep", "source_labels": ["t"], "regex": "y"}]),
            Some(r#"{t="y"}"#),
        ),
        (json!([{"action": "labeldrop", "regex": ".*"}]), Some("{}")),
    ] {
        assert_eq!(
            run(rules.clone(), input.clone()).as_deref(),
            want,
            "{rules}"
        );
    }
    let hash = json!([{"action": "hashmod", "source_labels": ["c"], "target_label": "d", "modulus": 1000}]);
    assert_eq!(
        run(hash, json!({"c": "baz"})).unwrap(),
        r#"{c="baz", d="976"}"#
    );
}

#[test]
fn nothing_is_copied_if_nothing_changes() {
    let input = labels(&json!({"a": "1", "b": "2"}));
    let rules = configs(&json!([
        {"source_labels": ["a"], "target_label": "a"},
        {"source_labels": ["a"], "regex": "x", "target_label": "b", "replacement": "y"},
        {"action": "keep", "source_labels": ["a"], "regex": "1"},
        {"action": "labeldrop", "regex": "c"},
        {"target_label": "none", "replacement": ""},
    ]));
    let rules = compile(&rules.unwrap(), NameScheme::Utf8).unwrap();
    let output = process(&input, &rules).unwrap();
    assert!(std::ptr::eq(input.as_bytes(), output.as_bytes()));
}

#[test]
fn wrong_rules_are_refused_in_prometheus_words() {
    for (rule, want) in [
        (json!({"action": null}), "relabel action cannot be empty"),
        (json!({"action": "foo"}), "unknown relabel action \"foo\""),
        (json!({"action": ""}), "unknown relabel action \"\""),
        (
            json!({"foo": 1}),
            "field foo not found in type relabel.plain",
        ),
        (
            json!({"regex": "abc("}),
            "error parsing regexp: missing closing ): `^(?s:abc()$`",
        ),
        (
            json!({"source_labels": [""]}),
            "\"\" is not a valid label name",
        ),
        (
            json!({"action": "hashmod", "target_label": "x"}),
            "relabel configuration for hashmod requires non-zero modulus",
        ),
        (
            json!({"action": "hashmod", "modulus": 3}),
            "relabel configuration for hashmod action requires 'target_label' value",
        ),
        (
            json!({}),
            "relabel configuration for replace action requires 'target_label' value",
        ),
        (
            json!({"action": "lowercase", "target_label": "a", "replacement": "x"}),
            "'replacement' can not be set for lowercase action",
        ),
        (
            json!({"action": "dropequal", "target_label": "a", "regex": "(.*)"}),
            "dropequal action requires only 'source_labels' and `target_label`, and no other fields",
        ),
        (
            json!({"action": "labeldrop", "source_labels": []}),
            "labeldrop action requires only 'regex', and no other fields",
        ),
        (
            json!({"action": "labelkeep", "separator": ""}),
            "labelkeep action requires only 'regex', and no other fields",
        ),
        (
            json!({"action": "labelmap", "replacement": ""}),
            "\"\" is invalid 'replacement' for labelmap action",
        ),
    ] {
        let error = refused(rule.clone(), NameScheme::Utf8);
        assert!(error.starts_with(want), "{rule}: {error}");
    }
    for target in ["a.b", "1a", "$", "${", "${1", "a$", "é", "a-$1", "1$1"] {
        let error = refused(json!({"target_label": target}), NameScheme::Legacy);
        assert_eq!(
            error,
            format!("{target:?} is invalid 'target_label' for replace action")
        );
    }
    for target in [
        "a",
        "a1",
        "$1",
        "${1}",
        "a_$1",
        "${a}b$c",
        "$1${2}3",
        "__tmp_${x}",
    ] {
        let rules = configs(&json!([{"target_label": target}])).unwrap();
        assert!(compile(&rules, NameScheme::Legacy).is_ok(), "{target}");
    }
}

#[test]
fn a_name_that_turns_out_invalid_is_not_set() {
    let rules = configs(
        &json!([{"source_labels": ["a"], "regex": "(.*)", "target_label": "$1", "replacement": "x"}]),
    );
    let rules = rules.unwrap();
    let input = labels(&json!({"a": "b.c"}));
    let with = |scheme| {
        process(&input, &compile(&rules, scheme).unwrap())
            .unwrap()
            .to_string()
    };
    assert_eq!(with(NameScheme::Legacy), r#"{a="b.c"}"#);
    assert_eq!(with(NameScheme::Utf8), r#"{a="b.c", "b.c"="x"}"#);
}

#[test]
fn what_is_written_reads_back() {
    let text = r#"[{"source_labels":["a","b"],"separator":";","regex":"(.*)","target_label":"c","replacement":"$1","action":"replace"},{"separator":";","regex":"x","modulus":7,"target_label":"d","replacement":"$1","action":"hashmod"}]"#;
    let read: Vec<Config> = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    assert_eq!(
        read[0],
        Config {
            source_labels: Some(vec!["a".into(), "b".into()]),
            regex: Some(crate::regex::Regex::anchored("(.*)").unwrap()),
            target_label: "c".into(),
            ..Config::default()
        }
    );
}

#[test]
fn letters_change_case_one_by_one() {
    use crate::regex::{to_lower, to_upper};
    for (c, lower, upper) in [
        ('ß', 'ß', 'ß'),
        ('ẞ', 'ß', 'ẞ'),
        ('İ', 'i', 'İ'),
        ('ı', 'ı', 'I'),
        ('Σ', 'σ', 'Σ'),
        ('ς', 'ς', 'Σ'),
        ('ᾳ', 'ᾳ', 'ᾼ'),
        ('ᾀ', 'ᾀ', 'ᾈ'),
        ('ŉ', 'ŉ', 'ŉ'),
        ('ﬁ', 'ﬁ', 'ﬁ'),
        ('ɤ', 'ɤ', 'ɤ'),
        ('ǅ', 'ǆ', 'Ǆ'),
        ('a', 'a', 'A'),
        ('\u{149}', '\u{149}', '\u{149}'),
    ] {
        assert_eq!((to_lower(c), to_upper(c)), (lower, upper), "{c}");
    }
}
