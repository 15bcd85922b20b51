//! The table's rows.

use super::parse::Parsed;
use super::{
    Result, Step, containers, content, images, leases, namespaces, pprof, run, sandboxes, server, shim, snapshots,
};
use super::{source, tasks};

/// How soon ctrsh has to have something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// What everyone uses.
    A,
    /// What makes it whole.
    B,
    /// What hardly anyone needs.
    C,
}

impl Tier {
    /// Returns its letter.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
        }
    }
}

/// What follows a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing; `=false` takes it back.
    Nothing,
    /// A value, such as this one; the last one counts.
    One(&'static str),
    /// A value, such as this one, each time that it is given.
    Many(&'static str),
}

/// What a value is in the script language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// `true`.
    Switch,
    /// `false`, of a flag that says no.
    Off,
    /// A string.
    Text,
    /// A string, or an array of several.
    Texts,
    /// An array of strings.
    Array,
    /// A whole number; one that means "none" is left out.
    Count(Option<i64>),
    /// An array of whole numbers.
    Counts,
    /// A number.
    Number,
    /// Bytes.
    Size,
    /// A map, from `KEY=VALUE`.
    Labels,
    /// A map, from `NAME=VALUE`.
    Env,
    /// A user, whose password is asked for.
    Login,
    /// The token of a user that has no other name.
    Token,
}

/// What a flag is in ctrsh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The option of the same name with `_` for `-`, or of this one.
    #[doc(hidden)]
    Option(OptionForm),
    /// The command's translation has it.
    Own,
    /// The line runs without it: what ctrsh does instead, and why.
    Other(&'static str),
    /// It is refused: what to do.
    Refused(&'static str),
}

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionForm {
    pub(super) key: Option<&'static str>,
    pub(super) value: Value,
}

/// The option of the flag's name.
pub(super) const fn option(value: Value) -> Form {
    Form::Option(OptionForm { key: None, value })
}

/// The option of another name.
pub(super) const fn option_as(key: &'static str, value: Value) -> Form {
    Form::Option(OptionForm { key: Some(key), value })
}

/// A flag.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// The name, without hyphens.
    pub name: &'static str,
    /// The other name, if there is one.
    pub alias: &'static str,
    pub(super) takes: Takes,
    /// How soon it is wanted.
    pub tier: Tier,
    /// What it is in ctrsh.
    pub form: Form,
}

/// A flag that takes nothing.
pub(super) const fn switch(name: &'static str, tier: Tier, form: Form) -> Flag {
    Flag { name, alias: "", takes: Takes::Nothing, tier, form }
}

/// A flag with a value, such as this one.
pub(super) const fn one(name: &'static str, sample: &'static str, tier: Tier, form: Form) -> Flag {
    Flag { name, alias: "", takes: Takes::One(sample), tier, form }
}

/// A flag that may be given several times, with a value such as this one.
pub(super) const fn many(name: &'static str, sample: &'static str, tier: Tier, form: Form) -> Flag {
    Flag { name, alias: "", takes: Takes::Many(sample), tier, form }
}

impl Flag {
    pub(super) const fn or(mut self, alias: &'static str) -> Self {
        self.alias = alias;
        self
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name || (!self.alias.is_empty() && self.alias == name)
    }

    /// Returns the value that the table shows it with.
    pub(super) const fn sample(&self) -> Option<&'static str> {
        match self.takes {
            Takes::Nothing => None,
            Takes::One(sample) | Takes::Many(sample) => Some(sample),
        }
    }

    /// Returns the flag as it is written: with one hyphen when it is a letter.
    #[must_use]
    pub fn written(&self) -> String {
        written(self.name)
    }
}

/// Writes the name of a flag with its hyphens.
pub(super) fn written(name: &str) -> String {
    if name.len() == 1 { format!("-{name}") } else { format!("--{name}") }
}

/// Words that stand before others: `images`, `content prune`.
pub(super) struct Group {
    /// The group that it is in, and its names: the first is its own.
    pub(super) within: &'static str,
    pub(super) names: &'static [&'static str],
    pub(super) flags: &'static [Flag],
}

/// A command of ctr.
pub struct Command {
    /// The words before it, such as `content prune`; none for `run`.
    pub group: &'static str,
    /// Its names; the first is its own.
    pub names: &'static [&'static str],
    /// What the project's list of features calls it.
    pub id: &'static str,
    /// How soon it is wanted.
    pub tier: Tier,
    /// The arguments, as help shows them.
    pub(super) usage: &'static str,
    /// How many arguments it needs at least, and takes at most.
    pub(super) count: (usize, usize),
    /// Whether all that follows the first argument is taken as it is: the command of a container.
    pub(super) verbatim: bool,
    /// What it does another way than ctr, when that is to be said.
    pub(super) note: &'static str,
    /// Arguments to show it with.
    pub(super) sample: &'static [&'static str],
    /// Other arguments, for flags that are not given with those.
    pub(super) instead: &'static [(&'static str, &'static [&'static str])],
    /// Words to show it with that stand before the arguments: flags without which it does nothing, one a word, with `=` before a
    /// value.
    pub(super) needs: &'static [&'static str],
    pub(super) flags: &'static [&'static [Flag]],
    /// What no test does once with ctr and once with ctrsh to find the same state after: flags, and "" for the command alone.
    /// `tests/parity` says why.
    pub forms: &'static [&'static str],
    pub(super) make: fn(&Parsed) -> Result<Vec<Step>>,
}

