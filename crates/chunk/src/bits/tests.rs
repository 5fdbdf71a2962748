use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn what_is_written_is_read(parts in prop::collection::vec((any::<u64>(), 1u32..=64), 0..60)) {
        let (mut buf, mut end) = (Vec::new(), End::default());
        for &(v, n) in &parts {
            let v = v >> (64 - n);
            // In one piece, or in two.
            let low = n / 3;
            let (head, tail) = (v >> low, v & ((1 << low) - 1));
            match n.is_multiple_of(2) || n == 1 || n - low > 63 {
                true => write(&mut buf, &mut end, (0, 0), (v, n)),
                false => write(&mut buf, &mut end, (head, n - low), (tail, low)),
            }
        }
        let total: usize = parts.iter().map(|p| p.1 as usize).sum();
        prop_assert_eq!(end.len(), total.div_ceil(8));
        buf.truncate(end.len());
        let mut r = Reader::new(&buf, 0);
        for &(v, n) in &parts {
            prop_assert_eq!(r.read(n), v >> (64 - n));
        }
        prop_assert_eq!(r.pos(), total);
    }

    #[test]
    fn varbits_both_ways(
        numbers in prop::collection::vec((any::<i64>(), 0u32..=63, any::<u64>(), 0u32..=63), 0..60),
        shift in 0u32..8,
    ) {
        let mut w = Writer::default();
        if shift > 0 {
            w.bits(0, shift);
        }
        for &(i, a, u, b) in &numbers {
            w.varbit(i >> a);
            w.uvarbit(u >> b);
        }
        let bytes = w.into_bytes();
        let mut r = Reader::new(&bytes, shift as usize);
        for &(i, a, u, b) in &numbers {
            prop_assert_eq!((r.varbit(), r.uvarbit()), (i >> a, u >> b));
        }
        prop_assert_eq!(r.pos().div_ceil(8), bytes.len());
    }

    #[test]
    fn varbits_at_once(
        numbers in prop::collection::vec(
            prop_oneof![
                6 => Just(0i64),
                6 => -300i64..300,
                1 => any::<i64>(),
                1 => (any::<i64>(), 0u32..63).prop_map(|(n, s)| n >> s),
            ], 0..200),
        shift in 0u32..8,
    ) {
        let mut w = Writer::default();
        if shift > 0 {
            w.bits(0, shift);
        }
        numbers.iter().for_each(|n| w.varbit(*n));
        let bytes = w.into_bytes();
        let mut one_by_one = Reader::new(&bytes, shift as usize);
        for number in &numbers {
            prop_assert_eq!(one_by_one.varbit(), *number);
        }
        let mut r = Reader::new(&bytes, shift as usize);
        let mut places = vec![1i64; numbers.len()];
        r.varbits(&mut places, |place, n| *place = n);
        prop_assert_eq!(places, numbers);
        prop_assert_eq!(r.pos(), one_by_one.pos());
    }

    #[test]
    fn varints_both_ways(u in any::<u64>(), i in any::<i64>()) {
        let mut b = Vec::new();
        put_uvarint(&mut b, u);
        put_varint(&mut b, i);
        let (u2, rest) = uvarint(&b).unwrap();
        let (i2, rest) = varint(rest).unwrap();
        prop_assert_eq!((u2, i2, rest.len()), (u, i, 0));
    }
}

#[test]
fn varbits_are_as_short_as_can_be() {
    for (number, bits) in [
        (0, 1),
        (1, 5),
        (4, 5),
        (-3, 5),
        (5, 9),
        (-4, 9),
        (32, 9),
        (33, 13),
        (256, 13),
        (-255, 13),
        (2048, 17),
        (131_072, 24),
        (-131_071, 24),
        (-131_072, 32),
        (16_777_216, 32),
        (16_777_217, 64),
        (1 << 55, 64),
        (-(1 << 55), 72),
        (i64::MIN, 72),
        (i64::MAX, 72),
    ] {
        let mut w = Writer::default();
        w.varbit(number);
        let bytes = w.into_bytes();
        let mut r = Reader::new(&bytes, 0);
        assert_eq!((r.varbit(), r.pos()), (number, bits));
    }
    for (number, bits) in [
        (0, 1),
        (7, 5),
        (8, 9),
        (1 << 55, 64),
        (1 << 56, 72),
        (u64::MAX, 72),
    ] {
        let mut w = Writer::default();
        w.uvarbit(number);
        let bytes = w.into_bytes();
        let mut r = Reader::new(&bytes, 0);
        assert_eq!((r.uvarbit(), r.pos()), (number, bits));
    }
}

#[test]
fn an_endless_varint_is_refused() {
    assert_eq!(uvarint(&[0xff; 20]), None);
    assert_eq!(uvarint(&[0x80]), None);
    let mut too_big = [0xff; 10];
    too_big[9] = 2;
    assert_eq!(uvarint(&too_big), None);
}
