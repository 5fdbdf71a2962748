//! `tools check config|rules` and `tools test rules`, as promtool does them.

mod junit;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use chunk::memory::MemorySink;
use clap::{Arg, ArgAction, ArgMatches, Command};
use model::regex::Regex;
use model::time::parse_duration;
use model::{Extent, Millis, Scope, Sink, Source, SourceError, View};
use promql::features::Features;
use rules::file::{ReadOptions, RuleFile};
use rules::unit_test::{Bench, RunOptions};

use crate::config::{Config, Mode, glob, unsupported};
use crate::house::rules::files;
use crate::tools::language::Language;

/// The exit code for what is valid and yet suspicious.
pub(crate) const LINT: u8 = 3;

fn lint_args(command: Command) -> Command {
    command
        .arg(
            Arg::new("lint")
                .long("lint")
                .default_value("duplicate-rules")
                .help("Linting checks to apply: all, duplicate-rules, too-long-scrape-interval (config), none"),
        )
        .arg(
            Arg::new("lint-fatal")
                .long("lint-fatal")
                .action(ArgAction::SetTrue)
                .help("Make lint errors exit with exit code 3"),
        )
        .arg(
            Arg::new("ignore-unknown-fields")
                .long("ignore-unknown-fields")
                .action(ArgAction::SetTrue)
                .help("Ignore unknown fields in the rule groups read by the rules files"),
        )
}

fn file_args(required: bool, help: &'static str) -> Arg {
    Arg::new("files")
        .action(ArgAction::Append)
        .num_args(1..)
        .required(required)
        .value_name("FILE")
        .help(help)
}

/// `check config`.
pub fn check_config_command() -> Command {
    lint_args(Command::new("config").about("Check if the config files are valid or not"))
        .arg(
            Arg::new("syntax-only")
                .long("syntax-only")
                .action(ArgAction::SetTrue)
                .help("Only check the config file syntax, not the files it names"),
        )
        .arg(
            Arg::new("agent")
                .long("agent")
                .action(ArgAction::SetTrue)
                .help("Check config file for an agent"),
        )
        .arg(file_args(true, "The config files to check"))
}

/// What `check` takes before or behind the name of what it checks.
pub fn lookback() -> Arg {
    Arg::new("query.lookback-delta")
        .long("query.lookback-delta")
        .global(true)
        .default_value("5m")
        .value_parser(|text: &str| match parse_duration(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(error.to_string()),
        })
        .help("The server's maximum query lookback duration")
}

/// `check rules`.
pub fn check_rules_command() -> Command {
    lint_args(Command::new("rules").about("Check if the rule files are valid or not")).arg(
        file_args(
            false,
            "The rule files to check, default is read from standard input",
        ),
    )
}

/// Where `test` writes its results, said before or behind the command.
pub fn junit_arg() -> Arg {
    Arg::new("junit")
        .long("junit")
        .value_name("FILE")
        .global(true)
        .help("File path to store JUnit XML test results")
}

/// `test rules`.
pub fn test_rules_command() -> Command {
    Command::new("rules")
        .about("Unit tests for rules")
        .arg(
            Arg::new("run").long("run").action(ArgAction::Append).help(
                "Only run test groups whose names match the regular expression; may be repeated",
            ),
        )
        .arg(
            Arg::new("ignore-unknown-fields")
                .long("ignore-unknown-fields")
                .action(ArgAction::SetTrue)
                .help("Ignore unknown fields in the rule groups read by the rules files"),
        )
        .arg(
            Arg::new("diff")
                .long("diff")
                .action(ArgAction::SetTrue)
                .help("Show how expected and received alerts differ, in colors"),
        )
        .arg(
            Arg::new("debug")
                .long("debug")
                .action(ArgAction::SetTrue)
                .help("Tell what is under way, and show all data at the end of each test"),
        )
        .arg(file_args(true, "The unit test files"))
}

fn paths(matches: &ArgMatches) -> Vec<PathBuf> {
    let files = matches.get_many::<String>("files");
    files.into_iter().flatten().map(PathBuf::from).collect()
}

#[derive(Clone, Copy)]
struct Lint {
    duplicates: bool,
    /// Scrape intervals of at least this are too long, ms.
    longest_interval: Option<Millis>,
    fatal: bool,
    ignore_unknown: bool,
    features: Features,
}