/// A command without arguments and flags, to be filled in.
pub(super) const COMMAND: Command = Command {
    group: "",
    names: &[],
    id: "",
    tier: Tier::A,
    usage: "",
    count: (0, 0),
    verbatim: false,
    note: "",
    sample: &[],
    instead: &[],
    needs: &[],
    flags: &[],
    forms: &[],
    make: |_| Ok(Vec::new()),
};

/// As many arguments as there are.
pub(super) const ANY: usize = usize::MAX;

impl Command {
    /// Returns all its words, such as `images pull`.
    #[must_use]
    pub fn path(&self) -> String {
        if self.group.is_empty() { self.names[0].to_owned() } else { format!("{} {}", self.group, self.names[0]) }
    }

    /// Returns its flags.
    pub fn flags(&self) -> impl Iterator<Item = &'static Flag> {
        let own = self.flags.iter().copied().flatten();
        own.clone()
            .chain(group_flags(self.group).iter().filter(move |flag| own.clone().all(|other| other.name != flag.name)))
    }

    /// Returns a line that shows it, without `ctr`: alone, or with a flag.
    #[must_use]
    pub fn line(&self, flag: Option<&Flag>) -> Vec<String> {
        let own = |flag: &&Flag| self.flags.iter().copied().flatten().any(|other| other.name == flag.name);
        let before = flag.filter(|flag| !own(flag));
        let words = |flag: &Flag| std::iter::once(flag.written()).chain(flag.sample().map(str::to_owned));
        let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
        let needs = self.needs.iter().filter(|word| flag.is_none_or(|flag| flag.written() != name(word)));
        let mut group = self.group.split_whitespace().map(str::to_owned);
        let mut line: Vec<String> = group.next().into_iter().collect();
        // Only the first word of a group has flags.
        let early = |word: &&&str| line.iter().flat_map(|of| group_flags(of)).any(|flag| flag.written() == name(word));
        let (early, needs): (Vec<&&str>, Vec<&&str>) = needs.partition(early);
        line.extend(early.into_iter().map(|word| (*word).to_owned()));
        line.extend(before.into_iter().flat_map(words));
        line.extend(group);
        line.push(self.names[0].to_owned());
        line.extend(needs.into_iter().map(|word| (*word).to_owned()));
        line.extend(flag.filter(|_| before.is_none()).into_iter().flat_map(words));
        let other = self.instead.iter().find(|(name, _)| flag.is_some_and(|flag| flag.name == *name));
        line.extend(other.map_or(self.sample, |(_, sample)| sample).iter().map(|word| (*word).to_owned()));
        line
    }
}

/// The flags that stand before the command.
pub(super) const GLOBALS: &[Flag] = &[
    switch("debug", Tier::A, Form::Own),
    one("address", "/run/containerd/containerd.sock", Tier::A, Form::Own).or("a"),
    one("timeout", "1m", Tier::A, Form::Own),
    one("connect-timeout", "10s", Tier::A, Form::Own),
    one("namespace", "k8s.io", Tier::A, Form::Own).or("n"),
];

const fn group(within: &'static str, names: &'static [&'static str], flags: &'static [Flag]) -> Group {
    Group { within, names, flags }
}

/// All groups.
pub(super) const GROUPS: &[Group] = &[
    group("", &["plugins", "plugin"], &[]),
    group("", &["containers", "c", "container"], &[]),
    group("", &["content"], &[]),
    group("content", &["prune"], &[]),
    group("", &["images", "image", "i"], &[]),
    group("", &["leases"], &[]),
    group("", &["namespaces", "namespace", "ns"], &[]),
    group("", &["pprof"], pprof::GROUP_FLAGS),
    group("", &["snapshots", "snapshot"], snapshots::GROUP_FLAGS),
    group("", &["tasks", "t", "task"], &[]),
    group("", &["sandboxes", "sandbox", "sb", "s"], &[]),
    group("", &["deprecations"], &[]),
    group("", &["oci"], &[]),
    group("", &["shim"], shim::GROUP_FLAGS),
    group("shim", &["pprof"], &[]),
];

impl Group {
    /// Returns all its words.
    pub(super) fn path(&self) -> String {
        if self.within.is_empty() { self.names[0].to_owned() } else { format!("{} {}", self.within, self.names[0]) }
    }
}

/// Returns the flags that stand behind the words of a group.
pub(super) fn group_flags(path: &str) -> &'static [Flag] {
    GROUPS.iter().find(|group| group.path() == path).map_or(&[], |group| group.flags)
}

