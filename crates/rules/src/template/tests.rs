use model::Labels;

use super::*;

fn expand(text: &str) -> Result<String, String> {
    let found = |name: &str, value| Sample {
        labels: Labels::from_pairs([("__name__", "up"), ("instance", name)]),
        value: Number::Float(value),
    };
    let query = |expr: &str| match expr {
        "none" => Ok(vec![]),
        "bad" => Err("it is bad".to_owned()),
        _ => Ok(vec![found("b:9100", 21.0), found("a:9100", 1234567.5)]),
    };
    let env = Env {
        query: &query,
        now: 1_700_000_000_123,
        external_url: "https://prom.example/pre",
    };
    let root = Root {
        labels: Labels::from_pairs([("instance", "web-1:9100"), ("job", "api")]),
        external_labels: Labels::from_pairs([("region", "eu")]),
        external_url: "https://prom.example/pre".to_owned(),
        value: 1234567.0.into(),
    };
    Template::parse("Up", text)?.expand(root, &env)
}

#[test]
fn the_language_is_gos() {
    for (text, want) in [
        ("plain", "plain"),
        (
            "{{ 1 }}{{ 1e3 }}{{ 0x1f }}{{ 'a' }}{{ true }}",
            "1100031 97true",
        ),
        ("a {{- 1 -}} b", "a1b"),
        ("{{/* nothing */}}x{{- /* nothing */ -}} y", "xy"),
        (
            "{{ if eq $labels.job \"api\" }}A{{ else if false }}B{{ else }}C{{ end }}",
            "A",
        ),
        (
            "{{ with $labels.nope }}A{{ else with $labels.job }}{{ . }}{{ end }}",
            "api",
        ),
        (
            "{{ range $i, $s := query \"up\" }}{{ $i }}{{ $s.Value }};{{ end }}",
            "021;11.2345675e+06;",
        ),
        (
            "{{ range 3 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ . }}{{ end }}",
            "02",
        ),
        ("{{ range query \"none\" }}A{{ else }}B{{ end }}", "B"),
        (
            "{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}",
            "2",
        ),
        (
            "{{ define \"t\" }}[{{ .arg0 }}|{{ .arg1 }}]{{ end }}{{ template \"t\" (args 1 \"x\") }}",
            "[1|x]",
        ),
        (
            "{{ printf \"%5.1f|%-4s|%03d|%q|%x\" 2.25 \"ab\" 7 \"q\" \"hi\" }}",
            "  2.2|ab  |007|\"q\"|6869",
        ),
        (
            "{{ printf \"%d %s\" 2.5 }}",
            "%!d(float64=2.5) %!s(MISSING)",
        ),
        (
            "{{ len $labels }}{{ index $labels \"job\" }}{{ slice \"abcd\" 1 3 }}",
            "2apibc",
        ),
        (
            "{{ and 1 0 }}{{ or 0 \"x\" }}{{ not 1 }}{{ lt 1 2 }}{{ ge 2.5 3.5 }}",
            "0xfalsetruefalse",
        ),
        (
            "{{ html \"<a&b>\" }}{{ urlquery \"a b/c\" }}{{ js \"it's\" }}",
            "&lt;a&amp;b&gt;a+b%2Fcit\\'s",
        ),
        (
            "{{ $labels }}{{ .Value }}{{ $labels.nope }}",
            "map[instance:web-1:9100 job:api]1.234567e+06",
        ),
    ] {
        let want = want.replace("31 97", "3197");
        assert_eq!(expand(text), Ok(want), "{text}");
    }
}

