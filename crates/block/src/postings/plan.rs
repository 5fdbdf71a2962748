use model::{MatchOp, Matcher};

use super::Index;
use super::sets::{self, Union};

/// What has to be looked up to answer some matchers: unions of lists, which are intersected, and
/// unions that are taken away from that.
#[derive(Clone, Debug)]
pub struct Plan<K> {
    /// One of them has no list at all: nothing matches.
    nothing: bool,
    keep: Vec<Vec<K>>,
    drop: Vec<Vec<K>>,
}

/// The ids of the series that satisfy all matchers, ascending.
pub fn resolve<I: Index>(index: &I, matchers: &[Matcher]) -> Result<Vec<u32>, I::Error> {
    Plan::new(index, matchers)?.run(index)
}

/// How costly a matcher is to look up: the cheap ones go first, since nothing more is needed once
/// one of them has no list.
fn cost(m: &Matcher) -> u8 {
    match m.op {
        MatchOp::Equal => 0,
        MatchOp::NotEqual => 1,
        MatchOp::Regex | MatchOp::NotRegex => 2,
    }
}

impl<K: Copy> Plan<K> {
    /// Finds the lists for `matchers`; reads label values, but no list.
    pub fn new<I: Index<Key = K>>(index: &I, matchers: &[Matcher]) -> Result<Self, I::Error> {
        let mut plan = Self {
            nothing: false,
            keep: Vec::new(),
            drop: Vec::new(),
        };
        let mut ordered: Vec<&Matcher> = matchers.iter().collect();
        ordered.sort_by_key(|m| cost(m));
        for m in ordered {
            let any = matches!(&*m.value, ".*" | "(.*)" | "^.*$") && m.regex().is_some();
            match (m.matches_empty(), any) {
                // Satisfied by every string there is.
                (true, true) => {}
                (true, false) => {
                    let keys = excluded(index, m)?;
                    if !keys.is_empty() {
                        plan.drop.push(keys);
                    }
                }
                (false, _) => {
                    let keys = if any { Vec::new() } else { included(index, m)? };
                    if keys.is_empty() {
                        return Ok(Self {
                            nothing: true,
                            keep: Vec::new(),
                            drop: Vec::new(),
                        });
                    }
                    plan.keep.push(keys);
                }
            }
        }
        Ok(plan)
    }

    /// Whether it is known without any list that nothing matches.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// Whether the list of all series is needed.
    pub fn needs_all(&self) -> bool {
        !self.nothing && self.keep.is_empty()
    }

    /// All lists that [`Plan::run`] will ask for; some may come twice.
    pub fn keys(&self) -> impl Iterator<Item = K> {
        self.keep.iter().chain(&self.drop).flatten().copied()
    }

    /// Intersects and takes away.
    pub fn run<I: Index<Key = K>>(&self, index: &I) -> Result<Vec<u32>, I::Error> {
        if self.nothing {
            return Ok(Vec::new());
        }
        // Single lists first: they are the ones that make the result small before many are united.
        let mut groups: Vec<&Vec<K>> = self.keep.iter().collect();
        groups.sort_by_key(|keys| keys.len());
        let mut result: Option<Vec<u32>> = None;
        for keys in groups {
            if index.stopped() {
                return Ok(Vec::new());
            }
            match &mut result {
                None => result = Some(union(index, keys)?),
                Some(ids) if ids.is_empty() => return Ok(Vec::new()),
                Some(ids) if keys.len() == 1 => {
                    index.postings(keys, &mut |list| sets::intersect(ids, list))?;
                }
                Some(ids) => sets::intersect(ids, &union(index, keys)?),
            }
        }
        let mut ids = match result {
            Some(ids) => ids,
            None => index.all()?,
        };
        for keys in &self.drop {
            if ids.is_empty() {
                break;
            }
            if keys.len() == 1 {
                index.postings(keys, &mut |list| sets::subtract(&mut ids, list))?;
            } else {
                sets::subtract(&mut ids, &union(index, keys)?);
            }
        }
        Ok(ids)
    }
}

fn union<I: Index>(index: &I, keys: &[I::Key]) -> Result<Vec<u32>, I::Error> {
    /// Lists between two looks.
    const PART: usize = 4096;
    let mut union = Union::new();
    for keys in keys.chunks(PART) {
        if index.stopped() {
            break;
        }
        index.postings(keys, &mut |list| union.add(list))?;
    }
    Ok(union.finish())
}

/// The lists of the values that satisfy `m`, which the empty string does not.
fn included<I: Index>(index: &I, m: &Matcher) -> Result<Vec<I::Key>, I::Error> {
    lists(index, m, true)
}

/// The lists of the values that do not satisfy `m`, which the empty string does.
fn excluded<I: Index>(index: &I, m: &Matcher) -> Result<Vec<I::Key>, I::Error> {
    lists(index, m, false)
}

/// Adds the lists of the values that begin with `prefix` for which `m` says `yes`.
fn tried<I: Index>(
    index: &I,
    m: &Matcher,
    prefix: &str,
    yes: bool,
    keys: &mut Vec<I::Key>,
) -> Result<(), I::Error> {
    /// Bytes of values between two looks: a fraction of a millisecond.
    const STRIDE: usize = 16 << 10;
    let (mut bytes, mut stopped) = (0, false);
    index.values(&m.name, prefix, &mut |value, key| {
        bytes += value.len() + 16;
        if bytes > STRIDE {
            bytes = 0;
            stopped = stopped || index.stopped();
        }
        if !stopped && m.matches(value) == yes {
            keys.push(key);
        }
    })
}

/// The lists of the values for which `m` says `yes`.
fn lists<I: Index>(index: &I, m: &Matcher, yes: bool) -> Result<Vec<I::Key>, I::Error> {
    // Either the values that are (or match) the text are wanted, or all others.
    let positive = matches!(m.op, MatchOp::Equal | MatchOp::Regex) == yes;
    let mut keys = Vec::new();
    match m.regex() {
        None if positive => keys.extend(index.find(&m.name, &m.value)?),
        Some(regex) if positive => match regex.literals() {
            Some(literals) => {
                for value in literals.iter().filter(|v| !v.is_empty()) {
                    keys.extend(index.find(&m.name, value)?);
                }
            }
            None => tried(index, m, regex.prefix(), yes, &mut keys)?,
        },
        _ => tried(index, m, "", yes, &mut keys)?,
    }
    Ok(keys)
}
