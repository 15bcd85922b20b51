//! Carrying out what the command line asks for.

use std::io::Read;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::CommandFactory;

use super::args::{Cli, Command, Global};
use super::{ctr, doctor, environment, sandbox};
use crate::config::{self, Sources, Span};
use crate::containerd::ConnectOptions;
use crate::grant::Allow;
use crate::kind::{Failure, Kind};
use crate::ops::Settings;
use crate::script::{Limits, library};
use crate::shell::log::{self, Threshold};
use crate::shell::progress::Mode;
use crate::shell::style::When;
use crate::shell::{self, Format, Interrupt, Outputs, Prompt, Screen, Shell, Show, Source, status};

/// Why the program could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The access list is wrong.
    #[error("--allow: {0}")]
    Allow(#[from] crate::grant::AllowError),
    /// The shell could not begin.
    #[error(transparent)]
    Shell(#[from] shell::Error),
    /// There is no ready script of this name.
    #[error("there is no ready script {0}")]
    NoScript(String),
    /// The sandbox could not be made.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
    /// A line of ctr is wrong.
    #[error(transparent)]
    Ctr(#[from] crate::ctr::Error),
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Config(error) => error.kind(),
            Self::Allow(error) => error.kind(),
            Self::Shell(error) => error.kind(),
            Self::NoScript(_) => Kind::Usage,
            Self::Sandbox(error) => error.kind(),
            Self::Ctr(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Allow(error) => error.hint(),
            Self::Shell(error) => error.hint(),
            Self::NoScript(name) => {
                let near = crate::ops::error::nearest(name, library::SCRIPTS.iter().map(|script| script.name));
                let near = near.map(|near| format!("did you mean {near}?"));
                near.or_else(|| Some("ctrsh scripts lists them".into()))
            }
            Self::Sandbox(error) => error.hint(),
            Self::Ctr(error) => error.hint(),
        }
    }
}

/// What the flags, the environment and the files came to.
pub(super) struct Choices {
    pub(super) address: Option<String>,
    pub(super) namespace: String,
    pub(super) timeout: Option<Duration>,
    pub(super) connect_timeout: Duration,
    pub(super) snapshotter: Option<String>,
    pub(super) hosts_dir: Option<String>,
    pub(super) docker_host: Option<String>,
    pub(super) format: Format,
    pub(super) format_chosen: bool,
    pub(super) color: When,
    pub(super) progress: Mode,
    pub(super) log: Threshold,
    pub(super) audit: Option<PathBuf>,
    pub(super) limits: Limits,
    pub(super) rows: Vec<(String, String, String)>,
}

impl Choices {
    fn of(flags: &Global) -> Result<Self, Error> {
        let mut sources = Sources::read(environment::config_files())?;
        let variable = |name: &'static str| Some((name, environment::variable(name)));
        let value = |setting: Option<config::Setting<String>>| setting.map(|setting| setting.value);
        let address = value(
            sources.pick("address", flags.address.clone(), variable("CONTAINERD_ADDRESS"), |f| f.address.clone()),
        );
        if address.is_none() {
            sources.shown(crate::containerd::DEFAULT_SOCKET);
        }
        let namespace = value(sources.pick(
            "namespace",
            flags.namespace.clone(),
            variable("CONTAINERD_NAMESPACE"),
            |f| f.namespace.clone(),
        ));
        if namespace.is_none() {
            sources.shown("default");
        }
        let snapshotter =
            value(sources.pick("snapshotter", flags.snapshotter.clone(), variable("CONTAINERD_SNAPSHOTTER"), |f| {
                f.snapshotter.clone()
            }));
        let timeout = sources.parsed("timeout", flags.timeout.clone(), |f| f.timeout.clone(), Span(Duration::ZERO))?;
        let wait = Span(ConnectOptions::default().connect_timeout);
        let connect =
            sources.parsed("connect_timeout", flags.connect_timeout.clone(), |f| f.connect_timeout.clone(), wait)?;
        let hosts_dir = value(sources.pick("hosts_dir", flags.hosts_dir.clone(), None, |f| f.hosts_dir.clone()));
        let docker = value(
            sources.pick("docker_host", flags.docker_host.clone(), variable("DOCKER_HOST"), |f| f.docker_host.clone()),
        );
        if docker.is_none() {
            sources.shown(crate::docker::DEFAULT_SOCKET);
        }
        let output = if flags.json { Some("json".to_owned()) } else { flags.output.clone() };
        let format_chosen = output.is_some();
        let format = sources.parsed("output", output, |f| f.output.clone(), Format::Table)?;
        let color = sources.parsed("color", flags.color.clone(), |f| f.color.clone(), When::Auto)?;
        let progress = sources.parsed("progress", flags.progress.clone(), |f| f.progress.clone(), Mode::Auto)?;
        let log = sources.parsed("log", flags.log.clone(), |f| f.log.clone(), Threshold::default())?;
        let audit = value(sources.pick("audit", flags.audit.clone(), None, |f| f.audit.clone()));
        let operations = sources.parsed(
            "max_operations",
            flags.max_operations.map(|count| count.to_string()),
            |f| f.max_operations.map(|count| count.to_string()),
            Limits::default().operations,
        )?;
        Ok(Self {
            address,
            namespace: namespace.unwrap_or_else(|| "default".into()),
            timeout: Some(timeout.0).filter(|limit| !limit.is_zero()),
            connect_timeout: connect.0,
            snapshotter,
            hosts_dir,
            docker_host: docker,
            format,
            format_chosen,
            color,
            progress,
            log,
            audit: audit.map(PathBuf::from),
            limits: Limits { operations },
            rows: sources.rows().iter().map(|r| (r.name.to_owned(), r.value.clone(), r.origin.to_string())).collect(),
        })
    }
}

/// Runs the program.
pub(super) fn run(mut cli: Cli) -> ExitCode {
    // What is in memory may be a password (FACTS: secrets at rest); a core file would keep it.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let plain = environment::variable("NO_COLOR").is_some_and(|value| !value.is_empty())
        || environment::variable("TERM").is_some_and(|term| term == "dumb");
    let line = ctr::line(&mut cli);
    let choices = Choices::of(&cli.global);
    let color = choices.as_ref().map_or_else(|_| When::Auto, |choices| choices.color);
    let json = choices.as_ref().map_or(cli.global.json, |choices| choices.format == Format::Json);
    let screen = Arc::new(Screen::new(Outputs::standard(), color, plain, json));
    let result = choices.and_then(|choices| {
        log::begin(choices.log, &screen);
        match line {
            Some(line) => ctr::carry_out(&cli, line?, &choices, &screen),
            None => carry_out(&cli, choices, &screen),
        }
    });
    let code = result.unwrap_or_else(|error| {
        screen.failure(&error);
        status::of_failure(&error)
    });
    ExitCode::from(screen.lost().unwrap_or(code))
}

fn carry_out(cli: &Cli, choices: Choices, screen: &Arc<Screen>) -> Result<u8, Error> {
    if let Some(Command::Completions { shell }) = &cli.command {
        let mut text = Vec::new();
        clap_complete::generate(*shell, &mut Cli::command(), "ctrsh", &mut text);
        screen.raw(&String::from_utf8_lossy(&text));
        return Ok(status::DONE);
    }
    if let Some(Command::Scripts { name, markdown }) = &cli.command {
        screen.raw(&match name {
            Some(name) => manual(name)?,
            None if *markdown => library::markdown(),
            None => library::overview(),
        });
        return Ok(status::DONE);
    }
    on_runtime(|runtime| with_runtime(cli, choices, screen, runtime))
}

/// Gives something threads to wait on.
pub(super) fn on_runtime(work: impl FnOnce(&tokio::runtime::Handle) -> Result<u8, Error>) -> Result<u8, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("ctrsh")
        .enable_all()
        .build()
        .map_err(shell::Error::Start)?;
    let result = work(runtime.handle());
    // What is still running was cancelled; nobody waits for its threads.
    runtime.shutdown_background();
    result
}

