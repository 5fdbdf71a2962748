//! Writing protobuf without messages: the counterpart of [`crate::fields`].
//!
//! Fields go straight into a buffer. The length of a nested message is written once it is known:
//! [`nested`] leaves five bytes for it, which any length below 4 GiB fits, and which every decoder
//! takes as the number that they are.

/// A number.
#[inline]
pub fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Zigzag of a signed integer.
#[inline]
pub fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

/// The key of a field.
#[inline]
pub fn key(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    varint(out, u64::from(field << 3 | wire_type));
}

/// A field with a number; nothing if it is 0, as proto3 has it.
#[inline]
pub fn number(out: &mut Vec<u8>, field: u32, n: u64) {
    if n != 0 {
        key(out, field, 0);
        varint(out, n);
    }
}

/// A field with a float; nothing if all its bits are 0.
#[inline]
pub fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    if value.to_bits() != 0 {
        key(out, field, 1);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// A field with bytes or text.
#[inline]
pub fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A field with bytes or text; nothing if there are none.
#[inline]
pub fn some_bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    if !value.is_empty() {
        bytes(out, field, value);
    }
}

/// A field with a message that `write` writes.
#[inline]
pub fn nested(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    key(out, field, 2);
    let at = out.len();
    out.extend_from_slice(&[0x80, 0x80, 0x80, 0x80, 0]);
    write(out);
    let len = out.len() - at - 5;
    if let Some(place) = out.get_mut(at..at + 5) {
        for (i, byte) in place.iter_mut().enumerate() {
            let more = if i < 4 { 0x80 } else { 0 };
            *byte = (len >> (7 * i)) as u8 & 0x7f | more;
        }
    }
}

/// A field with packed numbers; nothing if there are none.
pub fn packed(out: &mut Vec<u8>, field: u32, numbers: impl IntoIterator<Item = u64>) {
    let mut numbers = numbers.into_iter().peekable();
    if numbers.peek().is_some() {
        nested(out, field, |out| numbers.for_each(|n| varint(out, n)));
    }
}

/// A field with packed floats; nothing if there are none.
pub fn packed_doubles(out: &mut Vec<u8>, field: u32, values: &[f64]) {
    if values.is_empty() {
        return;
    }
    key(out, field, 2);
    varint(out, values.len() as u64 * 8);
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}
