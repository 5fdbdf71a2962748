use proptest::prelude::*;

use super::*;

fn encode(samples: &[(i64, f64)]) -> Encoder {
    let mut e = Encoder::new();
    for &(t, v) in samples {
        e.append(t, v);
    }
    e
}

fn roundtrip(samples: &[(i64, f64)]) {
    let e = encode(samples);
    assert_eq!(e.len(), samples.len());
    let mut out = Columns::default();
    out.push(-1, 7.0); // what is there stays there
    decode(e.bytes(), &mut out).unwrap();
    let mut want: Columns = samples.iter().copied().collect();
    want.ts.insert(0, -1);
    want.values.insert(0, 7.0);
    assert_eq!(out, want);
}

/// Worked out by hand from the format, bit by bit.
#[test]
fn golden_bytes() {
    let chunk = encode(&[
        (1000, 1.0),
        (1015, 1.0),
        (1030, 2.0),
        (1046, 2.5),
        (1046, 2.5),
    ]);
    let want: Vec<u8> = [
        vec![0, 5],                                       // five samples
        vec![0xd0, 0x0f],                                 // varint 1000
        vec![0x3f, 0xf0, 0, 0, 0, 0, 0, 0],               // 1.0
        vec![15],                                         // uvarint 15
        // 0 (same value) | 0 (dod 0), 11, 00001, 001011, 11 significant bits of 0x7ff << 52 |
        // 10 00000000000001 (dod 1), 11, 01101 (13 leading), 000001, 1 |
        // 10 and -16 in 14 bits, 0
        bits_of(
            "0 0 11 00001 001011 11111111111 10 00000000000001 11 01101 000001 1 10 11111111110000 0",
        ),
    ]
    .concat();
    assert_eq!(chunk.bytes(), want);
}

fn bits_of(text: &str) -> Vec<u8> {
    let bits: Vec<u8> = text
        .bytes()
        .filter(|b| *b != b' ')
        .map(|b| b - b'0')
        .collect();
    bits.chunks(8)
        .map(|c| {
            c.iter()
                .enumerate()
                .fold(0, |byte, (i, bit)| byte | bit << (7 - i))
        })
        .collect()
}

#[test]
fn every_width_of_time() {
    let mut t = 0i64;
    let mut delta = 0i64;
    let mut samples = vec![(0, 0.0), (0, 0.0)];
    for dod in [
        0,
        1,
        -1,
        8191,
        8192,
        8193,
        -8191,
        -8192,
        65535,
        65536,
        65537,
        -65535,
        -65536,
        524_287,
        524_288,
        524_289,
        -524_287,
        -524_288,
        1 << 40,
        -(1 << 40),
    ] {
        delta += dod;
        t += delta;
        samples.push((t, 1.5));
    }
    roundtrip(&samples);
    roundtrip(&[(i64::MAX, 1.0), (i64::MIN, 1.0), (i64::MAX, 2.0), (0, 3.0)]);
}

#[test]
fn nan_payloads_survive() {
    roundtrip(&[
        (1, model::STALE_NAN),
        (2, f64::INFINITY),
        (3, f64::from_bits(0x7ff8_0000_0000_0001)),
        (4, model::STALE_NAN),
        (5, -0.0),
        (6, f64::MIN_POSITIVE),
        (7, f64::from_bits(u64::MAX)),
        (8, f64::from_bits(1)),
    ]);
}

#[test]
fn empty_and_full() {
    roundtrip(&[]);
    roundtrip(&[(5, 5.0)]);
    let mut e = Encoder::new();
    for i in 0..70_000 {
        e.append(i, 1.0);
    }
    assert!(e.is_full());
    let mut out = Columns::default();
    decode(e.bytes(), &mut out).unwrap();
    assert_eq!(out.ts.last(), Some(&65_534));
}

#[test]
fn a_hostile_count_takes_no_memory() {
    let mut out = Columns::default();
    let mut bytes = encode(&[(1, 1.0), (2, 2.0), (3, 3.0)]).into_bytes();
    bytes[0] = 0xff;
    bytes[1] = 0xff;
    assert_eq!(decode(&bytes, &mut out), Err(ChunkError::Truncated));
    assert!(out.is_empty() && out.ts.capacity() < 1000);
    assert_eq!(decode(&[], &mut out), Err(ChunkError::Truncated));
    assert_eq!(decode(&[0], &mut out), Err(ChunkError::Truncated));
    assert_eq!(decode(&[0, 1, 0x80], &mut out), Err(ChunkError::Truncated));
}

