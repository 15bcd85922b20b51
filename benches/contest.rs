//! One workload, who does it, and what it cost them.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wait4::Wait4;

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Ctrsh,
    Ctr,
    Skopeo,
    Crane,
}

impl Who {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ctrsh => "ctrsh",
            Self::Ctr => "ctr",
            Self::Skopeo => "skopeo",
            Self::Crane => "crane",
        }
    }
}

/// What one run cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub time: Duration,
    /// The resident memory of the largest process, in bytes.
    pub peak: u64,
}

/// One who does the work. Each step is given the number of the round.
pub struct Rival<'a> {
    pub who: Who,
    /// Makes things as they have to be; not measured.
    pub before: Box<dyn Fn(usize) + 'a>,
    /// The work.
    pub work: Box<dyn Fn(usize) -> Command + 'a>,
    /// Takes it back; not measured.
    pub after: Box<dyn Fn(usize) + 'a>,
}

impl<'a> Rival<'a> {
    pub fn new(who: Who, work: impl Fn(usize) -> Command + 'a) -> Self {
        Self { who, before: Box::new(|_| {}), work: Box::new(work), after: Box::new(|_| {}) }
    }

    pub fn before(self, step: impl Fn(usize) + 'a) -> Self {
        Self { before: Box::new(step), ..self }
    }

    pub fn after(self, step: impl Fn(usize) + 'a) -> Self {
        Self { after: Box::new(step), ..self }
    }
}

/// What is to be reached, for ctrsh against ctr.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bar {
    /// The time, as a part of ctr's.
    pub ratio: Option<f64>,
    /// The peak memory in MiB.
    pub peak: Option<f64>,
}

/// One workload.
pub struct Contest<'a> {
    pub name: String,
    pub rounds: usize,
    pub bar: Bar,
    /// Makes what all of them need, once.
    pub set: Box<dyn Fn() + 'a>,
    pub rivals: Vec<Rival<'a>>,
    /// Takes that away.
    pub clear: Box<dyn Fn() + 'a>,
}

/// What it came to.
pub struct Outcome {
    pub name: String,
    pub bar: Bar,
    /// By contestant, in the order in which they were named; a cost for each round.
    pub costs: Vec<(Who, Vec<Cost>)>,
}

impl Contest<'_> {
    /// Runs all rounds. The first is not counted: it warms the caches for everyone.
    pub fn run(self) -> Outcome {
        (self.set)();
        let mut costs: Vec<(Who, Vec<Cost>)> = self.rivals.iter().map(|rival| (rival.who, Vec::new())).collect();
        for round in 0..=self.rounds {
            for turn in 0..self.rivals.len() {
                let index = (round + turn) % self.rivals.len();
                let rival = &self.rivals[index];
                (rival.before)(round);
                // What earlier work left to be written is nobody's cost.
                rustix::fs::sync();
                let cost = measure((rival.work)(round));
                (rival.after)(round);
                if round > 0 {
                    eprintln!("  {} {:.3} s, {} KiB", rival.who.name(), cost.time.as_secs_f64(), cost.peak >> 10);
                    costs[index].1.push(cost);
                }
            }
        }
        (self.clear)();
        Outcome { name: self.name, bar: self.bar, costs }
    }
}

impl Outcome {
    pub fn of(&self, who: Who) -> Option<&[Cost]> {
        self.costs.iter().find(|(name, _)| *name == who).map(|(_, costs)| costs.as_slice())
    }

    /// Returns the median time in seconds.
    pub fn time(&self, who: Who) -> Option<f64> {
        Some(median(self.of(who)?.iter().map(|cost| cost.time.as_secs_f64()).collect()))
    }

    /// Returns the largest peak in MiB.
    pub fn peak(&self, who: Who) -> Option<f64> {
        let peak = self.of(who)?.iter().map(|cost| cost.peak).max()?;
        Some(peak as f64 / f64::from(1 << 20))
    }

    /// Returns the median of ctrsh's time over another's, round by round.
    pub fn ratio(&self, to: Who) -> Option<f64> {
        let (ours, theirs) = (self.of(Who::Ctrsh)?, self.of(to)?);
        let pairs = ours.iter().zip(theirs);
        Some(median(pairs.map(|(our, their)| our.time.as_secs_f64() / their.time.as_secs_f64()).collect()))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// Returns the peak that is measured for a program that needs next to nothing, in MiB: what this process adds.
pub fn floor() -> f64 {
    measure(Command::new("true")).peak as f64 / f64::from(1 << 20)
}

/// Runs a command to its end. It has to succeed.
fn measure(mut command: Command) -> Cost {
    let mut errors = tempfile::tempfile().unwrap();
    let output = errors.as_fd().try_clone_to_owned().unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
    // The kernel counts the memory that a process had before exec. A user of its own makes the standard library fork,
    // which shares little, and not spawn, which shares all of this process.
    command.uid(rustix::process::getuid().as_raw());
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    let ended = child.wait4().unwrap();
    let time = start.elapsed();
    if !ended.status.success() {
        use std::io::{Read, Seek};
        let mut text = String::new();
        errors.rewind().unwrap();
        errors.read_to_string(&mut text).unwrap();
        panic!("{command:?}: {}: {text}", ended.status);
    }
    // Of the largest among the process and those that it waited for.
    Cost { time, peak: ended.rusage.maxrss }
}
