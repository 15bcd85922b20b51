//! One workload, who does it, and what it cost them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wait4::Wait4;

/// What one run cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub time: Duration,
    /// What the process and those that it waited for took of the processors.
    pub cpu: Duration,
    /// The resident memory of the largest process, in bytes.
    pub peak: u64,
}

/// What a way of doing it in ctrsh is to reach.
#[derive(Debug, Clone, Default)]
pub struct Aims {
    /// By rival, the time as a part of the rival's.
    ratios: Vec<(&'static str, f64)>,
    /// The peak memory in MiB.
    pub peak: Option<f64>,
    /// Seconds of the processors.
    pub cpu: Option<f64>,
}

impl Aims {
    /// Returns what part of a rival's time is to be reached.
    pub fn ratio(&self, rival: &str) -> Option<f64> {
        self.ratios.iter().find(|(name, _)| *name == rival).map(|(_, ratio)| *ratio)
    }
}

/// One who does the work. Each step is given the number of the round.
pub struct Rival<'a> {
    pub name: &'static str,
    /// What is to be reached; none of those that ctrsh is measured against.
    aims: Option<Aims>,
    /// Makes things as they have to be; not measured.
    before: Box<dyn Fn(usize) + 'a>,
    /// The work.
    work: Box<dyn Fn(usize) -> Command + 'a>,
    /// Whether the time begins with the first line that the work prints.
    prepares: bool,
    /// Sees whether the work was done; not measured.
    check: Box<dyn Fn(usize) + 'a>,
    /// Takes it back; not measured.
    after: Box<dyn Fn(usize) + 'a>,
}

impl<'a> Rival<'a> {
    /// One that ctrsh is measured against.
    pub fn new(name: &'static str, work: impl Fn(usize) -> Command + 'a) -> Self {
        let (before, check, after) = (Box::new(|_| {}), Box::new(|_| {}), Box::new(|_| {}));
        Self { name, aims: None, before, work: Box::new(work), prepares: false, check, after }
    }

    /// A way of doing it in ctrsh.
    pub fn ours(name: &'static str, work: impl Fn(usize) -> Command + 'a) -> Self {
        Self { aims: Some(Aims::default()), ..Self::new(name, work) }
    }

    pub fn is_ours(&self) -> bool {
        self.aims.is_some()
    }

    fn aim(mut self, set: impl FnOnce(&mut Aims)) -> Self {
        set(self.aims.get_or_insert_default());
        self
    }

    /// It is to take at most this part of a rival's time.
    pub fn within(self, ratio: f64, of: &'static str) -> Self {
        self.aim(|aims| aims.ratios.push((of, ratio)))
    }

    /// It is to have at most so many MiB.
    pub fn peak(self, mebibytes: f64) -> Self {
        self.aim(|aims| aims.peak = Some(mebibytes))
    }

    /// It is to take at most so many seconds of the processors.
    pub fn cpu(self, seconds: f64) -> Self {
        self.aim(|aims| aims.cpu = Some(seconds))
    }

    /// Its time begins with the first line that it prints.
    pub fn prepares(self) -> Self {
        Self { prepares: true, ..self }
    }

    pub fn before(self, step: impl Fn(usize) + 'a) -> Self {
        Self { before: Box::new(step), ..self }
    }

    pub fn check(self, step: impl Fn(usize) + 'a) -> Self {
        Self { check: Box::new(step), ..self }
    }

    pub fn after(self, step: impl Fn(usize) + 'a) -> Self {
        Self { after: Box::new(step), ..self }
    }
}

/// One workload.
pub struct Contest<'a> {
    pub name: String,
    /// How many rounds count.
    pub rounds: usize,
    /// Whether a round that does not count comes first, which warms the caches for everyone.
    pub warm_up: bool,
    /// Makes what all of them need, once.
    set: Box<dyn Fn() + 'a>,
    rivals: Vec<Rival<'a>>,
    /// Takes that away.
    clear: Box<dyn Fn() + 'a>,
}

/// What it came to.
pub struct Outcome {
    pub name: String,
    pub rounds: usize,
    /// In the order in which they were named.
    pub entries: Vec<Entry>,
}

/// What it came to for one of them.
pub struct Entry {
    pub name: &'static str,
    /// What was to be reached, of ctrsh.
    pub aims: Option<Aims>,
    /// By round.
    costs: Vec<Cost>,
    /// Whether its time is only a part of what it took of the processors.
    prepares: bool,
}

impl<'a> Contest<'a> {
    pub fn new(name: impl Into<String>, rounds: usize, rivals: Vec<Rival<'a>>) -> Self {
        Self { name: name.into(), rounds, warm_up: true, set: Box::new(|| {}), rivals, clear: Box::new(|| {}) }
    }

