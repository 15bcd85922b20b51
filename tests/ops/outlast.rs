//! What waits for a process outlasts a restart of the daemon: the process lives on in its shim.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::harness::daemon::Daemon;
use crate::harness::output::Output;
use crate::harness::{Env, Kind, PROMPT, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![trial("ops::outlast::what waits for a process does not notice a restart of the daemon", env, restarted)]
}

/// Waits until a file is there.
#[track_caller]
fn wait_for(path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < PROMPT, "{} does not come", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a program whose output is read when it has ended.
fn begin(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[track_caller]
fn end(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

fn restarted(env: &Env) {
    let mut daemon = Daemon::start(&env.new_folder("outlast"));
    let (image, socket) = (env.pushed(Kind::Busybox, "outlast"), daemon.socket());
    let shared = env.new_folder("outlast");
    // runc keeps what runs by namespace and id, whichever daemon it is of.
    let [holder, logged, ran] = ["box", "logged", "ran"].map(|name| env.fresh(name));
    let ctrsh = |script: &str| {
        let mut command = env.ctrsh_command();
        command.arg("-a").arg(&socket).args(["--snapshotter", &env.snapshotter()]);
        command.args(["--allow", "all", "-e", script]);
        command
    };
    let mount = format!("mount: \"type=bind,src={},dst=/shared,options=rbind:rw\"", shared.display());
    // Says that it runs, and ends when it is told to.
    let waiting = |name: &str| {
        format!(
            "command: [\"sh\", \"-c\", \
             \"echo begun; touch /shared/{name}; until [ -e /shared/go ]; do sleep 0.1; done; echo done; exit 7\"]"
        )
    };
    let prepare = format!(
        "pull(\"{image}\");
         run(\"{image}\", #{{ id: \"{holder}\", detach: true, command: [\"sleep\", \"1000\"], {mount} }});
         run(\"{image}\", #{{ id: \"{logged}\", detach: true, {}, {mount} }});",
        waiting("logged")
    );
    Output::of(&mut ctrsh(&prepare)).ok();
    let told = "print(`${p.code} ${p.stdout.contains(\"begun\")} ${p.stdout.contains(\"done\")}`)";
    let exec = format!(
        "let o = #{{ {} }}; let p = exec(\"{holder}\", o.command, #{{ stdin: \"\" }}); {told}",
        waiting("exec")
    );
    let run = format!("let p = run(\"{image}\", #{{ id: \"{ran}\", rm: true, {}, {mount} }}); {told}", waiting("run"));
    let exec = begin(&mut ctrsh(&exec));
    let run = begin(&mut ctrsh(&run));
    let wait = begin(&mut ctrsh(&format!("write_file({:?}, \"\"); print(wait(\"{logged}\"))", shared.join("wait"))));
    let mut logs = ctrsh(&format!("logs(\"{logged}\", #{{ follow: true }})"));
    let mut logs = begin(&mut logs);
    let mut begun = [0; 6];
    std::io::Read::read_exact(logs.stdout.as_mut().unwrap(), &mut begun).unwrap();
    assert_eq!(&begun, b"begun\n");
    for name in ["exec", "run", "logged", "wait"] {
        wait_for(&shared.join(name));
    }
    // What is asked right after that is answered by now.
    std::thread::sleep(Duration::from_secs(2));
    daemon.kill();
    std::thread::sleep(Duration::from_millis(500));
    daemon.restart();
    std::fs::write(shared.join("go"), "").unwrap();
    assert_eq!(end(exec), "7 true true\n");
    assert_eq!(end(run), "7 true true\n");
    assert_eq!(end(wait), "7\n");
    assert_eq!(end(logs).trim_end(), "done");
    let left = format!("delete([\"{holder}\", \"{logged}\"], #{{ force: true }}); print(containers().len())");
    assert_eq!(Output::of(ctrsh(&left).arg("--yes")).ok(), "0\n");
}
