//! The programs that this one stands in for: started under the name of one of them, it takes that
//! program's command line and nothing else.

use std::path::Path;
use std::process::ExitCode;

use clap::{ArgAction, ArgMatches, Command};

use crate::kingpin::{Typed, register};
use crate::roles::server;
use crate::{cli, tools};

/// The version of Thanos whose command line and API are ours.
const THANOS: &str = "0.43.0-dev";

/// Whose command line is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Our own.
    Epimetheus,
    /// The server of Prometheus: flags and no command.
    Prometheus,
    /// Prometheus' tools.
    Promtool,
    /// The components and tools of Thanos.
    Thanos,
}

impl Program {
    /// The program that `path`, by which we were started, names.
    pub fn of(path: &str) -> Self {
        let name = Path::new(path).file_name().and_then(|n| n.to_str());
        match name.unwrap_or("").trim_end_matches(".exe") {
            "prometheus" => Self::Prometheus,
            "promtool" => Self::Promtool,
            "thanos" => Self::Thanos,
            _ => Self::Epimetheus,
        }
    }

    /// The name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epimetheus => "epimetheus",
            Self::Prometheus => "prometheus",
            Self::Promtool => "promtool",
            Self::Thanos => "thanos",
        }
    }

    /// The status with which it ends when it does not understand what was typed.
    pub fn misuse(self) -> ExitCode {
        match self {
            Self::Epimetheus | Self::Thanos => ExitCode::from(2),
            Self::Prometheus | Self::Promtool => ExitCode::FAILURE,
        }
    }

    /// Its whole command line.
    pub fn command(self) -> Command {
        match self {
            Self::Epimetheus => cli::command(),
            Self::Prometheus => register(Command::new("prometheus"), server::FLAGS)
                .about("The Prometheus monitoring server"),
            Self::Promtool => promtool(),
            Self::Thanos => thanos(),
        }
    }

    /// What was typed, put in the order in which we take it.
    pub fn arrange(self, mut args: Vec<String>) -> Vec<String> {
        // Whoever asks a program of Go's for its long help wants all of the help.
        for arg in &mut args {
            if arg == "--help-long" {
                "--help".clone_into(arg);
            }
        }
        match self {
            Self::Epimetheus if starts_with_flag(&args) => {
                args.insert(1, "server".to_owned());
                args
            }
            Self::Thanos => flags_behind_command(args),
            Self::Promtool => without_negations(args),
            Self::Epimetheus if args.get(1).is_some_and(|a| a == "tools") => {
                without_negations(args)
            }
            _ => args,
        }
    }

    /// Whether the version is asked for; kingpin looks for that before anything else.
    pub fn asks_version(self, args: &[String]) -> bool {
        let typed = || args.iter().skip(1).take_while(|a| *a != "--");
        self != Self::Epimetheus && typed().any(|a| a == "--version")
    }

    /// The version as these programs print it.
    pub fn version(self) -> String {
        let build = crate::house::build_info();
        let (name, arch) = (self.name(), std::env::consts::ARCH);
        let arch = match arch {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let version = match self {
            Self::Thanos => THANOS,
            _ => &build.version,
        };
        format!(
            "{name}, version {version} (branch: {}, revision: {})\n  build user:       {}\n  \
             build date:       {}\n  go version:       none, this is Epimetheus\n  \
             platform:         {}/{arch}\n  tags:             epimetheus",
            build.branch,
            build.revision,
            build.build_user,
            build.build_date,
            std::env::consts::OS,
        )
    }

    /// Runs what was typed.
    pub fn dispatch(self, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
        match self {
            Self::Epimetheus | Self::Thanos => cli::dispatch(matches),
            Self::Prometheus => server::run(&Typed::new(matches, server::FLAGS)),
            Self::Promtool => {
                let experimental = matches.subcommand_name() == Some("promql");
                if experimental && !matches.get_flag("experimental") {
                    eprintln!(
                        "This command is experimental and requires the --experimental flag to be set."
                    );
                    return Ok(ExitCode::FAILURE);
                }
                tools::dispatch(matches)
            }
        }
    }
}

/// The components and tools: all that we have but what is Prometheus' or our own.
fn thanos() -> Command {
    let all = cli::command();
    let shared = all.get_subcommands();
    let shared = shared.filter(|c| !["all-in-one", "server"].contains(&c.get_name()));
    Command::new("thanos")
        .about("A block storage based long-term storage for Prometheus.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(shared.cloned())
}

fn promtool() -> Command {
    tools::commands()
        .name("promtool")
        .bin_name("promtool")
        .about("Tooling for the Prometheus monitoring system.")
        .subcommand_required(true)
        .args(tools::language::flags(true))
}

/// Takes out `--no-switch`, and every `--switch` before it: of kingpin's switches the last one counts. Where `--no-switch` is a flag
/// itself, as with all of Thanos' tools, it stays.
fn without_negations(args: Vec<String>) -> Vec<String> {
    fn switches(command: &Command, found: &mut Vec<String>) {
        let args = command.get_arguments();
        let on = args.filter(|a| matches!(a.get_action(), ArgAction::SetTrue));
        found.extend(
            on.filter_map(|a| a.get_long())
                .map(|long| format!("--{long}")),
        );
        command.get_subcommands().for_each(|c| switches(c, found));
    }
    if !args.iter().any(|arg| arg.starts_with("--no-")) {
        return args;
    }
    let mut known = Vec::new();
    switches(&promtool(), &mut known);
    let mut kept: Vec<String> = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            kept.push(arg);
            kept.extend(args);
            break;
        }
        let negated = arg.strip_prefix("--no-").map(|name| format!("--{name}"));
        let is_one = |switch: &String| known.contains(switch) && !known.contains(&arg);
        match negated.filter(is_one) {
            Some(switch) => kept.retain(|before| *before != switch),
            None => kept.push(arg),
        }
    }
    kept
}

