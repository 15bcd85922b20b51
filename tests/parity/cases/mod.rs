//! The cases, by group of commands.

mod containers;
mod content;
mod images;
mod registries;
mod server;
mod snapshots;
mod tasks;

use super::{Asks, Case, Fate, Way};

/// The rows of tier A and B that have no case, and why not.
pub const WITHOUT: &[(&str, &str)] = &[
    ("images mount --rw", "compared in ops::image, which mounts to write and takes it away again"),
    ("images mount --expiration", "no ctr that is tested has it: containerd has it since 2.2"),
    ("containers checkpoint", OWN),
    ("containers checkpoint --rw", OWN),
    ("containers checkpoint --image", OWN),
    ("containers checkpoint --task", OWN),
    ("containers restore", OWN),
    ("containers restore --rw", OWN),
    ("containers restore --live", OWN),
];

const OWN: &str =
    "ctrsh's has the spec in it, without which ctr cannot restore its own; ops::container_checkpoint compares the rest";

/// A container that was made, and one that runs.
const CREATE: &str = "containers create $IMAGE web sleep 600";
const RUN: &str = "run --detach --null-io $IMAGE web sleep 600";

/// Not a line of ctr: waits until the tasks have ended.
const ENDS: &str = "";

/// Not a line of ctr: waits until the process `look` in each task has ended.
const LOOK_ENDS: &str = "?";

pub fn all() -> Vec<Case> {
    [
        images::cases(),
        registries::cases(),
        content::cases(),
        containers::cases(),
        tasks::cases(),
        snapshots::cases(),
        server::cases(),
    ]
    .concat()
}

fn case(row: impl Into<String>, line: impl Into<String>) -> Case {
    Case {
        row: row.into(),
        before: Vec::new(),
        line: line.into(),
        input: "",
        asks: Asks::Nothing,
        apart: &[],
        older: None,
        shows: "",
        way: Way::Plain,
        fate: Fate::Works,
        theirs: None,
        fault: None,
        new: None,
        ends: false,
        kept: false,
    }
}

impl Case {
    fn after(mut self, lines: &[&str]) -> Self {
        self.before.extend(lines.iter().map(|line| (*line).to_owned()));
        self
    }

    const fn input(mut self, input: &'static str) -> Self {
        self.input = input;
        self
    }

    const fn asks(mut self, asks: Asks) -> Self {
        self.asks = asks;
        self
    }

    /// Compares the words of the output that begin so.
    const fn words(self, starts: &'static [&'static str]) -> Self {
        self.asks(Asks::Words(starts))
    }

    /// Leaves out of the state what begins so. Beside each use stands why.
    const fn apart(mut self, starts: &'static [&'static str]) -> Self {
        self.apart = starts;
        self
    }

    /// A line that does the same by a ctr that does not know the row.
    fn older(mut self, line: impl Into<String>) -> Self {
        self.older = Some(line.into());
        self
    }

    const fn shows(mut self, text: &'static str) -> Self {
        self.shows = text;
        self
    }

    const fn types(mut self, keys: &'static str, seen: &'static str) -> Self {
        self.way = Way::Terminal(keys, seen);
        self
    }

    const fn during(mut self, line: &'static str, seen: &'static str) -> Self {
        self.way = Way::While(line);
        self.shows(seen)
    }

    const fn fails(mut self) -> Self {
        self.fate = Fate::Fails;
        self
    }

    /// Whether it works is up to the machine, and to what its containerd came with.
    const fn alike(mut self) -> Self {
        self.fate = Fate::Alike;
        self
    }

    /// Lets ctr do this instead. Beside each use stands why.
    const fn theirs(mut self, line: &'static str) -> Self {
        self.theirs = Some(line);
        self
    }

    /// Lets ctr fail in these words at what its daemon can do, where what begins so is not compared.
    const fn fault(mut self, words: &'static str, apart: &'static [&'static str]) -> Self {
        self.fault = Some((words, apart));
        self
    }

    /// Where ctr does not know it, containerd does not either, and ctrsh says so in these words.
    const fn newer(mut self, words: &'static str) -> Self {
        self.new = Some(words);
        self
    }

    const fn ends(mut self) -> Self {
        self.ends = true;
        self
    }

    /// Compares at once, before the collector takes what nothing holds.
    const fn kept(mut self) -> Self {
        self.kept = true;
        self
    }
}
