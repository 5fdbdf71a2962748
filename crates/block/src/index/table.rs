use std::cmp::Ordering;

use bytes::Bytes;

use crate::BlockError;
use crate::input::{Input, put_prefixed, put_uvarint};

/// Every so many values of a name their place is kept.
const EVERY: usize = 32;

/// Where in the index the postings list of a label pair lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PostingsAt {
    /// Its first byte.
    pub offset: u64,
    /// The byte after it at the latest, or 0 if that is not known: where the next list begins.
    pub end: u64,
}

/// The postings offset table: label names, their values, and where the postings of each pair lie.
/// In memory it is the section's bytes and an eighth of a byte a value.
#[derive(Clone, Debug, Default)]
pub struct PostingsTable {
    /// The entries, ascending by (name, value).
    entries: Bytes,
    names: Vec<Name>,
    /// Where in `entries` each 32nd value of a name begins.
    places: Vec<u32>,
    /// Where the last postings list ends at the latest.
    end: u64,
}

#[derive(Clone, Debug)]
struct Name {
    name: Box<str>,
    /// The values' entries are `entries[start..end]`.
    start: u32,
    end: u32,
    values: u32,
    /// `places[first_place..]` belong to this name.
    first_place: u32,
}

struct Entry<'a> {
    name: &'a str,
    value: &'a str,
    offset: u64,
}

#[inline]
fn entry<'a>(input: &mut Input<'a>) -> Option<Entry<'a>> {
    if input.uvarint()? != 2 {
        return None;
    }
    Some(Entry {
        name: input.str()?,
        value: input.str()?,
        offset: input.uvarint()?,
    })
}

impl PostingsTable {
    /// Reads the section `u32 len | ... | u32 CRC`; more bytes may follow. The last postings list
    /// ends at `postings_end` of the index. Tables that are not in order, as version 1 has them,
    /// are brought into order.
    pub fn decode(bytes: &Bytes, postings_end: u64) -> Result<Self, BlockError> {
        let corrupt =
            |what: &str| BlockError::corrupt(format!("index: the postings offset table {what}"));
        let content = super::section(bytes, "the postings offset table")?;
        let mut input = Input(content);
        let count = input.u32().ok_or_else(|| corrupt("is truncated"))?;
        let entries = bytes.slice_ref(input.0);
        let mut table = Self {
            entries,
            end: postings_end,
            ..Self::default()
        };
        if table.fill(count)? {
            return Ok(table);
        }
        let mut input = Input(&table.entries);
        let mut sorted = Vec::new();
        for _ in 0..count {
            sorted.push(entry(&mut input).ok_or_else(|| corrupt("is truncated or no UTF-8"))?);
        }
        sorted.sort_by(|a, b| (a.name, a.value).cmp(&(b.name, b.value)));
        if sorted
            .windows(2)
            .any(|w| (w[0].name, w[0].value) == (w[1].name, w[1].value))
        {
            return Err(corrupt("has a label pair twice"));
        }
        let mut ordered = Vec::with_capacity(table.entries.len());
        for e in &sorted {
            put_entry(&mut ordered, e.name, e.value, e.offset);
        }
        table.entries = ordered.into();
        match table.fill(count)? {
            true => Ok(table),
            false => Err(corrupt("has no order")),
        }
    }

    /// Walks the entries; false if they are not in order.
    fn fill(&mut self, count: u32) -> Result<bool, BlockError> {
        self.names.clear();
        self.places.clear();
        let total = self.entries.len();
        let mut input = Input(&self.entries);
        let mut last_value = "";
        for _ in 0..count {
            let at = (total - input.len()) as u32;
            let Some(e) = entry(&mut input) else {
                return Err(BlockError::corrupt(
                    "index: the postings offset table is truncated or no UTF-8",
                ));
            };
            let order = match self.names.last() {
                Some(last) => (*last.name).cmp(e.name),
                None => Ordering::Less,
            };
            match order {
                Ordering::Greater => return Ok(false),
                Ordering::Less => self.names.push(Name {
                    name: e.name.into(),
                    start: at,
                    end: at,
                    values: 0,
                    first_place: self.places.len() as u32,
                }),
                Ordering::Equal if last_value >= e.value => return Ok(false),
                Ordering::Equal => {}
            }
            last_value = e.value;
            if let Some(name) = self.names.last_mut() {
                if (name.values as usize).is_multiple_of(EVERY) {
                    self.places.push(at);
                }
                name.values += 1;
                name.end = (total - input.len()) as u32;
            }
        }
        Ok(true)
    }