impl Lint {
    fn of(matches: &ArgMatches) -> Self {
        let asked = matches.get_one::<String>("lint").map_or("", String::as_str);
        let options = || asked.split(',');
        let config = matches.try_contains_id("agent").is_ok();
        for option in options() {
            let known = ["", "all", "duplicate-rules", "none"].contains(&option)
                || (config && option == "too-long-scrape-interval");
            if !known {
                println!("WARNING: unknown lint option: {option:?}");
            }
        }
        let none = options().any(|o| o == "none") && config;
        let on = |name| !none && options().any(|o| o == "all" || o == name);
        let lookback = matches.try_get_one::<String>("query.lookback-delta");
        let lookback = lookback.ok().flatten();
        let lookback = lookback.and_then(|text| parse_duration(text).ok());
        Self {
            duplicates: on("duplicate-rules"),
            longest_interval: lookback.filter(|_| config && on("too-long-scrape-interval")),
            fatal: matches.get_flag("lint-fatal"),
            ignore_unknown: matches.get_flag("ignore-unknown-fields"),
            features: Language::of(matches).features,
        }
    }
}

/// How checks went, from best to worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Good,
    Suspicious,
    Bad,
}

impl Verdict {
    fn code(self) -> ExitCode {
        match self {
            Verdict::Good => ExitCode::SUCCESS,
            Verdict::Suspicious => ExitCode::from(LINT),
            Verdict::Bad => ExitCode::FAILURE,
        }
    }
}

fn read_options(features: Features, ignore_unknown: bool) -> ReadOptions {
    ReadOptions {
        features,
        ignore_unknown,
        ..ReadOptions::default()
    }
}

/// Checks configuration files and the rule files that they name.
pub fn check_config(matches: &ArgMatches) -> Result<ExitCode> {
    let lint = Lint::of(matches);
    let mode = if matches.get_flag("agent") {
        Mode::Agent
    } else {
        Mode::Server
    };
    let mut verdict = Verdict::Good;
    for path in paths(matches) {
        println!("Checking {}", path.display());
        let loaded = match Config::load(&path, mode) {
            Ok(loaded) => loaded,
            Err(e) => {
                eprintln!("  FAILED: {e}\n");
                verdict = Verdict::Bad;
                continue;
            }
        };
        for missing in unsupported(&loaded.config, &loaded.jobs) {
            eprintln!("  WARNING: {missing}");
        }
        let syntax_only = matches.get_flag("syntax-only");
        let mut warn = |text: String| println!("  WARNING: {text}");
        if let Err(error) = super::check::config::check(&loaded, syntax_only, &mut warn) {
            eprintln!("  FAILED: {error}\n");
            verdict = Verdict::Bad;
            continue;
        }
        let rule_files = if matches.get_flag("syntax-only") {
            Vec::new()
        } else {
            files(&loaded.config)?
        };
        if !rule_files.is_empty() {
            println!("  SUCCESS: {} rule files found", rule_files.len());
        }
        println!(
            " SUCCESS: {} is valid prometheus config file syntax\n",
            path.display()
        );
        let too_long = loaded.jobs.iter().filter(|_| !syntax_only).find(|job| {
            let interval = job.scrape_interval.0;
            lint.longest_interval
                .is_some_and(|l| l > 0 && interval >= l)
        });
        if let Some(job) = too_long {
            eprintln!(
                "  FAILED: too long scrape interval found, data point will be marked as stale - job: {}, interval: {}",
                job.job_name, job.scrape_interval
            );
            if lint.fatal {
                verdict = verdict.max(Verdict::Suspicious);
            }
        }
        for file in rule_files {
            verdict = verdict.max(check_file(&file, lint));
        }
    }
    Ok(verdict.code())
}

/// Checks rule files, or what comes on standard input.
pub fn check_rules(matches: &ArgMatches) -> Result<ExitCode> {
    let lint = Lint::of(matches);
    let mut verdict = Verdict::Good;
    let files = paths(matches);
    for path in &files {
        verdict = verdict.max(check_file(path, lint));
    }
    if files.is_empty() {
        println!("Checking standard input");
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("reading standard input")?;
        let read = rules::file::parse(
            Path::new("standard input"),
            &text,
            read_options(lint.features, lint.ignore_unknown),
        );
        verdict = judge(read.map(|r| r.file), lint);
    }
    Ok(verdict.code())
}

fn check_file(path: &Path, lint: Lint) -> Verdict {
    println!("Checking {}", path.display());
    let read = rules::file::read(path, read_options(lint.features, lint.ignore_unknown));
    judge(read.map(|r| r.file), lint)
}

