//! What targets say about their metrics: given to the sink, and made labels.

use model::is_stale;
use scrape::Options;

use crate::scraping::{Exporter, OPENMETRICS, Set};

const BODY: &str = "# TYPE a counter\n# HELP a All.\na_total 1\n# TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds 2\n# EOF\n";

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_given_once_and_when_it_changes() {
    let exporter = Exporter::start("").await;
    exporter.answer(200, OPENMETRICS, BODY);
    let set = Set::with(Options {
        metadata: true,
        ..Options::default()
    });
    set.job("", &[&exporter.address]).await;
    exporter.scraped(3).await;
    // Two series, once each.
    assert_eq!(set.sink.extras().1, 2);
    // A new series brings its own; what is said anew about one is told of all.
    exporter.answer(
        200,
        OPENMETRICS,
        &BODY.replace("a_total 1", "a_total 1\na_total{x=\"1\"} 1"),
    );
    exporter.scraped(2).await;
    assert_eq!(set.sink.extras().1, 3);
    exporter.answer(200, OPENMETRICS, &BODY.replace("All", "Others"));
    exporter.scraped(2).await;
    assert_eq!(set.sink.extras().1, 5);
    set.manager.stop().await;

    let silent = Set::with(Options::default());
    silent.job("", &[&exporter.address]).await;
    exporter.scraped(2).await;
    assert_eq!(silent.sink.extras().1, 0);
    silent.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn type_and_unit_are_labels_if_asked_for() {
    let exporter = Exporter::start("").await;
    exporter.answer(200, OPENMETRICS, BODY);
    let set = Set::with(Options {
        type_and_unit: true,
        ..Options::default()
    });
    set.job("", &[&exporter.address]).await;
    exporter.scraped(2).await;
    let named = |name: &str| -> Vec<(String, bool)> {
        let series = set.sink.series();
        let named = series.iter().filter(|(labels, _)| labels.name() == name);
        let shown = named.map(|(labels, samples)| {
            let of = |label| labels.get(label).unwrap_or("-");
            let ended = samples.last().is_some_and(|s| is_stale(s.value));
            (format!("{} {}", of("__type__"), of("__unit__")), ended)
        });
        shown.collect()
    };
    assert_eq!(named("a_total"), [("counter -".to_owned(), false)]);
    assert_eq!(named("b_seconds"), [("gauge seconds".to_owned(), false)]);
    // Another type is another series, and the end of the first.
    exporter.answer(
        200,
        OPENMETRICS,
        &BODY.replace("b_seconds gauge", "b_seconds unknown"),
    );
    exporter.scraped(3).await;
    let mut both = named("b_seconds");
    both.sort();
    assert_eq!(
        both,
        [
            ("- seconds".to_owned(), false),
            ("gauge seconds".to_owned(), true)
        ]
    );
    set.manager.stop().await;
}
