use std::collections::BTreeMap;

use chunk::Columns;
use model::{Batch, Reject, Scope, SinkError};
use proptest::prelude::*;

use super::*;

fn head(chunk_range: Millis) -> Head {
    let options = HeadOptions {
        chunk_range,
        future_limit: None,
        ..HeadOptions::default()
    };
    Head::new(options, Arc::default())
}

fn set(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

fn batch(rows: &[(SeriesRef, i64, f64)]) -> Batch {
    let mut b = Batch::default();
    for &(r, t, v) in rows {
        b.push(r, t, v);
    }
    b
}

/// All samples that a snapshot sees.
fn seen(head: &Head, snapshot: Option<&Snapshot>) -> BTreeMap<Labels, Vec<(i64, u64)>> {
    let mut all = BTreeMap::new();
    let ids = head.index.read().all().to_vec();
    for id in ids {
        let Some(labels) = head.labels_of(id) else {
            continue;
        };
        let (number, slot) = place(id);
        let page = head.page(number).unwrap();
        let page = page.0.lock();
        let mut columns = Columns::default();
        page.see(slot, (i64::MIN, i64::MAX), snapshot, |c| {
            let before = columns.len();
            let bytes = match c.bytes {
                page::SeenBytes::Shared(blob, at, len) => {
                    page.blob(blob)[at as usize..(at + len) as usize].to_vec()
                }
                page::SeenBytes::InFile(at, len) => {
                    let file = head.file(at).unwrap();
                    file.chunk(at.offset, len).unwrap().to_vec()
                }
                page::SeenBytes::Copy(bytes) => bytes.to_vec(),
                page::SeenBytes::Cut(bytes, n) => [&n, &bytes[2..]].concat(),
            };
            chunk::decode(c.encoding, &bytes, &mut columns).unwrap();
            assert_eq!(
                (columns.ts[before], columns.ts[columns.len() - 1]),
                (c.min, c.max)
            );
        });
        if !columns.is_empty() {
            let samples = columns.iter().map(|(t, v)| (t, v.to_bits())).collect();
            all.insert(labels, samples);
        }
    }
    all
}

#[test]
fn chunks_are_cut_as_prometheus_cuts_them() {
    let h = head(2 * 3_600_000);
    let r = h.resolve(&[set(0)], None).unwrap()[0];
    // Every 15 s over 4 h: a border at 2 h, and chunks of equal length between.
    for i in 0..960 {
        h.append(batch(&[(r, i * 15_000, i as f64)]), None).unwrap();
    }
    let page = h.page(0).unwrap();
    let page = page.0.lock();
    let mut chunks = Vec::new();
    page.see(r.id as usize, (i64::MIN, i64::MAX), None, |c| {
        chunks.push((c.min / 15_000, c.max / 15_000))
    });
    assert!(chunks.iter().any(|c| c.0 == 480), "{chunks:?}");
    assert!(chunks.iter().all(|c| c.1 - c.0 < 130), "{chunks:?}");
    assert_eq!(chunks.len(), 8, "{chunks:?}");
}

#[test]
fn times_that_cannot_be_taken() {
    let h = head(1000);
    let r = h.resolve(&[set(0), set(1)], None).unwrap();
    h.append(batch(&[(r[0], 10_000, 1.0)]), None).unwrap();
    let took = h
        .append(
            batch(&[
                (r[1], 9_499, 1.0),
                (r[1], 9_500, 1.0),
                (r[0], 9_999, 1.0),
                (r[0], 10_000, 1.0),
                (r[0], 10_000, 2.0),
                (r[0], 10_001, 2.0),
                (r[0], 10_001, 3.0),
            ]),
            None,
        )
        .unwrap();
    let reasons: Vec<_> = took.rejected.iter().map(|r| (r.row, r.reason)).collect();
    assert_eq!(
        reasons,
        [
            (0, Reject::OutOfBounds),
            (2, Reject::OutOfOrder),
            (4, Reject::Duplicate),
            (6, Reject::Duplicate)
        ]
    );
    assert_eq!(took.samples, 3);
}

#[test]
fn a_sample_from_the_far_future_wedges_nothing() {
    let clock = Arc::new(model::time::ManualClock::default());
    clock.set(1_000_000);
    let options = HeadOptions {
        clock: clock.clone(),
        chunk_range: 10_000,
        ..HeadOptions::default()
    };
    let h = Head::new(options, Arc::default());
    let r = h.resolve(&[set(0), set(1)], None).unwrap();
    let far = h
        .append(batch(&[(r[0], 1 << 50, 1.0), (r[1], 1_000_000, 1.0)]), None)
        .unwrap();
    assert_eq!(far.rejected[0].reason, Reject::TooFarInFuture);
    assert_eq!(far.samples, 1);
    // The clock jumps ahead, a sample is taken, the clock comes back.
    clock.set(1 << 40);
    h.append(batch(&[(r[0], 1 << 40, 1.0)]), None).unwrap();
    clock.set(1_010_000);
    let took = h.append(batch(&[(r[1], 1_010_000, 2.0)]), None).unwrap();
    assert_eq!(took.rejected, []);
}

#[test]
fn an_atomic_batch_is_all_or_nothing() {
    let h = head(1000);
    let r = h.resolve(&[set(0), set(1)], None).unwrap();
    let mut b = batch(&[(r[0], 1, 1.0), (r[1], 1, 1.0), (r[0], 1, 2.0)]);
    b.atomic = true;
    assert!(matches!(h.append(b, None), Err(SinkError::Rejected(x)) if x.row == 2));
    assert!(seen(&h, None).is_empty());
}

#[test]
fn a_snapshot_never_sees_half_a_batch() {
    let h = Arc::new(head(100_000));
    let refs = h
        .resolve(&(0..200).map(set).collect::<Vec<_>>(), None)
        .unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|s| {
        // Two writers, each with its own half: every batch writes one timestamp to all of them.
        for half in 0..2 {
            let (h, refs, stop) = (&h, &refs[half * 100..half * 100 + 100], &stop);
            s.spawn(move || {
                for t in 0..1500 {
                    let rows: Vec<_> = refs.iter().map(|&r| (r, t, t as f64)).collect();
                    h.append(batch(&rows), None).unwrap();
                }
                stop.store(true, Ordering::Relaxed);
            });
        }
        while !stop.load(Ordering::Relaxed) {
            let snapshot = h.snapshot();
            let first = seen(&h, Some(&snapshot));
            for half in 0..2 {
                let mut of_half: Vec<_> = (half * 100..half * 100 + 100)
                    .map(|i| first.get(&set(i)))
                    .collect();
                of_half.dedup();
                assert_eq!(of_half.len(), 1, "half a batch was seen");
            }
            std::thread::yield_now();
            assert!(seen(&h, Some(&snapshot)) == first, "a snapshot changed");
        }
    });
    let all = seen(&h, Some(&h.snapshot()));
    assert!(all.values().all(|s| s.len() == 1500));
}

