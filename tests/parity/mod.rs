//! The same work done once by ctr and once by `ctrsh ctr`, in two namespaces of one daemon: what the daemon has then is the same.

mod cases;
mod scene;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ctrsh::ctr::Tier;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::harness;
use crate::harness::output::Output;
use crate::harness::{Env, pure, trial};
use crate::shell::terminal::{Terminal, is_at_shell};
use scene::{Shared, Side};

/// The name of the image that is there.
const IMAGE: &str = "example.test/busybox:1";

/// A row of the table of commands, and the work that shows it.
///
/// Words that begin with `$` are what `scene.rs` makes of them; `$LOCAL` and `$SKIP` are flags where ctr has those.
#[derive(Clone)]
pub struct Case {
    /// The row, as `docs/ctr.md` has it.
    pub row: String,
    /// What ctr does first on both sides: to its end, after a `@` on a terminal that it leaves. What has a `!` before it ctrsh does.
    pub before: Vec<String>,
    /// The line.
    pub line: String,
    /// What it reads.
    pub input: &'static str,
    /// What is compared beside the state.
    pub asks: Asks,
    /// Beginnings of names in the state that are not compared.
    pub apart: &'static [&'static str],
    /// What a ctr does in place of the line that does not know the row.
    pub older: Option<String>,
    /// What stands in the output, or in the state after.
    pub shows: &'static str,
    /// How it is run.
    pub way: Way,
    /// How it ends.
    pub fate: Fate,
    /// What some ctr says when it fails at what its daemon can do, and what in the state is then not compared.
    pub fault: Option<(&'static str, &'static [&'static str])>,
    /// What ctr does in place of the line, as ctrsh does that on purpose.
    pub theirs: Option<&'static str>,
    /// What ctrsh says where a containerd whose ctr does not know the row cannot do it either.
    pub new: Option<&'static str>,
    /// Whether the tasks end by themselves, which takes a moment.
    pub ends: bool,
    /// Whether the state is read before the collector takes what nothing holds.
    pub kept: bool,
}

/// How a line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Works,
    Fails,
    /// As the machine lets it, the same for both.
    Alike,
}

/// How a line is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To its end.
    Plain,
    /// On a terminal, where this is typed, and this is seen then.
    Terminal(&'static str, &'static str),
    /// While ctr does this again and again, until the output has what it shows.
    While(&'static str),
}

/// What is compared beside the state.
#[derive(Debug, Clone, Copy)]
pub enum Asks {
    Nothing,
    /// The lines of the output.
    Lines,
    /// The lines of the output, with a zero for each number.
    Shape,
    /// The output as JSON, a runtime spec.
    Spec,
    /// The words of the output that begin with one of these.
    Words(&'static [&'static str]),
    /// What is read from the two outputs, ctr's first; ctrsh's is JSON.
    Read(fn(&str) -> Value, fn(&Value) -> Value),
    /// The blobs of the archive `$FILE`.
    Archive,
    /// That `$FILE` has the pid of the task.
    Pid,
    /// The bytes of `$FILE`.
    File,
    /// That files below `$MNT` are there.
    Mounted,
}

impl Asks {
    /// Says whether it is the output.
    const fn reads(self) -> bool {
        matches!(self, Self::Lines | Self::Shape | Self::Spec | Self::Words(_) | Self::Read(..))
    }
}

pub fn trials(env: &Env) -> Vec<Trial> {
    let all = cases::all();
    let rows = all.iter().map(|case| case.row.clone()).collect::<Vec<_>>();
    let mut trials = vec![pure("parity::the page names every case", move || named(&rows))];
    let env = &env.in_memory();
    let shared = Shared::new(env);
    trials.extend(all.into_iter().map(|case| {
        let shared = Arc::clone(&shared);
        trial(&format!("parity::{}", case.row), env, move |_| attempts(&shared, &case))
    }));
    trials
}

