//! Command lines as Prometheus and Thanos take them, on top of clap.
//!
//! Flags are rows of a table ([`Flag`]), because the same table feeds parsing, `--help`,
//! `/api/v1/status/flags` and the list of flags that are accepted without effect. What kingpin
//! does and clap does not: `--no-x` for every switch and `@file` for arguments.

pub use model::text::parse_bytes;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use model::Millis;
use model::time::parse_duration;

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its long name, without dashes.
    pub name: &'static str,
    /// How many values it takes.
    pub kind: Kind,
    /// What `--help` says.
    pub help: &'static str,
    /// Whether it does something.
    pub standing: Standing,
    /// Its name of one letter.
    pub short: Option<char>,
}

/// How many values a flag takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// One value; `None`: unset by default.
    Value(Option<&'static str>),
    /// Any number of values, with a default for none.
    Many(Option<&'static str>),
    /// None: `--x` or `--no-x`.
    Switch(bool),
}

/// Whether a flag does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does what it says.
    Works,
    /// It is taken so that existing command lines start, and does nothing: the reason is logged
    /// once when it is given.
    Accepted(&'static str),
}

/// A flag with one value.
pub const fn value(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind: Kind::Value(Some(default)),
        help,
        standing: Standing::Works,
        short: None,
    }
}

/// A flag with one value that is unset by default.
pub const fn optional(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind: Kind::Value(None),
        help,
        standing: Standing::Works,
        short: None,
    }
}

/// A flag that may be repeated.
pub const fn many(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind: Kind::Many(None),
        help,
        standing: Standing::Works,
        short: None,
    }
}

/// A flag that may be repeated, with the value it has when it is not given.
pub const fn many_or(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind: Kind::Many(Some(default)),
        help,
        standing: Standing::Works,
        short: None,
    }
}

/// A switch that is off by default.
pub const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind: Kind::Switch(false),
        help,
        standing: Standing::Works,
        short: None,
    }
}

/// A switch that is on by default.
pub const fn switch_on(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind: Kind::Switch(true),
        help,
        standing: Standing::Works,
        short: None,
    }
}

impl Flag {
    /// The same flag, taken without effect.
    pub const fn accepted(mut self, why: &'static str) -> Self {
        self.standing = Standing::Accepted(why);
        self
    }

    /// The same flag with a name of one letter, too.
    pub const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    fn arg(&self) -> Arg {
        let arg = Arg::new(self.name)
            .long(self.name)
            .short(self.short)
            .help(match self.standing {
                Standing::Works => self.help.to_owned(),
                Standing::Accepted(why) => format!("{} [no effect: {why}]", self.help),
            });
        match self.kind {
            Kind::Value(default) => {
                let arg = arg
                    .action(ArgAction::Set)
                    .allow_hyphen_values(true)
                    .value_name("VALUE");
                match default {
                    Some(default) => arg.default_value(default),
                    None => arg,
                }
            }
            Kind::Many(default) => {
                let arg = arg
                    .action(ArgAction::Append)
                    .allow_hyphen_values(true)
                    .value_name("VALUE");
                match default {
                    Some(default) => arg.default_value(default),
                    None => arg,
                }
            }
            Kind::Switch(_) => arg
                .action(ArgAction::SetTrue)
                .overrides_with_all([self.name.to_owned(), format!("no-{}", self.name)]),
        }
    }
}

/// Adds `flags` to `command`.
pub fn register(mut command: Command, flags: &[&[Flag]]) -> Command {
    for flag in flags.iter().copied().flatten() {
        command = command.arg(flag.arg());
        if let Kind::Switch(_) = flag.kind {
            let negated = format!("no-{}", flag.name);
            command = command.arg(
                Arg::new(negated.clone())
                    .long(negated.clone())
                    .hide(true)
                    .action(ArgAction::SetTrue)
                    .overrides_with_all([flag.name.to_owned(), negated]),
            );
        }
    }
    command
}

/// A flag whose value makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("error parsing flag --{flag}: {message}")]
pub struct FlagError {
    flag: String,
    message: String,
}

/// What was typed, read by name and type. Asking for a flag that the command does not have is a
/// defect that the wiring tests find: it is reported as an error, not a panic.
#[derive(Clone)]
pub struct Typed<'a> {
    matches: &'a ArgMatches,
    flags: &'a [&'a [Flag]],
}

impl<'a> Typed<'a> {
    /// Reads `matches`, which were made by a command with these `flags`.
    pub fn new(matches: &'a ArgMatches, flags: &'a [&'a [Flag]]) -> Self {
        Self { matches, flags }
    }

    fn rows(&self) -> impl Iterator<Item = &'a Flag> {
        self.flags.iter().copied().flatten()
    }

