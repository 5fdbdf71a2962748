//! Settings as Prometheus' configuration files spell them.
//!
//! [`settings!`](crate::settings!) declares a struct once and gives it a reader and a writer with
//! the manners of Go's strict YAML decoder: a missing key or a null keeps the default, an unknown
//! key is an error that names it, and a struct can take the keys of others into its own level
//! (`inline`), which serde's `flatten` cannot do together with strictness.
//!
//! ```
//! use model::settings::Duration;
//!
//! model::settings! {
//!     /// How to wait.
//!     #[derive(Clone, Debug)]
//!     pub struct Waiting ("waiting") check(Waiting::check) {
//!         /// For how long.
//!         pub timeout ("timeout"): Duration = Duration(10_000);
//!         /// How often.
//!         pub tries ("tries"): u32;
//!     }
//! }
//!
//! impl Waiting {
//!     fn check(&mut self) -> Result<(), String> {
//!         if self.tries > 9 { Err("tries must be below 10".into()) } else { Ok(()) }
//!     }
//! }
//!
//! let waiting: Waiting = serde_json::from_str(r#"{"tries": 3, "timeout": null}"#).unwrap();
//! assert_eq!((waiting.tries, waiting.timeout), (3, Duration(10_000)));
//! assert_eq!(serde_json::to_string(&waiting).unwrap(), r#"{"timeout":"10s","tries":3}"#);
//! let error = serde_json::from_str::<Waiting>(r#"{"retries": 3}"#).unwrap_err();
//! assert!(error.to_string().starts_with("field retries not found in type waiting"));
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::Millis;
use crate::time::{format_duration, parse_duration};

/// A group of settings: what [`settings!`](crate::settings!) implements.
pub trait Settings: Default {
    /// What errors call it.
    const TYPE: &'static str;
    /// The error for a null in its place; none if that means the defaults.
    const NULL: Option<&'static str> = None;

    /// Reads the value of `key`, if the key is one of this group's. A null leaves the default.
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error>;

    /// Judges the group once it is read, and completes it.
    fn check(&mut self) -> Result<(), String>;

    /// Writes the keys that are set.
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
}

/// Whether a value need not be written.
pub trait Blank {
    /// Zero, empty, absent. Never, unless said otherwise.
    fn is_blank(&self) -> bool {
        false
    }
}

macro_rules! blank {
    ($($ty:ty: $is:expr;)*) => {
        $(impl Blank for $ty {
            fn is_blank(&self) -> bool {
                let is: fn(&$ty) -> bool = $is;
                is(self)
            }
        })*
    };
}

blank! {
    bool: |v| !*v;
    u16: |v| *v == 0;
    u32: |v| *v == 0;
    u64: |v| *v == 0;
    usize: |v| *v == 0;
    i64: |v| *v == 0;
    f64: |v| *v == 0.0;
    String: |v| v.is_empty();
    Duration: |v| v.0 == 0;
    Bytes: |v| v.0 == 0;
    Secret: |v| v.0.is_empty();
}

impl<T> Blank for Option<T> {
    fn is_blank(&self) -> bool {
        self.is_none()
    }
}

impl<T> Blank for Vec<T> {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Blank for BTreeMap<K, V> {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl Blank for crate::Labels {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

/// Reads a whole group: the body of its `Deserialize`.
pub fn deserialize<'de, T: Settings, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Group<T>(PhantomData<T>);

    impl<'de, T: Settings> Visitor<'de> for Group<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "the keys of {}", T::TYPE)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
            let mut group = T::default();
            while let Some(key) = map.next_key::<String>()? {
                if !group.read(&key, &mut map)? {
                    return Err(de::Error::custom(format_args!(
                        "field {key} not found in type {}",
                        T::TYPE
                    )));
                }
            }
            group.check().map_err(de::Error::custom)?;
            Ok(group)
        }

        fn visit_unit<E: de::Error>(self) -> Result<T, E> {
            if let Some(message) = T::NULL {
                return Err(E::custom(message));
            }
            let mut group = T::default();
            group.check().map_err(E::custom)?;
            Ok(group)
        }

        fn visit_none<E: de::Error>(self) -> Result<T, E> {
            self.visit_unit()
        }
    }

    deserializer.deserialize_any(Group(PhantomData))
}

/// Writes a whole group: the body of its `Serialize`.
pub fn serialize<T: Settings, S: Serializer>(group: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    group.write(&mut map)?;
    map.end()
}

/// A list whose elements must not be null.
pub fn no_nulls<T, E: de::Error>(list: Vec<Option<T>>, message: &str) -> Result<Vec<T>, E> {
    list.into_iter()
        .collect::<Option<Vec<T>>>()
        .ok_or_else(|| E::custom(message))
}

