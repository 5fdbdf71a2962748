//! Listings that are not what lies in the bucket, as stores with weak listings, caches between and objects that come and
//! go make them.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::faults::unit;
use crate::state::{Object, Page};

/// How wrong listings are; each as a probability (0 to 1).
#[derive(Clone, Copy, Debug)]
pub struct Wild {
    /// Of an object (or folder) that it is not listed.
    pub hidden: f64,
    /// Of an object that was listed once and is gone that it is listed again.
    pub ghosts: f64,
    /// Of a page that its last entries come again on the next one.
    pub repeated: f64,
    /// Of a page that it says that it is the last one though it is not.
    pub cut: f64,
    /// Entries of a page, at most.
    pub page: usize,
    /// Seed of the dice.
    pub seed: u64,
}

impl Default for Wild {
    /// Pages of five entries, and nothing wrong with them.
    fn default() -> Self {
        Self {
            hidden: 0.0,
            ghosts: 0.0,
            repeated: 0.0,
            cut: 0.0,
            page: 5,
            seed: 1,
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    wild: Option<Wild>,
    dice: u64,
    /// Whatever was listed, though it may be gone.
    seen: BTreeMap<String, Object>,
    changed: u64,
}

/// What is done to listings; nothing, unless it is asked for.
#[derive(Debug, Default)]
pub struct Listings(Mutex<Inner>);

impl Listings {
    /// Makes listings wrong from now on; none: they are right again.
    pub fn set(&self, wild: Option<Wild>) {
        let mut inner = self.0.lock();
        inner.dice = wild.map_or(0, |w| w.seed);
        inner.wild = wild;
    }

    /// How many pages were not what they should have been.
    pub fn changed(&self) -> u64 {
        self.0.lock().changed
    }

    /// The length of a page that may have `max` entries.
    pub(crate) fn page(&self, max: usize) -> usize {
        let wild = self.0.lock().wild;
        wild.map_or(max, |wild| max.min(wild.page.max(1)))
    }

    /// Changes the page of the keys that begin with `prefix` and come behind `after`. `flat`: it has no folders.
    pub(crate) fn change(&self, page: &mut Page, prefix: &str, after: &str, flat: bool) {
        let mut guard = self.0.lock();
        let Inner {
            wild,
            dice,
            seen,
            changed,
        } = &mut *guard;
        seen.extend(page.objects.iter().cloned());
        let Some(wild) = wild else { return };
        let before = (page.objects.len(), page.prefixes.len(), page.next.clone());
        let mut keys: Vec<String> = page.objects.iter().map(|(key, _)| key.clone()).collect();
        if flat {
            let end = page.next.clone();
            let gone = seen.iter().filter(|(key, _)| {
                key.starts_with(prefix)
                    && key.as_str() > after
                    && end.as_ref().is_none_or(|end| *key <= end)
                    && !keys.contains(key)
            });
            let ghosts: Vec<(String, Object)> = gone
                .filter(|_| unit(dice) < wild.ghosts)
                .map(|(key, object)| (key.clone(), object.clone()))
                .collect();
            page.objects.extend(ghosts);
            page.objects.sort_by(|a, b| a.0.cmp(&b.0));
        }
        keys.extend(page.prefixes.iter().cloned());
        keys.sort();
        page.objects.retain(|_| unit(dice) >= wild.hidden);
        page.prefixes.retain(|_| unit(dice) >= wild.hidden);
        if page.next.is_some() {
            if unit(dice) < wild.cut {
                page.next = None;
            } else if unit(dice) < wild.repeated && keys.len() > 2 {
                // It goes on, but for fewer entries.
                page.next = keys.get(keys.len() - 3).cloned();
            }
        }
        let now = (page.objects.len(), page.prefixes.len(), page.next.clone());
        *changed += u64::from(before != now);
    }
}