/// Returns all commands, in ctr's order of groups.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    [
        images::COMMANDS,
        content::COMMANDS,
        containers::COMMANDS,
        run::COMMANDS,
        tasks::COMMANDS,
        snapshots::COMMANDS,
        namespaces::COMMANDS,
        leases::COMMANDS,
        server::COMMANDS,
        sandboxes::COMMANDS,
        pprof::COMMANDS,
        shim::COMMANDS,
    ]
    .into_iter()
    .flatten()
}

/// One step: a piece of script whose value ctr says nothing of.
pub(super) fn silent(code: impl Into<String>) -> Result<Vec<Step>> {
    Ok(vec![Step::Silent(code.into())])
}

/// One step: a piece of script.
pub(super) fn script(code: impl Into<String>) -> Result<Vec<Step>> {
    Ok(vec![Step::Script(code.into())])
}

/// One step: a piece of script whose value tells how a process ended.
pub(super) fn process(code: impl Into<String>) -> Result<Vec<Step>> {
    Ok(vec![Step::Process(code.into())])
}

/// A list whose names alone are wanted with `--quiet`.
pub(super) fn listed(parsed: &Parsed, list: &str, item: &str, name: &str) -> Result<Vec<Step>> {
    script(if parsed.has("quiet") {
        source::each(item, list, &format!("print({item}.{name})"))
    } else {
        list.to_owned()
    })
}

const ASKS_OWN: &str = "every request is in the log, without secrets, with --log debug";

/// How a registry is reached.
pub(super) const REGISTRY: &[Flag] = &[
    switch("skip-verify", Tier::A, option(Value::Switch)).or("k"),
    switch("plain-http", Tier::A, option(Value::Switch)),
    one("user", "ann", Tier::A, option(Value::Login)).or("u"),
    one("refresh", "TOKEN", Tier::A, option_as("user", Value::Token)),
    one("hosts-dir", "/etc/containerd/certs.d", Tier::A, option(Value::Text)),
    one("tlscacert", "ca.pem", Tier::A, option(Value::Text)),
    one("tlscert", "cert.pem", Tier::A, option(Value::Text)),
    one("tlskey", "key.pem", Tier::A, option(Value::Text)),
    switch("http-dump", Tier::A, Form::Other(ASKS_OWN)),
    switch("http-trace", Tier::A, Form::Other(ASKS_OWN)),
];

const ASKS_NONE: Form = Form::Other("no registry is asked");

/// The same flags where ctr takes them for nothing.
pub(super) const NO_REGISTRY: &[Flag] = &[
    switch("skip-verify", Tier::C, ASKS_NONE).or("k"),
    switch("plain-http", Tier::C, ASKS_NONE),
    one("user", "ann", Tier::C, ASKS_NONE).or("u"),
    one("refresh", "TOKEN", Tier::C, ASKS_NONE),
    one("hosts-dir", "/etc/containerd/certs.d", Tier::C, ASKS_NONE),
    one("tlscacert", "ca.pem", Tier::C, ASKS_NONE),
    one("tlscert", "cert.pem", Tier::C, ASKS_NONE),
    one("tlskey", "key.pem", Tier::C, ASKS_NONE),
    switch("http-dump", Tier::C, ASKS_NONE),
    switch("http-trace", Tier::C, ASKS_NONE),
];

/// Where layers are unpacked.
pub(super) const SNAPSHOTTER: Flag = one("snapshotter", "native", Tier::A, option(Value::Text));

/// Several platforms.
pub(super) const PLATFORM: Flag = many("platform", "linux/arm64", Tier::A, option(Value::Texts));

/// All platforms.
pub(super) const ALL_PLATFORMS: Flag = switch("all-platforms", Tier::A, option(Value::Switch));

/// Names alone.
pub(super) const QUIET: Flag = switch("quiet", Tier::A, Form::Own).or("q");

/// Which side of ctr's own two ways does the work.
pub(super) const LOCAL: Flag = switch(
    "local",
    Tier::B,
    Form::Other("there is one way, the same with every containerd; ctr's default changed with 2.0"),
);

/// The same where the daemon may be asked to move the image.
pub(super) const LOCAL_OR_DAEMON: Flag = switch(
    "local",
    Tier::B,
    Form::Other(
        "this is what is done, with every containerd alike; #{ via: \"daemon\" } has the daemon do it, as ctr 2.0 and later do without the flag",
    ),
);

/// Whether the daemon waits for its disk.
pub(super) const SYNC_FS: Flag = switch(
    "sync-fs",
    Tier::B,
    Form::Other(
        "it is not passed on: the kernel writes layers to the disk by itself, and sync(1) on the host forces it",
    ),
);
