//! The ready scripts: each is in the binary and documented, checks clean, and runs for real and dry.

use std::collections::BTreeSet;
use std::path::Path;

use ctrsh::script::library;
use libtest_mimic::Trial;

use crate::harness::output::Output;
use crate::harness::{Env, pure, trial};
use crate::ops::stage::Stage;

mod harbor;
mod image_report;
mod movement;
mod prune;
mod restart;

/// The tests of a ready script.
struct Tested {
    name: &'static str,
    /// Runs it, and looks at what it did.
    real: fn(&Env),
    /// Runs it dry, and looks at what it said and that nothing changed.
    dry: fn(&Env),
}

/// One line a ready script: a script without one fails the suite.
const TESTED: &[Tested] = &[
    Tested { name: "bundle", real: movement::bundle_real, dry: movement::bundle_dry },
    Tested { name: "docker-to-containerd", real: movement::docker_real, dry: movement::docker_dry },
    Tested { name: "image-report", real: image_report::real, dry: image_report::dry },
    Tested { name: "mirror", real: movement::mirror_real, dry: movement::mirror_dry },
    Tested { name: "node-to-node", real: movement::nodes_real, dry: movement::nodes_dry },
    Tested { name: "prune", real: prune::real, dry: prune::dry },
    Tested { name: "registry-to-harbor", real: harbor::real, dry: harbor::dry },
    Tested { name: "restart-on-failure", real: restart::real, dry: restart::dry },
];

pub fn trials(env: &Env) -> Vec<Trial> {
    let mut trials = vec![
        pure("scripts::each is in the binary, documented and tested", complete),
        pure("scripts::the page is current", page),
        trial("scripts::each checks clean and needs the access that it names", env, checks),
        trial("scripts::programs and modules", env, programs_and_modules),
    ];
    for tested in TESTED {
        trials.push(trial(&format!("scripts::{} real", tested.name), env, tested.real));
        trials.push(trial(&format!("scripts::{} dry", tested.name), env, tested.dry));
    }
    trials.extend(prune::trials(env));
    trials.extend(harbor::trials(env));
    trials
}

/// Runs a ready script, or anything else, as a user does: as a program, in the stage's namespace.
pub fn program(stage: &Stage, arguments: &[&str]) -> Output {
    let mut command = stage.env.ctrsh_command();
    command.args(["-n", &stage.namespace, "--snapshotter", &stage.snapshotter]).args(arguments);
    Output::of(command.current_dir(&stage.folder))
}

fn root(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn complete() {
    let files = std::fs::read_dir(root("scripts")).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|ext| ext == "rhai"));
    let files: BTreeSet<String> = files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    let names = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect::<BTreeSet<String>>();
    assert_eq!(names(&mut library::SCRIPTS.iter().map(|script| script.name)), files, "src/script/library.rs");
    assert_eq!(names(&mut TESTED.iter().map(|tested| tested.name)), files, "tests/scripts.rs");
    for script in library::SCRIPTS {
        let (summary, manual) = (script.summary(), script.manual());
        assert!(summary.ends_with('.') && summary.chars().count() < 120, "{}: {summary}", script.name);
        let usage = format!(" std/{} ", script.name);
        let used = manual.lines().any(|line| line.starts_with("ctrsh ") && line.contains(&usage));
        assert!(used, "{}: no usage", script.name);
        assert!(manual.contains("\nAccess: "), "{}: no access", script.name);
    }
}

fn page() {
    let page = std::fs::read_to_string(root("docs/scripts.md")).unwrap();
    assert!(page == library::markdown(), "run `ctrsh scripts --markdown > docs/scripts.md`");
}

fn checks(env: &Env) {
    for script in library::SCRIPTS {
        let checked = env.ctrsh(&["check", &script.path()]);
        let shown = checked.ok();
        let needed: BTreeSet<&str> = shown.trim().rsplit_once("access needed: ").unwrap().1.split(',').collect();
        let manual = script.manual();
        let named = manual.lines().find_map(|line| line.strip_prefix("Access: ")).unwrap();
        let named: BTreeSet<&str> = named.split('.').next().unwrap().split(", ").collect();
        assert_eq!(named, needed, "{}", script.name);
    }
}

fn programs_and_modules(env: &Env) {
    let stage = Stage::empty(env, "scripts");
    let run = |arguments: &[&str]| program(&stage, arguments);
    let listed = run(&["scripts"]).ok();
    for script in library::SCRIPTS {
        assert!(listed.contains(&format!("{}  ", script.path())) && listed.contains(script.summary()), "{listed}");
        assert_eq!(run(&["scripts", script.name]).ok(), script.manual());
        assert_eq!(run(&[&script.path(), "--help"]).ok(), script.manual());
    }
    let wrong = run(&["scripts", "prun"]);
    assert!(wrong.status == 2 && wrong.stderr.contains("did you mean prune?"), "{wrong:?}");

    // A module's lower part does not run, its functions do, and what it does is seen by `check`.
    let file = |name: &str, text: &str| std::fs::write(stage.folder.join(name), text).unwrap();
    file("two.rhai", "fn name() { if is_main() { \"program\" } else { \"module\" } }\nif is_main() { print(name()) }");
    file("one.rhai", "import \"two\" as two;\nprint(`${two::name()} ${is_main()}`)");
    assert_eq!(run(&["two.rhai"]).ok(), "program\n");
    assert_eq!(run(&["one.rhai"]).ok(), "module true\n");
    file("uses.rhai", "import \"std/prune\" as prune;\nprint(to_json(prune::by_policy(#{ keep: 1 })))");
    assert!(run(&["check", "uses.rhai"]).ok().contains("access needed: read,delete"));
    run(&["uses.rhai"]).ok();
    file(
        "wrong.rhai",
        "import \"std/prune\" as prune;\nprune::by_polcy(#{});\nprune::by_policy();\nimport \"std/prun\" as p;",
    );
    let checked = run(&["check", "wrong.rhai"]);
    assert_eq!(checked.status, 2, "{checked:?}");
    for message in ["did you mean by_policy?", "does not take 0 arguments", "there is no ready script std/prun"] {
        assert!(checked.stderr.contains(message), "{message}: {}", checked.stderr);
    }

    // A file of that name is what the user means.
    std::fs::create_dir(stage.folder.join("std")).unwrap();
    file("std/prune", "print(\"mine\")");
    assert_eq!(run(&["std/prune"]).ok(), "mine\n");
}
