//! The flags and subcommands.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::kind::Kind;
use crate::shell::status;

const EXIT_STATUS: &str = "\
Exit status:
  0    done
  1    the script failed
  2    the command line, the configuration or the script's syntax is wrong
  3    a batch ended, and some of its items failed
  4    there is no connection to containerd
  5    the script lacks access that it needs
  6    a disk, or a quota, is full
  130  interrupted; 143 after SIGTERM, 141 when the reader of the output went away
  A script sets its own with exit(n).

Files:
  ~/.config/ctrsh/config.toml, /etc/ctrsh/config.toml   settings: the long flags with _ for -
  ~/.config/ctrsh/init.rhai                             run first at the prompt
  ~/.local/state/ctrsh/history                          lines of the prompt, without secrets";

/// The scriptable shell for containerd.
///
/// Without a script it is a prompt. A script is a file of the Rhai language in which containerd's operations are
/// functions and objects: ctrsh -e 'images()'
#[derive(Debug, Parser)]
#[command(name = "ctrsh", version, after_help = EXIT_STATUS, args_conflicts_with_subcommands = false, max_term_width = 100)]
#[command(
    override_usage = "ctrsh [OPTIONS] [FILE [ARGS]...]\n       ctrsh [OPTIONS] -e EXPR [ARGS]...\n       ctrsh [OPTIONS] COMMAND"
)]
#[command(disable_help_subcommand = true)]
pub struct Cli {
    /// Flags that all commands take.
    #[command(flatten)]
    pub global: Global,

    /// Evaluates an expression and prints its value.
    #[arg(short = 'e', long = "eval", value_name = "EXPR", allow_hyphen_values = true)]
    pub eval: Option<String>,

    /// Stays at the prompt after the script.
    #[arg(long)]
    pub shell: bool,

    /// Does not run ~/.config/ctrsh/init.rhai first.
    #[arg(long)]
    pub norc: bool,

    /// What to do instead of running a script.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The script, or - for standard input, and what args() returns in it.
    #[arg(value_name = "FILE [ARGS]", trailing_var_arg = true, allow_hyphen_values = true)]
    pub script: Vec<OsString>,
}

/// Flags that all commands take.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// containerd's socket [env: CONTAINERD_ADDRESS] [default: /run/containerd/containerd.sock].
    #[arg(short, long, global = true, overrides_with = "address", value_name = "SOCKET")]
    pub address: Option<String>,

    /// The namespace [env: CONTAINERD_NAMESPACE] [default: default].
    #[arg(short, long, global = true, overrides_with = "namespace")]
    pub namespace: Option<String>,

    /// How long a script, or a line of the prompt, may take, such as 10m.
    #[arg(long, global = true, value_name = "DURATION")]
    pub timeout: Option<String>,

    /// How long containerd's socket may take to accept [default: 10s].
    #[arg(long, global = true, value_name = "DURATION")]
    pub connect_timeout: Option<String>,

    /// The snapshotter [env: CONTAINERD_SNAPSHOTTER] [default: containerd's].
    #[arg(long, global = true, value_name = "NAME")]
    pub snapshotter: Option<String>,

    /// The folder with a hosts.toml a registry [default: /etc/containerd/certs.d].
    #[arg(long, global = true, value_name = "DIR")]
    pub hosts_dir: Option<String>,

    /// The Docker Engine's socket [env: DOCKER_HOST] [default: unix:///var/run/docker.sock].
    #[arg(long, global = true, value_name = "SOCKET")]
    pub docker_host: Option<String>,

    /// How values are shown: table, json, yaml, csv or text [default: table].
    #[arg(short, long, global = true, value_name = "FORMAT")]
    pub output: Option<String>,

    /// Short for --output json; errors are JSON on standard error too.
    #[arg(long, global = true, conflicts_with = "output")]
    pub json: bool,

    /// Shows what would change, and changes nothing.
    #[arg(long, global = true)]
    pub dry_run: bool,

    /// What a script may do: read, write, run, delete, files, host, each alone or as CLASS=GLOB; or all
    /// [default for scripts: all but host].
    #[arg(long, global = true, value_name = "LIST")]
    pub allow: Option<String>,

    /// How progress is shown: auto, bars, lines, json or none [default: auto].
    #[arg(long, global = true, value_name = "MODE")]
    pub progress: Option<String>,

    /// Whether colours are used: auto, always or never [default: auto; NO_COLOR is heard].
    #[arg(long, global = true, value_name = "WHEN")]
    pub color: Option<String>,

    /// What is logged to standard error: off, error, warn, info, debug (every request) or trace [default: warn].
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log: Option<String>,

    /// Writes every change down in this file, a line of JSON each.
    #[arg(long, global = true, value_name = "FILE")]
    pub audit: Option<String>,

    /// How many operations of the interpreter a script may run between two calls that wait, as `sleep` and all of containerd
    /// and registries do; 0 for no limit [default: 50000000].
    #[arg(long, global = true, value_name = "COUNT")]
    pub max_operations: Option<u64>,
}

