use std::collections::HashMap;

use model::TimeRange;

use super::*;

fn meta(n: usize, (min, max): (Millis, Millis)) -> Meta {
    let mut meta = Meta::new(Ulid::from_parts(n as u64, 0), TimeRange::new(min, max - 1));
    meta.stats.num_series = 10;
    meta
}

/// Blocks `min-max`, in any order; `x` behind one excludes it, `b` makes it busy.
fn blocks(text: &str) -> (Vec<Meta>, Apart) {
    let mut apart = Apart::default();
    let mut metas = Vec::new();
    for (n, word) in text.split_whitespace().enumerate() {
        let (word, mark) = match word.trim_end_matches(['x', 'b']) {
            bare if bare.len() < word.len() => (bare, word.chars().last()),
            bare => (bare, None),
        };
        let (min, max) = word.split_once('-').unwrap();
        let meta = meta(n + 1, (min.parse().unwrap(), max.parse().unwrap()));
        match mark {
            Some('x') => apart.excluded.insert(meta.ulid),
            Some(_) => apart.busy.insert(meta.ulid),
            None => false,
        };
        metas.push(meta);
    }
    metas.sort_by_key(|m| m.min_time);
    (metas, apart)
}

fn planner() -> Planner {
    Planner {
        ranges: vec![20, 60, 180, 540, 1620],
        max_index_size: u64::MAX,
    }
}

fn names(metas: &[Meta], plan: &[Ulid]) -> String {
    let of = |ulid: &Ulid| metas.iter().find(|m| m.ulid == *ulid).unwrap();
    let names = plan.iter().map(of);
    let names: Vec<String> = names
        .map(|m| format!("{}-{}", m.min_time, m.max_time))
        .collect();
    names.join(" ")
}

fn planned(text: &str) -> String {
    let (metas, apart) = blocks(text);
    let refs: Vec<&Meta> = metas.iter().collect();
    let decision = planner().decide(&refs, &apart, |_| 0);
    assert_eq!(decision.exclude, []);
    names(&metas, &decision.plan)
}

#[test]
fn blocks_that_fill_a_range_are_taken() {
    for (given, want) in [
        ("0-20", ""),
        ("0-20 20-40", ""),
        ("0-20 20-40 40-60", ""),
        ("0-20 20-40 40-60 60-80", "0-20 20-40 40-60"),
        ("0-60 60-120 120-180 180-200 200-220", "0-60 60-120 120-180"),
        ("0-20 20-40 60-80", ""),
        ("0-20 20-40 60-80 80-100", "0-20 20-40"),
        ("0-20 20-40 40-60 60-120 120-180", "0-20 20-40 40-60"),
        ("0-60 120-180 180-200 200-220", "0-60 120-180"),
        (
            "20-40 60-120 960-980 120-180 720-960",
            "20-40 60-120 120-180",
        ),
        ("0-360 540-560 360-420 420-540", "360-420 420-540"),
    ] {
        assert_eq!(planned(given), want, "{given}");
    }
}

#[test]
fn ranges_before_the_epoch_are_aligned_too() {
    let metas: Vec<Meta> = [(-60, -40), (-40, -20), (-20, 0), (0, 20)]
        .into_iter()
        .enumerate()
        .map(|(n, range)| meta(n + 1, range))
        .collect();
    let refs: Vec<&Meta> = metas.iter().collect();
    let decision = planner().decide(&refs, &Apart::default(), |_| 0);
    assert_eq!(names(&metas, &decision.plan), "-60--40 -40--20 -20-0");
}

#[test]
fn overlaps_come_first() {
    for (given, want) in [
        ("0-20 19-40 40-60", "0-20 19-40"),
        ("0-20 20-40 30-50", "20-40 30-50"),
        ("0-20 10-40 30-50", "0-20 10-40 30-50"),
        (
            "0-360 340-560 360-420 420-540",
            "0-360 340-560 360-420 420-540",
        ),
        ("0-10 9-20 30-40 39-50", "0-10 9-20"),
        ("0-20 0-20", "0-20 0-20"),
    ] {
        assert_eq!(planned(given), want, "{given}");
    }
}

#[test]
fn excluded_blocks_cut_ranges() {
    for (given, want) in [
        ("0-20x 20-40 40-60 60-80", "20-40 40-60"),
        ("0-20 20-40x 40-60 60-80", ""),
        ("0-20 20-40 40-60 60-80x", "0-20 20-40 40-60"),
        ("0-20x 20-40 40-60 60-80x", "20-40 40-60"),
        ("0-20x 20-40x 40-60x 60-80x", ""),
        ("0-20 20-40x 60-80 80-100", ""),
        ("20-40 60-120 960-980 120-180x 720-960", "20-40 60-120"),
        ("20-40 60-120x 960-980 120-180 720-960", ""),
        ("0-20x 19-40 40-60", ""),
    ] {
        assert_eq!(planned(given), want, "{given}");
    }
}

