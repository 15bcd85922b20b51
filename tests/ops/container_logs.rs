//! What containers wrote: logs of any length.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::spec::SpecOptions;
use ctrsh::ops::container::{CreateOptions, Delete, Run, RunOptions, logs, wait};
use libtest_mimic::Trial;

use super::stage::{IMAGE, Stage};
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::container_logs::a log that is too long is not read", env, too_long),
        trial("ops::container_logs::a line without end is followed", env, endless_line),
    ]
}

/// Runs a container that has ended, and returns its id.
fn ended(stage: &Stage, script: &str) -> String {
    let id = stage.env.fresh("logs");
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let create = CreateOptions {
        spec: SpecOptions { command: Some(command), ..SpecOptions::default() },
        ..CreateOptions::default()
    };
    let options = RunOptions { id: Some(id.clone()), create, detach: true, ..RunOptions::default() };
    stage.run(Run::new(IMAGE, options)).unwrap();
    stage.env.block_on(wait(&stage.ctx, &id, "", None)).unwrap();
    id
}

/// Returns the file that a container's output went to.
fn file(stage: &Stage, id: &str) -> PathBuf {
    stage.ctx.settings().log_dir.join(&stage.namespace).join(format!("{id}.log"))
}

/// A thousand MiB, of which the disk keeps none, and a line.
fn too_long(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let id = ended(&stage, "echo first");
    let log = OpenOptions::new().write(true).open(file(&stage, &id)).unwrap();
    log.write_all_at(b"\nlast but one\nlast\n", 1000 << 20).unwrap();
    let error = env.block_on(logs(&stage.ctx, &id, None, 16 << 20)).unwrap_err();
    assert_eq!(error.kind(), Failed::Usage, "{error}");
    assert_eq!(error.to_string(), format!("the log of {id} is 1001 MiB long, and a string holds up to 16 MiB"));
    assert!(error.hint().unwrap().contains("tail: 1000"), "{:?}", error.hint());
    assert_eq!(env.block_on(logs(&stage.ctx, &id, Some(2), 16 << 20)).unwrap(), b"last but one\nlast\n");
    // Three lines are as much as all of it but the first.
    let error = env.block_on(logs(&stage.ctx, &id, Some(3), 16 << 20)).unwrap_err();
    assert!(error.to_string().contains("3 lines") && error.hint().unwrap().contains("tail: 1 "), "{error}");
    stage.run(Delete::new(&id, true, false)).unwrap();
    // The program says the same, and does not need the memory for it.
    let program = Program::new(&stage, "true");
    let log = OpenOptions::new().write(true).open(&program.log).unwrap();
    log.write_all_at(b"\nlast\n", 1000 << 20).unwrap();
    let (told, peak) = program.says(
        "try { logs(args()[0]); } catch (e) { print(e.message); print(e.hint); } print(logs(args()[0], #{ tail: 1 }));",
    );
    assert!(told.contains("1001 MiB") && told.contains("tail: 1000") && told.contains("\nlast\n"), "{told}");
    assert!(peak < 200 << 10, "{peak} KiB of memory");
    program.end();
}

/// Forty MiB without the end of a line.
fn endless_line(env: &Env) {
    let stage = Stage::new(env, "tasks");
    let program = Program::new(&stage, "head -c 41943040 /dev/zero | tr '\\\\0' x; echo; echo end");
    let begun = Instant::now();
    let (told, peak) = program.says("logs(args()[0], #{ follow: true });");
    let took = begun.elapsed();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.last(), Some(&"end"));
    assert_eq!(lines.concat().len(), 41_943_040 + 3);
    assert!(lines.iter().all(|line| line.len() <= 1 << 20));
    assert!(peak < 200 << 10, "{peak} KiB of memory");
    assert!(took < Duration::from_secs(30), "{took:?}");
    program.end();
}

/// A container that the program has run, and its log.
struct Program<'a> {
    stage: &'a Stage,
    id: String,
    log: PathBuf,
}

impl<'a> Program<'a> {
    fn new(stage: &'a Stage, script: &str) -> Self {
        let id = stage.env.fresh("logs");
        let run = format!(
            "run(\"{IMAGE}\", #{{ id: \"{id}\", detach: true, command: [\"sh\", \"-c\", \"{script}\"] }}); wait(\"{id}\")"
        );
        stage.env.ctrsh(&["-n", &stage.namespace, "--snapshotter", &stage.snapshotter, "-e", &run]).ok();
        let log = PathBuf::from("/var/log/ctrsh").join(&stage.namespace).join(format!("{id}.log"));
        Self { stage, id, log }
    }

    /// Runs a script with the container's id, and returns what it printed, and how many KiB of memory it had at most.
    fn says(&self, script: &str) -> (String, u64) {
        let peak = "for line in read_lines(\"/proc/self/status\") { if line.starts_with(\"VmHWM\") { print(line) } }";
        let script = format!("{script} {peak}");
        let told = self.stage.env.ctrsh(&["-n", &self.stage.namespace, "--allow", "all", "-e", &script, &self.id]).ok();
        let (told, peak) = told.rsplit_once("VmHWM:").unwrap();
        (told.to_owned(), peak.trim().trim_end_matches("kB").trim().parse().unwrap())
    }

    fn end(self) {
        self.stage.run(Delete::new(&self.id, true, false)).unwrap();
        std::fs::remove_file(&self.log).unwrap_or_default();
        std::fs::remove_dir(self.log.parent().unwrap()).unwrap_or_default();
    }
}
