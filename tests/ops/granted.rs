//! What a grant holds back, however the script says it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ctrsh::grant::Allow;
use ctrsh::kind::Kind as Failed;
use ctrsh::ops::Context;
use ctrsh::script::Report;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::stage::{IMAGE, Stage};
use crate::examples::Quiet;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::granted::paths are held to where they lead", env, paths),
        trial("ops::granted::a cgroup that is not the container's own needs the host", env, cgroups),
        trial("ops::granted::a container does not share its cgroup with the host", env, shared_cgroup),
        trial("ops::granted::device rules by number are rules all the same", env, device_rules),
        trial("ops::granted::what reaches the host by a mount or an annotation needs the host", env, reaching),
        trial("ops::granted::entering what reaches the host needs the host", env, entering),
        trial("ops::granted::a log is written where its name leads from the working folder", env, relative_log),
        trial("ops::granted::events of a namespace that may not be read are not seen", env, events),
        trial("ops::granted::a label that has a container started counts as its start", env, labels),
    ]
}

fn run(stage: &Stage, ctx: &Context, code: &str) -> Result<Value, Report> {
    let mut interpreter = stage.interpreter(ctx, std::sync::Arc::new(Quiet));
    let evaluated = interpreter.run(code, None, Default::default())?;
    interpreter.json(&evaluated)
}

#[track_caller]
fn denied(stage: &Stage, ctx: &Context, code: &str) -> String {
    let report = run(stage, ctx, code).expect_err(code);
    assert_eq!(report.error.kind, Failed::Denied, "{code}\n{report:?}");
    report.error.message
}

