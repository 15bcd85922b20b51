//! Events in scripts, beside those that ctr prints; the daemons that go away meanwhile; and what old daemons lack.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ctrsh::grant::Allow;
use ctrsh::kind::Kind as Failed;
use ctrsh::ops::Context;
use ctrsh::registry::Config;
use ctrsh::script::{Report, Sink};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::stage::{IMAGE, Stage, context_at, place};
use super::task::LIFE;
use crate::harness::daemon::Daemon;
use crate::harness::output::Output;
use crate::harness::{Env, Kind, Leftovers, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::events::a container's life is told as ctr tells it", env, life),
        trial("ops::events::a restart of the daemon is a gap, and then it goes on", env, restart),
        trial("ops::events::2000 at once all come, in their order", env, burst),
        trial("ops::events::Ctrl-C ends a script that listens and leaves nothing", env, interrupted),
        trial("ops::events::filters choose, here and in the daemon", env, filtered),
        trial("ops::events::an event of an unknown type is kept as it came", env, unknown),
        trial("ops::events::wait_for sees what its action causes, or says why not", env, waited),
        trial("ops::events::mistakes are named", env, mistakes),
        trial("ops::events::what an old daemon lacks is named", env, lacking),
    ]
}

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Passes on what a script prints.
struct Told(Mutex<Sender<String>>);

impl Sink for Told {
    fn print(&self, text: &str) {
        // Nobody listens any more once the test has failed.
        let _ = self.0.lock().unwrap().send(text.to_owned());
    }

    fn debug(&self, text: &str, _at: &str) {
        self.print(text);
    }
}

/// A script that runs beside the test.
struct Running {
    told: Receiver<String>,
    thread: std::thread::JoinHandle<Result<Value, Report>>,
    cancel: CancellationToken,
}

impl Running {
    fn start(stage: &Stage, ctx: &Context, script: &str) -> Self {
        let (tell, told) = channel();
        let mut interpreter = stage.interpreter(ctx, Arc::new(Told(Mutex::new(tell))));
        let (script, cancel) = (script.to_owned(), CancellationToken::new());
        let token = cancel.clone();
        let thread = std::thread::spawn(move || {
            let evaluated = interpreter.run(&script, None, token)?;
            interpreter.json(&evaluated)
        });
        Self { told, thread, cancel }
    }

    /// Waits for the next line that it prints.
    #[track_caller]
    fn hear(&self) -> String {
        self.told.recv_timeout(PATIENCE).expect("the script says nothing")
    }

    /// Makes namespaces until it prints the name of one, and returns that: when a script that lists events hears of the first is
    /// told by nothing else.
    #[track_caller]
    fn hear_of(&self, daemon: &Daemon, prefix: &str) -> String {
        let made = (0..200).find_map(|number| {
            ctr_at(&daemon.socket(), &["namespaces", "create", &format!("{prefix}-{number}")]);
            self.told.recv_timeout(Duration::from_millis(200)).ok().filter(|name| name.starts_with(prefix))
        });
        made.expect("the script hears of none")
    }

    #[track_caller]
    fn end(self) -> Result<Value, Report> {
        self.thread.join().unwrap()
    }
}

fn run(stage: &Stage, script: &str) -> Result<Value, Report> {
    Running::start(stage, &stage.ctx, script).end()
}

/// A daemon of the test's own and a context there.
fn own(stage: &Stage) -> (Daemon, Context) {
    let daemon = Daemon::isolated(&stage.env.new_folder("events"));
    let place = place(&daemon.socket().to_string_lossy(), "mine");
    let ctx = context_at(&stage.env, place, &stage.folder, Allow::all(), Config::default());
    (daemon, ctx)
}

fn ctr_at(socket: &Path, arguments: &[&str]) -> String {
    Output::of(Command::new("ctr").arg("--address").arg(socket).args(arguments)).ok()
}

/// `ctr events`, as it prints.
struct CtrEvents {
    child: std::process::Child,
    lines: Receiver<String>,
}

impl CtrEvents {
    /// Starts it, and waits until it hears what is done in the namespace.
    fn start(stage: &Stage) -> Self {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(stage.env.socket()).args(["-n", &stage.namespace, "events"]);
        command.arg(format!("namespace=={}", stage.namespace));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let begun = Self { child, lines };
        loop {
            stage.ctr(&["namespaces", "label", &stage.namespace, "heard=yes"]);
            if begun.lines.recv_timeout(Duration::from_millis(200)).is_ok() {
                break;
            }
        }
        while begun.lines.recv_timeout(Duration::from_millis(300)).is_ok() {}
        begun
    }

