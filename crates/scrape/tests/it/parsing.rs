//! Small cases of our own, for a clone without the corpus.

use model::Labels;
use scrape::parse::{
    EscapingScheme, Event, Format, Parser, ScrapeProtocol, Series, Written, accept_header,
    format_openmetrics_float, negotiate, parse_float,
};

fn series(body: &[u8], format: Format) -> Vec<Series<'_>> {
    let mut parser = Parser::new(body, format);
    let mut out = Vec::new();
    while let Some(event) = parser.next_event().unwrap() {
        if let Event::Series(s) = event {
            out.push(s);
        }
    }
    out
}

fn error(body: &str, format: Format) -> String {
    let mut parser = Parser::new(body.as_bytes(), format);
    loop {
        match parser.next_event() {
            Ok(None) => return String::new(),
            Ok(Some(_)) => {}
            Err(e) => return e.to_string(),
        }
    }
}

#[test]
fn text_lines() {
    let body = b"# HELP a what it is\n# TYPE a histogram\n\n  a_bucket { le = \"1\", b=\"x\\\"\\\\\\n\" , } 1e3 1234\n\ta -1.5\n{\"b.c\",d=\"\"} +Inf";
    let all = series(body, Format::Text);
    let labels: Vec<Labels> = all.iter().map(|s| s.labels().unwrap()).collect();
    assert_eq!(
        labels[0],
        Labels::from_pairs([("__name__", "a_bucket"), ("le", "1.0"), ("b", "x\"\\\n")])
    );
    assert_eq!((all[0].value, all[0].timestamp), (1000.0, Some(1234)));
    assert_eq!((all[1].value, all[1].timestamp), (-1.5, None));
    assert_eq!(labels[2], Labels::from_pairs([("__name__", "b.c")]));
    assert_eq!(all[2].value, f64::INFINITY);
}

#[test]
fn errors_say_where() {
    for (body, wanted) in [
        (
            "a 1\nb{c=} 2\n",
            "line 2: expected label value, got \"}\" while parsing: \"b{c=}\"",
        ),
        ("a", "expected value after metric"),
        ("a 1 x\n", "expected timestamp or new record"),
        ("a 1 1 1\n", "expected next entry after timestamp"),
        ("a 1 99999999999999999999\n", "out of range"),
        ("a 1e999\n", "out of range"),
        ("a{\"b\"} 1", "metric name already set"),
        ("{b=\"c\"} 1", "metric name not set"),
        ("# TYPE a thing\n", "invalid metric type \"thing\""),
    ] {
        assert!(
            error(body, Format::Text).contains(wanted),
            "{}",
            error(body, Format::Text)
        );
    }
    assert_eq!(
        error("a 1\n", Format::OpenMetrics),
        "line 2: data does not end with # EOF"
    );
    let twice = series(b"a{b=\"1\",b=\"2\"} 1", Format::Text)[0].labels();
    assert!(
        twice
            .unwrap_err()
            .message
            .contains("label name \"b\" is not unique")
    );
}

#[test]
fn the_expected_series_is_recognised_as_a_whole() {
    let body = b"foo 1\nfoo {a=\"b\"} 2\nfoo{a=\"b\"}3\nfoobar 4\nfoo\t5\n";
    let mut parser = Parser::new(body, Format::Text);
    let mut seen = Vec::new();
    for expected in ["foo", "foo", "foo{a=\"b\"}", "foo", "foo"] {
        let Some(Event::Series(s)) = parser.next_expecting(expected.as_bytes()).unwrap() else {
            panic!("a series");
        };
        seen.push((
            s.expected,
            std::str::from_utf8(s.text).unwrap().to_owned(),
            s.value,
        ));
    }
    let want = [
        (true, "foo", 1.0),
        (false, "foo {a=\"b\"}", 2.0),
        (true, "foo{a=\"b\"}", 3.0),
        (false, "foobar", 4.0),
        (true, "foo", 5.0),
    ];
    assert_eq!(seen, want.map(|(e, t, v)| (e, t.to_owned(), v)));
}

#[test]
fn created_lines_give_starts_in_linear_time() {
    let mut body = String::from("# TYPE c counter\n");
    for i in 0..20_000 {
        body += &format!("c_total{{i=\"{i}\"}} 1\n");
    }
    body += "c_created{i=\"19999\"} 1.5\nc_total{i=\"19999\"} 2\n# EOF\n";
    let mut parser = Parser::new(body.as_bytes(), Format::OpenMetrics).with_created_as_start();
    let mut starts = Vec::new();
    while let Some(event) = parser.next_event().unwrap() {
        if let Event::Series(s) = event {
            starts.push(s.start);
        }
    }
    assert_eq!(starts.len(), 20_001);
    assert!(starts[..19_999].iter().all(Option::is_none));
    assert_eq!(starts[19_999..], [Some(1500), Some(1500)]);
}

#[test]
fn floats_are_read_as_go_reads_them() {
    for (text, value) in [
        ("1", 1.0),
        ("-0", -0.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("+3", 3.0),
        ("1e-05", 1e-5),
        ("7.424100000000001e-05", 7.424100000000001e-05),
        ("9007199254740993", 9007199254740992.0),
        ("123456789012345678901234567890", 1.2345678901234568e29),
        ("1.7976931348623157e308", f64::MAX),
        ("4.9e-324", 5e-324),
        ("inf", f64::INFINITY),
        ("-Infinity", f64::NEG_INFINITY),
    ] {
        let line = format!("a {text}\n");
        assert_eq!(
            series(line.as_bytes(), Format::Text)[0].value,
            value,
            "{text}"
        );
        assert_eq!(parse_float(text.as_bytes()), Ok(value), "{text}");
    }
    for bad in [
        "", "-", "+nan", "-NaN", "1_0", "0x1p-2", "0x1", "1e", "e1", "1e400", "infin", ".",
    ] {
        assert!(parse_float(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn floats_in_labels() {
    for (value, text) in [
        (1.0, "1.0"),
        (-0.0, "0.0"),
        (0.25, "0.25"),
        (100_000.0, "100000.0"),
        (1e6, "1e+06"),
        (1_234_567.5, "1.2345675e+06"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (-2.5e7, "-2.5e+07"),
        (1e100, "1e+100"),
        (f64::INFINITY, "+Inf"),
    ] {
        assert_eq!(format_openmetrics_float(value), text);
    }
}

#[test]
fn asking() {
    assert_eq!(
        accept_header(&ScrapeProtocol::DEFAULT, EscapingScheme::AllowUtf8),
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
         application/openmetrics-text;version=0.0.1;q=0.5,\
         text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    );
    assert_eq!(
        negotiate("Text/Plain; version=0.0.4; charset=\"utf-8\"", None)
            .unwrap()
            .written,
        Written::Lines(Format::Text)
    );
    assert!(negotiate("text/html", None).is_err());
}