#[test]
fn what_an_old_reader_needs_is_kept_as_long_as_it_lives() {
    let h = Arc::new(head(100_000));
    let refs = h.resolve(&[set(0), set(1)], None).unwrap();
    let append = |times: std::ops::Range<i64>| {
        for t in times {
            let rows: Vec<_> = refs.iter().map(|&r| (r, t, t as f64)).collect();
            h.append(batch(&rows), None).unwrap();
        }
    };
    let room = || h.page(0).unwrap().0.lock().room();
    append(0..100);
    let old = h.snapshot();
    append(100..1100);
    assert!(seen(&h, Some(&old)).values().all(|s| s.len() == 100));
    assert!(room() >= 2 * 999, "every batch since is remembered");
    drop(old);
    let other = h.snapshot();
    append(1100..4000);
    assert!(seen(&h, Some(&other)).values().all(|s| s.len() == 1100));
    drop(other);
    h.collect(0);
    assert_eq!(room(), 0, "nobody needs them any more");
}

#[test]
fn what_is_dropped_is_gone_and_the_rest_stays() {
    let h = head(1000);
    let refs = h
        .resolve(&(0..300).map(set).collect::<Vec<_>>(), None)
        .unwrap();
    for t in 0..50 {
        let rows: Vec<_> = refs
            .iter()
            .enumerate()
            .filter(|(i, _)| t < 20 || i % 3 == 0)
            .map(|(_, &r)| (r, t * 100, t as f64))
            .collect();
        h.append(batch(&rows), None).unwrap();
    }
    h.collect(0);
    let gone = h.collect(2000);
    assert_eq!(gone.series.len(), 200);
    assert_eq!(h.series(), 100);
    let left = seen(&h, None);
    assert_eq!(left.len(), 100);
    assert!(left.values().all(|s| s[0].0 == 2000 && s.len() == 30));
    assert_eq!(h.range(), Some(TimeRange::new(2000, 4900)));
    let stale = h.append(batch(&[(refs[0], 5000, 1.0), (refs[1], 5000, 1.0)]), None);
    assert!(matches!(stale, Err(SinkError::Stale(rows)) if rows == [1]));
    let again = h.resolve(&[set(1)], None).unwrap()[0];
    assert!(again.id > 300);
    assert_eq!(h.index.read().postings("i", "1"), [again.id as u32]);
    // Nothing at all left.
    h.collect(10_000);
    h.collect(10_001);
    assert_eq!((h.series(), h.range()), (0, None));
}

/// It once took its locks in another order than whoever makes series, and both waited for ever.
#[test]
fn counting_bytes_stands_in_nobodys_way() {
    let h = head(1_000);
    std::thread::scope(|s| {
        let making = s.spawn(|| {
            for i in 0..3_000 {
                h.resolve(&[set(i)], None).unwrap();
            }
        });
        while !making.is_finished() {
            assert!(h.bytes() < 1 << 30);
        }
    });
    assert_eq!(h.series(), 3_000);
}

