//! Which series match: the head's lists behind the resolver that blocks use too.

use std::collections::BTreeSet;
use std::convert::Infallible;

use block::postings::{self, Until};
use model::{Matcher, Scope, Stopped};

use super::Head;
use super::index::{Index, PairId};

/// The index as the resolver sees it; held for as long as the lists are read.
struct Lists<'a>(&'a Index);

impl postings::Index for Lists<'_> {
    type Key = PairId;
    type Error = Infallible;

    fn all(&self) -> Result<Vec<u32>, Infallible> {
        Ok(self.0.all().to_vec())
    }

    fn find(&self, name: &str, value: &str) -> Result<Option<PairId>, Infallible> {
        Ok(self.0.find_pair(name, value))
    }

    fn values(
        &self,
        name: &str,
        _prefix: &str,
        each: &mut dyn FnMut(&str, PairId),
    ) -> Result<(), Infallible> {
        for (value, pair, _) in self.0.values(name) {
            each(value, pair);
        }
        Ok(())
    }

    fn postings(&self, keys: &[PairId], each: &mut dyn FnMut(&[u32])) -> Result<(), Infallible> {
        for &key in keys {
            each(self.0.list(key));
        }
        Ok(())
    }
}

impl Head {
    /// The numbers of the series that satisfy all matchers, ascending.
    pub(crate) fn matching(&self, matchers: &[Matcher]) -> Vec<u32> {
        let index = self.index.read();
        match postings::resolve(&Lists(&index), matchers) {
            Ok(ids) => ids,
            Err(never) => match never {},
        }
    }

    /// The same for a query, as long as it goes on.
    pub(crate) fn matching_for(
        &self,
        scope: &Scope,
        matchers: &[Matcher],
    ) -> Result<Vec<u32>, Stopped> {
        let ids = {
            let index = self.index.read();
            let lists = Until {
                index: &Lists(&index),
                scope,
            };
            match postings::resolve(&lists, matchers) {
                Ok(ids) => ids,
                Err(never) => match never {},
            }
        };
        scope.check()?;
        Ok(ids)
    }

    /// All label names, or all values of one: what can be said without looking at series.
    pub(crate) fn all_names(&self, found: &mut BTreeSet<String>) {
        let index = self.index.read();
        for name in index.names() {
            if !found.contains(name) {
                found.insert(name.to_owned());
            }
        }
    }

    /// All values of a label.
    pub(crate) fn all_values(&self, name: &str, found: &mut BTreeSet<String>) {
        let index = self.index.read();
        for (value, ..) in index.values(name) {
            if !found.contains(value) {
                found.insert(value.to_owned());
            }
        }
    }
}