/// What to do instead of running a script.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Checks scripts without running them: syntax, unknown functions, wrong argument counts and option keys.
    Check {
        /// The scripts, or - for standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Runs a prompt or a script in a throw-away containerd and registry of its own.
    Sandbox(Sandbox),
    /// Says what works and what does not on this node, with the cure.
    Doctor,
    /// Takes a command line of ctr, shows it in the script language, and runs that.
    #[command(disable_help_flag = true)]
    Ctr {
        /// Only shows it.
        #[arg(long)]
        show: bool,
        /// Prints what each command and flag of ctr is here, as Markdown.
        #[arg(long, conflicts_with = "show")]
        markdown: bool,
        /// What follows ctr; --help explains it.
        #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Lists the ready scripts, which run as std/NAME, or prints the manual of one.
    Scripts {
        /// The script whose manual is printed.
        name: Option<String>,
        /// Prints the manual of all as Markdown.
        #[arg(long, conflicts_with = "name")]
        markdown: bool,
    },
    /// Prints the manual of all functions and objects as Markdown.
    Reference,
    /// Prints the definitions that editors with a Rhai plugin read (.d.rhai).
    Definitions,
    /// Keeps standard input open for a process whose terminal was left, until that is gone.
    #[command(hide = true)]
    HoldInput,
    /// Prints the completions of the command line for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// The flags of `ctrsh sandbox`.
#[derive(Debug, Args)]
pub struct Sandbox {
    /// Evaluates an expression and prints its value.
    #[arg(short = 'e', long = "eval", value_name = "EXPR", allow_hyphen_values = true)]
    pub eval: Option<String>,

    /// The containerd to run instead of the installed one; its shim is looked for beside it first.
    #[arg(long, value_name = "FILE", env = "CTRSH_SANDBOX_CONTAINERD")]
    pub containerd: Option<PathBuf>,

    /// Loads the CRI plugin too.
    #[arg(long)]
    pub cri: bool,

    /// Starts no registry.
    #[arg(long)]
    pub no_registry: bool,

    /// Stays at the prompt after the script.
    #[arg(long)]
    pub shell: bool,

    /// The script and its arguments.
    #[arg(value_name = "FILE [ARGS]", trailing_var_arg = true, allow_hyphen_values = true)]
    pub script: Vec<OsString>,
}

/// Reads the command line.
///
/// # Errors
/// The status to end with, when help or the version was asked for or the command line is wrong; both were printed.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    read(arguments.into_iter().collect()).map_err(|error| {
        match (error.print(), error.use_stderr()) {
            // Nothing can be told to a user whose terminal is gone.
            (_, true) => ExitCode::from(status::USAGE),
            (Err(lost), false) if lost.kind() != std::io::ErrorKind::BrokenPipe => {
                ExitCode::from(Kind::of_io(&lost).map_or(status::FAILED, status::of_kind))
            }
            (_, false) => ExitCode::SUCCESS,
        }
    })
}

