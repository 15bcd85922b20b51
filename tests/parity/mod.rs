//! The same work done once by ctr and once by `ctrsh ctr`, in two namespaces of one daemon: what the daemon has then is the same.

mod cases;
mod state;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::Trial;

use crate::harness::output::Output;
use crate::harness::{Env, Kind, pure, trial};
use state::State;

/// A row of the table of commands, and the work that shows it.
///
/// In words `$IMAGE` is an image that is there, `$REF` one in a registry and `$INDEX` one of several platforms, `$TARGET` a
/// reference that only this side has, `$ARCHIVE` an archive, `$FILE` a file that only this side has, `$OTHER` a namespace that only
/// this side has, `$FOREIGN` a platform that is not this machine's, and `$SNAPSHOTTER` the snapshotter.
pub struct Case {
    /// The row, as `docs/ctr.md` has it.
    pub row: &'static str,
    /// What ctr does first on both sides.
    pub before: &'static [&'static [&'static str]],
    /// The line.
    pub line: &'static [&'static str],
    /// A function, and one of its options, without which ctrsh cannot do it yet.
    pub needs: Option<(&'static str, &'static str)>,
    /// What is to be asked beside the namespace's own state.
    pub also: Also,
}

/// What a case changes beside its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Also {
    Nothing,
    /// Nothing, and a task that has ended is none: ctr removes it, ctrsh keeps it until the container is started again or deleted.
    NoneRuns,
    /// The lines of the output.
    Output,
    /// The output as JSON, a runtime spec.
    Json,
    /// What `$TARGET` is in the registry.
    Target,
    /// The blobs of the archive `$FILE`.
    Archive,
    /// That `$FILE` has the pid of the task.
    Pid,
    /// The namespace `$OTHER`.
    Other,
    /// That the task has ended, which takes a moment.
    Ended,
}

pub fn trials(env: &Env) -> Vec<Trial> {
    let mut trials = vec![pure("parity::the page names every case", named)];
    let catalog = ctrsh::script::api::catalog();
    let can = |case: &&Case| {
        case.needs.is_none_or(|(function, option)| {
            catalog.find(function).iter().any(|entry| entry.spec.options.iter().any(|other| other.key == option))
        })
    };
    let of = |case: &'static Case| trial(&format!("parity::{}", case.row), env, move |env| run(env, case));
    trials.extend(cases::CASES.iter().filter(can).map(of));
    trials
}

fn named() {
    let shown: BTreeSet<String> = cases::CASES.iter().map(|case| case.row.to_owned()).collect();
    assert_eq!(shown.len(), cases::CASES.len(), "a row has two cases");
    let named = ctrsh::ctr::rows().filter(|row| row.test().starts_with("parity::")).map(|row| row.name());
    assert_eq!(named.collect::<BTreeSet<_>>(), shown, "the table of src/ctr names other cases than there are");
}

