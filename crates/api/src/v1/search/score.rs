//! How well a value fits what is typed, from 0 (not at all) to 1.
//!
//! Two measures, with the numbers of Prometheus 3.14 (`util/strutil`): characters in the right order with
//! as few gaps as possible, and Jaro's and Winkler's distance for what is misspelled.

/// How likeness is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// All characters of the term are there, in its order.
    Subsequence,
    /// The term is a part of the value, or both are alike.
    JaroWinkler,
}

/// What is typed: a value that fits one of the terms is found.
pub(super) struct Filter {
    terms: Vec<String>,
    threshold: f64,
    algorithm: Algorithm,
    sensitive: bool,
}

impl Filter {
    pub(super) fn new(
        terms: &[&str],
        threshold: f64,
        algorithm: Algorithm,
        sensitive: bool,
    ) -> Self {
        let terms = terms.iter().filter(|term| !term.is_empty());
        let terms = terms.map(|term| match sensitive {
            true => (*term).to_owned(),
            false => term.to_lowercase(),
        });
        Self {
            terms: terms.collect(),
            threshold,
            algorithm,
            sensitive,
        }
    }

    /// How well a value fits the best of the terms; none if it fits none. Without terms all fit.
    pub(super) fn score(&self, value: &str) -> Option<f64> {
        if self.terms.is_empty() {
            return Some(1.0);
        }
        let lower;
        let value = match self.sensitive {
            true => value,
            false => {
                lower = value.to_lowercase();
                &lower
            }
        };
        let scores = self.terms.iter().filter_map(|term| self.fits(term, value));
        scores.reduce(f64::max)
    }

    fn fits(&self, term: &str, value: &str) -> Option<f64> {
        match self.algorithm {
            Algorithm::Subsequence => {
                if value.starts_with(term) {
                    return Some(1.0);
                }
                let score = subsequence(term, value);
                (score > 0.0 && score >= self.threshold).then_some(score)
            }
            Algorithm::JaroWinkler => part(term, value).or_else(|| {
                let score = jaro_winkler(term, value);
                (self.threshold > 0.0 && score >= self.threshold).then_some(score)
            }),
        }
    }
}

/// A term that is a part of a value: the further in front, the better.
fn part(term: &str, value: &str) -> Option<f64> {
    let at = value.find(term)?;
    let before = value.get(..at)?.chars().count();
    let most = value.chars().count().saturating_sub(term.chars().count());
    if before == 0 || most == 0 {
        return Some(1.0);
    }
    Some(1.0 - 0.9 * before as f64 / most as f64)
}

/// The squares of the runs of the term's characters in the value, less what lies between, as a share of
/// the best that could be. Greedy from every place where it may begin.
fn subsequence(term: &str, value: &str) -> f64 {
    const INEXACT: f64 = 0.999;
    let (term, value): (Vec<char>, Vec<char>) = (term.chars().collect(), value.chars().collect());
    if term == value {
        return 1.0;
    }
    let Some(first) = term.first() else {
        return 1.0;
    };
    let last_start = match value.len().checked_sub(term.len()) {
        Some(last_start) => last_start,
        None => return 0.0,
    };
    let starts = value.iter().take(last_start + 1).enumerate();
    let starts = starts.filter(|(_, c)| *c == first);
    // Where the rest of the term is missing once, it is missing from there on.
    let runs = starts.map_while(|(start, _)| from(&term, &value, start));
    let best = runs.fold(-1.0, f64::max);
    if best < 0.0 {
        return 0.0;
    }
    best / (term.len() * term.len()) as f64 * INEXACT
}

/// The score of the term's runs if the first begins at `start`; none if the value ends too soon.
fn from(term: &[char], value: &[char], start: usize) -> Option<f64> {
    let share = 1.0 / value.len() as f64;
    let mut score = 0.0;
    let mut wanted = term.iter().peekable();
    // Behind the last run.
    let mut end = 0;
    let mut at = start;
    while let Some(first) = wanted.peek() {
        let skipped = value.get(at..)?.iter().position(|c| c == *first)?;
        let begin = at + skipped;
        at = begin;
        while let (Some(next), Some(c)) = (wanted.peek(), value.get(at)) {
            if *next != c {
                break;
            }
            wanted.next();
            at += 1;
        }
        if begin > end {
            score -= (begin - end) as f64 * share;
        }
        score += ((at - begin) * (at - begin)) as f64;
        end = at;
    }
    if value.len() > end {
        score -= (value.len() - end) as f64 * share * 0.5;
    }
    Some(score)
}

/// Jaro's likeness, raised by Winkler for what begins alike.
fn jaro_winkler(a: &str, b: &str) -> f64 {
    if a == b {
        return 1.0;
    }
    let (mut short, mut long): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if short.len() > long.len() {
        std::mem::swap(&mut short, &mut long);
    }
    let reach = (long.len() / 2).saturating_sub(1);
    let mut taken = vec![false; long.len()];
    let mut matched = Vec::new();
    for (i, c) in short.iter().enumerate() {
        let window = i.saturating_sub(reach)..(i + reach + 1).min(long.len());
        let free = window.into_iter().find(|&j| !taken[j] && long[j] == *c);
        if let Some(j) = free {
            taken[j] = true;
            matched.push(*c);
        }
    }
    if matched.is_empty() {
        return 0.0;
    }
    let others = long.iter().zip(&taken).filter(|(_, taken)| **taken);
    let swapped = others.zip(&matched).filter(|((b, _), a)| b != a).count();
    let count = matched.len() as f64;
    let jaro = (count * (1.0 / short.len() as f64)
        + count * (1.0 / long.len() as f64)
        + (count - swapped as f64 * 0.5) / count)
        / 3.0;
    let alike = short.iter().zip(&long).take(4).take_while(|(a, b)| a == b);
    jaro + alike.count() as f64 * 0.1 * (1.0 - jaro)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }

    #[test]
    fn runs_are_better_than_scattered_characters() {
        close(subsequence("abc", "abc"), 1.0);
        assert_eq!(subsequence("abc", "acb"), 0.0);
        assert_eq!(subsequence("abcd", "abc"), 0.0);
        // One run of three behind one character: 9 - 1/4, of 9.
        close(subsequence("abc", "xabc"), (9.0 - 0.25) / 9.0 * 0.999);
        // Runs of one and two with one between and one behind: 1 + 4 - 1/5 - 1/10.
        close(subsequence("abc", "axbcx"), (5.0 - 0.2 - 0.1) / 9.0 * 0.999);
    }

    #[test]
    fn misspelled_words_are_alike() {
        close(jaro_winkler("martha", "marhta"), 0.961_111_111_111);
        close(jaro_winkler("dixon", "dicksonx"), 0.813_333_333_333);
        assert_eq!(jaro_winkler("abc", "xyz"), 0.0);
        close(part("b", "abc").unwrap(), 0.55);
        assert_eq!(part("x", "abc"), None);
    }

    #[test]
    fn terms_are_alternatives() {
        let filter = Filter::new(&["", "HTTP", "go"], 0.0, Algorithm::Subsequence, false);
        assert_eq!(filter.score("http_requests_total"), Some(1.0));
        assert_eq!(filter.score("go_info"), Some(1.0));
        assert_eq!(filter.score("up"), None);
        let exact = Filter::new(&["HTTP"], 0.0, Algorithm::Subsequence, true);
        assert_eq!(exact.score("http_requests_total"), None);
        assert_eq!(
            Filter::new(&[], 0.5, Algorithm::JaroWinkler, true).score("a"),
            Some(1.0)
        );
    }
}