/// What follows the script is the script's, whatever it looks like; what stands where the script should is one only after `--`.
fn read(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let cli = Cli::try_parse_from(&arguments)?;
    let script = match &cli.command {
        Some(Command::Sandbox(Sandbox { eval: None, script, .. })) => script.first(),
        None if cli.eval.is_none() => cli.script.first(),
        _ => None,
    };
    if script.is_some_and(|name| name.len() > 1 && name.as_encoded_bytes().starts_with(b"-")) {
        let strictly = |command: clap::Command| command.mut_arg("script", |script| script.allow_hyphen_values(false));
        strictly(Cli::command()).mut_subcommand("sandbox", strictly).try_get_matches_from(&arguments)?;
    }
    Ok(cli)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cli(arguments: &[&str]) -> Cli {
        Cli::try_parse_from([&["ctrsh"], arguments].concat()).unwrap()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_script_is_the_scripts() {
        let cli = cli(&["-n", "k8s.io", "x.rhai", "--json", "-e", "check"]);
        assert_eq!(cli.global.namespace.as_deref(), Some("k8s.io"));
        assert!(!cli.global.json && cli.eval.is_none() && cli.command.is_none());
        assert_eq!(cli.script, ["x.rhai", "--json", "-e", "check"]);
    }

    #[test]
    fn a_flag_that_there_is_not_is_no_script() {
        let read = |arguments: &[&str]| {
            let arguments = [&["ctrsh"], arguments].concat();
            read(arguments.into_iter().map(OsString::from).collect()).map_err(|error| error.to_string())
        };
        for (line, flag, near) in [
            (&["--nmespace", "x", "a.rhai"][..], "--nmespace", "'--namespace'"),
            (&["--json", "--unknown-flag"], "--unknown-flag", "'-- --unknown-flag'"),
            (&["-z"], "-z", "'-- -z'"),
            (&["sandbox", "--no-regisry", "a.rhai"], "--no-regisry", "'--no-registry'"),
            (&["--nmespace", "x", "-e", "1"], "--nmespace", "'--namespace'"),
        ] {
            let told = read(line).map(|cli| format!("{cli:?}")).unwrap_err();
            assert!(told.contains(&format!("unexpected argument '{flag}' found")) && told.contains(near), "{told}");
            assert!(told.contains("Usage: ctrsh"), "{told}");
        }
        for (line, script) in [
            (&["--", "--odd-name.rhai"][..], &["--odd-name.rhai"][..]),
            (&["--json", "--", "-z", "-y"], &["-z", "-y"]),
            (&["-", "--name"], &["-", "--name"]),
            (&["-e", "args()", "--name", "x"], &["--name", "x"]),
            (&["a.rhai", "--", "--name"], &["a.rhai", "--", "--name"]),
        ] {
            assert_eq!(read(line).unwrap().script, script, "{line:?}");
        }
        let cli = read(&["sandbox", "--", "--odd-name.rhai"]).unwrap();
        let Some(Command::Sandbox(Sandbox { script, .. })) = cli.command else { panic!("{cli:?}") };
        assert_eq!(script, ["--odd-name.rhai"]);
    }

    #[test]
    fn an_expression_may_begin_with_a_hyphen() {
        assert_eq!(cli(&["-e", "-1 + 2", "a"]).eval.as_deref(), Some("-1 + 2"));
    }

    #[test]
    fn a_line_of_ctr_is_kept_as_it_is() {
        for (line, namespace, rest) in [
            (&["ctr", "-n", "k8s.io", "images", "ls", "-q"][..], Some("k8s.io"), &["images", "ls", "-q"][..]),
            (
                &["ctr", "--debug", "-n", "k8s.io", "run", "-t", "a", "b"],
                None,
                &["--debug", "-n", "k8s.io", "run", "-t", "a", "b"],
            ),
            (&["-n", "x", "ctr", "run", "--help"], Some("x"), &["run", "--help"]),
            (&["ctr", "-n", "x", "-n", "y", "images", "ls"], Some("y"), &["images", "ls"]),
            (&["ctr", "--show", "images", "ls", "--json"], None, &["images", "ls", "--json"]),
            (&["ctr", "--help"], None, &["--help"]),
        ] {
            let cli = cli(line);
            assert_eq!(cli.global.namespace.as_deref(), namespace, "{line:?}");
            let Some(Command::Ctr { words, .. }) = cli.command else { panic!("{line:?}") };
            assert_eq!(words, rest);
        }
    }

    #[test]
    fn flags_work_on_both_sides_of_a_command() {
        let cli = cli(&["doctor", "--json"]);
        assert!(cli.global.json && matches!(cli.command, Some(Command::Doctor)));
    }
}
