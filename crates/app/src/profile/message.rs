//! `profile.proto` of pprof, as far as profiles of CPU and heap need it.

#![cfg_attr(not(feature = "cpu-profile"), allow(dead_code))]

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A frame: function, file, line.
pub(super) type Frame = (String, String, u32);

/// Bytes of a message.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn number(&mut self, field: u32, n: i64) -> &mut Self {
        self.varint(u64::from(field) << 3);
        self.varint(n as u64);
        self
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) -> &mut Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }
}

#[derive(Default)]
struct Strings {
    numbers: HashMap<String, i64>,
    all: Vec<String>,
}

impl Strings {
    fn number(&mut self, text: &str) -> i64 {
        if let Some(known) = self.numbers.get(text) {
            return *known;
        }
        let number = self.all.len() as i64;
        self.numbers.insert(text.to_owned(), number);
        self.all.push(text.to_owned());
        number
    }
}

/// What is counted: name and unit.
pub(super) type Kind = (&'static str, &'static str);

/// What a profile tells beside its stacks.
pub(super) struct About<'a> {
    /// What each value of a stack is.
    pub(super) kinds: &'a [Kind],
    /// One sample stands for so much of something.
    pub(super) period: (Kind, i64),
    /// When it was begun.
    pub(super) began: SystemTime,
    /// How long it took.
    pub(super) took: Duration,
}

/// The profile of stacks (innermost frame first), each with a value of every kind.
pub(super) fn profile(
    about: &About<'_>,
    stacks: impl Iterator<Item = (Vec<Frame>, Vec<i64>)>,
) -> Vec<u8> {
    let mut out = Message::default();
    let mut strings = Strings::default();
    strings.number("");
    let mut kind = |(name, unit): Kind| {
        let mut kind = Message::default();
        kind.number(1, strings.number(name))
            .number(2, strings.number(unit));
        kind.0
    };
    for of in about.kinds {
        out.bytes(1, &kind(*of));
    }
    let (of, period) = about.period;
    let per = kind(of);
    // Function -> its number; (function, line) -> the number of the location.
    let mut functions: HashMap<(String, String), i64> = HashMap::new();
    let mut locations: HashMap<(i64, u32), i64> = HashMap::new();
    for (frames, counts) in stacks {
        let mut places = Message::default();
        for (name, file, line) in frames {
            let next = functions.len() as i64 + 1;
            let mut made = None;
            let function = *functions.entry((name, file)).or_insert_with_key(|key| {
                made = Some(key.clone());
                next
            });
            if let Some((name, file)) = made {
                let name = strings.number(&name);
                let mut message = Message::default();
                message
                    .number(1, function)
                    .number(2, name)
                    .number(3, name)
                    .number(4, strings.number(&file));
                out.bytes(5, &message.0);
            }
            let next = locations.len() as i64 + 1;
            let mut is_new = false;
            let place = *locations.entry((function, line)).or_insert_with(|| {
                is_new = true;
                next
            });
            if is_new {
                let mut at = Message::default();
                at.number(1, function).number(2, i64::from(line));
                let mut message = Message::default();
                message.number(1, place).bytes(4, &at.0);
                out.bytes(4, &message.0);
            }
            places.varint(place as u64);
        }
        let mut values = Message::default();
        for count in counts {
            values.varint(count as u64);
        }
        let mut sample = Message::default();
        sample.bytes(1, &places.0).bytes(2, &values.0);
        out.bytes(2, &sample.0);
    }
    for text in &strings.all {
        out.bytes(6, text.as_bytes());
    }
    let nanos = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
    out.number(
        9,
        nanos(about.began.duration_since(UNIX_EPOCH).unwrap_or_default()),
    )
    .number(10, nanos(about.took))
    .bytes(11, &per)
    .number(12, period);
    out.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_names_are_said_once() {
        let frame = |name: &str, line| (name.to_owned(), "a.rs".to_owned(), line);
        let stacks = [
            (vec![frame("inner", 3), frame("outer", 9)], vec![2, 20]),
            (vec![frame("outer", 9)], vec![1, 10]),
        ];
        let about = About {
            kinds: &[("samples", "count"), ("cpu", "nanoseconds")],
            period: (("cpu", "nanoseconds"), 10),
            began: UNIX_EPOCH,
            took: Duration::from_secs(1),
        };
        let bytes = profile(&about, stacks.into_iter());
        // Fields at the top: two types, two functions, two locations, two samples, strings, and numbers.
        let (mut at, mut seen) = (&bytes[..], Vec::new());
        fn varint(at: &mut &[u8]) -> u64 {
            let mut n = 0;
            for shift in (0..).step_by(7) {
                let (first, rest) = at.split_first().unwrap();
                *at = rest;
                n |= u64::from(first & 0x7f) << shift;
                if first & 0x80 == 0 {
                    break;
                }
            }
            n
        }
        let mut samples = Vec::new();
        while !at.is_empty() {
            let key = varint(&mut at);
            seen.push(key >> 3);
            let n = varint(&mut at);
            if key & 7 == 2 {
                let (value, rest) = at.split_at(n as usize);
                at = rest;
                if key >> 3 == 2 {
                    samples.push(value.to_vec());
                }
            }
        }
        let count = |field| seen.iter().filter(|f| **f == field).count();
        assert_eq!(
            [1, 2, 4, 5, 6].map(count),
            [2, 2, 2, 2, 8],
            "types, samples, locations, functions, strings"
        );
        // Twice at the first and second place: 2 samples, 20 ns.
        let mut values = Message::default();
        values.varint(2);
        values.varint(20);
        let mut wanted = Message::default();
        wanted.bytes(1, &[1, 2]).bytes(2, &values.0);
        assert_eq!(samples[0], wanted.0);
    }
}
