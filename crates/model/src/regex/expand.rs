//! Templates with `$1` and `${name}`, as Go's `Regexp.Expand` fills them.

use super::Captures;

pub(super) fn expand(captures: &Captures<'_>, template: &str, out: &mut String) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = reference(after) {
            let group = match number(name) {
                Some(n) => captures.get(n),
                None => captures.name(name),
            };
            out.push_str(group.unwrap_or(""));
            rest = after;
        } else {
            // Not well-formed: the dollar stands for itself.
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
}

/// Splits `name` or `{name}` off the front.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (text, braced) = match text.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let end = text.find(|c: char| !is_name_char(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return None;
    }
    if braced {
        Some((name, rest.strip_prefix('}')?))
    } else {
        Some((name, rest))
    }
}

/// Letters and decimal digits of any script, and the underscore.
fn is_name_char(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric() || (!c.is_ascii() && super::class::is_letter_or_digit(c))
}

/// The group number that a name is, unless it has a leading zero or is absurdly large.
fn number(name: &str) -> Option<usize> {
    let digits = name.bytes().all(|b| b.is_ascii_digit());
    let plain = name == "0" || !name.starts_with('0');
    if digits && plain && name.len() <= 9 {
        name.parse().ok()
    } else {
        None
    }
}
