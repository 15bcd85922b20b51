//! What must not change anything does not: every example of the catalog runs dry, and with no access but to read, and the
//! daemon, the registry and the files are as before.

use std::collections::BTreeSet;
use std::path::Path;

use ctrsh::grant::{Access, Allow};
use ctrsh::kind::Kind as Failed;
use libtest_mimic::Trial;

use crate::examples::{Ready, run, turn};
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("dry_run::every change of the catalog changes nothing", env, dry),
        trial("dry_run::nothing changes without the access for it", env, read_only),
    ]
}

/// All that an example could change: the daemon's records and content, the registries, the files.
fn state(Ready { stage, registry, harbor }: &Ready) -> Vec<String> {
    let ctr = |arguments: &[&str]| format!("{arguments:?} {}", without_ages(&stage.ctr(arguments)));
    let namespaces = stage.ctr(&["namespaces", "ls", "-q"]);
    let namespaces: BTreeSet<&str> =
        namespaces.lines().filter(|name| name.starts_with("example") && !name.starts_with("examples-")).collect();
    let prefix = registry.split_once('/').unwrap().1.to_owned();
    let client = ctrsh::registry::Client::new(ctrsh::registry::Config::default());
    let host = stage.env.registry();
    let all = client.registry(&host, stage.ctx.grant(), &ctrsh::registry::Options::default());
    let repositories = stage.env.block_on(all.repositories()).unwrap();
    let mut state = vec![
        ctr(&["images", "ls"]),
        ctr(&["content", "ls"]),
        ctr(&["content", "active"]),
        ctr(&["snapshots", "--snapshotter", &stage.snapshotter, "ls"]),
        ctr(&["containers", "ls"]),
        ctr(&["tasks", "ls"]),
        ctr(&["leases", "ls"]),
        format!("namespaces {namespaces:?}"),
        format!("projects {:?}", harbor.projects()),
        format!("repositories {:?}", repositories.iter().filter(|name| name.starts_with(&prefix)).collect::<Vec<_>>()),
    ];
    files(&stage.folder, &mut state);
    state
}

/// ctr says how long ago content was made, and orders labels as it likes.
fn without_ages(text: &str) -> String {
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let mut words: Vec<&str> =
                line.split([' ', '\t', ',']).filter(|word| word.contains([':', '=', '/', '.', '-'])).collect();
            words.sort_unstable();
            words.join(" ")
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

fn files(folder: &Path, state: &mut Vec<String>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let about = path.symlink_metadata().unwrap();
        state.push(format!("{} {} {:?}", path.display(), about.len(), about.modified().unwrap()));
        if about.is_dir() {
            files(&path, state);
        }
    }
}

fn dry(env: &Env) {
    let _turn = turn();
    let ready = Ready::new(env);
    let before = state(&ready);
    let catalog = ctrsh::script::api::catalog();
    let mut changes = 0;
    for entry in catalog.entries() {
        for example in entry.spec.examples {
            let ran = run(&ready, Allow::all(), true, example.code);
            assert_eq!(state(&ready), before, "a dry run of {} changed something:\n{}", entry.path(), example.code);
            if entry.spec.access != Access::Read {
                changes += 1;
                // A preview has to be good enough for the example to go on.
                ran.unwrap_or_else(|report| panic!("{}: {}\n{report:?}", entry.path(), example.code));
            }
        }
    }
    assert!(changes > 25, "only {changes} examples of changes");
}

fn read_only(env: &Env) {
    let _turn = turn();
    let ready = Ready::new(env);
    let before = state(&ready);
    let catalog = ctrsh::script::api::catalog();
    let mut refused = 0;
    for entry in catalog.entries() {
        for example in entry.spec.examples {
            let ran = run(&ready, Allow::of(&[Access::Read]), false, example.code);
            if entry.spec.access != Access::Read {
                let report = ran.expect_err(example.code);
                assert_eq!(report.error.kind, Failed::Denied, "{}: {report:?}", example.code);
                refused += 1;
            }
        }
    }
    assert_eq!(state(&ready), before, "with read access alone something changed");
    assert!(refused > 25, "only {refused} were refused");
}
