//! What a user may get wrong, and what others may get wrong for him: through the program, each mistake has an error that
//! names the thing, most have a cure, and nothing is left behind.

use libtest_mimic::Trial;

use crate::harness::fault::{Fault, FaultProxy};
use crate::harness::image::Kind;
use crate::harness::output::Output;
use crate::harness::{Env, Leftovers, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("bad_input::each mistake is named with its cure and leaves nothing", env, mistakes),
        trial("bad_input::each lie of a registry is named and leaves nothing", env, lies),
    ]
}

/// A mistake: the script, the exit status, and what standard error has to say.
struct Mistake {
    script: String,
    status: i32,
    says: Vec<String>,
}

fn mistake(script: impl Into<String>, status: i32, says: &[&str]) -> Mistake {
    Mistake { script: script.into(), status, says: says.iter().map(|&part| part.to_owned()).collect() }
}

fn run(env: &Env, namespace: &str, script: &str) -> Output {
    let mut command = env.ctrsh_command();
    Output::of(command.args(["-n", namespace, "--max-operations", "200000", "--timeout", "60s", "-e", script]))
}

fn check(env: &Env, namespace: &str, mistakes: &[Mistake]) {
    let before = Leftovers::of(env, namespace);
    for Mistake { script, status, says } in mistakes {
        let output = run(env, namespace, script);
        assert_eq!(output.status, *status, "{script}\n{output}");
        for part in says {
            assert!(output.stderr.contains(part.as_str()), "{script}: nothing of {part:?}\n{output}");
        }
        assert!(!output.stderr.contains("panicked"), "{script}\n{output}");
        let commands = output.stderr.chars().any(|c| c.is_control() && c != '\n');
        assert!(!commands, "{script}: control characters in {:?}", output.stderr);
        assert_eq!(Leftovers::of(env, namespace), before, "{script}");
    }
}