fn paths(env: &Env) {
    let stage = Stage::new(env, "granted");
    let work = stage.folder.join("work");
    let (inner, outer) = (work.join("inner"), stage.folder.join("outer"));
    fs::create_dir_all(inner.join("deep")).unwrap();
    fs::create_dir(&outer).unwrap();
    for file in [inner.join("deep/note"), work.join("note"), outer.join("note")] {
        fs::write(file, "a note").unwrap();
    }
    symlink("../../outer", inner.join("link")).unwrap();
    symlink("../../outer/later", inner.join("dangling")).unwrap();
    let inner = inner.display();
    let allow = |text: String| stage.allowing(text.parse::<Allow>().unwrap());
    let granted = allow(format!("read,run,write,files={inner}/**,host={inner}/**"));
    assert_eq!(run(&stage, &granted, r#"read_file("inner/deep/note")"#).unwrap(), "a note");
    assert_eq!(run(&stage, &granted, r#"read_file("inner/deep/../deep/note")"#).unwrap(), "a note");
    for path in ["note", "inner/../note", "inner/link/note", "inner/link/../outer/note"] {
        for path in [path.to_owned(), work.join(path).display().to_string()] {
            denied(&stage, &granted, &format!("read_file({path:?})"));
            denied(&stage, &granted, &format!("write_file({path:?}, \"changed\")"));
        }
    }
    for path in ["inner/dangling", "inner/new/../../later", "inner/new/../link/later"] {
        denied(&stage, &granted, &format!("write_file({path:?}, \"new\")"));
        let ran = format!("run({IMAGE:?}, #{{ command: [\"true\"], detach: true, pid_file: {path:?} }})");
        denied(&stage, &granted, &ran);
    }
    assert_eq!(fs::read_dir(&outer).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outer.join("note")).unwrap(), "a note");
    assert_eq!(fs::read_to_string(work.join("note")).unwrap(), "a note");
    // `*` is one name, `**` any number of them.
    let one = allow(format!("read,files={inner}/*"));
    denied(&stage, &one, r#"read_file("inner/deep/note")"#);
    run(&stage, &one, r#"write_file("inner/flat", "")"#).unwrap();
    // A container's log and its mounts are written as root, wherever they are said to be.
    let log = format!("{inner}/deep/../../log");
    denied(&stage, &granted, &format!("run({IMAGE:?}, #{{ detach: true, log_uri: \"file://{log}\" }})"));
    assert!(!work.join("log").exists());
}

fn cgroups(env: &Env) {
    let stage = Stage::new(env, "granted");
    let (script, before) = (stage.allowing(Allow::script()), stage.leftovers());
    for cgroup in ["/system.slice/ssh.service", "/granted", ""] {
        let code = format!("run({IMAGE:?}, #{{ command: [\"true\"], cgroup: {cgroup:?} }})");
        let said = denied(&stage, &script, &code);
        assert!(said.contains("chooses its cgroup"), "{said}");
    }
    let id = env.fresh("granted");
    let own = format!("/{}/{id}", stage.namespace);
    let code = format!("run({IMAGE:?}, #{{ id: {id:?}, command: [\"true\"], cgroup: {own:?}, rm: true }}).code");
    assert_eq!(run(&stage, &script, &code).unwrap(), 0);
    assert_eq!(stage.leftovers(), before);
}

/// A process of the host in a cgroup of its own, in one hierarchy.
struct Neighbour {
    process: Child,
    cgroup: PathBuf,
}

impl Neighbour {
    fn new(cgroup: &str) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let root = if root.join("cgroup.procs").exists() { root.to_owned() } else { root.join("pids") };
        let cgroup = root.join(cgroup);
        fs::create_dir_all(&cgroup).unwrap();
        let process = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        fs::write(cgroup.join("cgroup.procs"), process.id().to_string()).unwrap();
        Self { process, cgroup }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let mut folder = self.cgroup.as_path();
        // The kernel takes a moment to let go of the process.
        for _ in 0..100 {
            if fs::remove_dir(folder).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        folder = folder.parent().unwrap_or(folder);
        let _ = fs::remove_dir(folder);
    }
}

fn shared_cgroup(env: &Env) {
    let stage = Stage::new(env, "granted");
    let id = env.fresh("granted");
    let mut neighbour = Neighbour::new(&format!("{}/{id}", stage.namespace));
    let before = stage.leftovers();
    let run = format!("run({IMAGE:?}, #{{ id: {id:?}, detach: true, command: [\"sleep\", \"600\"] }})");
    let report = stage.script(&run).unwrap_err();
    assert_eq!(report.error.kind, Failed::Conflict, "{report:?}");
    let said = report.error.message;
    assert!(said.contains("processes of the host") && said.contains(&neighbour.process.id().to_string()), "{said}");
    assert_eq!(stage.leftovers(), before);
    assert!(neighbour.process.try_wait().unwrap().is_none(), "the host's process was ended");
    drop(neighbour);
    stage.value(&format!("{run}; container({id:?}).delete(#{{ force: true }})"));
    assert_eq!(stage.leftovers(), before);
}

fn device_rules(env: &Env) {
    let stage = Stage::new(env, "granted");
    let (script, before) = (stage.allowing(Allow::script()), stage.leftovers());
    let id = env.fresh("granted");
    fs::create_dir_all(stage.folder.join("work")).unwrap();
    let code = |id: &str, rule: &str| {
        format!(
            r#"
            let made = create({id:?}, {IMAGE:?}, #{{ command: ["true"] }});
            let spec = made.spec;
            made.delete();
            spec.linux.resources.devices.push({rule});
            write_file("spec.json", to_json(spec));
            create({id:?}, {IMAGE:?}, #{{ config: "spec.json" }}).delete();
            "#
        )
    };
    let null = code(&id, r#"#{ allow: true, type: "c", major: 1, minor: 3, access: "rwm" }"#);
    run(&stage, &script, &null).unwrap();
    for numbers in [r#"type: "b", major: 7, minor: 0"#, r#"type: "c", major: 10, minor: 237"#, r#"type: "c", major: 1"#]
    {
        let said = denied(&stage, &script, &code(&id, &format!("#{{ allow: true, {numbers}, access: \"rwm\" }}")));
        assert!(said.contains("host"), "{said}");
    }
    assert_eq!(stage.leftovers(), before);
}

fn labels(env: &Env) {
    let stage = Stage::new(env, "granted");
    let script = stage.allowing(Allow::script());
    let (reaching, plain) = (env.fresh("granted"), env.fresh("granted"));
    stage.value(&format!("create({reaching:?}, {IMAGE:?}, #{{ privileged: true, command: [\"true\"] }})"));
    stage.value(&format!("create({plain:?}, {IMAGE:?}, #{{ command: [\"true\"] }})"));
    let label = |id: &str, value: &str| {
        format!("container({id:?}).label(#{{ \"containerd.io/restart.status\": {value:?} }}).id")
    };
    let said = denied(&stage, &script, &label(&reaching, "stopped"));
    assert!(said.contains("host"), "{said}");
    assert_eq!(run(&stage, &script, &label(&reaching, "")).unwrap(), json!(reaching));
    assert_eq!(run(&stage, &script, &label(&plain, "stopped")).unwrap(), json!(plain));
    let other = format!("container({reaching:?}).label(#{{ team: \"core\" }}).id");
    assert_eq!(run(&stage, &script, &other).unwrap(), json!(reaching));
    for id in [reaching, plain] {
        stage.value(&format!("container({id:?}).delete()"));
    }
}

fn reaching(env: &Env) {
    let stage = Stage::new(env, "granted");
    let (script, before) = (stage.allowing(Allow::script()), stage.leftovers());
    for (option, why) in [
        (r#"mount: ["type=proc,src=proc,dst=/p"]"#, "mounts paths of the host"),
        (r#"mount: ["type=sysfs,src=sysfs,dst=/s,options=ro"]"#, "mounts paths of the host"),
        (r#"annotation: #{ "org.criu.config": "/tmp/x" }"#, "annotations that steer its runtime"),
        (r#"label: #{ "org.systemd.property.ExecStop": "x" }"#, "annotations that steer its runtime"),
    ] {
        let said = denied(&stage, &script, &format!("run({IMAGE:?}, #{{ command: [\"true\"], {option} }})"));
        assert!(said.contains(why), "{option}: {said}");
    }
    let work = stage.folder.join("work");
    fs::create_dir_all(&work).unwrap();
    let of_file = |change: &str| {
        format!(
            "let spec = oci::spec(); spec.process.args = [\"/bin/sh\", \"-c\", \"exit 0\"]; {change} write_file(\"spec.json\", to_json(spec)); \
             run({IMAGE:?}, #{{ config: \"spec.json\" }}).code"
        )
    };
    // A runtime does not tell upper from lower case.
    let hooks = r#"spec.Hooks = #{ createRuntime: [#{ path: "/bin/sh", args: ["sh", "-c", "exit 1"] }] };"#;
    for change in [hooks, "spec.mounts[1].Type = \"bind\";", "spec.linux.readonlyPaths = [\"/proc/sys\"];"] {
        denied(&stage, &script, &of_file(change));
    }
    // As it is printed it is of no container, and each that is made of it has a cgroup of its own.
    assert_eq!(run(&stage, &script, &of_file("")).unwrap(), 0);
    let tmpfs = format!("run({IMAGE:?}, #{{ command: [\"true\"], mount: [\"type=tmpfs,src=t,dst=/t\"] }}).code");
    assert_eq!(run(&stage, &script, &tmpfs).unwrap(), 0);
    assert_eq!(stage.leftovers(), before);
}

fn entering(env: &Env) {
    let stage = Stage::new(env, "granted");
    let script = stage.allowing(Allow::script());
    let id = env.fresh("granted");
    let cgroup = format!("/{id}");
    let made = format!("create({id:?}, {IMAGE:?}, #{{ command: [\"sleep\", \"1000\"], cgroup: {cgroup:?} }}).id");
    stage.value(&made);
    for (before, code) in [
        ("", format!("start({id:?})")),
        ("start", format!("exec({id:?}, [\"true\"])")),
        ("", format!("attach({id:?})")),
        ("", format!("container({id:?}).label(#{{ \"containerd.io/restart.status\": \"running\" }})")),
    ] {
        if !before.is_empty() {
            stage.value(&format!("{before}({id:?}); ()"));
        }
        let said = denied(&stage, &script, &code);
        assert!(said.contains("chooses its cgroup"), "{code}: {said}");
    }
    stage.value(&format!("container({id:?}).delete(#{{ force: true }})"));
}

fn relative_log(env: &Env) {
    let stage = Stage::new(env, "granted");
    let work = stage.folder.join("work");
    fs::create_dir_all(work.join("logs")).unwrap();
    let granted = format!("read,run,write,delete,host={}/logs/*", work.display());
    let granted = stage.allowing(granted.parse::<Allow>().unwrap());
    let id = env.fresh("granted");
    let logged = |log: &str| {
        format!(
            "let c = run({IMAGE:?}, #{{ id: {id:?}, detach: true, log_uri: {log:?}, command: [\"echo\", \"said\"] }}); \
             wait({id:?}); c.delete()"
        )
    };
    for name in ["logs/a.log", "file://logs/b.log"] {
        run(&stage, &granted, &logged(name)).unwrap();
        let written = work.join(name.trim_start_matches("file://"));
        assert_eq!(fs::read_to_string(&written).unwrap(), "said\n", "{}", written.display());
    }
    denied(&stage, &granted, &logged("elsewhere.log"));
    assert!(!Path::new("/a.log").exists() && !Path::new("/b.log").exists());
}

fn events(env: &Env) {
    let stage = Stage::new(env, "granted");
    let other = Stage::new(env, "granted");
    let granted = format!("read=containerd/{}", stage.namespace);
    let granted = stage.allowing(granted.parse::<Allow>().unwrap());
    let change = |stage: &Stage| {
        let name = stage.env.fresh("granted");
        stage.value(&format!("create({name:?}, {IMAGE:?}, #{{ command: [\"true\"] }}).delete()"));
    };
    let heard = std::thread::scope(|scope| {
        let code = "events(\"containers\", #{ all_namespaces: true, timeout: \"3s\" }).map(|e| e.namespace)";
        let heard = scope.spawn(|| run(&stage, &granted, code).unwrap());
        for _ in 0..10 {
            change(&other);
            change(&stage);
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        heard.join().unwrap()
    });
    let heard = heard.as_array().unwrap();
    assert!(!heard.is_empty());
    assert!(heard.iter().all(|namespace| *namespace == json!(stage.namespace)), "{heard:?}");
}
