//! Every expectation in `tests/data/regex.jsonl` is what Go 1.26 answered.

use serde::Deserialize;

use super::Regex;

type Spans = Vec<i64>;

/// A pattern with texts, and what Go says of them.
#[derive(Deserialize)]
struct Case {
    p: String,
    t: Vec<String>,
    /// Why `regexp.Compile(p)` fails.
    #[serde(default)]
    err: Option<String>,
    /// Why `regexp.Compile("^(?s:" + p + ")$")` fails.
    #[serde(default)]
    werr: Option<String>,
    /// A digit a text: whether it matches in full.
    #[serde(default)]
    anchored: String,
    /// Spans of the groups of the first match of `p` in each text.
    #[serde(default)]
    find: Vec<Option<Spans>>,
    /// The same for `^(?s:p)$`.
    #[serde(default)]
    wrap: Vec<Option<Spans>>,
    /// Templates, and what they become for each text.
    #[serde(default)]
    x: Vec<String>,
    #[serde(default)]
    expand: Vec<Vec<Option<String>>>,
}

fn spans(regex: &Regex, text: &str) -> Option<Spans> {
    let captures = regex.captures(text)?;
    let span = |s: &Option<(usize, usize)>| s.map_or([-1, -1], |(a, b)| [a as i64, b as i64]);
    Some(captures.spans.iter().flat_map(span).collect())
}

/// What differs from Go, one line each.
fn differences(case: &Case) -> Vec<String> {
    let mut out = Vec::new();
    let mut differ = |what: &str, ours: String, go: String| {
        if ours != go {
            out.push(format!("{:?} {what}: ours {ours}, Go {go}", case.p));
        }
    };
    let error = |r: &Result<Regex, super::RegexError>| {
        format!("{:?}", r.as_ref().err().map(ToString::to_string))
    };
    let regex = Regex::new(&case.p);
    differ("error", error(&regex), format!("{:?}", case.err));
    if let (Ok(regex), None) = (&regex, &case.err) {
        for (text, want) in case.t.iter().zip(&case.find) {
            differ(
                &format!("in {text:?}"),
                format!("{:?}", spans(regex, text)),
                format!("{want:?}"),
            );
            differ(
                &format!("is in {text:?}"),
                regex.is_match(text).to_string(),
                want.is_some().to_string(),
            );
        }
        match Regex::anchored(&case.p) {
            Err(e) => differ("anchored", e.to_string(), "accepted".into()),
            Ok(regex) if case.anchored != "?" => {
                let answers: String = case
                    .t
                    .iter()
                    .map(|t| if regex.is_match(t) { '1' } else { '0' })
                    .collect();
                differ(
                    &format!("is all of {:?}", case.t),
                    answers.clone(),
                    case.anchored.clone(),
                );
                for (text, yes) in case.t.iter().zip(answers.chars()) {
                    let literal = regex.literals().map(|l| l.contains(text));
                    differ(
                        &format!("literal {text:?}"),
                        literal.unwrap_or(yes == '1').to_string(),
                        (yes == '1').to_string(),
                    );
                    let prefix = yes == '0' || text.starts_with(regex.prefix());
                    differ(
                        &format!("prefix of {text:?}"),
                        prefix.to_string(),
                        "true".into(),
                    );
                }
            }
            Ok(_) => {}
        }
    }
    let wrapped = Regex::wrapped(&case.p);
    differ("wrapped error", error(&wrapped), format!("{:?}", case.werr));
    if let (Ok(regex), None) = (&wrapped, &case.werr) {
        for (i, (text, want)) in case.t.iter().zip(&case.wrap).enumerate() {
            differ(
                &format!("wrapped in {text:?}"),
                format!("{:?}", spans(regex, text)),
                format!("{want:?}"),
            );
            differ(
                &format!("wrapped is {text:?}"),
                regex.is_match(text).to_string(),
                want.is_some().to_string(),
            );
            for (template, want) in case.x.iter().zip(case.expand.get(i).into_iter().flatten()) {
                let ours = regex.expand(text, template);
                differ(
                    &format!("{template:?} of {text:?}"),
                    format!("{ours:?}"),
                    format!("{want:?}"),
                );
            }
        }
    }
    out
}

fn check(cases: &str) {
    let (mut count, mut all) = (0, Vec::new());
    for line in cases.lines().filter(|l| !l.is_empty()) {
        let case: Case = serde_json::from_str(line).unwrap();
        count += 1;
        all.extend(differences(&case));
    }
    for line in all.iter().take(100) {
        eprintln!("{line}");
    }
    eprintln!("{count} patterns, {} differences from Go", all.len());
    assert!(all.is_empty());
}

#[test]
fn golden() {
    check(include_str!("../../tests/data/regex.jsonl"));
}

/// Compares with as many answers of Go as somebody cares to collect.
#[test]
fn differential() {
    match std::env::var("EPIMETHEUS_REGEX_CASES") {
        Ok(path) => check(&std::fs::read_to_string(path).unwrap()),
        Err(_) => println!("SKIPPED: EPIMETHEUS_REGEX_CASES names no file of cases"),
    }
}

