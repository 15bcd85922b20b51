//! Races of a container's life: whatever happens first, the exit code is exact and nothing stays.
//!
//! `CTRSH_RACES` says how many there are in all; the suite takes two hundred.

#![expect(clippy::large_futures, reason = "whole operations are awaited here")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ctrsh::kind::{Failure, Kind};
use ctrsh::oci::spec::SpecOptions;
use ctrsh::ops::container::{
    Create, CreateOptions, Delete, Exec, ExecOptions, Kill, Run, RunOptions, Start, StartOptions, wait,
};
use ctrsh::ops::{Error, Operation, execute};
use futures_util::{StreamExt, stream};
use libtest_mimic::Trial;

use super::stage::{IMAGE, Stage};
use crate::harness::leftovers::{open_descriptors, threads};
use crate::harness::{Env, trial};

const RACES: usize = 200;
const SIDE_BY_SIDE: usize = 4;

/// What races with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Race {
    /// A process that ends within 5 ms, with those who wait for its end and read its output.
    Exit,
    /// A kill, with the start of what it kills.
    KillAfterStart,
    /// A kill, with the making of the task: it finds none, a created one or a running one.
    KillInStart,
    /// An exec, with the end of the process whose container it runs in.
    Exec,
    /// The end of the caller's interest, with all that is being made.
    Drop,
    /// The end of the caller's interest, with an exec that is being made, started or waited for.
    DropExec,
}

const ALL: [Race; 6] = [Race::Exit, Race::KillAfterStart, Race::KillInStart, Race::Exec, Race::Drop, Race::DropExec];

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![trial("ops::races::whatever comes first, exit codes are exact and nothing stays", env, races)]
}

fn races(env: &Env) {
    let stage = Stage::new(env, "races");
    let count = std::env::var("CTRSH_RACES").map_or(RACES, |text| text.parse().unwrap());
    // One of each kind, so that what is made once and kept is there before anything is counted.
    play(&stage, ALL.len());
    let before = stage.leftovers();
    let of_this = std::process::id();
    let (descriptors, running) = (open_descriptors(of_this), threads(of_this));
    let begun = Instant::now();
    let ends = play(&stage, count);
    eprintln!("races: {count} in {:.0?}: {ends:?}", begun.elapsed());
    // What the daemon was still doing when a request was cut off shows a moment later.
    let deadline = Instant::now() + Duration::from_secs(10);
    while stage.leftovers() != before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(stage.leftovers(), before);
    // Other tests run beside this one and open some of their own; a leak in each race would show.
    assert!(open_descriptors(of_this) < descriptors + 100, "{} after {descriptors}", open_descriptors(of_this));
    assert!(threads(of_this) < running + 100, "{} after {running}", threads(of_this));
}

/// Plays so many races; returns how often each kind ended how.
fn play(stage: &Stage, count: usize) -> BTreeMap<(Race, &'static str), usize> {
    let races = stream::iter((0..count).map(|number| async move {
        let race = ALL[number % ALL.len()];
        let pause = Duration::from_micros(rand::random_range(0..5000));
        let id = stage.env.fresh("races");
        let end = match race {
            Race::Exit => Box::pin(exit(stage, pause, number)).await,
            Race::KillAfterStart => kill_after_start(stage, &id, pause).await,
            Race::KillInStart => kill_in_start(stage, &id, pause * 16).await,
            Race::Exec => exec(stage, &id, pause * 16, number).await,
            Race::Drop => drop_it(stage, pause * 40).await,
            Race::DropExec => drop_exec(stage, &id, pause * 40).await,
        };
        (race, end)
    }));
    stage.env.block_on(races.buffer_unordered(SIDE_BY_SIDE).fold(BTreeMap::new(), async |mut ends, end| {
        *ends.entry(end).or_default() += 1;
        ends
    }))
}

fn command(script: &str) -> CreateOptions {
    let command = Some(["sh", "-c", script].map(str::to_owned).to_vec());
    CreateOptions { spec: SpecOptions { command, ..SpecOptions::default() }, ..CreateOptions::default() }
}

/// A script that ends after a time with a code that is different from one race to the next.
fn ending(pause: Duration, number: usize) -> (String, u32) {
    let code = u32::try_from(number % 125).unwrap() + 1;
    (format!("usleep {}; echo {code}; exit {code}", pause.as_micros()), code)
}

async fn run<O: Operation>(stage: &Stage, operation: O) -> Result<O::Output, Error> {
    let result = execute(&stage.ctx, operation).await;
    if result.is_err() {
        stage.ctx.debts().settle().await;
    }
    result
}