#[test]
fn busy_blocks_hold_their_range_and_no_other() {
    for (given, want) in [
        (
            "0-20b 20-40 40-60 60-80 80-100 100-120 120-140",
            "60-80 80-100 100-120",
        ),
        // 60-180 would be a piece of 0-180, whose first part is being made.
        ("0-20b 20-40b 40-60b 60-120 120-180 180-200", ""),
        ("0-20b 19-40 40-60 55-70", "40-60 55-70"),
        ("0-20b 19-40", ""),
    ] {
        assert_eq!(planned(given), want, "{given}");
    }
}

#[test]
fn many_tombstones_are_a_reason() {
    let plan = |list: &[(Millis, Millis, u64, u64)], excluded: &[usize]| {
        let metas: Vec<Meta> = list
            .iter()
            .enumerate()
            .map(|(n, &(min, max, series, tombstones))| {
                let mut meta = meta(n + 1, (min, max));
                meta.stats.num_series = series;
                meta.stats.num_tombstones = tombstones;
                meta
            })
            .collect();
        let refs: Vec<&Meta> = metas.iter().collect();
        let apart = Apart {
            excluded: excluded.iter().map(|&i| metas[i].ulid).collect(),
            ..Apart::default()
        };
        names(&metas, &planner().decide(&refs, &apart, |_| 0).plan)
    };
    assert_eq!(plan(&[(0, 540, 10, 3)], &[]), "");
    assert_eq!(plan(&[(0, 540, 10, 3), (540, 560, 10, 0)], &[]), "0-540");
    assert_eq!(plan(&[(0, 60, 10, 3), (60, 80, 10, 0)], &[]), "");
    assert_eq!(plan(&[(0, 540, 0, 0), (540, 560, 10, 0)], &[]), "");
    assert_eq!(plan(&[(0, 540, 10, 3), (540, 560, 10, 0)], &[0]), "");
}

#[test]
fn failed_blocks_hold_their_range() {
    let (mut metas, apart) = blocks("0-20 20-40 40-60 60-80 80-100 100-120 120-140");
    metas[1].compaction.failed = true;
    let refs: Vec<&Meta> = metas.iter().collect();
    let decision = planner().decide(&refs, &apart, |_| 0);
    assert_eq!(names(&metas, &decision.plan), "60-80 80-100 100-120");
}

#[test]
fn large_indexes_stay_alone() {
    for (given, sizes, want, marks) in [
        (
            "0-20 20-40 40-60 60-80",
            [41, 30, 30, 30].as_slice(),
            "20-40 40-60",
            1,
        ),
        ("0-20 20-40 40-60 60-80", &[30, 41, 30, 20], "", 1),
        (
            "0-20 20-40 40-60 60-80",
            &[10, 10, 10, 90],
            "0-20 20-40 40-60",
            0,
        ),
        (
            "0-20 20-40 40-50 50-60 60-80",
            &[90, 30, 30, 90, 90],
            "20-40 40-50",
            2,
        ),
        ("0-20 19-40 40-60", &[90, 30, 30], "", 1),
        ("0-20", &[100], "", 0),
    ] {
        let (metas, apart) = blocks(given);
        let refs: Vec<&Meta> = metas.iter().collect();
        let sizes: HashMap<Ulid, u64> = metas
            .iter()
            .map(|m| m.ulid)
            .zip(sizes.iter().copied())
            .collect();
        let planner = Planner {
            max_index_size: 100,
            ..planner()
        };
        let decision = planner.decide(&refs, &apart, |m| sizes[&m.ulid]);
        assert_eq!(names(&metas, &decision.plan), want, "{given}");
        assert_eq!(decision.exclude.len(), marks, "{given}");
        assert!(decision.exclude.iter().all(|e| e.1 == Exclusion::IndexSize));
    }
}

#[test]
fn downsampled_blocks_that_overlap_are_left_alone() {
    let (mut metas, apart) = blocks("0-20 19-40 40-60 60-80 80-100");
    for meta in &mut metas {
        meta.thanos = Some(block::meta::Thanos {
            downsample: block::meta::Downsample {
                resolution: 300_000,
            },
            ..Default::default()
        });
    }
    let refs: Vec<&Meta> = metas.iter().collect();
    let decision = planner().decide(&refs, &apart, |_| 0);
    assert_eq!(decision.exclude.len(), 2);
    assert_eq!(
        decision.exclude[0].1.reason(),
        "downsample-vertical-compaction"
    );
    // What is left of the first range is one block.
    assert_eq!(names(&metas, &decision.plan), "");
}