fn with_runtime(
    cli: &Cli,
    mut choices: Choices,
    screen: &Arc<Screen>,
    runtime: &tokio::runtime::Handle,
) -> Result<u8, Error> {
    match &cli.command {
        Some(Command::Reference) => {
            let shell = shell_for(cli, &choices, screen, runtime, &Arc::new(Interrupt::new()), Setting::default())?;
            screen.raw(&crate::script::reference::markdown(shell.interpreter().catalog()));
            return Ok(status::DONE);
        }
        Some(Command::Check { files }) => {
            let setting = Setting::default();
            let mut shell = shell_for(cli, &choices, screen, runtime, &Arc::new(Interrupt::new()), setting)?;
            let mut code = status::DONE;
            for file in files {
                code = code.max(shell.check(&read(file)?));
            }
            return Ok(code);
        }
        Some(Command::Doctor) => {
            let setting = Setting::default();
            let shell = shell_for(cli, &choices, screen, runtime, &Arc::new(Interrupt::new()), setting)?;
            let hosts = choices.rows.iter().find(|(name, ..)| name == "hosts_dir").map(|(_, value, _)| value.as_str());
            let hosts = hosts.filter(|folder| !folder.is_empty()).unwrap_or("/etc/containerd/certs.d");
            return Ok(doctor::run(&shell, Path::new(hosts), choices.format == Format::Json));
        }
        Some(Command::Definitions) => {
            let shell = shell_for(cli, &choices, screen, runtime, &Arc::new(Interrupt::new()), Setting::default())?;
            screen.raw(&crate::script::definitions::text(shell.interpreter().catalog()));
            return Ok(status::DONE);
        }
        _ => {}
    }
    let sandboxed = match &cli.command {
        Some(Command::Sandbox(flags)) => Some(flags),
        _ => None,
    };
    let (eval, script, stay) = sandboxed
        .map_or((&cli.eval, &cli.script, cli.shell), |flags| (&flags.eval, &flags.script, flags.shell || cli.shell));
    let mut words = script.iter();
    let file = if eval.is_some() { None } else { words.next().map(PathBuf::from) };
    let args: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let source = match (eval, &file) {
        (Some(text), _) => Some(Source::input(text.clone())),
        (None, Some(path)) => Some(read(path)?),
        (None, None) => None,
    };
    let source = match source {
        None if !std::io::IsTerminal::is_terminal(&std::io::stdin()) => Some(read(Path::new("-"))?),
        source => source,
    };
    if let Some(path) = &file
        && asks_for_help(path, &args)
    {
        screen.raw(&manual(&path.to_string_lossy())?);
        return Ok(status::DONE);
    }
    let folder = file.as_deref().and_then(Path::parent).map(Path::to_owned);
    let interrupt = Arc::new(Interrupt::new());
    let _cleaned = listening(&interrupt, runtime)?;
    let mut sandbox = None;
    if let Some(flags) = sandboxed {
        match sandbox::start(flags, &interrupt, screen)? {
            Ok(started) => {
                let socket = started.socket().to_string_lossy().into_owned();
                if let Some(row) = choices.rows.iter_mut().find(|row| row.0 == "address") {
                    (row.1, row.2) = (socket.clone(), "the sandbox".into());
                }
                choices.address = Some(socket);
                sandbox = Some(started);
            }
            Err(stopped) => return Ok(stopped),
        }
    }
    let setting = Setting { folder, args, alone: source.is_none(), runs: true, sandbox: sandbox.as_deref() };
    // The program is about to end when the shell would be taken apart, function by function; the kernel is quicker.
    let mut shell = ManuallyDrop::new(shell_for(cli, &choices, screen, runtime, &interrupt, setting)?);
    if let Some(registry) = sandbox.as_ref().and_then(|sandbox| sandbox.registries().first()) {
        shell.interpreter_mut().set_constant("REGISTRY", &registry.to_string());
    }
    let mut code = status::DONE;
    if let Some(source) = &source {
        let show = if eval.is_some() || choices.format_chosen { Show::Value } else { Show::Nothing };
        let ended = shell.run(source, show);
        code = ended.status;
        if !stay || ended.exit {
            return Ok(code);
        }
    }
    if source.is_none() || stay {
        let rc = environment::config_dir().map(|folder| folder.join("init.rhai")).filter(|path| path.exists());
        if let Some(path) = rc.filter(|_| !cli.norc && sandbox.is_none()) {
            shell.run(&Source::read(&path)?, Show::Nothing);
        }
        let history = environment::state_dir().map(|folder| folder.join("history"));
        code = Prompt::new(&mut shell, history).run()?;
    }
    Ok(code)
}