#[test]
fn hostile_patterns_end_soon() {
    // Too large for Go too, or only for us; never slow, never deep in the caller's stack.
    for pattern in [
        "(a{100}){100}".to_owned(),
        r"(\pL{100}){10}".to_owned(),
        r"((\pL|\pN){30}[^\pL]{30}){1,30}".to_owned(),
        "(".repeat(100_000),
        ")".repeat(100_000),
        "(?i)".repeat(100_000),
        "[".repeat(100_000),
        "[[:alpha:]".repeat(10_000),
        r"\pL".repeat(30_000),
        "(?:a|b*)".repeat(200_000),
        "(x*)*y".repeat(50_000),
        ".*a".repeat(200_000),
        "((((((((((a{1,10}){1,10}){1,10}){1,10})?)*)+)*)?)*)".to_owned(),
    ] {
        let start: String = pattern.chars().take(20).collect();
        let began = std::time::Instant::now();
        let regex = Regex::anchored(&pattern);
        if let Ok(regex) = &regex {
            regex.is_match("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!");
        }
        println!("{start}...: {:?} {}", began.elapsed(), regex.is_ok());
    }
}

#[test]
fn deep_patterns_fit_in_small_stacks() {
    let deep = format!("{}a*b{}", "(?:x|(".repeat(300), ")*)".repeat(300));
    let thread = std::thread::Builder::new().stack_size(512 << 10);
    let answer = thread.spawn(move || {
        let regex = Regex::anchored(&deep).unwrap();
        (regex.is_match("aab"), regex.is_match("aac"))
    });
    assert_eq!(answer.unwrap().join().unwrap(), (true, false));
}

#[test]
fn long_lists_are_sets() {
    let list: Vec<String> = (0..20_000).map(|i| format!("host-{i}")).collect();
    for pattern in [
        list.join("|"),
        format!("({})", list.join("|")),
        format!("^(?:{})$", list.join("|")),
    ] {
        let regex = Regex::anchored(&pattern).unwrap();
        assert_eq!(regex.literals().map(<[String]>::len), Some(20_000));
        assert_eq!(regex.prefix(), "host-");
        assert!(regex.is_match("host-19999") && !regex.is_match("host-20000"));
        assert!(regex.expand("host-7", "<$1>").is_some());
    }
}

#[test]
fn shortcuts_are_found() {
    let literals = |p: &str| {
        Regex::anchored(p)
            .unwrap()
            .literals()
            .map(<[String]>::to_vec)
    };
    let strs = |l: &[&str]| Some(l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
    assert_eq!(literals("b|a|b"), strs(&["a", "b"]));
    assert_eq!(literals("a(b|c)d?"), strs(&["ab", "abd", "ac", "acd"]));
    assert_eq!(literals("^(a|b)$"), strs(&["a", "b"]));
    assert_eq!(
        literals("10\\.0\\.0\\.[1-3]"),
        strs(&["10.0.0.1", "10.0.0.2", "10.0.0.3"])
    );
    assert_eq!(literals("(?i)ab"), strs(&["AB", "Ab", "aB", "ab"]));
    assert_eq!(literals(""), strs(&[""]));
    assert_eq!(literals("[a-z]{3}"), None);
    assert_eq!(literals("a.*"), None);
    for (pattern, prefix) in [
        ("foo.*", "foo"),
        ("foo(a|b)[0-9]+x", "foo"),
        ("(foo|fob).+", "fo"),
        ("é+", ""),
        (".*", ""),
    ] {
        assert_eq!(
            Regex::anchored(pattern).unwrap().prefix(),
            prefix,
            "{pattern}"
        );
    }
    // These never reach the engine.
    for pattern in [
        "foo.*",
        ".+",
        "(.*)",
        ".*foo.+",
        "^foo.*$",
        "(a|b).*(c|d)",
        "foo.*|bar",
    ] {
        assert!(
            Regex::anchored(pattern).unwrap().0.shape.is_complete(),
            "{pattern}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics(pattern in ".{0,30}", text in ".{0,20}") {
        for regex in [Regex::new(&pattern), Regex::anchored(&pattern), Regex::wrapped(&pattern)].into_iter().flatten() {
            regex.is_match(&text);
            regex.expand(&text, &pattern);
        }
    }

    #[test]
    fn nothing_panics_near_the_syntax(
        pattern in r"([ab.*+?|()\[\]{}^$\\,:0-9=!<>PpQEdwx-]|é|\(\?){0,20}",
        text in "[ab0é\n]{0,12}",
    ) {
        for regex in [Regex::new(&pattern), Regex::anchored(&pattern), Regex::wrapped(&pattern)].into_iter().flatten() {
            regex.is_match(&text);
            regex.expand(&text, "$1${n}$$");
        }
    }
}
