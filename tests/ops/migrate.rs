//! `migrate`: a plan, what moves, the journal, the shares, and the report.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::fault::{Fault, FaultProxy};
use crate::harness::fleet::Fleet;
use crate::harness::{Env, Kind, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::migrate::a folder goes to a registry, and from there on to everywhere", env, everywhere),
        trial("ops::migrate::filters and names decide what goes where", env, filters),
        trial("ops::migrate::two workers do each image once", env, shards),
        trial("ops::migrate::failures are told, and retry_failed runs only those", env, failures),
        trial("ops::migrate::the journal is one migration's at a time", env, journals),
        trial("ops::migrate::a closure hears of each image and may end it all", env, heard),
        trial("ops::migrate::a node of which each image is there for one platform goes to a registry", env, node),
        trial("ops::migrate::Ctrl-C leaves no upload behind, at any rate", env, stopped),
        trial("ops::migrate::an archive is read as it was when it was listed", env, archived),
        trial("ops::migrate::more archives are listed than may be open", env, many_archives),
        trial("ops::migrate::an image that cannot be read does not keep the others", env, unreadable),
    ]
}

struct Scene {
    env: Env,
    fleet: Fleet,
    folder: PathBuf,
    namespace: String,
}

fn scene(env: &Env, count: usize) -> Scene {
    let folder = env.new_folder("migrate");
    let fleet = Fleet::build(&folder.join("fleet"), count, 60_000, 20_000);
    Scene { env: env.clone(), fleet, folder, namespace: env.namespace("migrate") }
}

impl Scene {
    /// Runs a script in the scene's folder and namespace; returns the status, the value as JSON, and what went to stderr.
    fn run(&self, options: &[&str], script: &str) -> (i32, Value, String) {
        let mut command = self.env.ctrsh_command();
        command.args(["-n", &self.namespace, "--snapshotter", &self.env.snapshotter(), "--json"]);
        let output = command.args(options).args(["-e", script]).current_dir(&self.folder).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let value = serde_json::from_str(&stdout).unwrap_or(Value::Null);
        (output.status.code().unwrap(), value, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn ok(&self, script: &str) -> Value {
        let (status, value, stderr) = self.run(&[], script);
        assert_eq!(status, 0, "{script}\n{stderr}");
        value
    }

    /// The digest that a reference in the plain registry has, as skopeo sees it.
    fn digest(&self, reference: &str) -> String {
        let raw = self.env.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]).ok();
        ctrsh::oci::Digest::sha256(raw.as_bytes()).to_string()
    }
}

const COUNTS: &str = "|r| [r.total, r.done, r.skipped, r.failed.len()]";

