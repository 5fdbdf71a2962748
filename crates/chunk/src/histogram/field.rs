//! The numbers of a histogram as their columns of a chunk know them.

use model::is_stale;

use crate::ChunkError;
use crate::bits::{Reader, Writer};

/// A column of counts: what the next one is told by.
pub(crate) trait Field: Clone + Default + std::fmt::Debug {
    /// A count, or what stands for it: integer buckets hold the difference to their left
    /// neighbour.
    type Value: Copy + Default + PartialEq + std::fmt::Debug;

    /// How many bits the first bucket takes at least.
    const FIRST_BITS: usize;

    /// Writes the first bucket count.
    fn write_first(w: &mut Writer, value: Self::Value) -> Self;
    /// Writes the first count of all or of zero.
    fn write_first_count(w: &mut Writer, value: Self::Value) -> Self;
    fn write_next(&mut self, w: &mut Writer, value: Self::Value);
    /// The next count beside a stale marker, which has none.
    fn write_stale(&mut self, w: &mut Writer);

    fn read_first(r: &mut Reader<'_>) -> Self;
    fn read_first_count(r: &mut Reader<'_>) -> Self;
    fn read_next(&mut self, r: &mut Reader<'_>) -> Result<(), ChunkError>;
    /// Reads the next of neighbouring buckets and gives their absolute counts.
    fn read_row(
        fields: &mut [Self],
        r: &mut Reader<'_>,
        count: impl FnMut(f64),
    ) -> Result<(), ChunkError>;

    fn value(&self) -> Self::Value;
    fn count_as_float(&self) -> f64;
    /// Whether a count of all or of zero lies under another.
    fn less(a: Self::Value, b: Self::Value) -> bool;
    /// The absolute count of a bucket whose left neighbour has `left`.
    fn absolute(left: Self::Value, value: Self::Value) -> Self::Value;
    /// The reverse.
    fn relative(left: Self::Value, absolute: Self::Value) -> Self::Value;
    /// Whether an absolute bucket count has fallen.
    fn fallen(from: Self::Value, to: Self::Value) -> bool;
    /// The absolute count as a float.
    fn to_float(absolute: Self::Value) -> f64;
}

/// An integer: differences of differences.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Int {
    value: i64,
    delta: i64,
}

impl Field for Int {
    type Value = i64;

    const FIRST_BITS: usize = 1;

    fn write_first(w: &mut Writer, value: i64) -> Self {
        w.varbit(value);
        Self { value, delta: 0 }
    }

    fn write_first_count(w: &mut Writer, value: i64) -> Self {
        w.uvarbit(value as u64);
        Self { value, delta: 0 }
    }

    #[inline]
    fn write_next(&mut self, w: &mut Writer, value: i64) {
        let delta = value.wrapping_sub(self.value);
        w.varbit(delta.wrapping_sub(self.delta));
        *self = Self { value, delta };
    }

    fn write_stale(&mut self, w: &mut Writer) {
        w.varbit(0);
    }

    fn read_first(r: &mut Reader<'_>) -> Self {
        let value = r.varbit();
        Self { value, delta: 0 }
    }

    fn read_first_count(r: &mut Reader<'_>) -> Self {
        let value = r.uvarbit() as i64;
        Self { value, delta: 0 }
    }

    #[inline]
    fn read_next(&mut self, r: &mut Reader<'_>) -> Result<(), ChunkError> {
        self.delta = self.delta.wrapping_add(r.varbit());
        self.value = self.value.wrapping_add(self.delta);
        Ok(())
    }

    #[inline]
    fn read_row(
        fields: &mut [Self],
        r: &mut Reader<'_>,
        mut count: impl FnMut(f64),
    ) -> Result<(), ChunkError> {
        let mut absolute = 0i64;
        r.varbits(fields, |field, change| {
            field.delta = field.delta.wrapping_add(change);
            field.value = field.value.wrapping_add(field.delta);
            absolute = absolute.wrapping_add(field.value);
            count(absolute as f64);
        });
        Ok(())
    }

    #[inline]
    fn value(&self) -> i64 {
        self.value
    }

    fn count_as_float(&self) -> f64 {
        self.value as u64 as f64
    }

    fn less(a: i64, b: i64) -> bool {
        (a as u64) < b as u64
    }

    #[inline]
    fn absolute(left: i64, value: i64) -> i64 {
        left.wrapping_add(value)
    }

    fn relative(left: i64, absolute: i64) -> i64 {
        absolute.wrapping_sub(left)
    }

    fn fallen(from: i64, to: i64) -> bool {
        from > to
    }

    fn to_float(absolute: i64) -> f64 {
        absolute as f64
    }
}

/// No window yet: the first value that changes opens one.
const NO_WINDOW: u8 = 0xff;

/// A float: XOR with the value before, in a window of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Xor {
    value: u64,
    leading: u8,
    trailing: u8,
}

impl Default for Xor {
    fn default() -> Self {
        Self::of(0.0)
    }
}

impl Xor {
    pub(super) fn of(value: f64) -> Self {
        Self {
            value: value.to_bits(),
            leading: NO_WINDOW,
            trailing: 0,
        }
    }

