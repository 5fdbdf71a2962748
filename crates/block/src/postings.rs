//! Which series match: from matchers to ids.
//!
//! An [`Index`] knows, for each label pair, the ascending list of ids of the series that have it.
//! [`resolve`] turns matchers into the list of ids that satisfy all of them; blocks, the head and
//! the gateway share it. [`Plan`] is its first half, which needs label values only and tells which
//! lists are needed: whoever has to fetch those from afar does so before the second half.
//!
//! A missing label counts as empty, as everywhere. So a matcher that the empty string satisfies
//! (`a!="x"`, `a=~".*"`, `a=""`) cannot be answered by the lists of its values: it takes away the
//! series of those values that do not satisfy it. All others keep the series of those that do. A
//! pattern is tried once on every distinct value, never on series.

mod plan;
pub mod sets;
#[cfg(test)]
mod tests;

pub use plan::{Plan, resolve};

use model::Scope;

/// Ids of series by label pair. Lists ascend.
pub trait Index {
    /// Says where a list is.
    type Key: Copy;
    /// What can go wrong.
    type Error;

    /// The ids of all series.
    fn all(&self) -> Result<Vec<u32>, Self::Error>;

    /// The list of `name`=`value`, if any series has that pair. `value` is not empty.
    fn find(&self, name: &str, value: &str) -> Result<Option<Self::Key>, Self::Error>;

    /// Calls `each` with every value of `name` that begins with `prefix` (and, if that is easier,
    /// with others too) and its list. No value is empty.
    fn values(
        &self,
        name: &str,
        prefix: &str,
        each: &mut dyn FnMut(&str, Self::Key),
    ) -> Result<(), Self::Error>;

    /// Calls `each` with every one of these lists, in their order.
    fn postings(&self, keys: &[Self::Key], each: &mut dyn FnMut(&[u32]))
    -> Result<(), Self::Error>;

    /// Whether nobody wants an answer any more. What is found from then on is not whole: whoever makes
    /// this true has to look at it again.
    fn stopped(&self) -> bool {
        false
    }
}

/// An index that is asked as long as a query goes on: many values may have to be tried with a pattern.
pub struct Until<'a, I> {
    /// The index.
    pub index: &'a I,
    /// The query. Its end has to be looked at once more when there is an answer.
    pub scope: &'a Scope,
}

impl<I: Index> Index for Until<'_, I> {
    type Key = I::Key;
    type Error = I::Error;

    fn all(&self) -> Result<Vec<u32>, Self::Error> {
        self.index.all()
    }

    fn find(&self, name: &str, value: &str) -> Result<Option<Self::Key>, Self::Error> {
        self.index.find(name, value)
    }

    fn values(
        &self,
        name: &str,
        prefix: &str,
        each: &mut dyn FnMut(&str, Self::Key),
    ) -> Result<(), Self::Error> {
        self.index.values(name, prefix, each)
    }

    fn postings(
        &self,
        keys: &[Self::Key],
        each: &mut dyn FnMut(&[u32]),
    ) -> Result<(), Self::Error> {
        self.index.postings(keys, each)
    }

    fn stopped(&self) -> bool {
        self.scope.check().is_err()
    }
}
