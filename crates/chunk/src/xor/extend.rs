//! Many samples at once: what an encoder knows of the last sample stays in registers meanwhile, and the
//! chunk grows once.

use model::Millis;

use super::{Encoder, LONG, MAX_SAMPLE_BYTES, changed, joined, time};
use crate::bits::{self, End};

/// Memory that [`Encoder::extend`] writes to, to be used again.
#[derive(Debug, Default)]
pub struct Scratch(Vec<u8>);

impl Encoder {
    /// Appends samples, byte for byte as [`Encoder::append`] does one after the other. Those beyond
    /// what a chunk can hold are dropped.
    pub fn extend(&mut self, samples: &[(Millis, f64)], scratch: &mut Scratch) {
        let mut rest = samples;
        while self.len() < 2
            && let Some((&(ts, value), more)) = rest.split_first()
        {
            self.append(ts, value);
            rest = more;
        }
        let count = self.len();
        let rest = &rest[..rest.len().min(u16::MAX as usize - count)];
        if rest.is_empty() {
            return;
        }
        let room = (rest.len() + 1) * MAX_SAMPLE_BYTES + 16;
        let buf = &mut scratch.0;
        if buf.len() < room {
            buf.resize(room, 0);
        }
        // A byte that is not full is the first of the scratch.
        let begun = u32::from(self.used != 0);
        let mut end = End {
            len: begun,
            ..self.end()
        };
        buf[0] = self.last;
        let (mut last, mut delta, mut bits) = (self.ts, self.delta, self.value);
        let (mut leading, mut trailing) = (self.leading, self.trailing);
        for &(ts, value) in rest {
            let now = ts.wrapping_sub(last) as u64;
            let dod = now.wrapping_sub(delta) as i64;
            (last, delta) = (ts, now);
            let xor = value.to_bits() ^ bits;
            bits = value.to_bits();
            if dod == 0 && xor == 0 && end.zeros(2) {
                continue;
            }
            let time = time(dod).unwrap_or_else(|| {
                bits::write(buf, &mut end, LONG, (dod as u64, 64));
                (0, 0)
            });
            let (head, tail) = changed(xor, &mut leading, &mut trailing);
            bits::write(buf, &mut end, joined(time, head), tail);
        }
        (self.ts, self.delta, self.value) = (last, delta, bits);
        (self.leading, self.trailing) = (leading, trailing);
        let mut at = End {
            len: self.len - begun,
            ..End::default()
        };
        bits::write_bytes(&mut self.buf, &mut at, &buf[..end.len()]);
        (self.len, self.used, self.last) = (at.len, end.used, end.last);
        self.set_len(count + rest.len());
    }
}