#[test]
fn the_functions_are_prometheus() {
    for (text, want) in [
        (
            "{{ $value | humanize }} {{ humanize 0.12 }} {{ humanize \"-3e-7\" }}",
            "1.235M 120m -300n",
        ),
        (
            "{{ humanize1024 1048576.0 }} {{ 0.5 | humanize1024 }}",
            "1Mi 0.5",
        ),
        (
            "{{ humanizeDuration 97445.7 }} {{ humanizeDuration 0.0123 }} {{ humanizeDuration 12.345 }}",
            "1d 3h 4m 5s 12.3ms 12.35s",
        ),
        (
            "{{ humanizePercentage 0.1234567 }} {{ humanizeTimestamp 1700000000.5 }}",
            "12.35% 2023-11-14 22:13:20.5 +0000 UTC",
        ),
        (
            "{{ (toTime 1.7e9).Format \"02 Jan 2006 15:04\" }} {{ (toDuration 90).Minutes }}",
            "14 Nov 2023 22:13 1.5",
        ),
        (
            "{{ query \"up\" | first | label \"instance\" }} {{ query \"up\" | first | value }}",
            "b:9100 21",
        ),
        (
            "{{ range query \"up\" | sortByLabel \"instance\" }}{{ .Labels.instance }} {{ end }}",
            "a:9100 b:9100 ",
        ),
        (
            "{{ reReplaceAll \"(a)b\" \"x$1\" \"abcab\" }} {{ match \"a.\" \"xab\" }}",
            "xacxa true",
        ),
        (
            "{{ \"web-1.eu:80\" | stripPort }} {{ \"web-1.eu:80\" | stripDomain }} {{ stripDomain \"10.0.0.1:80\" }}",
            "web-1.eu web-1:80 10.0.0.1:80",
        ),
        (
            "{{ title \"aa bB:cc 12h\" }} {{ toUpper \"ß\" }} {{ parseDuration \"1h2m\" }}",
            "Aa BB:cc 12H SS 3720",
        ),
        (
            "{{ graphLink \"up == 1\" }} {{ pathPrefix }} {{ externalURL }} {{ now }}",
            "/graph?g0.expr=up+%3D%3D+1&g0.tab=0 /pre https://prom.example/pre 1.700000000123e+09",
        ),
        (
            "{{ $externalLabels.region }} {{ $externalURL }}",
            "eu https://prom.example/pre",
        ),
    ] {
        assert_eq!(expand(text), Ok(want.to_owned()), "{text}");
    }
}

#[test]
fn errors_have_gos_words() {
    for (text, want) in [
        ("{{", "template: __alert_Up:1: unclosed action"),
        (
            "\n{{ foo }}",
            "template: __alert_Up:2: function \"foo\" not defined",
        ),
        (
            "{{ $label.x }}",
            "template: __alert_Up:1: undefined variable \"$label\"",
        ),
        (
            "{{ if }}x{{ end }}",
            "template: __alert_Up:1: missing value for if",
        ),
        (
            "{{ 1 | 2 }}",
            "template: __alert_Up:1: non executable command in pipeline stage 2",
        ),
        ("{{ end }}", "template: __alert_Up:1: unexpected {{end}}"),
        ("{{ if 1 }}", "template: __alert_Up:1: unexpected EOF"),
        (
            "{{ break }}",
            "template: __alert_Up:1: {{break}} outside {{range}}",
        ),
        (
            "{{ \"a }}",
            "template: __alert_Up:1: unterminated quoted string",
        ),
        (
            "{{ query \"none\" | first }}",
            "error executing template __alert_Up: template: __alert_Up:1:130: executing \"__alert_Up\" at <first>: error calling first: first() called on vector with no elements",
        ),
        (
            "{{ humanize \"one\" }}",
            "error executing template __alert_Up: template: __alert_Up:1:115: executing \"__alert_Up\" at <humanize \"one\">: error calling humanize: strconv.ParseFloat: parsing \"one\": invalid syntax",
        ),
        (
            "{{ query \"bad\" }}",
            "error executing template __alert_Up: template: __alert_Up:1:115: executing \"__alert_Up\" at <query \"bad\">: error calling query: it is bad",
        ),
        (
            "{{ toUpper 1 }}",
            "error executing template __alert_Up: template: __alert_Up:1:123: executing \"__alert_Up\" at <1>: expected string; found 1",
        ),
        (
            "{{ define \"t\" }}{{ template \"t\" }}{{ end }}{{ template \"t\" }}",
            "maximum template depth",
        ),
    ] {
        let error = expand(text).unwrap_err();
        assert!(error.contains(want), "{text}: {error}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(\\{\\{|\\}\\}|[ -~]|if|end|range|\\$|\"|%|é){0,60}") {
        let _ = expand(&text);
    }
}