#[test]
fn the_open_chunk_is_small() {
    assert!(std::mem::size_of::<Encoder>() <= 56);
    let mut e = Encoder::new();
    for i in 0..120 {
        e.append(1_700_000_000_000 + i * 15_000, i as f64);
    }
    assert!(
        e.capacity() <= e.bytes().len() * 3 / 2 + 64,
        "{}",
        e.capacity()
    );
}

fn sample() -> impl Strategy<Value = (i64, f64)> {
    let dt = prop_oneof![
        5 => Just(15_000i64),
        3 => 14_990i64..15_010,
        1 => -600_000i64..600_000,
        1 => any::<i64>(),
    ];
    let v = prop_oneof![
        2 => Just(1.0f64),
        3 => (0u32..1000).prop_map(f64::from),
        3 => 0.0f64..1.0,
        1 => any::<u64>().prop_map(f64::from_bits),
    ];
    (dt, v)
}

proptest! {
    #[test]
    fn round_trip(steps in prop::collection::vec(sample(), 0..300), start in any::<i64>()) {
        let mut t = start;
        let samples: Vec<_> = steps.into_iter().map(|(dt, v)| {
            t = t.wrapping_add(dt);
            (t, v)
        }).collect();
        roundtrip(&samples);
    }

    #[test]
    fn resuming_changes_no_byte(
        steps in prop::collection::vec(sample(), 1..80),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut t = 0i64;
        let samples: Vec<_> = steps.into_iter().map(|(dt, v)| {
            t = t.wrapping_add(dt);
            (t, v)
        }).collect();
        let cut = cut.index(samples.len());
        let mut resumed = Encoder::resume(encode(&samples[..cut]).bytes()).unwrap();
        for &(t, v) in &samples[cut..] {
            resumed.append(t, v);
        }
        let whole = encode(&samples);
        prop_assert_eq!(resumed.bytes(), whole.bytes());
    }

    #[test]
    fn many_at_once_are_the_same_bytes(
        steps in prop::collection::vec(sample(), 1..200),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut t = 0i64;
        let samples: Vec<_> = steps.into_iter().map(|(dt, v)| {
            t = t.wrapping_add(dt);
            (t, v)
        }).collect();
        let mut cuts: Vec<_> = cuts.iter().map(|i| i.index(samples.len())).collect();
        cuts.extend([0, samples.len()]);
        cuts.sort_unstable();
        let (mut e, mut scratch) = (Encoder::with_capacity(2), Scratch::default());
        for (i, part) in cuts.windows(2).enumerate() {
            let part = &samples[part[0]..part[1]];
            match i % 3 {
                2 => part.iter().for_each(|&(t, v)| e.append(t, v)),
                _ => e.extend(part, &mut scratch),
            }
        }
        let one_by_one = encode(&samples);
        prop_assert_eq!(e.bytes(), one_by_one.bytes());
        prop_assert_eq!(e.last_ts(), one_by_one.last_ts());
        let previous = samples.len().checked_sub(2).map(|i| samples[i].0);
        prop_assert_eq!(e.previous_ts(), previous);
        let again = Encoder::resume(e.bytes()).unwrap();
        prop_assert_eq!(again.previous_ts(), previous);
        e.append(t.wrapping_add(15_000), 0.5);
        let mut more = one_by_one.clone();
        more.append(t.wrapping_add(15_000), 0.5);
        prop_assert_eq!(e.bytes(), more.bytes());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut out = Columns::default();
        let _ = decode(&bytes, &mut out);
        let _ = Encoder::resume(&bytes);
    }

    #[test]
    fn every_truncation_is_noticed(steps in prop::collection::vec(sample(), 2..100)) {
        let mut t = 0i64;
        let samples: Vec<_> = steps.into_iter().map(|(dt, v)| {
            t = t.wrapping_add(dt);
            (t, v)
        }).collect();
        let chunk = encode(&samples).into_bytes();
        let mut out = Columns::default();
        for len in 0..chunk.len() {
            prop_assert!(decode(&chunk[..len], &mut out).is_err());
            prop_assert!(out.is_empty());
        }
    }
}
