//! The pages of a head, by number.

use std::sync::Arc;

use super::page::Page;

/// So many pages lie side by side.
const LEAF: usize = 1024;

/// Pages by number. Numbers are given in order, so most pages lie close together; but a log may name any
/// series below 2^32, and nothing here costs more than the pages that there are, and a word for every
/// [`LEAF`] pages up to the last.
#[derive(Default)]
pub(super) struct Pages {
    leaves: Vec<Option<Leaf>>,
    count: usize,
}

type Leaf = Box<[Option<Arc<Page>>; LEAF]>;

impl Pages {
    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<&Arc<Page>> {
        let leaf = self.leaves.get(number / LEAF)?.as_ref()?;
        leaf[number % LEAF].as_ref()
    }

    /// The page of this number; a new one if there is none.
    pub(super) fn get_or_make(&mut self, number: usize) -> &Page {
        let leaf = number / LEAF;
        if self.leaves.len() <= leaf {
            self.leaves.resize_with(leaf + 1, || None);
        }
        let leaf = self.leaves[leaf].get_or_insert_with(|| Box::new([const { None }; LEAF]));
        leaf[number % LEAF].get_or_insert_with(|| {
            self.count += 1;
            Arc::default()
        })
    }

    /// How many pages there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// All pages, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Arc<Page>)> {
        let leaves = self.leaves.iter().enumerate();
        leaves.flat_map(|(i, leaf)| {
            let pages = leaf.iter().flat_map(|leaf| leaf.iter().enumerate());
            pages.filter_map(move |(j, page)| Some((i * LEAF + j, page.as_ref()?)))
        })
    }

    /// The first page from this number on.
    pub(super) fn next(&self, from: usize) -> Option<(usize, &Arc<Page>)> {
        let first = from / LEAF;
        let mut leaves = self.leaves.iter().enumerate().skip(first);
        leaves.find_map(|(i, leaf)| {
            let before = if i == first { from % LEAF } else { 0 };
            let mut pages = leaf.as_ref()?.iter().enumerate().skip(before);
            pages.find_map(|(j, page)| Some((i * LEAF + j, page.as_ref()?)))
        })
    }

    /// All numbers are below it.
    pub(super) fn end(&self) -> usize {
        self.leaves.len() * LEAF
    }

    /// Lets go of the pages that are not to be kept.
    pub(super) fn retain(&mut self, keep: impl Fn(&Page) -> bool) {
        for place in &mut self.leaves {
            let Some(leaf) = place else { continue };
            for page in leaf.iter_mut() {
                if page.as_ref().is_some_and(|page| !keep(page)) {
                    *page = None;
                    self.count -= 1;
                }
            }
            if leaf.iter().all(Option::is_none) {
                *place = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_far_apart_are_found_in_order_and_let_go() {
        let numbers = [0, 1, LEAF - 1, LEAF, 5 * LEAF + 7, (1 << 26) - 1];
        let mut pages = Pages::default();
        for &number in numbers.iter().rev() {
            pages.get_or_make(number);
        }
        let all = |pages: &Pages| pages.iter().map(|(number, _)| number).collect::<Vec<_>>();
        assert_eq!(all(&pages), numbers);
        pages.get_or_make(LEAF);
        assert_eq!(pages.count(), numbers.len());
        let (mut walked, mut from) = (Vec::new(), 0);
        while let Some((number, _)) = pages.next(from) {
            walked.push(number);
            from = number + 1;
        }
        assert_eq!(walked, numbers);
        assert!(pages.get(LEAF).is_some());
        assert!(pages.get(2).is_none() && pages.get(3 * LEAF).is_none());
        assert!(pages.get(usize::MAX).is_none());
        assert!(numbers.iter().all(|&number| number < pages.end()));

        let kept = Arc::clone(pages.get(LEAF).unwrap());
        pages.retain(|page| std::ptr::eq(page, &*kept));
        assert_eq!(all(&pages), [LEAF]);
        assert_eq!(
            (pages.count(), pages.leaves.iter().flatten().count()),
            (1, 1)
        );
    }
}