async fn start(stage: &Stage, id: &str, script: &str) {
    run(stage, Create::new(id, IMAGE, command(script))).await.unwrap();
    run(stage, Start::new(id, StartOptions::default())).await.unwrap();
}

fn killing(id: &str) -> Kill {
    Kill::new(id, Some("KILL".parse().unwrap()))
}

async fn ended(stage: &Stage, id: &str) -> u32 {
    wait(&stage.ctx, id, "", Some(Duration::from_secs(60))).await.unwrap().code
}

async fn exit(stage: &Stage, pause: Duration, number: usize) -> &'static str {
    let (script, code) = ending(pause, number);
    let options = RunOptions { create: command(&script), ..RunOptions::default() };
    let ran = Box::pin(run(stage, Run::new(IMAGE, options))).await;
    let done = ran.unwrap().finished.unwrap();
    assert_eq!((done.code, done.output.stdout.text()), (code, format!("{code}\n")), "after {pause:?}");
    "exited"
}

async fn kill_after_start(stage: &Stage, id: &str, pause: Duration) -> &'static str {
    start(stage, id, "sleep 100").await;
    tokio::time::sleep(pause).await;
    run(stage, killing(id)).await.unwrap();
    assert_eq!(ended(stage, id).await, 137);
    run(stage, Delete::new(id, false, false)).await.unwrap();
    "killed"
}

async fn kill_in_start(stage: &Stage, id: &str, pause: Duration) -> &'static str {
    run(stage, Create::new(id, IMAGE, command("sleep 100"))).await.unwrap();
    let starting = run(stage, Start::new(id, StartOptions::default()));
    let killer = async {
        tokio::time::sleep(pause).await;
        run(stage, killing(id)).await
    };
    let end = match tokio::join!(starting, killer) {
        // It was there, and has to end by it.
        (Ok(_), Ok(_)) => {
            assert_eq!(ended(stage, id).await, 137);
            "killed"
        }
        (Ok(_), Err(error)) => {
            assert_eq!(error.kind(), Kind::Conflict, "{error}");
            run(stage, killing(id)).await.unwrap();
            assert_eq!(ended(stage, id).await, 137);
            "killed too early"
        }
        // Killed before it was started; the task is taken back.
        (Err(_), Ok(_)) => "never started",
        (Err(started), Err(killed)) => panic!("{started}; {killed}"),
    };
    run(stage, Delete::new(id, false, false)).await.unwrap();
    end
}

async fn exec(stage: &Stage, id: &str, pause: Duration, number: usize) -> &'static str {
    let (script, code) = ending(pause, number);
    start(stage, id, &script).await;
    let args = ["sh", "-c", "exit 77"].map(str::to_owned).to_vec();
    let end = match run(stage, Exec::new(id, args, ExecOptions::default())).await {
        Ok(done) if done.code == 77 => "came before",
        // The end of a container's first process kills the others (pid_namespaces(7)).
        Ok(done) if done.code == 137 => "was killed",
        Ok(done) => panic!("exec ended with {}", done.code),
        Err(error) => {
            assert_eq!(error.kind(), Kind::Conflict, "{error}");
            assert!(error.to_string().contains(id), "{error}");
            "came too late"
        }
    };
    assert_eq!(ended(stage, id).await, code);
    run(stage, Delete::new(id, false, false)).await.unwrap();
    end
}

async fn drop_it(stage: &Stage, after: Duration) -> &'static str {
    let options = RunOptions { create: command("sleep 100"), ..RunOptions::default() };
    let running = execute(&stage.ctx, Run::new(IMAGE, options));
    assert!(tokio::time::timeout(after, running).await.is_err(), "it ended by itself");
    stage.ctx.debts().settle().await;
    "dropped"
}

async fn drop_exec(stage: &Stage, id: &str, after: Duration) -> &'static str {
    start(stage, id, "sleep 100").await;
    let args = ["sleep", "50"].map(str::to_owned).to_vec();
    let executing = execute(&stage.ctx, Exec::new(id, args, ExecOptions::default()));
    assert!(tokio::time::timeout(after, executing).await.is_err(), "it ended by itself");
    stage.ctx.debts().settle().await;
    let client = stage.ctx.client().await.unwrap();
    let left = client.tasks().pids(id).await.unwrap();
    assert_eq!(left.len(), 1, "the exec runs on: {left:?}");
    run(stage, killing(id)).await.unwrap();
    assert_eq!(ended(stage, id).await, 137);
    run(stage, Delete::new(id, false, false)).await.unwrap();
    "exec dropped"
}