/// One of the two sides of a case.
pub struct Side {
    pub env: Env,
    pub namespace: String,
    pub other: String,
    pub folder: PathBuf,
    pub target: String,
    words: Vec<(&'static str, String)>,
}

impl Side {
    fn new(env: &Env, shared: &[(&'static str, String)]) -> Self {
        let namespace = env.namespace("parity");
        let folder = env.new_folder("parity");
        let target = format!("{}:1", env.repository("parity"));
        let other = env.fresh("parity");
        std::fs::write(folder.join("web.env"), "TZ=UTC\nAREA=a\n").unwrap();
        let spec = env.ctr(&["oci", "spec"]).ok();
        std::fs::write(folder.join("spec.json"), spec).unwrap();
        let mut words = shared.to_vec();
        words.extend([
            ("$TARGET", target.clone()),
            ("$FILE", folder.join("file").to_string_lossy().into_owned()),
            ("$OTHER", other.clone()),
        ]);
        Self { env: env.clone(), namespace, other, folder, target, words }
    }

    fn filled(&self, words: &[&str]) -> Vec<String> {
        let fill =
            |word: &&str| self.words.iter().fold((*word).to_owned(), |word, (name, value)| word.replace(name, value));
        words.iter().map(fill).collect()
    }

    /// Runs ctr in the namespace.
    pub fn ctr(&self, words: &[&str]) -> Output {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.env.socket()).args(["-n", &self.namespace]).args(self.filled(words));
        command.env("CONTAINERD_SNAPSHOTTER", self.env.snapshotter()).current_dir(&self.folder);
        Output::of(&mut command)
    }

    /// Runs the same line by ctrsh.
    fn ctrsh(&self, words: &[&str], json: bool) -> Output {
        let mut command = self.env.ctrsh_command();
        command
            .args(json.then_some("--json"))
            .args(["--allow", "all", "ctr", "-n", &self.namespace])
            .args(self.filled(words));
        command.env("CONTAINERD_SNAPSHOTTER", self.env.snapshotter()).current_dir(&self.folder);
        Output::of(&mut command)
    }

    /// Leaves nothing that runs.
    fn clean(&self) {
        for id in self.ctr(&["tasks", "ls", "-q"]).lines() {
            // One that is paused takes no signal.
            self.ctr(&["tasks", "resume", &id]);
            self.ctr(&["tasks", "delete", "--force", &id]);
        }
        for id in self.ctr(&["containers", "ls", "-q"]).lines() {
            self.ctr(&["containers", "delete", &id]);
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.clean();
        }
    }
}

fn run(env: &Env, case: &Case) {
    let source = env.pushed(Kind::Busybox, "parity");
    let mut shared = vec![
        ("$REF", source.clone()),
        ("$IMAGE", cases::IMAGE.to_owned()),
        ("$FOREIGN", format!("linux/{}", crate::harness::image::foreign())),
        ("$SNAPSHOTTER", env.snapshotter()),
    ];
    let uses =
        |word: &str| case.line.iter().chain(case.before.iter().copied().flatten()).any(|other| other.contains(word));
    if uses("$INDEX") {
        shared.push(("$INDEX", env.pushed(Kind::Index, "parity")));
    }
    if uses("$ARCHIVE") {
        let maker = Side::new(env, &shared);
        prepare(&maker, &source);
        let archive = maker.folder.join("archive.tar").to_string_lossy().into_owned();
        maker.ctr(&["images", "export", &archive, cases::IMAGE]).ok();
        shared.push(("$ARCHIVE", archive));
    }
    let [theirs, ours] = [(); 2].map(|()| Side::new(env, &shared));
    for side in [&theirs, &ours] {
        if uses("$IMAGE") {
            prepare(side, &source);
        }
        for words in case.before {
            if words.is_empty() {
                state::ended(side);
            } else {
                side.ctr(words).ok();
            }
        }
    }
    let said = theirs.ctr(case.line).expect_status(0);
    let output = ours.ctrsh(case.line, case.also == Also::Json).expect_status(0);
    match case.also {
        Also::Output => assert_eq!(sorted(&output.stdout), sorted(&said.stdout), "{output}"),
        Also::Json => assert_eq!(state::spec(&ours, &output.stdout), state::spec(&theirs, &said.stdout), "{output}"),
        _ => {}
    }
    // ctr leaves the index of an archive to the collector, which may take it at any moment.
    if case.line.contains(&"import") {
        for side in [&theirs, &ours] {
            side.ctr(&["leases", "create", "--id", "collect"]).ok();
            side.ctr(&["leases", "delete", "--sync", "collect"]).ok();
        }
    }
    let [theirs, ours] = [&theirs, &ours].map(|side| State::of(side, case.also));
    assert_eq!(ours, theirs, "{output}");
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    lines
}

/// Gives a namespace the image.
fn prepare(side: &Side, source: &str) {
    side.ctr(&["images", "pull", "--plain-http", source]).ok();
    side.ctr(&["images", "tag", source, cases::IMAGE]).ok();
}
