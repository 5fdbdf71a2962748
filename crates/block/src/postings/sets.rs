//! Operations on ascending lists of ids.

/// Keeps those ids of `a` that are in `b`.
pub fn intersect(a: &mut Vec<u32>, b: &[u32]) {
    filter(a, b, true);
}

/// Drops those ids of `a` that are in `b`.
pub fn subtract(a: &mut Vec<u32>, b: &[u32]) {
    filter(a, b, false);
}

/// From how many times the length on a list is galloped through instead of walked.
const GALLOP: usize = 16;

fn filter(a: &mut Vec<u32>, b: &[u32], keep_common: bool) {
    if a.is_empty() {
        return;
    }
    if b.is_empty() {
        if keep_common {
            a.clear();
        }
        return;
    }
    if keep_common && a.len() / GALLOP > b.len() {
        // The other list is the short one: look its ids up in this one.
        let mut rest = a.as_slice();
        let mut common = Vec::with_capacity(b.len());
        for &id in b {
            rest = gallop(rest, id);
            match rest.first() {
                Some(&first) if first == id => common.push(id),
                Some(_) => {}
                None => break,
            }
        }
        *a = common;
        return;
    }
    let far = b.len() / GALLOP > a.len();
    let mut rest = b;
    a.retain(|&id| {
        if far {
            rest = gallop(rest, id);
        } else {
            while let Some((&first, behind)) = rest.split_first()
                && first < id
            {
                rest = behind;
            }
        }
        rest.first().is_some_and(|&first| first == id) == keep_common
    });
}

/// What is left of `list` from the first id on that is not smaller than `id`.
fn gallop(list: &[u32], id: u32) -> &[u32] {
    let mut step = 1;
    while list.get(step).is_some_and(|&x| x < id) {
        step *= 2;
    }
    let window = &list[step / 2..list.len().min(step + 1)];
    &list[step / 2 + window.partition_point(|&x| x < id)..]
}

/// The ids that are in any of some lists, given one by one.
#[derive(Debug, Default)]
pub struct Union {
    /// All ids given so far.
    ids: Vec<u32>,
    /// Where each list in `ids` ends.
    ends: Vec<usize>,
}

/// So many lists are merged; more are thrown together and sorted.
const MERGED: usize = 4;

impl Union {
    /// No lists yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a list.
    pub fn add(&mut self, list: &[u32]) {
        if list.is_empty() {
            return;
        }
        self.ids.extend_from_slice(list);
        self.ends.push(self.ids.len());
    }

    /// The ids, ascending, each once.
    pub fn finish(mut self) -> Vec<u32> {
        if self.ends.len() <= 1 || self.ids.is_sorted_by(|a, b| a < b) {
            return self.ids;
        }
        if self.ends.len() <= MERGED {
            return self.merge();
        }
        let min = self.ids.iter().copied().min().unwrap_or(0);
        let max = self.ids.iter().copied().max().unwrap_or(0);
        let span = (max - min) as usize + 1;
        // Setting a bit costs about as much as one step of sorting; walking over 64 ids too.
        if span / 64 <= self.ids.len() * 8 {
            return bits(&self.ids, min, span);
        }
        self.ids.sort_unstable();
        self.ids.dedup();
        self.ids
    }

    fn merge(self) -> Vec<u32> {
        let mut start = 0;
        let mut merged: Vec<u32> = Vec::new();
        for end in self.ends {
            let list = &self.ids[start..end];
            start = end;
            if merged.is_empty() {
                merged.extend_from_slice(list);
                continue;
            }
            let mut out = Vec::with_capacity(merged.len() + list.len());
            let (mut a, mut b) = (merged.as_slice(), list);
            while let (Some((&x, a_rest)), Some((&y, b_rest))) = (a.split_first(), b.split_first())
            {
                out.push(x.min(y));
                if x <= y {
                    a = a_rest;
                }
                if y <= x {
                    b = b_rest;
                }
            }
            out.extend_from_slice(a);
            out.extend_from_slice(b);
            merged = out;
        }
        merged
    }
}

fn bits(ids: &[u32], min: u32, span: usize) -> Vec<u32> {
    let mut words = vec![0u64; span.div_ceil(64)];
    for id in ids {
        let at = (id - min) as usize;
        words[at / 64] |= 1 << (at % 64);
    }
    let count = words.iter().map(|w| w.count_ones() as usize).sum();
    let mut out = Vec::with_capacity(count);
    for (i, &word) in words.iter().enumerate() {
        let mut word = word;
        while word != 0 {
            out.push(min + (i * 64) as u32 + word.trailing_zeros());
            word &= word - 1;
        }
    }
    out
}