/// Declares a group of settings; see [`mod@settings`](crate::settings).
///
/// After the struct's name stands what errors call it, then perhaps `null("message")` if a null in
/// its place is an error, and `check(function)` to judge and complete it. The body begins with
/// perhaps `inline { field: Group, ... }`, whose keys stand on the same level. Every other field
/// is `pub name ("key"): Type`, then perhaps `= default`, `nulls "message"` if a null in the list
/// is an error, and `=> always` if it is written even when it is blank.
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident ($type:literal) $(null($null:literal))? $(check($check:path))? {
            $(inline { $($(#[$imeta:meta])* $inline:ident : $ity:ty = $idefault:expr),* $(,)? })?
            $(
                $(#[$fmeta:meta])*
                pub $field:ident ($key:literal): $ty:ty
                $(= $default:expr)? $(, nulls $nulls:literal)? $(=> $always:ident)? ;
            )*
        }
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $($($(#[$imeta])* pub $inline: $ity,)*)?
            $($(#[$fmeta])* pub $field: $ty,)*
        }

        impl ::core::default::Default for $name {
            fn default() -> Self {
                Self {
                    $($($inline: $idefault,)*)?
                    $($field: $crate::settings!(@default $($default)?),)*
                }
            }
        }

        impl $crate::settings::Settings for $name {
            const TYPE: &'static str = $type;
            $(const NULL: ::core::option::Option<&'static str> =
                ::core::option::Option::Some($null);)?

            fn read<'de, A: $crate::settings::serde::de::MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
            ) -> ::core::result::Result<bool, A::Error> {
                match key {
                    $($key => $crate::settings!(@read self, map, $field, $ty $(, $nulls)?),)*
                    _ => {
                        $($(if $crate::settings::Settings::read(&mut self.$inline, key, map)? {
                            return ::core::result::Result::Ok(true);
                        })*)?
                        let _ = map;
                        return ::core::result::Result::Ok(false);
                    }
                }
                #[allow(unreachable_code, reason = "a group may have inlined keys only")]
                ::core::result::Result::Ok(true)
            }

            fn check(&mut self) -> ::core::result::Result<(), ::std::string::String> {
                $($($crate::settings::Settings::check(&mut self.$inline)?;)*)?
                $($check(self)?;)?
                ::core::result::Result::Ok(())
            }

            fn write<M: $crate::settings::serde::ser::SerializeMap>(
                &self,
                map: &mut M,
            ) -> ::core::result::Result<(), M::Error> {
                $(
                    let always = $crate::settings!(@always $($always)?);
                    if always || !$crate::settings::Blank::is_blank(&self.$field) {
                        map.serialize_entry($key, &self.$field)?;
                    }
                )*
                $($($crate::settings::Settings::write(&self.$inline, map)?;)*)?
                ::core::result::Result::Ok(())
            }
        }

        impl $crate::settings::Blank for $name {
            fn is_blank(&self) -> bool {
                true $(&& $crate::settings::Blank::is_blank(&self.$field))*
                    $($(&& $crate::settings::Blank::is_blank(&self.$inline))*)?
            }
        }

        impl<'de> $crate::settings::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::settings::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::core::result::Result<Self, D::Error> {
                $crate::settings::deserialize(deserializer)
            }
        }

        impl $crate::settings::serde::Serialize for $name {
            fn serialize<S: $crate::settings::serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::core::result::Result<S::Ok, S::Error> {
                $crate::settings::serialize(self, serializer)
            }
        }
    };
    (@default) => { ::core::default::Default::default() };
    (@default $default:expr) => { $default };
    (@always) => { false };
    (@always always) => { true };
    (@read $self:ident, $map:ident, $field:ident, $ty:ty) => {
        if let ::core::option::Option::Some(value) =
            $map.next_value::<::core::option::Option<$ty>>()?
        {
            $self.$field = value;
        }
    };
    (@read $self:ident, $map:ident, $field:ident, $ty:ty, $nulls:literal) => {
        if let ::core::option::Option::Some(list) =
            $map.next_value::<::core::option::Option<::std::vec::Vec<_>>>()?
        {
            $self.$field = $crate::settings::no_nulls(list, $nulls)?;
        }
    };
}

#[doc(hidden)]
pub use serde;

/// A duration as Prometheus writes it: `1m30s`. In ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub Millis);

impl Duration {
    /// The same for timers; nothing below zero.
    pub fn as_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.max(0).unsigned_abs())
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text)
            .map(Duration)
            .map_err(de::Error::custom)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number of bytes as Prometheus writes it: `512MB`, `1GiB`, both in powers of 1024. A unit is
/// required.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub i64);

const UNITS: [(&str, i64); 7] = [
    ("E", 1 << 60),
    ("P", 1 << 50),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("", 1),
];

impl std::str::FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("units: invalid {text}");
        let (sign, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (-1.0, text.get(1..).unwrap_or_default()),
            Some(b'+') => (1.0, text.get(1..).unwrap_or_default()),
            _ => (1.0, text),
        };
        if rest == "0" {
            return Ok(Bytes(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total = 0.0_f64;
        while !rest.is_empty() {
            let number = rest
                .bytes()
                .take_while(|b| b.is_ascii_digit() || *b == b'.')
                .count();
            let unit = rest
                .bytes()
                .skip(number)
                .take_while(|b| !b.is_ascii_digit() && *b != b'.')
                .count();
            let count: f64 = rest
                .get(..number)
                .and_then(|n| n.parse().ok())
                .ok_or_else(invalid)?;
            let name = rest.get(number..number + unit).ok_or_else(invalid)?;
            let size = UNITS
                .iter()
                .find(|(prefix, _)| {
                    name.strip_prefix(prefix).is_some_and(|suffix| {
                        suffix == "B" || (suffix == "iB" && !prefix.is_empty())
                    })
                })
                .ok_or_else(|| format!("units: unknown unit {name} in {text}"))?;
            total += count * size.1 as f64;
            rest = rest.get(number + unit..).unwrap_or_default();
        }
        if total >= i64::MAX as f64 {
            return Err(invalid());
        }
        Ok(Bytes((sign * total) as i64))
    }
}

/// In the largest unit that divides it: `1GiB`, `1536MiB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0B");
        }
        for (unit, size) in UNITS {
            if self.0 % size == 0 {
                let i = if unit.is_empty() { "" } else { "i" };
                return write!(f, "{}{unit}{i}B", self.0 / size);
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text that is never shown: it prints as `<secret>`.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for sending it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "" } else { "<secret>" })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "<secret>" })
    }
}

