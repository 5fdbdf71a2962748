//! Bodies of targets in protobuf: read or refused, and whatever text is made of a series can be read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scrape::parse::ParseError;
use scrape::parse::proto::{Histograms, Item, Shown, read};

fuzz_target!(|body: &[u8]| {
    for (native, classic, convert) in [(true, true, false), (false, false, true)] {
        let histograms = Histograms {
            native,
            classic,
            convert,
        };
        let _ = read::<ParseError>(body, histograms, |item| {
            if let Item::Sample(sample) = item {
                let _ = scrape::parse::labels_of(sample.text, sample.kind, Default::default());
                for exemplar in sample.exemplars {
                    let _ = exemplar.labels();
                }
                if let Shown::Histogram(histogram) = sample.value {
                    let _ = histogram.validate();
                }
            }
            Ok(())
        });
    }
});