fn mistakes(env: &Env) {
    let namespace = env.namespace("bad");
    let pushed = env.pushed(Kind::Index, "bad");
    let (repository, _) = pushed.rsplit_once(':').unwrap();
    let registry = env.registry();
    env.ctr(&["-n", &namespace, "images", "pull", "--plain-http", "--snapshotter", &env.snapshotter(), &pushed]).ok();
    env.ctr(&["-n", &namespace, "images", "tag", &pushed, "docker.io/library/box:1"]).ok();
    let unknown = format!("{repository}@sha256:{}", "0".repeat(64));
    check(
        env,
        &namespace,
        &[
            mistake(
                format!("pull(\"{registry}/nowhere/app:1\")"),
                1,
                &["nowhere/app:1 is not in the registry", "hint:"],
            ),
            mistake(format!("pull(\"{repository}:nope\")"), 1, &["nope is not in the registry"]),
            mistake(format!("pull(\"{unknown}\")"), 1, &["sha256:0000", "is not in the registry"]),
            mistake("pull(\"Not/A Reference\")", 1, &["Not/A Reference", "hint:"]),
            mistake("pull(\"127.0.0.1:1/app:1\")", 1, &["127.0.0.1:1"]),
            mistake("image(\"bo\")", 1, &["no such image: bo", "hint:"]),
            mistake("images", 1, &["unknown variable images", "hint: images is a function: images()"]),
            mistake(
                "unpack(\"box:1\")",
                1,
                &["unknown function unpack", "hint: there is Image.unpack and snapshots::unpack"],
            ),
            mistake(
                "images(\"example.test/box:1\")",
                1,
                &["filters: parse error", "hint: a filter is a field, an operator"],
            ),
            mistake("push(\"box:2\")", 1, &["box:2"]),
            mistake(format!("push(\"box:2\", #{{ manifest: \"{}\" }})", "7".repeat(64)), 1, &["7777", "digest"]),
            mistake(
                format!("push(\"box:2\", \"box:1\", #{{ manifest: \"sha256:{}\" }})", "7".repeat(64)),
                1,
                &["name no source beside it"],
            ),
            mistake(
                format!("push(\"box:2\", #{{ manifest: \"sha256:{}\" }})", "7".repeat(64)),
                1,
                &["no such manifest: sha256:7777", "hint: "],
            ),
            mistake("tag(\"nope\", \"box:3\")", 1, &["nope"]),
            mistake("create(\"rdt\", \"box:1\", #{ rdt_class: \"../gold\" })", 1, &["rdt_class", "/sys/fs/resctrl"]),
            mistake("create(\"io\", \"box:1\", #{ blockio_class: \"gold\" })", 1, &["give blockio_config_file too"]),
            mistake("create(\"io\", \"box:1\", #{ blockio_config_file: \"a\" })", 1, &["give blockio_class too"]),
            mistake(
                "create(\"io\", \"box:1\", #{ blockio_config_file: \"nowhere.yaml\", blockio_class: \"gold\" })",
                1,
                &["nowhere.yaml", "No such file"],
            ),
            mistake("container(\"nope\")", 1, &["no such container: nope"]),
            mistake("container(\"nope\").exec([\"ls\"])", 1, &["nope"]),
            mistake("run(\"box:1\", #{ command: [\"no-such-program\"] })", 1, &["no-such-program"]),
            mistake("run(\"box:1\", #{ user: \"nobody-here\" })", 1, &["nobody-here"]),
            mistake(
                format!("pull(\"{pushed}\", #{{ platfrom: \"linux/amd64\" }})"),
                1,
                &["platfrom", "did you mean 'platform'"],
            ),
            mistake(format!("pull(\"{pushed}\", #{{ platform: \"plan9/mips\" }})"), 1, &["plan9/mips", "linux/"]),
            mistake(format!("pull(\"{pushed}\", #{{ platform: \"linux/amd64/v3/x/y\" }})"), 1, &["linux/amd64/v3/x/y"]),
            mistake("tag(\"box:1\", \"box:\\u001b[31mred\")", 1, &["box:", "red"]),
            mistake("create(\"a\\nb\", \"box:1\")", 1, &["container id"]),
            mistake("namespaces::create(\"\\u0007bell\")", 1, &["namespace"]),
            mistake("pul(\"box:1\")", 1, &["unknown function pul (string)", "did you mean pull?"]),
            mistake("images().frist()", 1, &["frist"]),
            mistake("kill(\"box\", \"SIGNOPE\")", 1, &["SIGNOPE"]),
            mistake("sleep(\"5 parsecs\")", 1, &["5 parsecs"]),
            mistake(
                "to_csv(images(), [\"nmae\"])",
                1,
                &["to_csv: unknown column 'nmae'", "hint: did you mean 'name'? the columns are name, "],
            ),
            mistake("let default = 1", 2, &["default", "hint: default is a word that Rhai keeps for itself"]),
            mistake("let x = ", 2, &["error:", "1 |"]),
            mistake("loop {}", 1, &["operations", "--max-operations"]),
            mistake("let s = \"x\"; loop { s += s }", 1, &["too big", "16 MiB"]),
            mistake("let a = [0]; loop { a += a }", 1, &["too big", "1000000 items"]),
            mistake("fn f() { f() } f()", 1, &["Stack overflow", "64 deep"]),
            mistake("load(\"nowhere.tar\", #{ index_name: \"A B\" })", 1, &["A B"]),
            mistake("load(\"nowhere.tar\")", 1, &["nowhere.tar", "No such file"]),
        ],
    );
}

fn lies(env: &Env) {
    let namespace = env.namespace("bad");
    let pushed = env.pushed(Kind::Big(2), "bad");
    let proxy = env.block_on(FaultProxy::start(&env.registry()));
    let name = pushed.replacen(&env.registry(), &proxy.host(), 1);
    let script = format!("pull(\"{name}\")");
    let page = || Fault::Answer(200, vec![("Content-Type", "text/html".into())], "<html>\u{1b}[2Jhello</html>".into());
    let old = || {
        let media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        let document = r#"{"schemaVersion":1,"name":"x","tag":"1","fsLayers":[],"history":[]}"#;
        Fault::Answer(200, vec![("Content-Type", media_type.into())], document.into())
    };
    for (method, part, fault, says) in [
        ("GET", "/blobs/", Fault::Corrupt(40), "sha256:"),
        ("GET", "/blobs/", Fault::Truncate(0), "sha256:"),
        ("GET", "/manifests/", Fault::Corrupt(40), "sha256:"),
        ("", "/manifests/", page(), "is not a registry"),
        ("", "/manifests/", old(), "schema 1"),
        ("", "/manifests/", Fault::status(403), "403"),
    ] {
        proxy.forgive();
        let methods = if method.is_empty() { vec!["HEAD", "GET"] } else { vec![method] };
        for method in methods {
            proxy.fault(method, part, 10_000, fault.clone());
        }
        check(env, &namespace, &[Mistake { script: script.clone(), status: 1, says: vec![name.clone(), says.into()] }]);
    }
    proxy.forgive();
    assert!(run(env, &namespace, &script).succeeded());
}