    /// Reads topics and details up to the first of a topic.
    fn up_to(mut self, last: &str) -> Vec<(String, Value)> {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|(topic, _)| topic != last) {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {last} in {seen:?}"));
            let (head, details) = line.split_once('{').unwrap();
            let topic = head.split_whitespace().last().unwrap().to_owned();
            seen.push((topic, serde_json::from_str(&format!("{{{details}")).unwrap()));
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        seen
    }
}

fn life(env: &Env) {
    let stage = Stage::empty(env, "events");
    let pushed = env.pushed(Kind::Busybox, "events");
    let ctr = CtrEvents::start(&stage);
    let script = format!(
        r#"
        let seen = [];
        on(#{{ timeout: "60s", on_gap: |gap| {{
            pull("{pushed}");
            let c = create("life", "{pushed}", #{{ command: ["sh", "-c", "exit 3"] }});
            c.start();
            c.wait();
            c.delete();
            tag("{pushed}", "example.test/last:1");
        }} }}, |event| {{
            seen.push(event);
            // What the shim tells may come after what the daemon tells later.
            !(seen.some(|e| e.subject == "example.test/last:1") && seen.some(|e| e.topic == "/tasks/exit"))
        }});
        let exit = seen.find(|e| e.topic == "/tasks/exit");
        [
            seen.map(|e| [e.topic, e.payload, `${{e}}`, e.type]),
            [exit.subject, exit.exit_status, exit.payload.id, exit.payload.exited_at.age < 60, exit.time.age < 60],
        ]
        "#
    );
    let result = run(&stage, &script).unwrap();
    assert_eq!(result[1], json!(["life", 3, "life", true, true]));
    let ours = result[0].as_array().unwrap();
    let theirs = ctr.up_to("/images/create");
    let topics: Vec<&str> = ours.iter().map(|event| event[0].as_str().unwrap()).collect();
    // What else is told of a life may be missing, see `LIFE` of `ops::task`.
    for topic in LIFE.iter().chain(&["/snapshot/commit", "/images/create"]) {
        assert!(topics.contains(topic), "{topic} is missing in {topics:?}");
    }
    // ctr's list ends with the first image, ours goes on.
    assert_eq!(theirs.iter().map(|(topic, _)| topic.as_str()).collect::<Vec<_>>(), topics[..theirs.len()]);
    for ((topic, details), event) in theirs.iter().zip(ours) {
        let texts = |value: &Value| -> BTreeMap<String, Value> {
            let fields = value.as_object().unwrap().iter().filter(|(_, value)| value.is_string() && *value != "");
            fields.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        assert_eq!(texts(&event[1]), texts(details), "{topic}");
        let text = event[2].as_str().unwrap();
        assert!(text.contains(&format!(" +0000 UTC {} {topic} {{\"", stage.namespace)), "{text}");
        assert!(event[3].as_str().unwrap().starts_with("containerd."), "{event}");
    }
}

