//! Finished series: what operators exchange.
//!
//! A [`Row`] is one series on a grid, in memory that is reused; a [`Block`] is many of them, with
//! labels in one list and values in one matrix. The pieces of one series may come as several rows
//! with equal labels, as long as no step is present twice: whoever needs whole series gathers them.
//!
//! Native histograms stand beside the floats in a list of their own, which is empty for almost all
//! series: whoever finds it empty need not know of them.

use model::{Symbol, Symbols};

use super::context::Held;
use crate::histogram::{Histogram, Point};

/// A label as symbols of the query's table.
pub(crate) type Pair = (Symbol, Symbol);

/// One series on a grid.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// Ascending by the name's text.
    pub(crate) labels: Vec<Pair>,
    /// Whether the metric name is to be dropped at the end (delayed name removal).
    pub(crate) drop_name: bool,
    /// One value a step; meaningless where the step is not present or is a histogram.
    pub(crate) values: Vec<f64>,
    /// Bit `i % 64` of word `i / 64`: whether step `i` is present.
    pub(crate) bits: Vec<u64>,
    /// Steps that are histograms, ascending; all of them present.
    pub(crate) histograms: Vec<Point>,
}

impl Row {
    /// Makes it an empty series of `steps` steps.
    pub(crate) fn reset(&mut self, steps: usize) {
        self.labels.clear();
        self.drop_name = false;
        self.values.resize(steps, 0.0);
        self.bits.clear();
        self.bits.resize(words(steps), 0);
        self.histograms.clear();
    }

    /// Removes the steps that are histograms.
    pub(crate) fn keep_floats(&mut self) {
        for (i, _) in self.histograms.drain(..) {
            clear(&mut self.bits, i as usize);
        }
    }

    /// Brings the list of histograms in line with the bits, after some of them were cleared.
    pub(crate) fn drop_cleared(&mut self) {
        if !self.histograms.is_empty() {
            let bits = &self.bits;
            self.histograms.retain(|(i, _)| is_set(bits, *i as usize));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bits.iter().all(|w| *w == 0)
    }

    /// Samples present; histograms count by their size.
    pub(crate) fn samples(&self) -> usize {
        count(&self.bits) + beside(&self.histograms)
    }

    /// Whether a step is a float.
    pub(crate) fn has_floats(&self) -> bool {
        self.histograms.is_empty() || count(&self.bits) > self.histograms.len()
    }

    pub(crate) fn get(&self, name: Symbol) -> Symbol {
        value_of(&self.labels, name)
    }

    /// Sets a label; the empty value removes it.
    pub(crate) fn set(&mut self, name: Symbol, value: Symbol, symbols: &Symbols) {
        set_label(&mut self.labels, name, value, symbols);
    }

    pub(crate) fn as_ref(&self) -> RowRef<'_> {
        RowRef {
            labels: &self.labels,
            drop_name: self.drop_name,
            values: &self.values,
            bits: &self.bits,
            histograms: &self.histograms,
        }
    }
}

/// The value of `name`, or the empty string's symbol.
pub(crate) fn value_of(labels: &[Pair], name: Symbol) -> Symbol {
    labels
        .iter()
        .find(|(n, _)| *n == name)
        .map_or(Symbol::EMPTY, |(_, v)| *v)
}

/// Sets a label in a list that ascends by name; the empty value removes it.
pub(crate) fn set_label(labels: &mut Vec<Pair>, name: Symbol, value: Symbol, symbols: &Symbols) {
    let place = labels.iter().position(|(n, _)| *n == name);
    match place {
        Some(i) if value == Symbol::EMPTY => {
            labels.remove(i);
        }
        Some(i) => labels[i].1 = value,
        None if value == Symbol::EMPTY => {}
        None => {
            let text = symbols.get(name);
            let i = labels.partition_point(|(n, _)| symbols.get(*n) < text);
            labels.insert(i, (name, value));
        }
    }
}