    pub fn set(self, step: impl Fn() + 'a) -> Self {
        Self { set: Box::new(step), ..self }
    }

    pub fn clear(self, step: impl Fn() + 'a) -> Self {
        Self { clear: Box::new(step), ..self }
    }

    /// Counts all rounds: it takes so long that the caches do not matter.
    pub fn without_warm_up(self) -> Self {
        Self { warm_up: false, ..self }
    }

    /// Runs all rounds with those who take part.
    pub fn run(mut self, takes_part: impl Fn(&str) -> bool) -> Outcome {
        self.rivals.retain(|rival| takes_part(rival.name));
        (self.set)();
        let entry = |rival: &Rival<'_>| {
            let (aims, prepares) = (rival.aims.clone(), rival.prepares);
            Entry { name: rival.name, aims, costs: Vec::new(), prepares }
        };
        let mut entries: Vec<Entry> = self.rivals.iter().map(entry).collect();
        for round in usize::from(!self.warm_up)..=self.rounds {
            for turn in 0..self.rivals.len() {
                let index = (round + turn) % self.rivals.len();
                let rival = &self.rivals[index];
                (rival.before)(round);
                let command = (rival.work)(round);
                // What earlier work left to be written is nobody's cost.
                rustix::fs::sync();
                let cost = measure(command, rival.prepares);
                (rival.check)(round);
                (rival.after)(round);
                if round > 0 {
                    let (time, cpu) = (cost.time.as_secs_f64(), cost.cpu.as_secs_f64());
                    eprintln!("  {} {time:.3} s, {cpu:.3} CPU s, {} KiB", rival.name, cost.peak >> 10);
                    entries[index].costs.push(cost);
                }
            }
        }
        (self.clear)();
        Outcome { name: self.name, rounds: self.rounds, entries }
    }
}

impl Entry {
    /// Returns the median time in seconds.
    pub fn time(&self) -> f64 {
        median(self.costs.iter().map(|cost| cost.time.as_secs_f64()).collect())
    }

    /// Returns the median of the processors' seconds, where they are those of the time.
    pub fn cpu(&self) -> Option<f64> {
        (!self.prepares).then(|| median(self.costs.iter().map(|cost| cost.cpu.as_secs_f64()).collect()))
    }

    /// Returns the largest peak in MiB.
    pub fn peak(&self) -> f64 {
        self.costs.iter().map(|cost| cost.peak).max().unwrap_or_default() as f64 / f64::from(1 << 20)
    }

    /// Returns the median of its time over another's, round by round.
    pub fn ratio(&self, to: &Self) -> f64 {
        let pairs = self.costs.iter().zip(&to.costs);
        median(pairs.map(|(our, their)| our.time.as_secs_f64() / their.time.as_secs_f64()).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// Returns the peak that is measured for a program that needs next to nothing, in MiB: what this process adds.
pub fn floor() -> f64 {
    measure(forked(Command::new("true")), false).peak as f64 / f64::from(1 << 20)
}

/// Has a command forked. The kernel counts the memory that a process had before exec. A user of its own makes the
/// standard library fork, which shares little, and not spawn, which shares all of this process.
pub fn forked(mut command: Command) -> Command {
    command.uid(rustix::process::getuid().as_raw());
    command
}

/// Runs a command to its end. It has to succeed.
fn measure(mut command: Command, prepares: bool) -> Cost {
    let mut errors = tempfile::tempfile().unwrap();
    let output = errors.as_fd().try_clone_to_owned().unwrap();
    let printed = if prepares { Stdio::piped() } else { Stdio::null() };
    command.stdin(Stdio::null()).stdout(printed).stderr(output);
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    let start = first_line(&mut child).unwrap_or(start);
    let ended = child.wait4().unwrap();
    let time = start.elapsed();
    if !ended.status.success() {
        let mut text = String::new();
        errors.rewind().unwrap();
        File::read_to_string(&mut errors, &mut text).unwrap();
        panic!("{command:?}: {}: {text}", ended.status);
    }
    let usage = ended.rusage;
    // The peak is that of the largest among the process and those that it waited for.
    Cost { time, cpu: usage.utime + usage.stime, peak: usage.maxrss }
}

/// Waits for the first line that a process prints, where that is read at all, and throws the others away.
fn first_line(child: &mut Child) -> Option<Instant> {
    let mut printed = BufReader::new(child.stdout.take()?);
    printed.read_line(&mut String::new()).unwrap();
    let now = Instant::now();
    std::thread::spawn(move || std::io::copy(&mut printed, &mut std::io::sink()));
    Some(now)
}
