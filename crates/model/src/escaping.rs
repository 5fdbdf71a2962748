//! Names beyond the old naming rules, spelled within them, as `model.EscapeName` of Prometheus' Go library has it.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::labels::is_legacy_metric_name;

/// How names outside `[a-zA-Z_:][a-zA-Z0-9_:]*` are spelled for those who know only the old naming rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EscapingScheme {
    /// As they are, quoted.
    #[default]
    AllowUtf8,
    /// Other characters as underscores.
    Underscores,
    /// Dots as `_dot_`, other characters as double underscores.
    Dots,
    /// Any other character by its number (`U__`).
    Values,
}

impl EscapingScheme {
    /// As the configuration and the `Accept` header name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    /// The name of a metric or a label as it is spelled.
    pub fn apply(self, name: &str) -> Cow<'_, str> {
        if self == Self::AllowUtf8 || is_legacy_metric_name(name) {
            return Cow::Borrowed(name);
        }
        let mut out = String::with_capacity(name.len() + 8);
        if self == Self::Values {
            out.push_str("U__");
        }
        for (i, c) in name.char_indices() {
            let fits =
                c.is_ascii_alphabetic() || matches!(c, '_' | ':') || (c.is_ascii_digit() && i > 0);
            match (self, c) {
                (Self::Dots | Self::Values, '_') => out.push_str("__"),
                (Self::Dots, '.') => out.push_str("_dot_"),
                _ if fits => out.push(c),
                (Self::Dots, _) => out.push_str("__"),
                // Writing to a string cannot fail.
                (Self::Values, c) => drop(write!(out, "_{:x}_", u32::from(c))),
                (_, _) => out.push('_'),
            }
        }
        Cow::Owned(out)
    }
}

impl std::str::FromStr for EscapingScheme {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values]
            .into_iter()
            .find(|s| s.as_str() == name)
            .ok_or_else(|| format!("unknown format scheme {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_in_go() {
        for (name, underscores, dots, values) in [
            ("up", "up", "up", "up"),
            ("a:b_c", "a:b_c", "a:b_c", "a:b_c"),
            ("my.na_me", "my_na_me", "my_dot_na__me", "U__my_2e_na__me"),
            ("1é/x", "___x", "______x", "U___31__e9__2f_x"),
        ] {
            assert_eq!(EscapingScheme::Underscores.apply(name), underscores);
            assert_eq!(EscapingScheme::Dots.apply(name), dots);
            assert_eq!(EscapingScheme::Values.apply(name), values);
            assert_eq!(EscapingScheme::AllowUtf8.apply(name), name);
        }
    }
}