fn restart(env: &Env) {
    let stage = Stage::empty(env, "events");
    let (mut daemon, ctx) = own(&stage);
    let script = r#"
        let reasons = [];
        let seen = [];
        let count = on("namespaces", #{ all_namespaces: true, timeout: "60s", on_gap: |gap| {
            reasons.push(gap.payload.reason);
            print(gap.payload.reason);
        } }, |event| {
            seen.push(`${event.topic} ${event.subject}`);
            print(event.subject);
            event.subject != "last"
        });
        [reasons, seen, count]
    "#;
    let script = Running::start(&stage, &ctx, script);
    assert_eq!(script.hear(), "subscribed");
    ctr_at(&daemon.socket(), &["namespaces", "create", "first"]);
    assert_eq!(script.hear(), "first");
    daemon.kill();
    std::thread::sleep(Duration::from_millis(500));
    daemon.restart();
    assert_eq!(script.hear(), "reconnected");
    ctr_at(&daemon.socket(), &["namespaces", "create", "last"]);
    assert_eq!(
        script.end().unwrap(),
        json!([["subscribed", "reconnected"], ["/namespaces/create first", "/namespaces/create last"], 2])
    );

    // A list has the gap in it, and who waits for one event is told that it may have gone by.
    let script = r#"
        let heard = |e| { print(e.subject); !e.subject.starts_with("early") };
        events(heard, #{ all_namespaces: true, count: 2, timeout: "60s" }).map(|e| [e.topic, e.subject])
    "#;
    let listing = Running::start(&stage, &ctx, script);
    let waiting = Running::start(
        &stage,
        &ctx,
        "let r = (); try { wait_for(\"namespaces/delete\", #{ timeout: \"60s\" }, || print(\"\")) } catch (e) { r = [e.kind, e.retryable, e.message] } r",
    );
    listing.hear_of(&daemon, "early");
    waiting.hear();
    daemon.restart();
    let missed = waiting.end().unwrap();
    assert_eq!((&missed[0], &missed[1]), (&json!("unavailable"), &json!(true)), "{missed}");
    assert!(missed[2].as_str().unwrap().contains("namespaces/delete may have come unseen"), "{missed}");
    let more = listing.hear_of(&daemon, "more");
    assert_eq!(listing.end().unwrap(), json!([["/ctrsh/gap", null], ["/namespaces/create", more]]));

    // A daemon that does not come back does not keep a script from its end.
    let script = "on(\"tasks\", #{ timeout: \"2s\", on_gap: |gap| print(gap.payload.reason) }, |e| print(e))";
    let script = Running::start(&stage, &ctx, script);
    assert_eq!(script.hear(), "subscribed");
    daemon.kill();
    assert_eq!(script.end().unwrap(), json!(0));
}

fn burst(env: &Env) {
    let stage = Stage::empty(env, "events");
    let script = r#"
        let seen = [];
        let gaps = 0;
        on("namespaces/update", #{ count: 2000, timeout: "20m", on_gap: |gap| { gaps += 1; print("ready") } }, |event| {
            // The first ones keep it busy while the others come.
            if seen.len() < 3 { sleep("300ms") }
            seen.push(parse_int(event.payload.labels.number));
        });
        [seen, gaps]
    "#;
    let script = Running::start(&stage, &stage.ctx, script);
    assert_eq!(script.hear(), "ready");
    env.block_on(async {
        let namespaces = stage.ctx.client().await.unwrap().namespaces();
        for number in 0..2000 {
            let labels = BTreeMap::from([("number".to_owned(), number.to_string())]);
            namespaces.set_labels(&stage.namespace, &labels).await.unwrap();
        }
    });
    let result = script.end().unwrap();
    assert_eq!(result[1], 1, "only the beginning is a gap");
    assert_eq!(result[0], json!((0..2000).collect::<Vec<_>>()));
}

