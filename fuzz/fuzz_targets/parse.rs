//! Any text: the PromQL parser must answer or refuse, and what it accepts must print as something
//! that it accepts again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promql::features::Features;
use promql::parse::{parse, parse_metric, parse_selector};
use promql::prettify::prettify;

fuzz_target!(|text: &str| {
    let _ = parse_selector(text);
    let _ = parse_metric(text);
    if let Ok(expr) = parse(text, &Features::ALL) {
        let printed = expr.to_string();
        assert!(parse(&printed, &Features::ALL).is_ok(), "{printed}");
        assert!(parse(&prettify(&expr), &Features::ALL).is_ok(), "{printed}");
    }
});
