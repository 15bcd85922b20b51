//! The fault matrix: each kind of fault at each request that movement is made of, once, three times and for ever.
//!
//! What passes ends with the same bytes, what lasts with the right kind of error, both within a time; nothing that was
//! begun stays, and credentials go nowhere else. The clock runs ahead, so the pauses and time-outs are those of the product.

mod kinds;
mod operation;
mod scene;
mod status;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use libtest_mimic::Trial;

use crate::harness::{Env, clock, pure, trial};
use kinds::{Outcome, TROUBLES, Trouble};
use operation::{Deed, Operation};
use scene::Scene;

/// How often a fault happens: a number of times, or for ever.
const ALWAYS: usize = usize::MAX;
const TIMES: [usize; 3] = [1, 3, ALWAYS];
/// How many cells run side by side: they mostly wait.
const SIDE_BY_SIDE: usize = 12;
/// How fast the clock runs, and how fast where a daemon takes back what was begun, which waits for the disk.
const FAST: u32 = 20;
const SLOWER: u32 = 10;

pub fn trials(env: &Env) -> Vec<Trial> {
    let mut trials = vec![pure("faults::the matrix has all kinds and all operations", complete)];
    for operation in Operation::ALL {
        trials.push(trial(&format!("faults::{}", operation.name()), env, move |env| run(env, operation)));
    }
    trials.extend(status::trials(env));
    trials
}

/// One place of the matrix.
#[derive(Clone, Copy)]
pub struct Cell {
    pub operation: Operation,
    pub trouble: Trouble,
    pub times: usize,
    pub outcome: Outcome,
}

impl Cell {
    /// Returns how long it may take until what passes succeeds, and what lasts is given up: the pauses and silences of
    /// eight tries. An upload that was sent whole is acknowledged or not within five minutes, and tried twice. A body that
    /// crawls is noticed in the second minute, each of the three times until the layer is whole.
    fn deadline(&self) -> Duration {
        Duration::from_secs(match self.trouble.name {
            "no answer" if self.operation.commits() => 660,
            "body trickles" => 420,
            _ => 360,
        })
    }

    /// Returns how many uploads may stay in the registry because nobody can end them: where the answer was lost that names
    /// one, where a part of a request arrived (docker-registry signs how much it has of an upload into the address, and
    /// refuses the address before), and where it wants to be left alone for an hour.
    fn out_of_reach(&self, happened: usize, given_up: usize) -> usize {
        use Operation::{Open, Piece, Whole};
        given_up
            + match (self.operation, self.trouble.name) {
                (_, "429 with an hour to wait") => 2,
                (Open | Piece, "answer lost") | (Whole, "request cut off") => happened,
                _ => 0,
            }
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let times = if self.times == ALWAYS { "for ever".to_owned() } else { format!("{} times", self.times) };
        write!(f, "{} at {}, {times}", self.trouble.name, self.operation.name())
    }
}

fn cells(operation: Operation) -> Vec<Cell> {
    let possible = TROUBLES.iter().filter_map(|trouble| Some((trouble, trouble.outcome(operation)?)));
    let with_times = |(trouble, outcome): (&Trouble, Outcome)| {
        let trouble = *trouble;
        TIMES.map(|times| Cell { operation, trouble, times, outcome })
    };
    // Whether three tokens that end hit one upload or two is chance.
    let is_chance = |cell: &Cell| {
        let both = matches!(cell.operation, Operation::Open | Operation::Piece);
        both && cell.trouble.name == "token expired" && cell.times == 3
    };
    possible.flat_map(with_times).filter(|cell| !is_chance(cell)).collect()
}

fn complete() {
    let all: Vec<Cell> = Operation::ALL.into_iter().flat_map(cells).collect();
    for trouble in TROUBLES {
        assert!(all.iter().any(|cell| cell.trouble.name == trouble.name), "{} is nowhere", trouble.name);
    }
    let (kinds, places) = (TROUBLES.len(), all.iter().filter(|cell| cell.times == 1).count());
    assert!(kinds >= 34 && places >= 210, "{kinds} kinds of faults at {places} places");
    let operations = Operation::ALL.len();
    tell(&format!("{kinds} kinds of faults, {operations} operations, {places} places, {} cells", all.len()));
}

fn run(env: &Env, operation: Operation) {
    let scene = Scene::set(env, operation);
    let mut cells = cells(operation);
    if let Ok(part) = std::env::var("CTRSH_CELLS") {
        cells.retain(|cell| cell.to_string().contains(&part));
    }
    assert!(!cells.is_empty());
    let speed = if operation.deed() == Deed::Pull { SLOWER } else { FAST };
    let wrong: Vec<String> = clock::ahead(speed, scene.under_way(), async {
        let runs = cells.iter().map(|cell| AssertUnwindSafe(scene.play(*cell)).catch_unwind());
        let ended: Vec<_> = stream::iter(runs).buffered(SIDE_BY_SIDE).collect().await;
        let told = ended.into_iter().zip(&cells).filter_map(|(ended, cell)| {
            let problem = match ended {
                Ok(result) => result.err()?,
                Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".into()),
            };
            Some(format!("{cell}: {problem}"))
        });
        told.collect()
    });
    assert!(wrong.is_empty(), "{} of {} cells are wrong:\n{}", wrong.len(), cells.len(), wrong.join("\n"));
    tell(&format!("{}: {} cells", operation.name(), cells.len()));
}

fn tell(text: &str) {
    eprintln!("faults: {text}");
}