    /// The value of a flag, if it is set or has a default.
    pub fn text(&self, flag: &str) -> Option<&'a str> {
        self.matches
            .try_get_one::<String>(flag)
            .ok()
            .flatten()
            .map(String::as_str)
    }

    /// The value of a flag that has a default.
    pub fn required(&self, flag: &str) -> Result<&'a str, FlagError> {
        self.text(flag)
            .ok_or_else(|| self.error(flag, "a value is needed"))
    }

    /// All values of a repeated flag.
    pub fn list(&self, flag: &str) -> Vec<&'a str> {
        match self.matches.try_get_many::<String>(flag) {
            Ok(Some(values)) => values.map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether a switch is on.
    pub fn switch(&self, flag: &str) -> bool {
        let given = |name: &str| {
            self.matches
                .try_get_one::<bool>(name)
                .ok()
                .flatten()
                .copied()
        };
        if given(flag) == Some(true) {
            return true;
        }
        if given(&format!("no-{flag}")) == Some(true) {
            return false;
        }
        self.rows()
            .any(|f| f.name == flag && matches!(f.kind, Kind::Switch(true)))
    }

    /// Whether a flag was typed.
    pub fn is_given(&self, flag: &str) -> bool {
        let typed = |name: &str| {
            self.matches.try_contains_id(name).unwrap_or(false)
                && self.matches.value_source(name) == Some(ValueSource::CommandLine)
        };
        typed(flag) || typed(&format!("no-{flag}"))
    }

    /// A duration in ms.
    pub fn duration(&self, flag: &str) -> Result<Millis, FlagError> {
        let text = self.required(flag)?;
        parse_duration(text).map_err(|e| self.error(flag, e))
    }

    /// A duration in ms; `None` when unset or zero.
    pub fn optional_duration(&self, flag: &str) -> Result<Option<Millis>, FlagError> {
        match self.text(flag) {
            None | Some("") => Ok(None),
            Some(text) => parse_duration(text)
                .map(|ms| (ms != 0).then_some(ms))
                .map_err(|e| self.error(flag, e)),
        }
    }

    /// A number.
    pub fn number<T: std::str::FromStr>(&self, flag: &str) -> Result<T, FlagError>
    where
        T::Err: std::fmt::Display,
    {
        self.required(flag)?
            .parse()
            .map_err(|e| self.error(flag, e))
    }

    /// A size in bytes: `512MB`, `2GiB`, `0`. Units are powers of 1024, as in Prometheus.
    pub fn bytes(&self, flag: &str) -> Result<u64, FlagError> {
        parse_bytes(self.required(flag)?).map_err(|e| self.error(flag, e))
    }

    /// An error about a flag.
    pub fn error(&self, flag: &str, message: impl std::fmt::Display) -> FlagError {
        FlagError {
            flag: flag.to_owned(),
            message: message.to_string(),
        }
    }

    /// Every flag with its present value, by name, as `/api/v1/status/flags` shows them: without
    /// passwords in URLs, and without the text of a configuration that may hold secrets.
    pub fn all(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = self
            .rows()
            .map(|f| {
                let value = match f.kind {
                    Kind::Switch(_) => self.switch(f.name).to_string(),
                    Kind::Many(_) => self.list(f.name).join(","),
                    Kind::Value(_) => self.text(f.name).unwrap_or_default().to_owned(),
                };
                let open = ["relabel", "retention", "logging"];
                let inline = self.rows().any(|other| {
                    other.name.strip_suffix("-file") == Some(f.name)
                        && !open.iter().any(|part| f.name.contains(part))
                });
                let shown = match inline && !value.is_empty() {
                    true => "<secret>".to_owned(),
                    false => without_passwords(&value),
                };
                (f.name.to_owned(), shown)
            })
            .collect();
        all.sort();
        all
    }

    /// The flags that were typed.
    pub fn given(&self) -> impl Iterator<Item = &'static str> {
        self.rows()
            .map(|f| f.name)
            .filter(|name| self.is_given(name))
    }

    /// The flags that were typed and have no effect, with the reason.
    pub fn without_effect(&self) -> Vec<(&'static str, &'static str)> {
        self.rows()
            .filter_map(|f| match f.standing {
                Standing::Accepted(why) if self.is_given(f.name) => Some((f.name, why)),
                _ => None,
            })
            .collect()
    }
}