/// Says whether a ready script was asked for its manual.
fn asks_for_help(path: &Path, args: &[String]) -> bool {
    let ready = path.to_str().and_then(library::find).is_some() && !path.exists();
    ready && args.iter().any(|word| word == "--help" || word == "-h")
}

/// Returns the manual of a ready script, which may be named without its prefix.
fn manual(name: &str) -> Result<String, Error> {
    let found = library::find(name).or_else(|| library::find(&format!("{}{name}", library::PREFIX)));
    found.map(library::Script::manual).ok_or_else(|| Error::NoScript(name.to_owned()))
}

/// Does what has to be done before the program ends, also when it ends early.
pub(super) struct Cleaned(pub(super) Arc<Interrupt>);

impl Drop for Cleaned {
    fn drop(&mut self) {
        self.0.clean_up();
    }
}

/// Has an interrupt listen to signals, and what has to go go before the process ends.
pub(super) fn listening(interrupt: &Arc<Interrupt>, runtime: &tokio::runtime::Handle) -> Result<Cleaned, Error> {
    interrupt.listen(runtime).map_err(shell::Error::Start)?;
    interrupt.before_exit(crate::containerd::io::remove_folders);
    Ok(Cleaned(Arc::clone(interrupt)))
}

/// What a shell is given beside the user's choices.
#[derive(Default)]
pub(super) struct Setting<'a> {
    /// The script's folder.
    pub(super) folder: Option<PathBuf>,
    pub(super) args: Vec<String>,
    /// Whether there is a prompt and no script.
    pub(super) alone: bool,
    /// Whether anything is going to run.
    pub(super) runs: bool,
    pub(super) sandbox: Option<&'a crate::sandbox::Sandbox>,
}