/// Whether the first argument is a flag, other than those of our own that need no command.
fn starts_with_flag(args: &[String]) -> bool {
    let first = args.get(1).map_or("", String::as_str);
    first.starts_with('-') && !["-h", "--help", "-V", "--version"].contains(&first)
}

/// Flags of Thanos that may stand before the component and take a value.
const BEFORE: [&str; 6] = [
    "--log.level",
    "--log.format",
    "--tracing.config",
    "--tracing.config-file",
    "--debug.name",
    "--auto-gomemlimit.ratio",
];

/// Moves flags that stand before the command behind it.
fn flags_behind_command(args: Vec<String>) -> Vec<String> {
    let mut rest = args.into_iter();
    let mut arranged: Vec<String> = rest.next().into_iter().collect();
    let mut flags = Vec::new();
    while let Some(arg) = rest.next() {
        if !arg.starts_with('-') || ["-h", "--help"].contains(&arg.as_str()) {
            arranged.push(arg);
            break;
        }
        let takes_value = BEFORE.contains(&arg.as_str());
        flags.push(arg);
        if takes_value {
            flags.extend(rest.next());
        }
    }
    arranged.extend(flags);
    arranged.extend(rest);
    arranged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(program: Program, line: &str) -> String {
        let args = line.split(' ').map(String::from).collect();
        program.arrange(args).join(" ")
    }

    #[test]
    fn of_switches_the_last_one_counts() {
        let tool = |line| arranged(Program::Promtool, line);
        assert_eq!(
            tool("promtool --experimental --no-experimental check rules --lint-fatal x"),
            "promtool check rules --lint-fatal x"
        );
        assert_eq!(
            tool("promtool --no-diff test rules --diff"),
            "promtool test rules --diff"
        );
        let bucket = "epimetheus tools bucket rewrite --no-dry-run --id x";
        assert_eq!(arranged(Program::Epimetheus, bucket), bucket);
        // What is no switch is for the parser to judge.
        assert_eq!(
            tool("promtool --no-lint=x -- --no-diff"),
            "promtool --no-lint=x -- --no-diff"
        );
        let ours = "epimetheus tools test rules --no-debug x";
        assert_eq!(
            arranged(Program::Epimetheus, ours),
            "epimetheus tools test rules x"
        );
    }

    #[test]
    fn every_command_line_is_sound() {
        for program in [Program::Prometheus, Program::Promtool, Program::Thanos] {
            program.command().debug_assert();
        }
    }

    #[test]
    fn a_check_takes_the_lookback_anywhere() {
        for line in [
            "promtool check --query.lookback-delta=1m rules f",
            "promtool check rules --query.lookback-delta=1m f",
            "promtool check config f --query.lookback-delta=1m",
        ] {
            let matches = Program::Promtool
                .command()
                .try_get_matches_from(line.split(' '))
                .unwrap();
            let (_, check) = matches.subcommand().unwrap();
            let (_, what) = check.subcommand().unwrap();
            let lookback = what.get_one::<String>("query.lookback-delta");
            assert_eq!(lookback.map(String::as_str), Some("1m"), "{line}");
        }
    }

    #[test]
    fn names_of_programs() {
        assert_eq!(Program::of("/bin/prometheus"), Program::Prometheus);
        assert_eq!(Program::of("promtool"), Program::Promtool);
        assert_eq!(Program::of("./thanos"), Program::Thanos);
        assert_eq!(Program::of("/x/prometheus/epimetheus"), Program::Epimetheus);
        assert_eq!(Program::of("prometheus-2"), Program::Epimetheus);
        assert_eq!(Program::of(""), Program::Epimetheus);
    }

    #[test]
    fn flags_find_their_command() {
        let own = |line| arranged(Program::Epimetheus, line);
        assert_eq!(own("e --config.file=x"), "e server --config.file=x");
        assert_eq!(own("e --version"), "e --version");
        assert_eq!(own("e store --x"), "e store --x");
        let thanos = |line| arranged(Program::Thanos, line);
        assert_eq!(
            thanos("t --log.level debug --log.format=json store --data-dir=x"),
            "t store --log.level debug --log.format=json --data-dir=x"
        );
        assert_eq!(thanos("t --help"), "t --help");
    }
}