/// Words of presence bits for so many steps.
pub(crate) fn words(steps: usize) -> usize {
    steps.div_ceil(64)
}

/// The bits of word `w` that stand for steps.
#[inline(always)]
pub(crate) fn full(steps: usize, w: usize) -> u64 {
    let rest = steps - w * 64;
    if rest >= 64 { !0 } else { (1 << rest) - 1 }
}

#[inline(always)]
pub(crate) fn is_set(bits: &[u64], i: usize) -> bool {
    bits[i >> 6] >> (i & 63) & 1 == 1
}

pub(crate) fn set(bits: &mut [u64], i: usize) {
    bits[i >> 6] |= 1 << (i & 63);
}

pub(crate) fn clear(bits: &mut [u64], i: usize) {
    bits[i >> 6] &= !(1 << (i & 63));
}

/// Calls `f` with each step that is present.
#[inline(always)]
pub(crate) fn each_set(bits: &[u64], mut f: impl FnMut(usize)) {
    for (w, &word) in bits.iter().enumerate() {
        let mut rest = word;
        while rest != 0 {
            f(w * 64 + rest.trailing_zeros() as usize);
            rest &= rest - 1;
        }
    }
}

/// How many steps are present.
pub(crate) fn count(bits: &[u64]) -> usize {
    bits.iter().map(|w| w.count_ones() as usize).sum()
}

/// Bytes of histograms and their list.
pub(crate) fn bytes_of(histograms: &[Point]) -> usize {
    size_of_val(histograms) + histograms.iter().map(|(_, h)| h.bytes()).sum::<usize>()
}

/// What histograms count beside the points they are.
pub(crate) fn beside(histograms: &[Point]) -> usize {
    histograms.iter().map(|(_, h)| h.points() - 1).sum()
}

/// The first step in both, if any.
pub(crate) fn first_common(a: &[u64], b: &[u64]) -> Option<usize> {
    a.iter().zip(b).enumerate().find_map(|(w, (x, y))| {
        let both = x & y;
        (both != 0).then(|| w * 64 + both.trailing_zeros() as usize)
    })
}

pub(crate) fn unite(into: &mut [u64], bits: &[u64]) {
    for (a, b) in into.iter_mut().zip(bits) {
        *a |= b;
    }
}

/// A row of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowRef<'a> {
    pub(crate) labels: &'a [Pair],
    pub(crate) drop_name: bool,
    pub(crate) values: &'a [f64],
    pub(crate) bits: &'a [u64],
    pub(crate) histograms: &'a [Point],
}

impl<'a> RowRef<'a> {
    /// The histogram at a step, if it is one.
    pub(crate) fn histogram(&self, step: usize) -> Option<&'a std::sync::Arc<Histogram>> {
        let all = self.histograms;
        let at = all.binary_search_by_key(&step, |(i, _)| *i as usize).ok()?;
        Some(&all[at].1)
    }

    /// Bytes that a copy takes in a block.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Head>()
            + size_of_val(self.labels)
            + size_of_val(self.values)
            + size_of_val(self.bits)
            + bytes_of(self.histograms)
    }

    /// Bits of the steps that are floats; `scratch` is memory to work in.
    pub(crate) fn float_bits<'b>(&self, scratch: &'b mut Vec<u64>) -> &'b [u64]
    where
        'a: 'b,
    {
        if self.histograms.is_empty() {
            return self.bits;
        }
        scratch.clear();
        scratch.extend_from_slice(self.bits);
        for (i, _) in self.histograms {
            clear(scratch, *i as usize);
        }
        scratch
    }

    /// Copies it into `row`.
    pub(crate) fn copy_to(&self, row: &mut Row) {
        row.labels.clear();
        row.labels.extend_from_slice(self.labels);
        row.drop_name = self.drop_name;
        row.values.clear();
        row.values.extend_from_slice(self.values);
        row.bits.clear();
        row.bits.extend_from_slice(self.bits);
        row.histograms.clear();
        row.histograms.extend_from_slice(self.histograms);
    }
}