fn read(path: &Path) -> Result<Source, Error> {
    if path != Path::new("-") {
        return Ok(Source::read(path)?);
    }
    let mut text = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut text);
    read.map_err(|source| shell::Error::Script { path: "standard input".into(), source })?;
    Ok(Source::file("stdin", text))
}

pub(super) fn shell_for(
    cli: &Cli,
    choices: &Choices,
    screen: &Arc<Screen>,
    runtime: &tokio::runtime::Handle,
    interrupt: &Arc<Interrupt>,
    setting: Setting<'_>,
) -> Result<Shell, Error> {
    let hook = Arc::clone(interrupt);
    screen.on_closed(move || hook.stop(shell::Why::Closed));
    let allow = match &cli.global.allow {
        Some(list) => list.parse()?,
        None if setting.alone => Allow::all(),
        None => Allow::script(),
    };
    let working_dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let folder = setting.folder.filter(|folder| !folder.as_os_str().is_empty());
    // In a sandbox these go away with it.
    let below = |name: &str| setting.sandbox.map(|sandbox| sandbox.folder().join(name));
    let options = shell::Options {
        address: choices.address.clone(),
        namespace: choices.namespace.clone(),
        connect: ConnectOptions { connect_timeout: choices.connect_timeout },
        allow,
        dry_run: cli.global.dry_run,
        progress: choices.progress,
        audit: choices.audit.clone(),
        registry: environment::registry(choices.hosts_dir.as_deref()),
        settings: Settings {
            snapshotter: choices.snapshotter.clone(),
            run_dir: below("run").unwrap_or_else(environment::run_dir),
            log_dir: below("logs").unwrap_or_else(environment::log_dir),
            temp_dir: std::env::temp_dir(),
            docker_host: choices.docker_host.clone(),
            working_dir: working_dir.clone(),
        },
        limits: choices.limits,
        timeout: choices.timeout,
        format: choices.format,
        args: setting.args,
        environment: std::sync::Arc::new(environment::variable),
        modules: Some(folder.unwrap_or(working_dir)),
        node: node_name(choices, setting.sandbox.is_some()),
        config: choices.rows.clone(),
        editor: ["VISUAL", "EDITOR"].into_iter().find_map(environment::variable).unwrap_or_else(|| "vi".into()),
        connect_ahead: setting.runs,
    };
    Ok(Shell::new(options, Arc::clone(screen), Arc::clone(interrupt), runtime)?)
}

/// Returns what the prompt calls the node: the machine, and the socket when it is not the usual one.
fn node_name(choices: &Choices, sandbox: bool) -> String {
    if sandbox {
        return "sandbox".into();
    }
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    match choices.address.as_deref().map(|address| address.trim_start_matches("unix://")) {
        Some(address) if address != crate::containerd::DEFAULT_SOCKET => format!("{machine}:{address}"),
        _ => machine,
    }
}
