//! Whatever a target sends, the parsers answer or refuse.

use proptest::prelude::*;
use scrape::parse::{Event, Format, Parser, negotiate};

fn walk(body: &[u8], format: Format, created: bool) -> usize {
    let mut parser = Parser::new(body, format);
    if created {
        parser = parser.with_created_as_start();
    }
    let mut events = 0;
    while let Ok(Some(event)) = parser.next_event() {
        if let Event::Series(series) = event {
            let _ = series.labels();
            let _ = series.labels_with_type_and_unit();
            let _ = series.exemplar.map(|e| e.labels());
        }
        events += 1;
        assert!(events <= body.len(), "every event takes a byte");
    }
    events
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "# HELP ",
            "# TYPE ",
            "# UNIT ",
            "# EOF",
            "counter",
            "histogram",
            "a",
            "a_created",
            "{",
            "}",
            "\"",
            "\\",
            "=",
            ",",
            " ",
            "\t",
            "\n",
            "1",
            "1e5",
            "NaN",
            "-",
            ".",
            " # {",
            "le",
            "\"x\"",
            "\0",
            "é",
            "a{b=\"c\"} 1\n",
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
        any::<u8>().prop_map(|b| vec![b]),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|v| v.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_hostile_bodies(body in pieces()) {
        walk(&body, Format::Text, false);
        walk(&body, Format::OpenMetrics, false);
        walk(&body, Format::OpenMetrics, true);
    }

    #[test]
    fn on_hostile_messages(body in prop::collection::vec(any::<u8>(), 0..200)) {
        use scrape::parse::{ParseError, proto};
        for convert in [false, true] {
            let histograms = proto::Histograms { native: true, classic: true, convert };
            // Behind its true length the message is looked into.
            let delimited = [&[body.len() as u8 & 0x7f], body.as_slice()].concat();
            let _ = proto::read::<ParseError>(&delimited, histograms, |_| Ok(()));
        }
    }

    #[test]
    fn on_hostile_headers(header in "[ -~]{0,40}") {
        let _ = negotiate(&header, None);
    }

    /// What is expected changes the cost of reading, never the result.
    #[test]
    fn expectations_change_nothing(body in pieces(), expected in pieces()) {
        for format in [Format::Text, Format::OpenMetrics] {
            let read = |expected: &[u8]| {
                let mut parser = Parser::new(&body, format);
                let mut out = Vec::new();
                loop {
                    match parser.next_expecting(expected) {
                        Ok(Some(Event::Series(s))) => {
                            out.push(format!("{:?} {:?} {:?}", s.text, s.value, s.timestamp));
                        }
                        Ok(Some(other)) => out.push(format!("{other:?}")),
                        Ok(None) => return (out, None),
                        Err(e) => return (out, Some(e)),
                    }
                }
            };
            let plain = read(&[]);
            prop_assert_eq!(&plain, &read(b"a{b=\"c\"}"));
            prop_assert_eq!(&plain, &read(b"a"));
            // Only texts that were series once are ever expected.
            let mut once = Parser::new(&expected, format);
            while let Ok(Some(event)) = once.next_event() {
                if let Event::Series(s) = event {
                    prop_assert_eq!(&plain, &read(s.text));
                }
            }
        }
    }

    #[test]
    fn floats_agree_with_the_plain_way(value in any::<f64>(), digits in 0usize..20) {
        for text in [format!("{value}"), format!("{value:e}"), format!("{value:.digits$}")] {
            let Ok(want) = text.parse::<f64>() else { continue };
            if want.is_nan() { continue }
            let line = format!("a {text}\n");
            if let Ok(Some(Event::Series(s))) = Parser::new(line.as_bytes(), Format::Text).next_event() {
                prop_assert_eq!(s.value.to_bits(), want.to_bits(), "{}", text);
            }
        }
    }
}