#[derive(Clone, Copy, Debug)]
struct Head {
    labels_end: u32,
    histograms_end: u32,
    drop_name: bool,
}

/// Many series on one grid.
#[derive(Debug, Default)]
pub(crate) struct Block {
    steps: usize,
    heads: Vec<Head>,
    labels: Vec<Pair>,
    values: Vec<f64>,
    bits: Vec<u64>,
    histograms: Vec<Point>,
    /// Samples and bytes, given back on drop.
    pub(crate) held: Option<Held>,
}

impl Block {
    pub(crate) fn new(steps: usize) -> Self {
        Self {
            steps,
            ..Self::default()
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    pub(crate) fn push(&mut self, row: RowRef<'_>) {
        self.labels.extend_from_slice(row.labels);
        self.histograms.extend_from_slice(row.histograms);
        self.heads.push(Head {
            labels_end: self.labels.len() as u32,
            histograms_end: self.histograms.len() as u32,
            drop_name: row.drop_name,
        });
        self.values.extend_from_slice(row.values);
        self.bits.extend_from_slice(row.bits);
    }

    pub(crate) fn row(&self, i: usize) -> RowRef<'_> {
        let (start, first) = match i {
            0 => (0, 0),
            _ => {
                let before = &self.heads[i - 1];
                (before.labels_end as usize, before.histograms_end as usize)
            }
        };
        let words = words(self.steps);
        RowRef {
            labels: &self.labels[start..self.heads[i].labels_end as usize],
            drop_name: self.heads[i].drop_name,
            values: &self.values[i * self.steps..(i + 1) * self.steps],
            bits: &self.bits[i * words..(i + 1) * words],
            histograms: &self.histograms[first..self.heads[i].histograms_end as usize],
        }
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = RowRef<'_>> {
        (0..self.len()).map(|i| self.row(i))
    }

    /// Steps of series that are present.
    pub(crate) fn points(&self) -> usize {
        count(&self.bits)
    }

    /// Samples present; histograms count by their size.
    pub(crate) fn samples(&self) -> usize {
        self.points() + beside(&self.histograms)
    }

    /// Bytes of its labels.
    pub(crate) fn bytes_of_labels(&self) -> usize {
        size_of_val(&self.labels[..])
    }

    /// Bytes of its lists.
    pub(crate) fn bytes(&self) -> usize {
        self.heads.capacity() * size_of::<Head>()
            + self.labels.capacity() * size_of::<Pair>()
            + (self.values.capacity() + self.bits.capacity()) * 8
            + (self.histograms.capacity() - self.histograms.len()) * size_of::<Point>()
            + bytes_of(&self.histograms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_went_in() {
        let symbols = Symbols::default();
        let mut row = Row::default();
        let mut block = Block::new(70);
        for i in 0..3usize {
            row.reset(70);
            row.set(
                symbols.intern("b"),
                symbols.intern(&i.to_string()),
                &symbols,
            );
            row.set(symbols.intern("a"), symbols.intern("x"), &symbols);
            row.values[69] = i as f64;
            row.bits[1] |= 1 << 5;
            block.push(row.as_ref());
        }
        assert_eq!((block.len(), block.samples()), (3, 3));
        let got = block.row(2);
        assert_eq!(symbols.labels(got.labels).to_string(), r#"{a="x", b="2"}"#);
        assert!(is_set(got.bits, 69) && !is_set(got.bits, 68));
        assert_eq!(got.values[69], 2.0);
        assert_eq!(full(70, 1), 0b11_1111);
        assert_eq!(first_common(got.bits, &[0, 1 << 5]), Some(69));
        row.set(symbols.intern("a"), Symbol::EMPTY, &symbols);
        assert_eq!(row.labels.len(), 1);
    }
}