/// Replaces each `@file` argument by the lines of that file, as kingpin does. The program's own
/// name stays; nothing behind `--` is touched.
pub fn expand_files(args: Vec<String>) -> Result<Vec<String>, std::io::Error> {
    let mut out = Vec::with_capacity(args.len());
    let mut literal = false;
    for (i, arg) in args.into_iter().enumerate() {
        literal |= arg == "--";
        match arg.strip_prefix('@') {
            Some(file) if i > 0 && !literal && !file.is_empty() => {
                let text = std::fs::read_to_string(Path::new(file)).map_err(|e| {
                    std::io::Error::new(e.kind(), format!("reading arguments from {file:?}: {e}"))
                })?;
                out.extend(
                    text.lines()
                        .filter(|l| !l.is_empty() && !l.starts_with('#'))
                        .map(String::from),
                );
            }
            _ => out.push(arg),
        }
    }
    Ok(out)
}

/// The text with `xxxxx` for each password in a URL.
fn without_passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let end = after.find(['/', '?', '#', ',', ' ']).unwrap_or(after.len());
        let (authority, further) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((user, host)) if user.contains(':') => {
                let name = user.split(':').next().unwrap_or_default();
                shown.push_str(&format!("{name}:xxxxx@{host}"));
            }
            _ => shown.push_str(authority),
        }
        rest = further;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        value("query.timeout", "2m", "How long."),
        many("enable-feature", "Features."),
        switch("web.enable-lifecycle", "Lifecycle."),
        switch_on("storage.tsdb.wal-compression", "Compress."),
        optional("objstore.config", "Bucket.").accepted("because"),
    ];

    fn parse(args: &[&str]) -> Result<ArgMatches, clap::Error> {
        register(Command::new("test").no_binary_name(true), &[FLAGS]).try_get_matches_from(args)
    }

    #[test]
    fn values_switches_and_negations() {
        let m = parse(&[
            "--query.timeout=30s",
            "--no-storage.tsdb.wal-compression",
            "--enable-feature",
            "a",
            "--enable-feature=b",
            "--web.enable-lifecycle",
            "--objstore.config=",
        ])
        .unwrap();
        let t = Typed::new(&m, &[FLAGS]);
        assert_eq!(t.duration("query.timeout").unwrap(), 30_000);
        assert!(!t.switch("storage.tsdb.wal-compression"));
        assert!(t.switch("web.enable-lifecycle"));
        assert_eq!(t.list("enable-feature"), ["a", "b"]);
        assert_eq!(t.without_effect(), [("objstore.config", "because")]);
        let m = parse(&["--web.enable-lifecycle", "--no-web.enable-lifecycle"]).unwrap();
        let t = Typed::new(&m, &[FLAGS]);
        assert!(!t.switch("web.enable-lifecycle"), "the last one wins");
        assert!(t.switch("storage.tsdb.wal-compression"));
        assert_eq!(t.all().len(), 5);
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(
            without_passwords("http://u:p@ss@a:1/x,https://b/?c://d:e@f"),
            "http://u:xxxxx@a:1/x,https://b/?c://d:xxxxx@f"
        );
        assert_eq!(without_passwords("http://u@a/p:q@r"), "http://u@a/p:q@r");
        const PAIR: &[Flag] = &[
            optional("objstore.config", "Bucket."),
            optional("objstore.config-file", "Bucket's file."),
        ];
        let command = register(Command::new("test").no_binary_name(true), &[PAIR]);
        let m = command.try_get_matches_from(["--objstore.config=secret_key: x"]);
        let all = Typed::new(&m.unwrap(), &[PAIR]).all();
        assert_eq!(all[0].1, "<secret>");
        assert_eq!(all[1].1, "");
    }

    #[test]
    fn bad_values_name_the_flag() {
        let m = parse(&["--query.timeout=soon"]).unwrap();
        let error = Typed::new(&m, &[FLAGS])
            .duration("query.timeout")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--query.timeout") && error.contains("soon"),
            "{error}"
        );
        assert!(
            parse(&["--query.timeuot=1s"])
                .unwrap_err()
                .to_string()
                .contains("query.timeout")
        );
        assert!(parse(&["--web.enable-lifecycle=false"]).is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("512MB"), Ok(512 << 20));
        assert_eq!(parse_bytes("2GiB"), Ok(2 << 30));
        assert_eq!(parse_bytes("0"), Ok(0));
        for bad in ["", "5", "x", "1XB", "99999999999EB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn arguments_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("args");
        std::fs::write(&file, "--a=1\n# comment\n\n--b\n").unwrap();
        let at = format!("@{}", file.display());
        let got = expand_files(vec!["prog".into(), at, "--".into(), "@x".into()]).unwrap();
        assert_eq!(got, ["prog", "--a=1", "--b", "--", "@x"]);
        assert!(expand_files(vec!["prog".into(), "@/does/not/exist".into()]).is_err());
    }
}