#[test]
fn threads_make_each_series_once() {
    let h = head(1000);
    let all: Vec<Vec<SeriesRef>> = std::thread::scope(|s| {
        let threads: Vec<_> = (0..4)
            .map(|k| {
                let h = &h;
                s.spawn(move || {
                    let mut sets: Vec<_> = (0..500).map(set).collect();
                    sets.rotate_left(k * 100);
                    let mut refs = h.resolve(&sets, None).unwrap();
                    refs.rotate_right(k * 100);
                    refs
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(all.windows(2).all(|w| w[0] == w[1]));
    assert_eq!(h.series(), 500);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn memory_holds_what_was_taken(
        rows in prop::collection::vec((0usize..5, 0i64..400, 0u8..3), 1..600),
        range in 50i64..1000,
        drop_before in 0i64..500,
    ) {
        let h = head(range);
        let refs = h.resolve(&(0..5).map(set).collect::<Vec<_>>(), None).unwrap();
        let mut want: BTreeMap<Labels, Vec<(i64, u64)>> = BTreeMap::new();
        let mut clock = 0;
        for part in rows.chunks(7) {
            let list: Vec<_> = part
                .iter()
                .map(|&(s, t, v)| (refs[s], clock + t % 40, f64::from(v)))
                .collect();
            clock += 11;
            let took = h.append(batch(&list), None).unwrap();
            for (i, &(r, t, v)) in list.iter().enumerate() {
                if took.rejected.iter().any(|x| x.row == i) {
                    continue;
                }
                let s = refs.iter().position(|x| *x == r).unwrap();
                let samples = want.entry(set(s)).or_default();
                if samples.last() != Some(&(t, v.to_bits())) {
                    samples.push((t, v.to_bits()));
                }
            }
        }
        prop_assert_eq!(&seen(&h, None), &want);
        let before = drop_before / range * range;
        h.collect(before);
        for samples in want.values_mut() {
            samples.retain(|s| s.0 >= before);
        }
        want.retain(|_, s| !s.is_empty());
        prop_assert_eq!(&seen(&h, None), &want);
    }
}

#[test]
fn a_cursor_gives_symbols_and_chunks() {
    let h = Arc::new(head(1000));
    let refs = h
        .resolve(&(0..150).map(set).collect::<Vec<_>>(), None)
        .unwrap();
    for t in 0..30 {
        let rows: Vec<_> = refs.iter().map(|&r| (r, t * 100, t as f64)).collect();
        h.append(batch(&rows), None).unwrap();
    }
    let scope = Scope::unbounded(TimeRange::ALL);
    let mut cursor = HeadCursor {
        head: Arc::clone(&h),
        snapshot: Arc::new(h.snapshot()),
        pin: None,
        scope: Arc::clone(&scope),
        select: Arc::new(model::Select::new(vec![], TimeRange::ALL)),
        reach: Reach {
            ordered: (950, 2050),
            ooo: None,
        },
        ids: Arc::new(Ids::new(h.index.read().all().to_vec(), 64, &scope).unwrap()),
        number: 0,
        symbols: PairSymbols::default(),
        chunks: ChunkWriter::default(),
    };
    let mut n = 0;
    while let Some(batch) = model::Cursor::next(&mut cursor).unwrap() {
        for i in 0..batch.len() {
            let labels = batch.label_set(i, &scope.symbols);
            assert_eq!(labels.name(), "m");
            let mut columns = Columns::default();
            for c in batch.chunks_of(i) {
                chunk::xor::decode(batch.bytes_of(c), &mut columns).unwrap();
            }
            assert!(columns.ascends());
            assert_eq!((columns.ts[0], columns.ts[columns.len() - 1]), (1000, 2900));
            n += 1;
        }
    }
    assert_eq!(n, 150);
}

#[test]
fn a_number_far_from_the_others_is_one_page_more() {
    let h = head(1000);
    let near = h.resolve(&[set(0)], None).unwrap()[0];
    let far = u32::MAX - 300;
    assert_eq!(h.make_as(&set(1), far.into()), Some(far));
    h.order_index();
    let far = h.reference(far);
    let next = h.resolve(&[set(2)], None).unwrap()[0];
    assert_eq!(next.id, far.id + 1);
    h.append(
        batch(&[(near, 1, 0.5), (far, 1, 1.5), (next, 1, 2.5)]),
        None,
    )
    .unwrap();
    assert_eq!(seen(&h, None).len(), 3);
    assert_eq!(h.pages.read().count(), 2);
    // The second time they are no longer young.
    h.collect(2000);
    assert_eq!(h.collect(2000).series.len(), 3);
    assert_eq!(h.pages.read().count(), 0);
}
