//! Images made of containers.

use std::time::Duration;

use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::oci::spec::SpecOptions;
use ctrsh::oci::{Matcher, Reference};
use ctrsh::ops::container::{
    Commit, CommitOptions, Create, CreateOptions, Delete, Exec, ExecOptions, Start, StartOptions,
};
use ctrsh::ops::image::{check, config, get};
use libtest_mimic::Trial;

use super::stage::{IMAGE, Stage};
use crate::harness::{Env, Kind, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::container_commit::what a container changed is a layer that ctr runs", env, committed),
        trial(
            "ops::container_commit::a commit that is dropped leaves nothing, and the container runs on",
            env,
            dropped,
        ),
        trial("ops::container_commit::mistakes are named and leave nothing", env, mistakes),
    ]
}

const NAME: &str = "example.test/committed:1";

fn commit(stage: &Stage, id: &str, options: CommitOptions) -> ctrsh::ops::Result<ctrsh::containerd::images::Image> {
    stage.run(Commit::new(id, NAME.parse::<Reference>().unwrap(), options))
}

fn started(stage: &Stage, command: &[&str]) -> String {
    let id = stage.env.fresh("commit");
    let command = Some(command.iter().map(|word| (*word).to_owned()).collect());
    let options = CreateOptions { spec: SpecOptions { command, ..SpecOptions::default() }, ..CreateOptions::default() };
    stage.run(Create::new(&id, IMAGE, options)).unwrap();
    stage.run(Start::new(&id, StartOptions::default())).unwrap();
    id
}

fn shell(stage: &Stage, id: &str, script: &str) {
    let words = ["sh", "-c", script].map(str::to_owned).to_vec();
    assert_eq!(stage.run(Exec::new(id, words, ExecOptions::default())).unwrap().code, 0);
}

fn committed(env: &Env) {
    for kind in [Kind::ThreeLayers, Kind::Docker, Kind::Index] {
        let stage = Stage::of(env, "commit", kind);
        let id = started(&stage, &["sleep", "1000"]);
        shell(&stage, &id, "echo new > /new; rm /etc/group");
        let before = stage.leftovers();
        let options = CommitOptions {
            author: Some("someone".into()),
            message: Some("with something new".into()),
            cmd: Some(vec!["cat".into(), "/new".into()]),
            ..CommitOptions::default()
        };
        let image = commit(&stage, &id, options).unwrap();
        assert_eq!(stage.task_status(&id).as_deref(), Some("RUNNING"));
        let mut after = stage.leftovers();
        assert!(after.0.images.remove(NAME));
        assert_eq!(after.0.snapshots.len(), before.0.snapshots.len() + 1, "the layer is unpacked");
        after.0.snapshots.clone_from(&before.0.snapshots);
        assert_eq!(after, before, "{kind:?}");
        stage.run(Delete::new(&id, true, false)).unwrap();
        for name in stage.ctr(&["images", "ls", "-q"]).lines().filter(|name| *name != NAME) {
            stage.ctr(&["images", "rm", "--sync", name]);
        }
        let run = |name: &str, command: &[&str]| {
            let id = env.fresh("commit");
            let fixed = ["run", "--rm", "--snapshotter", &stage.snapshotter, name, &id];
            stage.ctr(&[&fixed[..], command].concat())
        };
        assert_eq!(run(NAME, &[]), "new\n");
        assert_eq!(run(NAME, &["sh", "-c", "ls /etc"]), "passwd\n");
        let seen = env.block_on(check(&stage.ctx, &image, &Matcher::host(), &stage.snapshotter)).unwrap();
        assert!(seen.complete() && seen.unpacked(), "{seen:?}");
        let config = env.block_on(config(&stage.ctx, &image, &Matcher::host())).unwrap();
        let history = config["history"].as_array().unwrap();
        assert_eq!(history.len(), config["rootfs"]["diff_ids"].as_array().unwrap().len());
        assert_eq!(history.last().unwrap()["comment"], "with something new");
        assert_eq!(history.last().unwrap()["created_by"], "sleep 1000");
        assert_eq!((&config["author"], &config["config"]["Env"][1]), (&"someone".into(), &"GREETING=hello".into()));
        // A registry takes it, and what comes back is unpacked from its layers.
        let target = format!("{}:committed", env.repository("commit"));
        stage.ctr(&["images", "tag", NAME, &target]);
        stage.ctr(&["images", "push", "--plain-http", &target]);
        let other = Stage::empty(env, "commit");
        other.ctr(&["images", "pull", "--plain-http", "--snapshotter", &other.snapshotter, &target]);
        assert_eq!(env.block_on(get(&other.ctx, &target)).unwrap().target.digest, image.target.digest);
    }
}

fn dropped(env: &Env) {
    let stage = Stage::new(env, "commit");
    let id = started(&stage, &["sleep", "1000"]);
    shell(&stage, &id, "head -c 20000000 /dev/urandom > /noise");
    let before = stage.leftovers();
    let mut cut_off = 0;
    for wait in [1, 5, 10, 20, 40, 80, 160] {
        let done = env.block_on(async {
            let commit = Commit::new(&id, NAME.parse().unwrap(), CommitOptions::default());
            let commit = ctrsh::ops::execute(&stage.ctx, commit);
            let done = tokio::time::timeout(Duration::from_millis(wait), commit).await;
            stage.ctx.settle().await;
            done.map(|result| result.unwrap()).is_ok()
        });
        cut_off += usize::from(!done);
        assert_eq!(stage.task_status(&id).as_deref(), Some("RUNNING"), "cut off after {wait} ms");
        // The image is the last thing that is made: whoever gives up then may have it.
        if done || stage.leftovers().0.images.contains(NAME) {
            stage.ctr(&["images", "rm", "--sync", NAME]);
        }
        assert_eq!(stage.leftovers(), before, "cut off after {wait} ms");
    }
    assert!(cut_off > 0, "it was never cut off");
    stage.run(Delete::new(&id, true, false)).unwrap();
}

fn mistakes(env: &Env) {
    let stage = Stage::of(env, "commit", Kind::ThreeLayers);
    let id = started(&stage, &["sleep", "1000"]);
    let error = commit(&stage, "nobody", CommitOptions::default()).unwrap_err();
    assert_eq!(error.kind(), Failed::NotFound, "{error}");
    let before = stage.leftovers();
    stage.ctr(&["images", "tag", IMAGE, NAME]);
    let error = commit(&stage, &id, CommitOptions::default()).unwrap_err();
    assert_eq!(error.kind(), Failed::AlreadyExists, "{error}");
    stage.ctr(&["images", "rm", NAME]);
    // The name moved on after the container was made.
    let other = env.pushed(Kind::Busybox, "commit");
    stage.ctr(&["images", "pull", "--plain-http", "--snapshotter", &stage.snapshotter, &other]);
    stage.ctr(&["images", "tag", "--force", &other, IMAGE]);
    let there = stage.leftovers();
    let error = commit(&stage, &id, CommitOptions::default()).unwrap_err();
    assert_eq!(error.kind(), Failed::Conflict, "{error}");
    assert!(error.to_string().contains(IMAGE), "{error}");
    assert!(error.hint().unwrap().contains("snapshots::diff"), "{:?}", error.hint());
    assert_eq!(stage.leftovers(), there);
    assert_eq!(before.0.containers, there.0.containers);
    stage.run(Delete::new(&id, true, false)).unwrap();
}