fn judge(read: Result<RuleFile, Vec<rules::file::FileError>>, lint: Lint) -> Verdict {
    let file = match read {
        Ok(file) => file,
        Err(errors) => {
            eprintln!("  FAILED:");
            for error in errors {
                eprintln!("{error}");
            }
            return Verdict::Bad;
        }
    };
    let twins = if lint.duplicates {
        duplicates(&file)
    } else {
        Vec::new()
    };
    if !twins.is_empty() {
        eprintln!("  FAILED:");
        eprintln!("lint error {} duplicate rule(s) found.", twins.len());
        for (name, labels) in twins {
            eprintln!("Metric: {name}\nLabel(s):");
            for (name, value) in labels {
                eprintln!("\t{name}: {value}");
            }
        }
        eprintln!("Might cause inconsistency while recording expressions\n");
        if lint.fatal {
            return Verdict::Suspicious;
        }
        return Verdict::Good;
    }
    let count: usize = file.groups.iter().map(|g| g.rules.len()).sum();
    println!("  SUCCESS: {count} rules found\n");
    Verdict::Good
}

type Named = (String, Vec<(String, String)>);

/// Rules that make the same series as one before them.
fn duplicates(file: &RuleFile) -> Vec<Named> {
    let mut seen = BTreeSet::new();
    let mut twins = Vec::new();
    for group in &file.groups {
        for rule in &group.rules {
            let mut labels = group.labels.clone();
            labels.extend(rule.labels.clone());
            let key: Named = (rule.name().to_owned(), labels.into_iter().collect());
            if !seen.insert(key.clone()) {
                twins.push(key);
            }
        }
    }
    twins
}

/// What a test has stored, as a source.
struct Stored(Arc<MemorySink>);

impl Source for Stored {
    fn open(&self, scope: Arc<Scope>) -> Result<Box<dyn View>, SourceError> {
        self.0.source().open(scope)
    }

    fn extent(&self) -> Arc<Extent> {
        self.0.source().extent()
    }
}

/// Runs unit tests of rules.
pub fn test_rules(matches: &ArgMatches) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let pool = rayon::ThreadPoolBuilder::new()
        .build()
        .context("starting the pool")?;
    let pool = Arc::new(pool);
    let language = Language::of(matches);
    let bench = |interval: Millis| {
        let sink = Arc::new(MemorySink::new());
        let options = promql::EngineOptions {
            features: language.features,
            delayed_name_removal: language.delayed_names,
            subquery_step: Arc::new(move |_| interval),
            ..promql::EngineOptions::default()
        };
        let source = Arc::new(Stored(Arc::clone(&sink)));
        Bench {
            evaluator: Arc::new(promql::Engine::new(source, options, Arc::clone(&pool))),
            sink: sink as Arc<dyn Sink>,
        }
    };
    let wanted = match matches.get_many::<String>("run") {
        None => None,
        Some(patterns) => {
            let all: Vec<&str> = patterns.map(String::as_str).collect();
            Some(Regex::new(&all.join("|")).context("--run")?)
        }
    };
    let debug = |line: &str| eprintln!("{line}");
    let options = RunOptions {
        read: read_options(language.features, matches.get_flag("ignore-unknown-fields")),
        bench: &bench,
        glob: &glob,
        wanted: &|name| wanted.as_ref().is_none_or(|regex| regex.is_match(name)),
        diff: matches.get_flag("diff"),
        debug: match matches.get_flag("debug") {
            true => Some(&debug),
            false => None,
        },
    };
    let junit = matches.get_one::<String>("junit");
    let mut results = junit::Results::default();
    let mut verdict = Verdict::Good;
    for path in paths(matches) {
        let outcome = runtime.block_on(rules::unit_test::run(&path, &options));
        results.add(&path, &outcome);
        for warning in &outcome.warnings {
            eprintln!("  WARNING: {warning}");
        }
        let failures = outcome.cases.iter().flat_map(|case| &case.1);
        let failures: Vec<&String> = outcome.aborted.iter().chain(failures).collect();
        if failures.is_empty() {
            println!("  SUCCESS");
        } else {
            verdict = Verdict::Bad;
            eprintln!("  FAILED:");
            for failure in failures {
                eprintln!("{failure}");
                // As promtool does: the empty line goes to the other stream.
                println!();
            }
        }
        println!();
    }
    if let Some(path) = junit {
        std::fs::write(path, results.finish()).with_context(|| format!("writing {path}"))?;
    }
    Ok(verdict.code())
}
