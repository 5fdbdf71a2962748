//! Files by pattern, as Go's `filepath.Glob` finds them.

use std::path::{Path, PathBuf};

/// The files that `pattern` names, sorted. Each part of the path may be a pattern: `*`, `?`,
/// `[a-z]`, `[^a]` and a backslash before what shall stand for itself. A folder that cannot be
/// read holds none.
pub fn glob(pattern: &str) -> Result<Vec<PathBuf>, String> {
    if let Some((folders, last)) = pattern.rsplit_once('/')
        && folders.contains(SPECIAL)
    {
        let mut found = Vec::new();
        for folder in glob(folders)?.iter().filter(|folder| folder.is_dir()) {
            found.extend(in_folder(&format!("{}/{last}", folder.display()))?);
        }
        return Ok(found);
    }
    in_folder(pattern)
}

/// What makes a text a pattern.
const SPECIAL: [char; 4] = ['*', '?', '[', '\\'];

/// The files that a path names whose last part may be a pattern.
fn in_folder(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let (folder, last) = match pattern.rsplit_once('/') {
        Some(("", last)) => ("/", last),
        Some((folder, last)) => (folder, last),
        None => (".", pattern),
    };
    let last: Vec<char> = last.chars().collect();
    check(&last).map_err(|()| format!("syntax error in pattern {pattern:?}"))?;
    if !last.iter().any(|c| SPECIAL.contains(c)) {
        let path = PathBuf::from(pattern);
        return Ok(if path.exists() {
            vec![path]
        } else {
            Vec::new()
        });
    }
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name.to_str().is_some_and(|name| {
                let name: Vec<char> = name.chars().collect();
                matches(&last, &name)
            })
        })
        .map(|entry| match pattern.contains('/') {
            true => Path::new(folder).join(entry.file_name()),
            false => PathBuf::from(entry.file_name()),
        })
        .collect();
    found.sort();
    Ok(found)
}

/// One element of a pattern: whether it takes `c`, and how long it is.
fn element(pattern: &[char], c: char) -> Result<(bool, usize), ()> {
    match pattern {
        ['?', ..] => Ok((true, 1)),
        ['\\', literal, ..] => Ok((*literal == c, 2)),
        ['\\'] => Err(()),
        ['[', class @ ..] => {
            let (negated, mut rest) = match class {
                ['^', rest @ ..] => (true, rest),
                rest => (false, rest),
            };
            let mut found = false;
            let mut first = true;
            loop {
                rest = match rest {
                    [']', rest @ ..] if !first => {
                        return Ok((found != negated, pattern.len() - rest.len()));
                    }
                    ['\\', low, '-', high, rest @ ..] | [low, '-', high, rest @ ..]
                        if *high != ']' =>
                    {
                        found |= (*low..=*high).contains(&c);
                        rest
                    }
                    ['\\', one, rest @ ..] | [one, rest @ ..] => {
                        found |= *one == c;
                        rest
                    }
                    [] => return Err(()),
                };
                first = false;
            }
        }
        [literal, ..] => Ok((*literal == c, 1)),
        [] => Err(()),
    }
}

fn check(mut pattern: &[char]) -> Result<(), ()> {
    while let [first, rest @ ..] = pattern {
        pattern = match first {
            '*' => rest,
            _ => pattern.get(element(pattern, 'x')?.1..).unwrap_or_default(),
        };
    }
    Ok(())
}

fn matches(pattern: &[char], name: &[char]) -> bool {
    // Where to go on after a mismatch: behind the last star, one character later.
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let rest = pattern.get(p..).unwrap_or_default();
        if rest.first() == Some(&'*') {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        match name.get(n) {
            None if rest.is_empty() => return true,
            Some(c) if let Ok((true, len)) = element(rest, *c) => {
                p += len;
                n += 1;
                continue;
            }
            _ => {}
        }
        match star {
            Some((behind, from)) if from < name.len() => {
                star = Some((behind, from + 1));
                (p, n) = (behind, from + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let matches = |pattern: &str, name: &str| {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            super::matches(&chars(pattern), &chars(name))
        };
        for (pattern, name, wanted) in [
            ("*.yml", "a.yml", true),
            ("*.yml", "a.yaml", false),
            ("*", "", true),
            ("a*b*c", "axxbxbc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
        assert!(glob("/tmp/[a").is_err());
        assert_eq!(glob("/absent/*.yml"), Ok(Vec::new()));
    }

    #[test]
    fn files_are_found_sorted() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yml", "c.json"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let pattern = folder.path().join("*.yml");
        let found = glob(pattern.to_str().unwrap()).unwrap();
        let names: Vec<_> = found.iter().filter_map(|p| p.file_name()).collect();
        assert_eq!(names, ["a.yml", "b.yml"]);
    }
}
