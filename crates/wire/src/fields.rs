//! Protobuf without messages: the fields of a message, one after the other, borrowed from its
//! bytes.
//!
//! Every length is checked against the bytes that are there, nothing is allocated, and nothing
//! recurses: whoever reads a nested message asks for its fields in turn.

/// A message that is not written as protobuf is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// It ends within a field.
    #[error("the message ends within a field")]
    Truncated,
    /// A field has a type that no message of ours has.
    #[error("field {0} has an unknown wire type")]
    WireType(u32),
    /// A text is not UTF-8.
    #[error("a text is not valid UTF-8")]
    Text,
    /// A number that refers to something that is not there.
    #[error("a reference points outside the message")]
    Reference,
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A number, an enum, a bool.
    Varint(u64),
    /// Eight bytes, little endian.
    Fixed64(u64),
    /// Four bytes, little endian.
    Fixed32(u32),
    /// A text, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// As an integer; 0 if it is none.
    #[inline]
    pub fn number(self) -> u64 {
        match self {
            Self::Varint(n) | Self::Fixed64(n) => n,
            Self::Fixed32(n) => u64::from(n),
            Self::Bytes(_) => 0,
        }
    }

    /// As a signed integer in two's complement.
    #[inline]
    pub fn signed(self) -> i64 {
        self.number() as i64
    }

    /// As a signed integer in zigzag.
    #[inline]
    pub fn zigzag(self) -> i64 {
        unzigzag(self.number())
    }

    /// As a float of eight bytes.
    #[inline]
    pub fn double(self) -> f64 {
        f64::from_bits(self.number())
    }

    /// The bytes; none for numbers.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    /// The fields of a nested message.
    #[inline]
    pub fn fields(self) -> Fields<'a> {
        Fields::new(self.bytes())
    }

    /// The text.
    #[inline]
    pub fn text(self) -> Result<&'a str, BadMessage> {
        std::str::from_utf8(self.bytes()).map_err(|_| BadMessage::Text)
    }

    /// Every number of a repeated field, packed or not.
    pub fn each_varint(self, mut visit: impl FnMut(u64)) -> Result<(), BadMessage> {
        match self {
            Self::Bytes(packed) => {
                let mut rest = Fields::new(packed);
                while !rest.0.is_empty() {
                    visit(rest.varint()?);
                }
            }
            one => visit(one.number()),
        }
        Ok(())
    }

    /// Every float of a repeated field, packed or not.
    pub fn each_double(self, mut visit: impl FnMut(f64)) -> Result<(), BadMessage> {
        match self {
            Self::Bytes(packed) => {
                let (words, rest) = packed.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(BadMessage::Truncated);
                }
                words.iter().for_each(|w| visit(f64::from_le_bytes(*w)));
            }
            one => visit(one.double()),
        }
        Ok(())
    }
}

/// What zigzag made of a signed integer.
#[inline]
pub fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

/// The fields of a message.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Of the message in `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// A number alone, as lengths of delimited messages are written.
    #[inline(always)]
    pub fn varint(&mut self) -> Result<u64, BadMessage> {
        if let [byte @ 0..0x80, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, BadMessage> {
        let mut value = 0u64;
        for (i, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f).wrapping_shl(7 * i as u32);
            if *byte < 0x80 {
                self.0 = self.0.get(i + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(BadMessage::Truncated)
    }

    /// The next `len` bytes.
    #[inline(always)]
    pub fn take(&mut self, len: u64) -> Result<&'a [u8], BadMessage> {
        let len = usize::try_from(len).map_err(|_| BadMessage::Truncated)?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(BadMessage::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next field's number and value; none at the end.
    #[inline(always)]
    pub fn next_field(&mut self) -> Result<Option<(u32, Value<'a>)>, BadMessage> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| BadMessage::Truncated)?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed()?),
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => {
                let (word, rest) = self
                    .0
                    .split_first_chunk::<4>()
                    .ok_or(BadMessage::Truncated)?;
                self.0 = rest;
                Value::Fixed32(u32::from_le_bytes(*word))
            }
            _ => return Err(BadMessage::WireType(number)),
        };
        Ok(Some((number, value)))
    }

    fn fixed(&mut self) -> Result<u64, BadMessage> {
        let (word, rest) = self
            .0
            .split_first_chunk::<8>()
            .ok_or(BadMessage::Truncated)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*word))
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::prometheus as pb;

    #[test]
    fn fields_are_what_a_library_wrote() {
        let message = pb::TimeSeries {
            labels: vec![pb::Label {
                name: "a".into(),
                value: "ü".into(),
            }],
            samples: vec![pb::Sample {
                value: -1.5,
                timestamp: -7,
            }],
            ..Default::default()
        };
        let bytes = message.encode_to_vec();
        let mut fields = Fields::new(&bytes);
        let (number, label) = fields.next_field().unwrap().unwrap();
        let mut label = label.fields();
        assert_eq!(number, 1);
        assert_eq!(label.next_field().unwrap().unwrap().1.text(), Ok("a"));
        assert_eq!(label.next_field().unwrap().unwrap().1.text(), Ok("ü"));
        let (number, sample) = fields.next_field().unwrap().unwrap();
        let mut sample = sample.fields();
        assert_eq!(number, 2);
        assert_eq!(sample.next_field().unwrap().unwrap().1.double(), -1.5);
        assert_eq!(sample.next_field().unwrap().unwrap().1.signed(), -7);
        assert!(fields.next_field().unwrap().is_none());
        // Cut anywhere, it is an error or a shorter message, and never more than that.
        for end in 0..bytes.len() {
            let mut fields = Fields::new(&bytes[..end]);
            while let Ok(Some(_)) = fields.next_field() {}
        }
    }

    #[test]
    fn packed_and_unpacked_numbers_are_the_same() {
        let mut packed = Vec::new();
        Value::Bytes(&[1, 0x80, 1, 3])
            .each_varint(|n| packed.push(n))
            .unwrap();
        Value::Varint(9).each_varint(|n| packed.push(n)).unwrap();
        assert_eq!(packed, [1, 128, 3, 9]);
        assert_eq!([0, 1, 2, 3].map(unzigzag), [0, -1, 1, -2]);
        assert!(Value::Bytes(&[0; 9]).each_double(|_| ()).is_err());
    }
}
