//! Small and capital letters one by one, as Go maps them: a character never becomes two.

use super::class::is_known;

/// The small letter.
pub(crate) fn to_lower(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    // Only the dotted capital I becomes two characters, and the first is the plain small one.
    known(c, c.to_lowercase().next().unwrap_or(c))
}

/// The capital letter.
pub(crate) fn to_upper(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_uppercase();
    }
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(one), None) => known(c, one),
        // Greek small letters with an iota below have capitals of one character too; all others
        // that would become several have none.
        _ => {
            let more = match c as u32 & 0xff {
                0x80..=0x87 | 0x90..=0x97 | 0xa0..=0xa7 => 8,
                0xb3 | 0xc3 | 0xf3 => 9,
                _ => 0,
            };
            let greek = ('\u{1f00}'..='\u{1fff}').contains(&c);
            if greek {
                char::from_u32(c as u32 + more).unwrap_or(c)
            } else {
                c
            }
        }
    }
}

/// `mapped`, unless one of the two is newer than Go's tables.
fn known(c: char, mapped: char) -> char {
    if is_known(c) && is_known(mapped) {
        mapped
    } else {
        c
    }
}