    fn name(&self, name: &str) -> Option<&Name> {
        let i = self.names.binary_search_by(|n| (*n.name).cmp(name)).ok()?;
        self.names.get(i)
    }

    /// The entries from `at` on, and their values until the name's end.
    fn walk(&self, name: &Name, at: u32) -> impl Iterator<Item = (&str, PostingsAt)> {
        let end = name.end as usize;
        let mut input = Input(self.entries.get(at as usize..).unwrap_or_default());
        let after = self.entries.len() - end;
        let mut next = None;
        std::iter::from_fn(move || {
            let e = match next.take() {
                Some(e) => e,
                None if input.len() > after => entry(&mut input)?,
                None => return None,
            };
            // The entry behind it, which may be the next name's, tells where the list ends. Its
            // bytes are only looked at here, so they are not lost.
            let mut ahead = input;
            let end = match entry(&mut ahead) {
                Some(following) => {
                    let end = following.offset;
                    if input.len() > after {
                        next = Some(following);
                        input = ahead;
                    }
                    end
                }
                None => self.end,
            };
            let end = if end > e.offset { end } else { 0 };
            Some((
                e.value,
                PostingsAt {
                    offset: e.offset,
                    end,
                },
            ))
        })
    }

    /// Where to begin looking for values from `value` on: the last kept place that is not behind it.
    fn place(&self, name: &Name, value: &str) -> u32 {
        let count = (name.values as usize).div_ceil(EVERY);
        let first = name.first_place as usize;
        let places = self.places.get(first..first + count).unwrap_or_default();
        let after = places.partition_point(|&at| {
            let mut input = Input(self.entries.get(at as usize..).unwrap_or_default());
            entry(&mut input).is_some_and(|e| e.value <= value)
        });
        match after.checked_sub(1).and_then(|i| places.get(i)) {
            Some(&at) => at,
            None => name.start,
        }
    }

    /// Where the postings of `name`=`value` lie.
    pub fn find(&self, name: &str, value: &str) -> Option<PostingsAt> {
        let name = self.name(name)?;
        self.walk(name, self.place(name, value))
            .take_while(|(v, _)| *v <= value)
            .find(|(v, _)| *v == value)
            .map(|(_, at)| at)
    }

    /// Where the postings of all series lie.
    pub fn all(&self) -> Option<PostingsAt> {
        self.find("", "")
    }

    /// The values of `name` that begin with `prefix`, ascending, with where their postings lie.
    pub fn values<'a>(
        &'a self,
        name: &str,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, PostingsAt)> {
        let name = self.name(name);
        // Comparing with nothing is slow where the processor masks what it loads: the address of an empty
        // text is none, and each such load is a fault that is then ignored.
        let all = prefix.is_empty();
        name.into_iter().flat_map(move |name| {
            let from = if all {
                name.start
            } else {
                self.place(name, prefix)
            };
            self.walk(name, from)
                .skip_while(move |(v, _)| !all && *v < prefix)
                .take_while(move |(v, _)| all || v.starts_with(prefix))
        })
    }

    /// How many values `name` has.
    pub fn value_count(&self, name: &str) -> usize {
        self.name(name).map_or(0, |n| n.values as usize)
    }

    /// The label names, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names
            .iter()
            .map(|n| &*n.name)
            .filter(|n| !n.is_empty())
    }

    /// Bytes of memory it holds.
    pub fn size(&self) -> usize {
        self.entries.len()
            + self.places.capacity() * 4
            + self
                .names
                .iter()
                .map(|n| n.name.len() + size_of::<Name>())
                .sum::<usize>()
    }
}

pub(super) fn put_entry(out: &mut Vec<u8>, name: &str, value: &str, offset: u64) {
    out.push(2);
    put_prefixed(out, name.as_bytes());
    put_prefixed(out, value.as_bytes());
    put_uvarint(out, offset);
}
