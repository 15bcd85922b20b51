//! Two hundred rounds in one script: nothing grows, in the daemon and in the program itself.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use libtest_mimic::Trial;

use super::stage::{IMAGE, Stage};
use crate::harness::leftovers::{open_descriptors, threads};
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![trial("ops::rounds::two hundred rounds of a script leave no descriptor or thread", env, rounds)]
}

/// Ends the program also when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn rounds(env: &Env) {
    let stage = Stage::new(env, "rounds");
    let before = stage.leftovers();
    let script = format!(
        r#"for round in 0..200 {{
            let c = create(`rounds-${{round}}`, "{IMAGE}", #{{ command: ["sleep", "1000"] }});
            c.start();
            let said = c.exec(["sh", "-c", `echo ${{round}}; exit 3`]);
            if said.code != 3 || said.stdout != `${{round}}\n` {{ throw `round ${{round}}: ${{said.code}} ${{said.stdout}}` }}
            c.stop(#{{ timeout: "0s" }});
            c.delete();
            if round == 20 || round == 199 {{ print(`round ${{round}}`); sleep("3s") }}
        }}"#
    )
    .replace("\\n`", "` + \"\\n\"");
    let mut command = env.ctrsh_command();
    command.args(["-n", &stage.namespace, "--snapshotter", &stage.snapshotter, "-e", &script]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = Running(command.spawn().unwrap());
    let pid = child.0.id();
    let mut seen = Vec::new();
    for line in BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if line.starts_with("round ") {
            // Idle workers of the runtime end by themselves within the pause of the script.
            std::thread::sleep(std::time::Duration::from_millis(700));
            seen.push((open_descriptors(pid), threads(pid)));
        }
    }
    assert!(child.0.wait().unwrap().success());
    let [early, late] = seen[..] else { panic!("the script did not get through: {seen:?}") };
    assert_eq!(late.0, early.0, "open descriptors");
    assert!(late.1 <= early.1 + 1, "threads grew from {} to {}", early.1, late.1);
    assert_eq!(stage.leftovers(), before);
}