fn everywhere(env: &Env) {
    let scene = scene(env, 8);
    let first = env.repository("migrate");
    let second = env.repository("migrate");
    let move_to = |from: &str, to: &str, more: &str| {
        scene.ok(&format!("let c = {COUNTS}; c.call(migrate(#{{ from: \"{from}\", to: \"{to}\", {more} }}))"))
    };
    let legs = [
        ("oci:fleet".to_owned(), format!("registry:{first}")),
        (format!("registry:{first}/"), format!("registry:{second}")),
        (format!("registry:{first}/fleet/"), "containerd:".to_owned()),
        ("containerd:".to_owned(), "oci:back".to_owned()),
    ];
    for (from, to) in &legs {
        let more = "platforms: \"all\", jobs: 4, journal: \"m.journal\"";
        assert_eq!(move_to(from, to, more), serde_json::json!([8, 8, 0, 0]), "{from} to {to}");
        let mode = std::fs::metadata(scene.folder.join("m.journal")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(move_to(from, to, more), serde_json::json!([8, 0, 8, 0]), "{from} to {to}, again");
        std::fs::remove_file(scene.folder.join("m.journal")).unwrap();
    }
    let (_, path) = first.split_once('/').unwrap();
    for member in &scene.fleet.images {
        for base in [first.clone(), format!("{second}/{path}")] {
            let reference = format!("{base}/{}:{}", member.repository, member.tag);
            assert_eq!(scene.digest(&reference), member.digest, "{reference}");
        }
    }
    let listed = env.ctr(&["-n", &scene.namespace, "images", "ls"]).ok();
    for member in &scene.fleet.images {
        assert!(listed.contains(&member.digest), "{}\n{listed}", member.repository);
    }
    let leases = env.ctr(&["-n", &scene.namespace, "leases", "ls", "-q"]).ok();
    assert_eq!(leases.trim(), "");
    let index = std::fs::read_to_string(scene.folder.join("back/index.json")).unwrap();
    for member in &scene.fleet.images {
        assert!(index.contains(&member.digest), "{}", member.repository);
    }
}

fn filters(env: &Env) {
    let scene = scene(env, 7);
    let to = env.repository("migrate");
    let targets = |spec: &str| -> BTreeSet<String> {
        let (status, value, stderr) = scene.run(
            &["--dry-run"],
            &format!("migrate(#{{ from: \"oci:fleet\", to: \"{to}\", {spec} }}).items.map(|i| i.target)"),
        );
        assert_eq!(status, 0, "{spec}\n{stderr}");
        let prefix = format!("registry:{to}/");
        let strings = value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().replacen(&prefix, "", 1));
        strings.collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
    assert_eq!(targets("include: \"fleet/app[12]\""), set(&["fleet/app1:1.1", "fleet/app2:1.2"]));
    assert_eq!(targets("include: \"/app[0-9]:1.3$/\""), set(&["fleet/app3:1.3"]));
    assert_eq!(targets("semver: \">=1.4\", exclude: [\"**/app6:*\"]"), set(&["fleet/app4:1.4", "fleet/app5:1.5"]));
    assert_eq!(
        targets("include: \"fleet/app1\", rename: |n| n.replace(\"fleet/\", \"ship/\")"),
        set(&["ship/app1:1.1"])
    );
    assert_eq!(targets("rename: |n| if n.contains(\"app6\") { \"one\" } else { () }"), set(&["one:1.6"]));
    assert_eq!(targets("include: \"*/app2\", rename: \"{name}/{registry}:v{tag}\""), set(&["app2/example.test:v1.2"]));
    assert_eq!(targets("older_than: \"1h\"").len(), 7);
    assert_eq!(targets("newer_than: \"1h\"").len(), 0);
    // All in one repository: the newest by version.
    scene.ok(&format!("migrate(#{{ from: \"oci:fleet\", to: \"{to}\", rename: \"one\" }}).done"));
    let newest = scene.ok(&format!(
        "migrate(#{{ from: \"{to}/one:*\", to: \"oci:newest\", newest: 2 }}).items.map(|i| i.source.split(\":\")[-1])"
    ));
    assert_eq!(newest, serde_json::json!(["1.5", "1.6"]));
    // A list with targets of its own.
    std::fs::write(
        scene.folder.join("list.txt"),
        format!("# what moves\noci:fleet:example.test/fleet/app3:1.3 {to}/named:1\n\noci:fleet:example.test/fleet/app4:1.4\n"),
    )
    .unwrap();
    let one = "items.map(|i| i.state)";
    scene.ok(&format!("migrate(#{{ from: registry(\"{to}\"), to: \"oci:newest\", newest: 2 }}).{one}"));
    let of_repository = scene
        .ok(&format!("migrate(#{{ from: registry(\"{to}\").repo(\"one\"), to: \"oci:newest\", newest: 2 }}).{one}"));
    assert_eq!(of_repository, serde_json::json!(["skipped", "skipped"]));
    let listed = scene.ok(&format!("migrate(#{{ from: \"file:list.txt\", to: \"{to}\" }}).items.map(|i| i.target)"));
    assert_eq!(listed, serde_json::json!([format!("registry:{to}/named:1"), format!("registry:{to}/fleet/app4:1.4")]));
    // Mistakes are named before anything moves.
    for (spec, part) in [
        ("from: \"oci:fleet\"", "has no target"),
        ("to: \"x\"", "from"),
        ("from: \"oci:fleet\", to: \"archive:a.tar\"", "one image after another"),
        ("from: \"oci:fleet\", to: \"h.test\", rename: |n| \"same:1\"", "is that of"),
        ("from: \"oci:fleet\", to: \"h.test\", include: \"[\"", "pattern"),
        ("from: \"oci:fleet\", to: \"h.test\", rate: \"20/day\"", "20/day"),
        ("from: \"oci:fleet\", to: \"h.test\", shard: #{ index: 2, count: 2 }", "shard"),
        ("from: \"oci:fleet\", to: \"h.test\", report: \"r.pdf\"", "r.pdf"),
        ("from: \"oci:fleet\", to: \"h.test\", retry_failed: true", "journal"),
        ("from: \"oci:nowhere\", to: \"h.test\"", "nowhere"),
    ] {
        let (status, _, stderr) = scene.run(&[], &format!("migrate(#{{ {spec} }})"));
        assert_eq!(status, 1, "{spec}: {stderr}");
        assert!(stderr.contains(part), "{spec}: {stderr}");
    }
}

fn shards(env: &Env) {
    let scene = scene(env, 50);
    let source = env.repository("migrate");
    let to = env.repository("migrate");
    scene.ok(&format!("migrate(#{{ from: \"oci:fleet\", to: \"{source}\" }}).done"));
    let spec = |shard: &str| {
        format!("migrate(#{{ from: \"{source}/\", to: \"{to}\", journal: \"s.journal\", shard: {shard} }}).items")
    };
    let workers: Vec<_> = ["#{ index: 0, count: 2 }", "#{ count: 2 }"]
        .map(|shard| {
            let mut command = env.ctrsh_command();
            command.args(["-n", &scene.namespace, "--json", "-e", &spec(shard)]).current_dir(&scene.folder);
            command.env("JOB_COMPLETION_INDEX", "1").stdout(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .into();
    let mut seen = Vec::new();
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success());
        let items: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert!(items.len() > 10, "{}", items.len());
        assert!(items.iter().all(|item| item["state"] == "done"), "{items:?}");
        seen.extend(items.iter().map(|item| item["target"].as_str().unwrap().to_owned()));
    }
    assert_eq!((seen.len(), seen.iter().collect::<BTreeSet<_>>().len()), (50, 50));
    assert!(scene.folder.join("s.journal.0").exists() && scene.folder.join("s.journal.1").exists());
    let (_, within) = source.split_once('/').unwrap();
    for member in &scene.fleet.images {
        assert_eq!(scene.digest(&format!("{to}/{within}/{}:{}", member.repository, member.tag)), member.digest);
    }
}

fn failures(env: &Env) {
    let scene = scene(env, 6);
    let proxy = env.block_on(FaultProxy::start(&env.registry()));
    let to = env.repository("migrate").replacen(&env.registry(), &proxy.host(), 1);
    // One repository refuses for ever, one hiccups.
    proxy.fault("PUT", "/app4/manifests/", 1000, Fault::status(403));
    proxy.fault("PUT", "/app5/manifests/", 2, Fault::status(503));
    let spec = |more: &str| {
        format!(
            "migrate(#{{ from: \"oci:fleet\", to: \"{to}\", journal: \"f.journal\", keep_going: true, delay: \"1ms\", {more} }})"
        )
    };
    let (status, value, stderr) = scene.run(&[], &spec("report: [\"r.json\", \"r.csv\", \"r.html\"]"));
    assert_eq!(status, 3, "{stderr}");
    assert_eq!((value["done"].as_i64(), value["failed"].as_array().unwrap().len()), (Some(5), 1), "{value}");
    let failed = &value["failed"][0];
    assert!(failed["target"].as_str().unwrap().contains("/app4:"), "{failed}");
    assert_eq!(failed["kind"], "unauthorized", "{failed}");
    let json: Value = serde_json::from_str(&std::fs::read_to_string(scene.folder.join("r.json")).unwrap()).unwrap();
    assert_eq!((json["total"].as_i64(), json["items"].as_array().unwrap().len()), (Some(6), 6));
    assert_eq!(std::fs::read_to_string(scene.folder.join("r.csv")).unwrap().lines().count(), 7);
    let html = std::fs::read_to_string(scene.folder.join("r.html")).unwrap();
    assert!(html.contains("<polyline class=\"failures\"") && html.contains("5 moved, 0 there already, 1 failed"));
    // Without keep_going the failure is thrown.
    let (status, _, stderr) = scene.run(&[], &spec("").replace("keep_going: true, ", ""));
    assert_eq!(status, 1);
    assert!(stderr.contains("app4"), "{stderr}");
    proxy.forgive();
    let before = proxy.count("PUT", "/manifests/");
    let again = scene.ok(&format!("let c = {COUNTS}; c.call({})", spec("retry_failed: true")));
    assert_eq!(again, serde_json::json!([1, 1, 0, 0]));
    assert_eq!(proxy.count("PUT", "/manifests/") - before, 1);
    assert_eq!(scene.ok(&format!("let c = {COUNTS}; c.call({})", spec(""))), serde_json::json!([6, 0, 6, 0]));
}

fn journals(env: &Env) {
    let scene = scene(env, 4);
    let to = env.repository("migrate");
    let spec = |to: &str| format!("migrate(#{{ from: \"oci:fleet\", to: \"{to}\", journal: \"j.journal\" }})");
    scene.ok(&spec(&to));
    let (status, _, stderr) = scene.run(&[], &spec(&env.repository("migrate")));
    assert_eq!(status, 1);
    assert!(stderr.contains("another migration") && stderr.contains("j.journal"), "{stderr}");
    // Held by somebody else.
    let file = std::fs::File::open(scene.folder.join("j.journal")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let (status, _, stderr) = scene.run(&[], &spec(&to));
    assert_eq!(status, 1);
    assert!(stderr.contains("in use"), "{stderr}");
    drop(file);
    // A script without access to files cannot write one.
    let (status, _, stderr) = scene.run(&["--allow", "read,write"], &spec(&to));
    assert_eq!(status, 5, "{stderr}");
    // Dry: nothing is written.
    let journal = std::fs::read(scene.folder.join("j.journal")).unwrap();
    let (status, value, stderr) = scene.run(&["--dry-run"], &spec(&to));
    assert_eq!((status, value["skipped"].as_i64()), (0, Some(4)), "{stderr}");
    assert_eq!(std::fs::read(scene.folder.join("j.journal")).unwrap(), journal);
}

fn heard(env: &Env) {
    let scene = scene(env, 6);
    let to = env.repository("migrate");
    let script = format!(
        "let names = []; migrate(#{{ from: \"oci:fleet\", to: \"{to}\", on_item: |i| names.push(i.target) }}); names.len()"
    );
    assert_eq!(scene.ok(&script), 6);
    let other = env.repository("migrate");
    let script = format!(
        "migrate(#{{ from: \"oci:fleet\", to: \"{other}\", jobs: 1, on_item: |i| throw \"enough of \" + i.state }})"
    );
    let (status, _, stderr) = scene.run(&[], &script);
    assert_eq!(status, 1);
    assert!(stderr.contains("enough of done"), "{stderr}");
}

fn node(env: &Env) {
    let scene = scene(env, 3);
    let pushed = env.pushed(Kind::Index, "migrate");
    let (index, manifest) = (env.image(Kind::Index).digest, env.image(Kind::Index).manifest);
    let (repository, _) = pushed.rsplit_once(':').unwrap();
    let by_digest = format!("{repository}@{index}");
    // As the kubelet's side of containerd keeps it: three names, and what this machine runs.
    scene.ok(&format!("pull(\"{pushed}\").name"));
    let config = env.image(Kind::Index).config;
    for name in [&by_digest, &config] {
        env.ctr(&["-n", &scene.namespace, "images", "tag", &pushed, name]).ok();
    }
    // Another node gets both names that are any: pods are pinned by digest too.
    let node = env.namespace("migrate");
    for (more, count) in [("", 2), ("newest: 1,", 2), ("rename: \"moved.example/{name}:{tag}\",", 1)] {
        let spec = format!("from: \"containerd:\", to: \"containerd:[{node}]\", unpack: false, {more}");
        assert_eq!(scene.ok(&format!("migrate(#{{ {spec} }}).total")), count, "{more}");
    }
    let listed = env.ctr(&["-n", &node, "images", "ls", "-q"]).ok();
    let named: BTreeSet<&str> = listed.lines().collect();
    assert!(named.len() == 3 && named.contains(&*by_digest) && named.contains(&*pushed), "{listed}");
    let to = env.repository("migrate");
    let script = format!("let c = {COUNTS}; c.call(migrate(#{{ from: \"containerd:\", to: \"{to}\" }}))");
    assert_eq!(scene.ok(&script), serde_json::json!([1, 1, 0, 0]));
    let (_, within) = pushed.split_once('/').unwrap();
    assert_eq!(scene.digest(&format!("{to}/{within}")), manifest);
    // A name by digest alone is what there is of the image: the plan says that it cannot keep its digest.
    env.ctr(&["-n", &scene.namespace, "images", "rm", &pushed]).ok();
    let elsewhere = env.repository("migrate");
    let proxy = env.block_on(FaultProxy::start(&env.registry()));
    let through = elsewhere.replacen(&env.registry(), &proxy.host(), 1);
    let script = format!("migrate(#{{ from: \"containerd:\", to: \"{through}\" }})");
    for options in [["--dry-run"].as_slice(), &[]] {
        let (status, _, stderr) = scene.run(options, &script);
        assert_eq!(status, 1, "{stderr}");
        for part in [&index, &manifest, "tag"] {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
    }
    assert_eq!(proxy.count("POST", ""), 0, "nothing is sent that the registry cannot take");
}

fn unreadable(env: &Env) {
    let scene = scene(env, 6);
    let lost = &scene.fleet.images[4];
    let (here, away) = (format!("fleet/blobs/{}", lost.digest.replacen(':', "/", 1)), scene.folder.join("lost.json"));
    let to = env.repository("migrate");
    for (age, done) in [("older_than", 5), ("newer_than", 0)] {
        std::fs::rename(scene.folder.join(&here), &away).unwrap();
        let spec = format!("from: \"oci:fleet\", to: \"{to}\", {age}: \"1h\"");
        // By the time it is its turn it can be read, and nobody knows whether it was meant.
        let back = format!("rename: |name| {{ write_file(\"{here}\", read_file(\"lost.json\")); name }}");
        let (status, value, stderr) = scene.run(&[], &format!("migrate(#{{ {spec}, {back}, keep_going: true }})"));
        assert_eq!(status, 3, "{stderr}");
        assert_eq!((value["done"].as_i64(), value["failed"].as_array().unwrap().len()), (Some(done), 1), "{value}");
        assert!(value["failed"][0]["target"].as_str().unwrap().contains("/app4:"), "{value}");
        assert!(value["failed"][0]["message"].as_str().unwrap().contains(&lost.digest), "{value}");
        // Without keep_going it is thrown.
        std::fs::remove_file(scene.folder.join(&here)).unwrap();
        let (status, _, stderr) = scene.run(&[], &format!("migrate(#{{ {spec} }})"));
        assert_eq!(status, 1, "{stderr}");
        assert!(stderr.contains(&lost.digest), "{stderr}");
        std::fs::rename(&away, scene.folder.join(&here)).unwrap();
    }
}

fn stopped(env: &Env) {
    let image = env.image(Kind::Big(20));
    let proxy = env.block_on(FaultProxy::start(&env.registry()));
    proxy.fault("PUT", "/blobs/uploads/", 99, Fault::Silence);
    let to = env.repository("migrate").replacen(&env.registry(), &proxy.host(), 1);
    let name = image.layout.file_name().unwrap().to_str().unwrap();
    let spec = format!("from: \"oci:{name}:v1\", to: \"{to}\", rate: \"1000/s\"");
    let mut command = env.ctrsh_command();
    command.args(["-e", &format!("migrate(#{{ {spec} }})")]).current_dir(image.layout.parent().unwrap());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while proxy.count("PUT", "/blobs/uploads/") < 2 {
        assert!(Instant::now() < deadline, "{:#?}", proxy.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let (opened, ended) = (proxy.count("POST", "/blobs/uploads/"), proxy.count("DELETE", "/blobs/uploads/"));
    assert_eq!(ended, opened, "{:#?}", proxy.log());
}

fn archived(env: &Env) {
    let scene = scene(env, 5);
    scene.ok("migrate(#{ from: \"oci:fleet\", to: \"containerd:\" }).done");
    let names = scene.fleet.images.iter().map(|member| format!("example.test/{}:{}", member.repository, member.tag));
    let names = names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    scene.ok(&format!("save([{names}], \"fleet.tar.gz\")"));
    let to = env.repository("migrate");
    // What was read of it once is not read of the file again.
    let script = format!(
        "let c = {COUNTS}; c.call(migrate(#{{ from: \"archive:fleet.tar.gz\", to: \"{to}\", older_than: \"1h\",
            rename: |name| {{ write_file(\"fleet.tar.gz\", \"gone\"); name }} }}))"
    );
    assert_eq!(scene.ok(&script), serde_json::json!([5, 5, 0, 0]));
}

fn many_archives(env: &Env) {
    let scene = scene(env, 4);
    scene.ok("copy(\"oci:fleet:example.test/fleet/app3:1.3\", \"archive:0.tar:example.test/fleet/app3:1.3\").digest");
    let names: Vec<String> = (1..450).map(|number| format!("{number}.tar")).collect();
    for name in &names {
        std::fs::hard_link(scene.folder.join("0.tar"), scene.folder.join(name)).unwrap();
    }
    let lines: String = names.iter().map(|name| format!("archive:{name}\n")).collect();
    std::fs::write(scene.folder.join("list.txt"), lines).unwrap();
    let mut command = std::process::Command::new("/bin/sh");
    let ctrsh = env.ctrsh_command();
    command.args(["-c", "ulimit -n 400; exec \"$0\" \"$@\""]).arg(ctrsh.get_program());
    command
        .env_clear()
        .envs(ctrsh.get_envs().filter_map(|(key, value)| Some((key, value?))))
        .current_dir(&scene.folder);
    let script = "let n = 0; migrate(#{ from: \"file:list.txt\", to: \"oci:out\", rename: |name| { n += 1; `a.test/i:${n}` } }).planned";
    let output = command.args(["--dry-run", "--json", "-e", script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "449");
}
