//! Which parts of the language tools know: promtool's `--enable-feature`, and its `--experimental`.

use clap::{Arg, ArgAction, ArgMatches};
use promql::features::Features;

/// What `--enable-feature` turns on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Language {
    /// The parts of the language that are on.
    pub features: Features,
    /// `promql-delayed-name-removal`
    pub delayed_names: bool,
}

const FEATURES: &str = "enable-feature";

/// The flags that stand before or behind any command. `strict`: nothing is on that is not named, as in
/// promtool; else everything is as long as nothing is named.
pub fn flags(strict: bool) -> [Arg; 2] {
    let features = Arg::new(FEATURES)
        .long(FEATURES)
        .global(true)
        .action(ArgAction::Append)
        .help(
            "Comma separated feature names to enable: promql-experimental-functions, \
             promql-delayed-name-removal, promql-extended-range-selectors, promql-binop-fill-modifiers.",
        );
    let features = match strict {
        true => features.default_value(""),
        false => features,
    };
    let experimental = Arg::new("experimental")
        .long("experimental")
        .global(true)
        .action(ArgAction::SetTrue)
        .help("Enable experimental commands.");
    [experimental, features]
}

impl Language {
    /// What was typed. Names that are unknown are told, as promtool tells them.
    pub fn of(matches: &ArgMatches) -> Self {
        let named = matches.try_get_many::<String>(FEATURES).ok().flatten();
        let Some(named) = named else {
            return Self {
                features: Features::ALL,
                delayed_names: false,
            };
        };
        let mut language = Self {
            features: Features::default(),
            delayed_names: false,
        };
        for name in named.flat_map(|names| names.split(',')) {
            if name == "promql-delayed-name-removal" {
                language.delayed_names = true;
            } else if !name.is_empty() && !language.features.enable(name) {
                // Without the end of a line, as there.
                print!("  WARNING: Unknown feature passed to --enable-feature: {name}");
            }
        }
        language
    }
}
