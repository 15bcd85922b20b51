//! `prune` and `std/prune`: what goes, what stays, and the bytes that are really freed.

use std::collections::{BTreeMap, BTreeSet};

use ctrsh::containerd::Labels;
use libtest_mimic::Trial;
use serde_json::Value;

use super::program;
use crate::harness::{Env, trial};
use crate::ops::stage::Stage;
use crate::shell::terminal::Terminal;

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("scripts::prune counts and ages", env, counts_and_ages),
        trial("scripts::prune asks at the prompt", env, asks_at_the_prompt),
        trial("scripts::prune does not count what other namespaces hold", env, other_namespaces),
    ]
}

/// What a dry run, or a plan, must not change.
fn state(stage: &Stage) -> [Vec<String>; 3] {
    let lines = |arguments: &[&str]| {
        let mut lines: Vec<String> = stage.ctr(arguments).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let snapshots = ["snapshots", "--snapshotter", &stage.snapshotter, "ls"];
    [lines(&["images", "ls", "-q"]), lines(&["content", "ls", "-q"]), lines(&snapshots)]
}

/// The bytes of the namespace's blobs as files of the content store.
fn stored(stage: &Stage) -> BTreeMap<String, u64> {
    let folder = stage.env.sandbox_folder().join("root/io.containerd.content.v1.content/blobs/sha256");
    let digests = stage.ctr(&["content", "ls", "-q"]);
    let size = |digest: &str| std::fs::metadata(folder.join(digest.strip_prefix("sha256:").unwrap())).unwrap().len();
    digests.lines().map(|digest| (digest.to_owned(), size(digest))).collect()
}

/// Those of them that are files no more.
fn vanished(stage: &Stage, before: &BTreeMap<String, u64>) -> u64 {
    let folder = stage.env.sandbox_folder().join("root/io.containerd.content.v1.content/blobs/sha256");
    let gone = before.iter().filter(|(digest, _)| !folder.join(digest.strip_prefix("sha256:").unwrap()).exists());
    gone.map(|(_, size)| size).sum()
}

/// The bytes of the namespace's snapshots as ctr counts them.
fn snapshots(stage: &Stage) -> u64 {
    let usage = stage.ctr(&["snapshots", "--snapshotter", &stage.snapshotter, "usage", "-b"]);
    usage.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
}

/// Makes images of one layer each, which nobody else has, in this order.
fn make(stage: &Stage, names: &[&str]) {
    let mut script = String::new();
    for name in names {
        let folder = name.replace(['/', ':'], "-");
        std::fs::create_dir_all(stage.folder.join(&folder)).unwrap();
        let text = format!("{} {name}\n", stage.namespace).repeat(3000 + 500 * name.len());
        std::fs::write(stage.folder.join(&folder).join("file"), text).unwrap();
        script += &format!("from_rootfs(\"{folder}\", \"{name}\", #{{ cmd: [\"/file\"] }});\n");
    }
    std::fs::write(stage.folder.join("make.rhai"), script).unwrap();
    program(stage, &["make.rhai"]).ok();
}

/// Gives an image the names that CRI gives it beside its tag; returns them.
fn as_cri_does(stage: &Stage, name: &str) -> [String; 2] {
    stage.env.block_on(async {
        let images = stage.ctx.client().await.unwrap().images();
        let image = images.get(name).await.unwrap();
        let config = program(stage, &["-e", &format!("image(\"{name}\").manifest().config.digest")]).ok();
        let by_digest = format!("{}@{}", name.rsplit_once(':').unwrap().0, image.target.digest);
        let names = [by_digest, config.trim().trim_matches('"').to_owned()];
        for name in &names {
            images.create(name, &image.target, &Labels::new()).await.unwrap();
        }
        names
    })
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Images of every sort; returns the names that `--all --except '**/base:*'` has to remove.
fn stage(env: &Env) -> (Stage, BTreeSet<String>) {
    let stage = Stage::empty(env, "prune");
    make(
        &stage,
        &[
            "example.test/app:1",
            "example.test/pinned:1",
            "example.test/used:1",
            "example.test/moved:1",
            "example.test/newer:1",
            "example.test/base:1",
        ],
    );
    let aliases = as_cri_does(&stage, "example.test/app:1");
    as_cri_does(&stage, "example.test/moved:1");
    as_cri_does(&stage, "example.test/used:1");
    stage.ctr(&["images", "tag", "example.test/app:1", "example.test/app:again"]);
    stage.ctr(&["images", "label", "example.test/pinned:1", "io.cri-containerd.pinned=pinned"]);
    for name in ["used", "moved"] {
        let (image, id) = (format!("example.test/{name}:1"), format!("{name}-{}", stage.namespace));
        stage.ctr(&["containers", "create", "--snapshotter", &stage.snapshotter, &image, &id, "/file"]);
    }
    // The name moves on; the container's layers do not.
    let tag = "tag(\"example.test/newer:1\", \"example.test/moved:1\", #{ force: true })";
    program(&stage, &["-e", tag]).ok();
    let mut removed = set(&["example.test/app:1", "example.test/app:again"]);
    removed.extend(aliases);
    (stage, removed)
}

pub fn real(env: &Env) {
    let (stage, wanted) = stage(env);
    let before = state(&stage);
    let (content, unpacked) = (stored(&stage), snapshots(&stage));
    let policy = ["std/prune", "--all", "--except", "**/base:*", "--json"];

    let plan = json(&program(&stage, &[&policy[..], &["--plan"]].concat()).ok());
    assert_eq!(state(&stage), before, "a plan changes nothing");
    let pruned = json(&program(&stage, &policy).ok());

    assert_eq!(names(&pruned["removed"]), wanted);
    assert_eq!(plan["removed"], pruned["removed"]);
    let reason = |name: &str| {
        let kept = pruned["kept"].as_array().unwrap().iter().find(|one| one["name"] == name);
        kept.unwrap_or_else(|| panic!("{name}: {pruned}"))["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(reason("example.test/pinned:1"), "example.test/pinned:1 is pinned");
    assert_eq!(reason("example.test/used:1"), format!("container used-{} uses it", stage.namespace));
    let moved = before[0].iter().find(|name| name.starts_with("example.test/moved@")).unwrap();
    assert_eq!(reason(moved), format!("container moved-{} uses it", stage.namespace));
    let left: BTreeSet<String> = state(&stage)[0].iter().cloned().collect();
    assert_eq!(left, before[0].iter().cloned().collect::<BTreeSet<_>>().difference(&wanted).cloned().collect());

    let freed = |key: &str| pruned[key].as_u64().unwrap();
    assert!(freed("freed_content") > 0 && freed("freed_snapshots") > 0, "{pruned}");
    assert_eq!(freed("freed_content"), vanished(&stage, &content), "the content store's difference");
    assert_eq!(freed("freed_snapshots"), unpacked - snapshots(&stage), "the snapshotter's difference");
    assert_eq!(pruned["expected"], pruned["freed"], "{pruned}");
    assert_eq!(plan["freed"], pruned["freed"], "the plan knew it");
    let whole = stage.ctr(&["images", "check", "-q", "--snapshotter", &stage.snapshotter]);
    assert_eq!(whole.lines().count(), left.len(), "what stays is whole: {whole}");
    for name in ["used", "moved"] {
        let id = format!("{name}-{}", stage.namespace);
        stage.ctr(&["snapshots", "--snapshotter", &stage.snapshotter, "info", &id]);
        stage.ctr(&["containers", "rm", &id]);
    }
}

pub fn dry(env: &Env) {
    let (stage, wanted) = stage(env);
    let before = state(&stage);
    let ran = program(&stage, &["--dry-run", "std/prune", "--all", "--except", "**/base:*"]);
    for name in &wanted {
        assert!(ran.stderr.contains(&format!("delete image {name}")), "{name}: {}", ran.stderr);
    }
    assert!(ran.stderr.contains("KiB"), "the bytes are told: {}", ran.stderr);
    let said = ran.ok();
    assert!(said.contains("- example.test/app:1") && said.contains("example.test/pinned:1: stays"), "{said}");
    assert_eq!(state(&stage), before);
    let denied = program(&stage, &["--allow", "read", "std/prune", "--all"]);
    assert_eq!(denied.status, 5, "{denied:?}");
    assert_eq!(state(&stage), before);
    for name in ["used", "moved"] {
        stage.ctr(&["containers", "rm", &format!("{name}-{}", stage.namespace)]);
    }
}

fn counts_and_ages(env: &Env) {
    let stage = Stage::empty(env, "prune-count");
    make(&stage, &["example.test/app:1", "example.test/app:2", "example.test/app:3", "example.test/other:1"]);
    stage.ctr(&["images", "tag", "example.test/app:3", "example.test/app:latest"]);
    let removed = |arguments: &[&str]| {
        let words = [&["std/prune", "--json"], arguments].concat();
        names(&json(&program(&stage, &words).ok())["removed"])
    };
    let plan = |arguments: &[&str]| removed(&[&["--plan"], arguments].concat());
    assert_eq!(plan(&["--keep", "3"]), set(&[]), "two names of one image count once");
    assert_eq!(plan(&["--keep", "2"]), set(&["example.test/app:1"]));
    assert_eq!(plan(&["--keep", "1", "name~=other"]), set(&[]));
    assert_eq!(plan(&["--older-than", "1h"]), set(&[]));
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(plan(&["--older-than", "1s", "--keep", "1"]), set(&["example.test/app:1", "example.test/app:2"]));
    assert_eq!(plan(&["--older-than", "1s", "--by", "created", "name==example.test/other:1"]).len(), 1);
    assert_eq!(plan(&["--older-than", "1s", "--by", "built", "name==example.test/other:1"]).len(), 1);
    assert_eq!(removed(&["--keep", "1", "--except", "*/app:2"]), set(&["example.test/app:1"]));
    let wrong = |arguments: &[&str], part: &str| {
        let ran = program(&stage, &[&["std/prune"], arguments].concat());
        assert!(ran.status == 1 && ran.stderr.contains(part), "{part}: {ran:?}");
    };
    wrong(&[], "say what may go");
    wrong(&["--older-then", "1h"], "did you mean --older-than?");
    wrong(&["--older-than", "1h", "--by", "size"], "updated, created or built");
    wrong(&["--keep", "many"], "a whole number");
}

fn asks_at_the_prompt(env: &Env) {
    let stage = Stage::empty(env, "prune-ask");
    make(&stage, &["example.test/one:1", "example.test/two:1"]);
    let before = state(&stage);
    let mut command = env.ctrsh_command();
    command.args(["--norc", "-n", &stage.namespace, "--snapshotter", &stage.snapshotter]);
    let mut terminal = Terminal::run(&command);
    terminal.wait_for_prompt();
    terminal.press("prune().removed.len()\r");
    terminal.wait_for("go on with 2 deletions? [y/N]");
    assert!(terminal.text().contains("delete image example.test/one:1, frees "), "{}", terminal.text());
    terminal.press("n\r");
    terminal.wait_for("error:");
    assert_eq!(state(&stage), before);
    terminal.press("prune().removed.len()\r");
    terminal.wait("the second question", |text| text.matches("[y/N]").count() == 2);
    terminal.press("y\r");
    terminal.wait_for("\n2");
    assert_eq!(state(&stage)[0], Vec::<String>::new());
}

fn other_namespaces(env: &Env) {
    let stage = Stage::empty(env, "prune-shared");
    make(&stage, &["example.test/a:1"]);
    let other = Stage::empty(env, "prune-sharing");
    let file = stage.folder.join("a.tar");
    stage.ctr(&["images", "export", file.to_str().unwrap(), "example.test/a:1"]);
    other.ctr(&["images", "import", "--no-unpack", file.to_str().unwrap()]);
    let content = stored(&stage);
    let pruned = json(&program(&stage, &["--json", "-e", "prune()"]).ok());
    assert_eq!(names(&pruned["removed"]), set(&["example.test/a:1"]));
    // The index of an archive is the other's own; all that the image has, both have.
    assert_eq!((pruned["freed_content"].as_u64(), vanished(&stage, &content)), (Some(0), 0), "{pruned}");
    assert!(pruned["freed_snapshots"].as_u64() > Some(0));
    let pruned = json(&program(&other, &["--json", "-e", "prune()"]).ok());
    assert_eq!(pruned["freed_content"].as_u64().unwrap(), content.values().sum::<u64>(), "{pruned}");
    assert_eq!(vanished(&stage, &content), content.values().sum::<u64>());
}