    pub(super) fn is_stale(&self) -> bool {
        is_stale(f64::from_bits(self.value))
    }
}

impl Field for Xor {
    type Value = f64;

    const FIRST_BITS: usize = 64;

    fn write_first(w: &mut Writer, value: f64) -> Self {
        w.bits(value.to_bits(), 64);
        Self::of(value)
    }

    fn write_first_count(w: &mut Writer, value: f64) -> Self {
        Self::write_first(w, value)
    }

    #[inline]
    fn write_next(&mut self, w: &mut Writer, value: f64) {
        let xor = value.to_bits() ^ self.value;
        self.value = value.to_bits();
        if xor == 0 {
            return w.zero();
        }
        let leading = (xor.leading_zeros() as u8).min(31);
        let trailing = xor.trailing_zeros() as u8;
        if self.leading != NO_WINDOW && leading >= self.leading && trailing >= self.trailing {
            let significant = 64 - self.leading as u32 - self.trailing as u32;
            return w.pair((0b10, 2), (xor >> self.trailing, significant));
        }
        (self.leading, self.trailing) = (leading, trailing);
        let significant = 64 - leading as u32 - trailing as u32;
        let head = 0b11 << 11 | (leading as u64) << 6 | (significant as u64 & 0x3f);
        w.pair((head, 13), (xor >> trailing, significant));
    }

    fn write_stale(&mut self, w: &mut Writer) {
        self.write_next(w, 0.0);
    }

    fn read_first(r: &mut Reader<'_>) -> Self {
        Self::of(f64::from_bits(r.read(64)))
    }

    fn read_first_count(r: &mut Reader<'_>) -> Self {
        Self::read_first(r)
    }

    #[inline]
    fn read_next(&mut self, r: &mut Reader<'_>) -> Result<(), ChunkError> {
        let word = r.peek();
        if word >> 63 == 0 {
            r.skip(1);
            return Ok(());
        }
        if word >> 62 == 0b11 {
            let leading = (word >> 57) as u8 & 0x1f;
            let significant = match (word >> 51) as u8 & 0x3f {
                0 => 64,
                n => n,
            };
            if leading + significant > 64 {
                return Err(ChunkError::Corrupt("more than 64 bits in a value"));
            }
            self.leading = leading;
            self.trailing = 64 - leading - significant;
            r.skip(13);
        } else {
            if self.leading == NO_WINDOW {
                self.leading = 0;
            }
            r.skip(2);
        }
        let significant = 64 - self.leading as u32 - self.trailing as u32;
        self.value ^= r.read(significant) << self.trailing;
        Ok(())
    }

    #[inline]
    fn read_row(
        fields: &mut [Self],
        r: &mut Reader<'_>,
        mut count: impl FnMut(f64),
    ) -> Result<(), ChunkError> {
        for field in fields {
            field.read_next(r)?;
            count(f64::from_bits(field.value));
        }
        Ok(())
    }

    #[inline]
    fn value(&self) -> f64 {
        f64::from_bits(self.value)
    }

    fn count_as_float(&self) -> f64 {
        self.value()
    }

    fn less(a: f64, b: f64) -> bool {
        a < b
    }

    #[inline]
    fn absolute(_left: f64, value: f64) -> f64 {
        value
    }

    fn relative(_left: f64, absolute: f64) -> f64 {
        absolute
    }

    fn fallen(from: f64, to: f64) -> bool {
        from > to
    }

    fn to_float(absolute: f64) -> f64 {
        absolute
    }
}
