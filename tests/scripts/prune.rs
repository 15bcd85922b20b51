//! `std/prune`.

use libtest_mimic::Trial;

use super::program;
use crate::harness::Env;
use crate::ops::stage::{IMAGE, Stage};

pub fn trials(_env: &Env) -> Vec<Trial> {
    Vec::new()
}

fn stage(env: &Env) -> Stage {
    let stage = Stage::new(env, "prune");
    for tag in ["2", "3"] {
        stage.ctr(&["images", "tag", IMAGE, &format!("example.test/busybox:{tag}")]);
    }
    stage
}

pub fn real(env: &Env) {
    let stage = stage(env);
    program(&stage, &["std/prune", "--keep", "1", "--except", "**/busybox:1", "name~=example.test"]).ok();
    let left = stage.ctr(&["images", "ls", "-q"]);
    assert!(left.contains("busybox:1\n") && left.contains("busybox:3\n") && !left.contains("busybox:2\n"), "{left}");
}

pub fn dry(env: &Env) {
    let stage = stage(env);
    let before = stage.ctr(&["images", "ls", "-q"]);
    let ran = program(&stage, &["--dry-run", "std/prune", "--keep", "1"]);
    let said = ran.ok();
    assert!(said.contains("busybox:2"), "{said}");
    assert_eq!(stage.ctr(&["images", "ls", "-q"]), before);
}