fn interrupted(env: &Env) {
    let stage = Stage::new(env, "events");
    let before = Leftovers::of(env, &stage.namespace);
    let mut command = env.ctrsh_command();
    command.args(["-n", &stage.namespace, "-e"]);
    command.arg("on(#{ on_gap: |gap| print(\"ready\") }, |event| print(event))");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!(lines.next().unwrap(), "ready");
    stage.ctr(&["images", "tag", IMAGE, "example.test/seen:1"]);
    let line = lines.next().unwrap();
    let (time, rest) = line.split_once(" UTC ").unwrap();
    assert!(chrono::DateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S%.f %z").is_ok(), "{line}");
    let (head, details) = rest.split_at(rest.find('{').unwrap());
    assert_eq!(head, format!("{} /images/create ", stage.namespace));
    assert_eq!(serde_json::from_str::<Value>(details).unwrap()["name"], "example.test/seen:1");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    stage.ctr(&["images", "rm", "example.test/seen:1"]);
    assert_eq!(Leftovers::of(env, &stage.namespace), before);

    // A cancel inside of the closure ends it too, and no further closure is called.
    let script = Running::start(
        &stage,
        &stage.ctx,
        "on(#{ on_gap: |gap| print(\"ready\") }, |event| { print(\"in\"); sleep(\"60s\"); print(\"out\") })",
    );
    assert_eq!(script.hear(), "ready");
    stage.ctr(&["images", "tag", IMAGE, "example.test/seen:2"]);
    assert_eq!(script.hear(), "in");
    script.cancel.cancel();
    let told = script.told.recv_timeout(PATIENCE);
    assert!(told.is_err(), "{told:?}");
    assert_eq!(script.end().unwrap_err().error.kind, Failed::Cancelled);
}

fn filtered(env: &Env) {
    let stage = Stage::empty(env, "events");
    let other = env.namespace("events");
    let (here, there) = (&stage.namespace, &other);
    // Each filter, and which of the two events it lets through.
    let both = format!("[\"namespace=={here}\", \"namespace=={there}\"]");
    let cases = [
        ("\"namespaces/update\"".to_owned(), "false", vec![here]),
        ("\"/namespaces\"".to_owned(), "false", vec![here]),
        ("[\"images\", \"namespaces\"]".to_owned(), "false", vec![here]),
        ("\"images\"".to_owned(), "false", vec![]),
        ("\"topic==\\\"/namespaces/update\\\"\"".to_owned(), "false", vec![here]),
        ("\"topic~=\\\"^/namesp\\\",event.name\"".to_owned(), "false", vec![here]),
        (format!("\"event.name=={there}\""), "false", vec![]),
        (format!("\"event.name=={there}\""), "true", vec![there]),
        (both, "false", vec![here, there]),
        ("|e| e.payload.labels.mark == \"1\"".to_owned(), "false", vec![here]),
        ("|e| false".to_owned(), "true", vec![]),
    ];
    for (filter, all, wanted) in cases {
        // What is let through has come long before the first tick ends it.
        let script = format!(
            r#"
            let seen = [];
            on({filter}, #{{ all_namespaces: {all}, every: "1s", on_tick: || false, on_gap: |gap| {{
                namespace("{here}");
                namespace().label(#{{ mark: "1" }});
                namespace("{there}");
                namespace().label(#{{ mark: "1" }});
            }} }}, |e| {{
                if e.topic.starts_with("/namespaces/") && ["{here}", "{there}"].contains(e.subject) {{ seen.push(e.namespace) }}
            }});
            seen
            "#
        );
        assert_eq!(run(&stage, &script).unwrap(), json!(wanted), "{filter} {all}");
    }
    // A tick beyond the end of time never comes.
    let script = format!(
        r#"on("namespaces", #{{ every: "18446744073709551615s", on_tick: || throw "a tick", count: 1, timeout: "60s",
            on_gap: |gap| {{ namespace("{here}"); namespace().label(#{{ mark: "2" }}) }} }}, |e| ())"#
    );
    assert_eq!(run(&stage, &script).unwrap(), json!(1));
}

/// Writes a protocol buffer `google.protobuf.Any`.
fn any(type_url: &str, value: &[u8]) -> Vec<u8> {
    let part = |tag: u8, bytes: &[u8]| [&[tag << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    [part(1, type_url.as_bytes()), part(2, value)].concat()
}

fn unknown(env: &Env) {
    let stage = Stage::empty(env, "events");
    let script = r#"
        let seen = [];
        on("topic==\"/example/odd\"", #{ count: 2, timeout: "60s", on_gap: |gap| print("ready") }, |e| {
            seen.push([e.topic, e.type, e.payload, e.raw, e.subject]);
        });
        seen
    "#;
    let script = Running::start(&stage, &stage.ctx, script);
    assert_eq!(script.hear(), "ready");
    for event in [any("example.v1.Odd", &[0xff, 0, 7]), any("example/json", br#"{"id":"x","n":[1]}"#)] {
        let mut command = Command::new("containerd");
        command.arg("--address").arg(env.socket()).args(["publish", "--topic", "/example/odd"]);
        command.args(["--namespace", &stage.namespace]);
        Output::with_input(&mut command, &event).ok();
    }
    let (odd, json) = ("/wAH", "eyJpZCI6IngiLCJuIjpbMV19");
    assert_eq!(
        script.end().unwrap(),
        json!([
            ["/example/odd", "example.v1.Odd", {}, odd, null],
            ["/example/odd", "example/json", {"id": "x", "n": [1]}, json, "x"],
        ])
    );
}

fn waited(env: &Env) {
    let stage = Stage::new(env, "events");
    let script = format!(
        r#"
        let e = wait_for("tasks/exit", #{{ timeout: "60s" }}, || run("{IMAGE}", #{{ id: "waited", detach: true, command: ["sh", "-c", "exit 9"] }}));
        let gone = wait_for(|e| e.topic == "/containers/delete" && e.subject == "waited", || delete("waited"));
        [e.subject, e.payload.exit_status, gone.topic]
        "#
    );
    assert_eq!(run(&stage, &script).unwrap(), json!(["waited", 9, "/containers/delete"]));
    let late =
        "let r = (); try { wait_for(\"tasks/oom\", #{ timeout: \"50ms\" }) } catch (e) { r = [e.kind, e.message] } r";
    assert_eq!(run(&stage, late).unwrap(), json!(["timeout", "waiting for tasks/oom took longer than 50ms"]));
    // What the action throws is what comes out, and so is a closure's answer that is none.
    let thrown = run(&stage, "wait_for(\"tasks\", || throw \"mine\")").unwrap_err();
    assert_eq!(thrown.error.message, "mine");
    let odd = format!("wait_for(|e| 1, #{{ timeout: \"60s\" }}, || tag(\"{IMAGE}\", \"example.test/odd:1\"))");
    let odd = run(&stage, &odd).unwrap_err();
    assert!(odd.error.message.contains("filter must return true or false, not an integer"), "{odd:?}");
    // A dry run does not wait for what it does not do.
    let script = format!("wait_for(\"images/create\", || tag(\"{IMAGE}\", \"example.test/dry:1\")).topic");
    let dry = Running::start(&stage, &stage.ctx.dry_run(), &script).end().unwrap();
    assert_eq!(dry, "/images/create");
    assert!(!stage.ctr(&["images", "ls", "-q"]).contains("dry:1"));
}

fn mistakes(env: &Env) {
    let stage = Stage::empty(env, "events");
    for (script, message, hint) in [
        ("events(\"tasks\")", "events: would never end", "give a timeout or a count"),
        ("events(\"task\", #{ count: 1 })", "'task' is neither a topic", "did you mean tasks?"),
        ("on(\"tasks/exti\", |e| 1)", "'tasks/exti' is neither a topic", "did you mean tasks/exit?"),
        ("on(\"tasks\")", "on: closure is missing", ""),
        ("on(7, |e| 1)", "filter must be a topic, a filter, an array of them, or a closure, not an integer", ""),
        ("on(\"tasks\", 7, |e| 1)", "options must be a map, not an integer", ""),
        ("on(\"tasks\", #{ timeuot: 1 }, |e| 1)", "unknown option 'timeuot'", "did you mean 'timeout'?"),
        ("on(\"topic=/tasks\", |e| 1)", "subscribe to events", ""),
        ("wait_for(\"topic~=\\\"(\\\"\", #{ timeout: \"10ms\" })", "took longer", ""),
        ("on(\"tasks\", #{ every: \"soon\", timeout: 1 }, |e| 1)", "'soon' is not a duration", ""),
    ] {
        let report = run(&stage, script).expect_err(script);
        assert!(report.error.message.contains(message), "{script}: {report:?}");
        assert!(report.error.hint.as_deref().unwrap_or_default().contains(hint), "{script}: {report:?}");
        assert!(matches!(report.error.kind, Failed::Usage | Failed::Timeout), "{script}: {report:?}");
    }
    let denied = Running::start(&stage, &stage.allowing(Allow::of(&[])), "on(|e| 1)").end().unwrap_err();
    assert_eq!(denied.error.kind, Failed::Denied);
}

fn lacking(env: &Env) {
    let stage = Stage::empty(env, "events");
    assert_eq!(run(&stage, "deprecations()").unwrap(), json!([]));
    let kinds = env.ctr(&["plugins", "ls"]).ok();
    let serves = |name: &str| kinds.lines().any(|line| line.split_whitespace().nth(1) == Some(name));
    let inspected = run(&stage, "inspect_runtime().name");
    if serves("sandboxes") {
        assert_eq!(run(&stage, "sandboxes::list()").unwrap(), json!([]));
        return;
    }
    for script in ["sandboxes::list()", "sandboxes::run(\"s\")", "sandboxes::delete(\"s\")", "sandboxes::info(\"s\")"] {
        let report = run(&stage, script).unwrap_err();
        let said = report.error.message.contains("has no sandboxes: it has no plugin io.containerd.grpc.v1.sandboxes");
        assert!(said && report.error.kind == Failed::Usage, "{report:?}");
    }
    let report = inspected.unwrap_err();
    assert!(report.error.message.contains("does not serve Introspection/PluginInfo"), "{report:?}");
    let script = "inspect_runtime(\"/bin/sh\")";
    let denied = Running::start(&stage, &stage.allowing(Allow::script()), script).end().unwrap_err();
    assert_eq!(denied.error.kind, Failed::Denied, "{denied:?}");
}
