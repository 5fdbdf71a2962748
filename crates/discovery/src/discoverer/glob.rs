//! Paths with a star in the last part.

use std::io;
use std::path::{Path, PathBuf};

/// The files that `pattern` names and that are there, sorted.
pub(super) fn expand(pattern: &str) -> io::Result<Vec<PathBuf>> {
    let path = Path::new(pattern);
    let Some(last) = path.file_name().and_then(|n| n.to_str()) else {
        return Ok(Vec::new());
    };
    if !last.contains(['*', '?', '[']) {
        let there = path.try_exists()?;
        return Ok(there.then(|| path.to_owned()).into_iter().collect());
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let entries = match std::fs::read_dir(folder) {
        // A folder that is not there holds nothing; it may come.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if name.to_str().is_some_and(|name| matches(last, name)) {
            // Not `entry.path()`: a path without a folder stays so.
            found.push(path.with_file_name(name));
        }
    }
    found.sort();
    Ok(found)
}

/// Whether `name` is what `pattern` describes: `*` any text, `?` any character, `[a-z]` and
/// `[^a-z]` one of a range or none of it, `\` takes what follows literally.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Where the last star stood, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    let (mut p, mut n) = (0, 0);
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, n));
            p += 1;
            continue;
        }
        match one(&pattern[p..], name[n]) {
            Some(width) => {
                p += width;
                n += 1;
            }
            None => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// How much of the pattern the next piece is, if it matches `c`.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['\\', literal, ..] => (*literal == c).then_some(2),
        ['[', inside @ ..] => {
            let end = inside.iter().skip(1).position(|&x| x == ']')? + 1;
            let (negated, set) = match &inside[..end] {
                ['^', set @ ..] => (true, set),
                set => (false, set),
            };
            let mut found = false;
            let mut rest = set;
            while let [low, more @ ..] = rest {
                (found, rest) = match more {
                    ['-', high, more @ ..] => (found || (*low <= c && c <= *high), more),
                    more => (found || *low == c, more),
                };
            }
            (found != negated).then_some(end + 2)
        }
        [literal, ..] => (*literal == c).then_some(1),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, name, want) in [
            ("*.json", "a.json", true),
            ("*.json", ".json", true),
            ("*.json", "a.yml", false),
            ("a*b*c.yml", "a1b2b3c.yml", true),
            ("a*b*c.yml", "a1c.yml", false),
            ("t?.yml", "t1.yml", true),
            ("t?.yml", "t.yml", false),
            ("t[0-9].yml", "t5.yml", true),
            ("t[^0-9].yml", "t5.yml", false),
            ("t[ab", "t[ab", false),
            ("*", "", true),
            ("**", "x", true),
            ("\\*.yml", "*.yml", true),
            ("\\*.yml", "a.yml", false),
            ("é*", "éa", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }
}