/// `path` seen from `folder`, unless it is empty or absolute: files named in a configuration file
/// lie beside it.
pub fn join_folder(folder: &std::path::Path, path: &mut String) {
    if !path.is_empty() && !std::path::Path::new(path.as_str()).is_absolute() {
        let joined = folder.join(path.as_str());
        if let Some(joined) = joined.to_str() {
            *path = joined.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::settings! {
        /// Inside.
        #[derive(Debug, PartialEq)]
        struct Inner ("inner") {
            /// A word.
            pub word ("word"): String = "w".to_owned();
            /// A password.
            pub password ("password"): Secret;
        }
    }

    crate::settings! {
        /// Outside.
        #[derive(Debug, PartialEq)]
        struct Outer ("outer") null("empty or null outer") {
            inline { inner: Inner = Inner::default() }
            /// A list.
            pub list ("list"): Vec<u32>, nulls "empty or null number";
            /// A switch.
            pub on ("on"): bool = true => always;
            /// A choice.
            pub choice ("choice"): Option<u32>;
        }
    }

    fn read(json: &str) -> Result<Outer, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn keys_of_inlined_groups_stand_on_the_same_level() {
        let all = read(r#"{"word": "x", "password": "p", "list": [1], "on": false, "choice": 2}"#)
            .unwrap();
        assert_eq!(
            (all.inner.word.as_str(), all.on, all.choice),
            ("x", false, Some(2))
        );
        assert_eq!(
            serde_json::to_string(&all).unwrap(),
            r#"{"list":[1],"on":false,"choice":2,"word":"x","password":"<secret>"}"#
        );
        assert!(!format!("{all:?}").contains("\"p\""));
        assert_eq!(
            read(r#"{"list": null, "choice": null, "word": null}"#),
            Ok(Outer::default())
        );
        assert!(
            read(r#"{"list": [null]}"#)
                .unwrap_err()
                .contains("empty or null number")
        );
        assert!(read("null").unwrap_err().contains("empty or null outer"));
        assert!(
            read(r#"{"wrd": 1}"#)
                .unwrap_err()
                .contains("field wrd not found in type outer")
        );
    }

    #[test]
    fn bytes_both_ways() {
        for (text, bytes) in [
            ("1KB", 1 << 10),
            ("1KiB", 1 << 10),
            ("1.5MB", 3 << 19),
            ("512MB", 512 << 20),
            ("1GB1B", (1 << 30) + 1),
            ("0", 0),
            ("-1B", -1),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        assert_eq!(
            "100".parse::<Bytes>(),
            Err("units: unknown unit  in 100".to_owned())
        );
        assert!("".parse::<Bytes>().is_err() && "1XB".parse::<Bytes>().is_err());
        assert_eq!(Bytes(1536 << 20).to_string(), "1536MiB");
    }
}