/// Every row that is wanted soon has a case, or stands in the list of those that cannot have one.
fn named(rows: &[String]) {
    let shown: BTreeSet<&str> = rows.iter().map(String::as_str).collect();
    assert_eq!(shown.len(), rows.len(), "a row has two cases: {rows:?}");
    let mut wrong = Vec::new();
    for row in ctrsh::ctr::rows() {
        let name = row.name();
        let (case, why) = (shown.contains(name.as_str()), cases::WITHOUT.iter().find(|(row, _)| *row == name));
        if case == why.is_some() && row.tier() < Tier::C {
            wrong.push(format!("{name}: {}", if case { "has a case, and a reason for none" } else { "has no case" }));
        }
        if row.test().starts_with("parity::") != case {
            wrong.push(format!("{name}: the table of src/ctr says {}", row.test()));
        }
    }
    let known: BTreeSet<String> = ctrsh::ctr::rows().map(|row| row.name()).collect();
    let unknown = shown.iter().copied().chain(cases::WITHOUT.iter().map(|(row, _)| *row));
    wrong.extend(unknown.filter(|row| !known.contains(*row)).map(|row| format!("{row}: is no row")));
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// Says whether the ctr that is tested knows a row.
fn known(row: &str) -> bool {
    static HELP: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let help = |path: &str| {
        let asked = || {
            Output::of(Command::new("ctr").args(path.split(' ')).arg("--help").env("PATH", harness::env::path())).stdout
        };
        HELP.lock().unwrap().entry(path.to_owned()).or_insert_with(asked).clone()
    };
    let (path, flag) = row.split_once(" -").map_or((row, None), |(path, flag)| (path, Some(format!("-{flag}"))));
    let own = help(path);
    if !own.lines().any(|line| line.trim().starts_with(&format!("ctr {path} "))) {
        return false;
    }
    let group = path.rsplit_once(' ').map(|(group, _)| help(group)).unwrap_or_default();
    let has = |text: &str, flag: &str| text.split([' ', ',', '\n', '\t']).any(|word| word == flag);
    flag.is_none_or(|flag| has(&own, &flag) || has(&group, &flag))
}

/// Plays a case. Where what ctr makes is held by nothing, the collector may come before one looks: then it is played again,
/// often enough that other tests, each of whose deletions wakes it, do not bring it every time.
fn attempts(shared: &Arc<Shared>, case: &Case) {
    let again = if case.kept { 30 } else { 0 };
    for _ in 0..again {
        if std::panic::catch_unwind(AssertUnwindSafe(|| run(shared, case))).is_ok() {
            return;
        }
    }
    run(shared, case);
}

fn run(shared: &Arc<Shared>, case: &Case) {
    let knows = known(&case.row);
    if let (Some(words), false) = (case.new, knows) {
        let side = Side::new(shared);
        if case.line.contains("$IMAGE") {
            side.prepare();
        }
        let output = go(&side, side.ctrsh_command(&case.line, false), case);
        assert!(!output.succeeded() && output.stderr.contains(words), "{output}");
        return;
    }
    let [theirs, ours] = [(); 2].map(|()| Side::new(shared));
    if std::iter::once(&case.line).chain(&case.before).any(|line| line.contains("$IMAGE")) {
        [&theirs, &ours].into_iter().for_each(Side::prepare);
    }
    for line in &case.before {
        let done = [&theirs, &ours].map(|side| before(side, line));
        if case.fate == Fate::Alike && done.iter().all(|output| !output.succeeded()) {
            let said = Side::new(shared).ctr(line.trim_start_matches('!'));
            assert!(!said.succeeded(), "ctrsh cannot do this:\n{said}");
            return;
        }
        done.into_iter().for_each(|output| drop(output.ok()));
    }
    // What came before the line may be taken at any moment, too.
    let _looking = case.kept.then(|| {
        state::collect(&ours);
        state::LOOKING.read().unwrap_or_else(PoisonError::into_inner)
    });
    let line = case.line.as_str();
    let json = matches!(case.asks, Asks::Spec | Asks::Words(_) | Asks::Read(..));
    let ended = |output: Output| {
        assert!(case.fate == Fate::Alike || output.succeeded() == (case.fate == Fate::Works), "{output}");
        output
    };
    let theirs_line = if knows { Some(case.theirs.unwrap_or(line)) } else { case.older.as_deref() };
    let said = theirs_line.map(|line| ended(go(&theirs, theirs.ctr_command(line), case)));
    let output = ended(go(&ours, ours.ctrsh_command(line, json), case));
    let fault = case.fault.filter(|(words, _)| said.as_ref().is_some_and(|said| said.stderr.contains(words)));
    if let Some(said) = &said {
        assert_eq!(output.succeeded(), said.succeeded() || fault.is_some(), "{output}{said}");
    }
    // What an operation leaves to the collector may be taken at any moment.
    if !case.kept {
        state::collect(&ours);
    }
    if let Some(said) = said.as_ref().filter(|said| said.succeeded()) {
        same_output(case, (&theirs, said), (&ours, &output));
    }
    let mut apart = case.apart.to_vec();
    if case.fate == Fate::Alike && !output.succeeded() {
        // What failed is taken away by ctrsh, and left by ctr.
        apart.extend(["web", "pod"]);
    }
    if let Some((_, without)) = fault {
        apart.extend(without);
    }
    let [mut theirs, mut ours] = both_after(case, &apart, [&theirs, &ours], said.is_some());
    let shows = output.stdout.contains(case.shows) || ours.to_string().contains(case.shows);
    assert!(shows, "nothing shows {}\n{output}\n{ours:#}", case.shows);
    [&mut theirs, &mut ours].into_iter().for_each(|state| without(state, &apart));
    let differs = state::difference(&ours, &theirs);
    if said.is_some() || case.asks.reads() || case.fate != Fate::Works {
        assert!(
            differs.is_empty(),
            "\n{}\n{output}{}",
            differs.join("\n"),
            said.map_or(String::new(), |o| o.to_string())
        );
    } else {
        assert!(!differs.is_empty(), "it did nothing\n{output}");
    }
    assert!(
        !case.asks.reads() || case.fate != Fate::Works || !output.stdout.trim().is_empty(),
        "it says nothing\n{output}"
    );
}

/// Does what comes before the line.
fn before(side: &Side, line: &str) -> Output {
    if line.is_empty() {
        state::ended(side);
    } else if line == "?" {
        state::look_ended(side);
    } else if let Some(line) = line.strip_prefix('@') {
        assert_eq!(Terminal::run(&side.ctr_command(line)).ended(), 0, "{line}");
    } else if let Some(line) = line.strip_prefix('!') {
        return Output::of(&mut side.ctrsh_command(line, false));
    } else {
        return side.ctr(line);
    }
    Output::default()
}

/// Runs a line.
fn go(side: &Side, mut command: Command, case: &Case) -> Output {
    match case.way {
        Way::Plain => Output::with_input(&mut command, case.input.as_bytes()),
        Way::Terminal(keys, seen) => {
            let mut terminal = Terminal::run(&command);
            // Its first prompt may have gone to who was attached before.
            terminal.press_until("\r", "a prompt", is_at_shell);
            terminal.press(keys);
            terminal.wait_for(seen);
            let text = terminal.text();
            let status = terminal.leave();
            Output { command: format!("{command:?}"), status: status as i32, stdout: text, stderr: String::new() }
        }
        Way::While(line) => {
            let path = side.folder.join("said");
            let mut child =
                command.stdout(File::create(&path).unwrap()).stderr(std::process::Stdio::null()).spawn().unwrap();
            let begun = Instant::now();
            let stdout = loop {
                side.ctr(line).ok();
                let text = std::fs::read_to_string(&path).unwrap();
                if text.contains(case.shows) {
                    break text;
                }
                assert!(begun.elapsed() < Duration::from_secs(20), "waited for {}:\n{text}", case.shows);
            };
            child.kill().unwrap();
            child.wait().unwrap();
            Output { command: format!("{command:?}"), status: 0, stdout, stderr: String::new() }
        }
    }
}

fn same_output(case: &Case, (theirs, said): (&Side, &Output), (ours, output): (&Side, &Output)) {
    match case.asks {
        Asks::Lines => assert_eq!(lines(ours, output), lines(theirs, said), "{output}"),
        Asks::Shape => assert_eq!(shapes(ours, output), shapes(theirs, said), "{output}"),
        Asks::Spec => {
            let [ours, theirs] = [(ours, output), (theirs, said)].map(|(side, output)| spec(side, &output.stdout));
            assert_eq!(state::difference(&ours, &theirs), Vec::<String>::new());
        }
        Asks::Words(starts) => {
            let found = words(ours, &output.stdout, starts);
            assert_eq!(found, words(theirs, &said.stdout, starts), "{output}{said}");
            assert!(!found.is_empty(), "{output}");
        }
        Asks::Read(of_theirs, of_ours) => {
            let value = first(&ours.common(&output.stdout)).unwrap_or_else(|| panic!("{output}"));
            assert_eq!(of_ours(&value), of_theirs(&theirs.common(&said.stdout)), "{output}{said}");
        }
        _ => {}
    }
}

fn lines(side: &Side, output: &Output) -> Vec<String> {
    let mut lines: Vec<String> =
        side.common(&output.stdout).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

fn shapes(side: &Side, output: &Output) -> Vec<String> {
    let shape = |line: String| {
        let mut shape = String::new();
        for c in line.chars() {
            match (c.is_ascii_digit(), shape.ends_with('0')) {
                (true, true) => {}
                (true, false) => shape.push('0'),
                (false, _) => shape.push(c),
            }
        }
        shape
    };
    lines(side, output).into_iter().map(shape).collect()
}

/// Returns the words of an output that begin so.
fn words(side: &Side, text: &str, starts: &[&str]) -> BTreeSet<String> {
    let starts: Vec<String> = starts.iter().map(|start| side.filled(start)).collect();
    let apart = |c: char| !c.is_ascii_alphanumeric() && !":._/@+=-".contains(c);
    let found = text.split(apart).map(|word| word.trim_start_matches([':', '@']));
    let wanted = found.filter(|word| starts.iter().any(|start| word.starts_with(start)));
    wanted.map(|word| side.common(word.trim_end_matches(['.', ':']))).collect()
}

/// Reads the first value of an output; a line that prints gives one of its own after that.
fn first(text: &str) -> Option<Value> {
    serde_json::Deserializer::from_str(text).into_iter().next()?.ok()
}

/// Reads a runtime spec that was printed.
fn spec(side: &Side, text: &str) -> Value {
    let mut spec = first(&side.common(text)).unwrap();
    state::as_meant(&mut spec);
    spec
}

/// Returns what both have after a line. What is to be the same may take a moment to become so.
fn both_after(case: &Case, apart: &[&str], sides: [&Side; 2], same: bool) -> [Value; 2] {
    let begun = Instant::now();
    loop {
        let both = sides.map(|side| after(side, case));
        let mut compared = both.clone();
        compared.iter_mut().for_each(|state| without(state, apart));
        if !same || compared[0] == compared[1] || begun.elapsed() > state::PATIENCE {
            return both;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns what there is after a line, as far as it is compared.
fn after(side: &Side, case: &Case) -> Value {
    if case.ends {
        state::ended(side);
    }
    let mut state = state::of(side);
    state["registries"] = json!(side.pushed());
    state["asked"] = asked(side, case.asks);
    state
}

fn asked(side: &Side, asks: Asks) -> Value {
    match asks {
        Asks::Archive => {
            let list = Output::of(Command::new("tar").arg("-tf").arg(side.folder.join("file"))).lines();
            let blob = |name: &String| name.starts_with("blobs/sha256/") && name.len() > 20;
            json!(list.into_iter().filter(blob).collect::<BTreeSet<_>>())
        }
        Asks::Pid => {
            let pid = std::fs::read_to_string(side.folder.join("file")).unwrap();
            assert_eq!([pid.trim().parse::<u32>().unwrap()], state::pids(side)[..]);
            Value::Null
        }
        Asks::File => json!(side.digest_of("file").expect("there is no $FILE")),
        Asks::Mounted => json!(side.folder.join("mnt/bin/busybox").exists()),
        _ => Value::Null,
    }
}

/// Takes out what begins so, wherever it is.
fn without(value: &mut Value, apart: &[&str]) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !apart.iter().any(|start| key.starts_with(start)));
            map.values_mut().for_each(|value| without(value, apart));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| without(item, apart)),
        _ => {}
    }
}
