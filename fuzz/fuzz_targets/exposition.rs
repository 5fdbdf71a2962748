//! Bodies of targets: the parsers answer or refuse, and expectations change nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scrape::parse::{Event, Format, Parser};

fuzz_target!(|body: &[u8]| {
    for format in [Format::Text, Format::OpenMetrics] {
        let mut plain = Parser::new(body, format);
        let mut expecting = Parser::new(body, format);
        let mut created = Parser::new(body, format).with_created_as_start();
        let mut last: &[u8] = &[];
        loop {
            let _ = created.next_event();
            let event = plain.next_event();
            let same = expecting.next_expecting(last);
            assert_eq!(format!("{:?}", strip(&event)), format!("{:?}", strip(&same)));
            match event {
                Ok(Some(Event::Series(series))) => {
                    let _ = series.labels();
                    let _ = series.exemplar.map(|e| e.labels());
                    last = series.text;
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
    }
});

/// What an event says, whatever was expected.
fn strip<E: Clone>(event: &Result<Option<Event<'_>>, E>) -> Result<Option<String>, E> {
    event.clone().map(|event| {
        event.map(|event| match event {
            Event::Series(mut series) => {
                series.expected = false;
                format!("{series:?}")
            }
            other => format!("{other:?}"),
        })
    })
}
