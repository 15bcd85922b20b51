//! `registry-to-harbor`: what goes where, what is made, and how it goes on.

use libtest_mimic::Trial;

use super::movement::{counts_of, digest_with};
use crate::harness::fault::Seen;
use crate::harness::harbor::{ADMIN, Harbor, ROBOT};
use crate::harness::image::Kind;
use crate::harness::output::Output;
use crate::harness::{Env, trial};
use crate::ops::stage::Stage;

/// A registry's path with images, and a Harbor.
struct Scene {
    stage: Stage,
    harbor: Harbor,
    /// `HOST/PATH`, with `PATH/shop/api:1`, `PATH/shop/web:1` and `PATH/base:1`.
    source: String,
}

impl Scene {
    fn new(env: &Env) -> Self {
        let stage = Stage::empty(env, "scripts");
        let scene = Self { harbor: Harbor::start(env), source: env.repository("harbor"), stage };
        for (name, kind) in [("shop/api", Kind::Index), ("shop/web", Kind::ThreeLayers), ("base", Kind::Busybox)] {
            env.push(&env.image(kind), &format!("{}/{name}:1", scene.source));
        }
        scene.log_in(ADMIN);
        scene
    }

    fn log_in(&self, user: (&str, &str)) {
        std::fs::write(self.stage.folder.join("config.json"), self.harbor.docker_config(user)).unwrap();
    }

    fn run(&self, options: &[&str], arguments: &[&str]) -> Output {
        let mut command = self.stage.env.ctrsh_command();
        command.env("DOCKER_CONFIG", &self.stage.folder).args(options).arg("std/registry-to-harbor").args(arguments);
        Output::of(command.current_dir(&self.stage.folder))
    }

    /// Returns how many images were moved, there, planned and failed.
    fn counts(&self, options: &[&str], arguments: &[&str]) -> [i64; 4] {
        counts_of(&self.run(options, &[arguments, &["--json"]].concat()).stdout)
    }

    /// Returns the part of the path that all names of the source begin with, which becomes the project.
    fn project(&self) -> &str {
        self.source.split('/').nth(1).unwrap()
    }

    /// Returns what is in the Harbor under a name, as skopeo sees it.
    fn held(&self, name: &str) -> Option<String> {
        let creds = format!("{}:{}", ADMIN.0, ADMIN.1);
        digest_with(&self.stage.env, &format!("{}/{name}", self.harbor.host()), &["--creds", &creds])
    }
}

fn changes(log: &[Seen]) -> Vec<String> {
    let changes = log.iter().filter(|seen| ["POST", "PUT", "PATCH", "DELETE"].contains(&seen.method.as_str()));
    changes.map(|seen| format!("{} {}", seen.method, seen.path)).collect()
}

pub fn real(env: &Env) {
    let scene = Scene::new(env);
    let (host, project) = (scene.harbor.host(), scene.project().to_owned());
    // Without the right to make a project nothing moves.
    scene.log_in(ROBOT);
    let refused = scene.run(&[], &[&scene.source, &host]);
    assert!(refused.status == 1 && refused.stderr.contains("Only system admins"), "{refused:?}");
    scene.log_in(ADMIN);
    scene.harbor.take_log();

    assert_eq!(scene.counts(&[], &[&scene.source, &host, "--quota", "1GiB", "--exclude", "*/base"]), [2, 0, 0, 0]);
    let made = scene.harbor.projects()[&project].clone();
    assert!(!made.public && made.limit == 1 << 30 && made.repositories.len() == 2, "{made:?}");
    let log = changes(&scene.harbor.take_log());
    assert_eq!(log[0], "POST /api/v2.0/projects");
    assert!(log[1..].iter().all(|change| change.contains(&format!(" /v2/{project}/shop/"))), "{log:?}");
    assert_eq!(scene.counts(&[], &[&scene.source, &host]), [1, 2, 0, 0]);
    for (name, kind) in [("shop/api", Kind::Index), ("shop/web", Kind::ThreeLayers), ("base", Kind::Busybox)] {
        assert_eq!(scene.held(&format!("{project}/{name}:1")), Some(env.image(kind).digest), "{name}");
    }
    scene.harbor.take_log();
    assert_eq!(scene.counts(&[], &[&scene.source, &host]), [0, 3, 0, 0]);
    assert_eq!(changes(&scene.harbor.take_log()), Vec::<String>::new());

    // All below one project, which everybody may pull from.
    let into = format!("{host}/moved/from");
    assert_eq!(scene.counts(&[], &[&scene.source, &into, "--public", "--include", "*/base"]), [1, 0, 0, 0]);
    assert!(scene.harbor.projects()["moved"].public);
    assert!(scene.held(&format!("moved/from/{project}/base:1")).is_some());
    // Somebody who is no administrator gets another quota than they asked for.
    scene.harbor.habit(|habits| habits.given = Some(-1));
    let into = format!("{host}/other");
    let output = scene.run(&[], &[&scene.source, &into, "--quota", "5GiB", "--include", "*/base"]);
    assert!(output.status == 0 && output.stderr.contains("/other has the quota none, not 5.0 GiB"), "{output:?}");
    let wrong = scene.run(&[], &[&scene.source]);
    assert!(wrong.status == 1 && wrong.stderr.contains("give the SOURCE and the HARBOR"), "{wrong:?}");
}

pub fn dry(env: &Env) {
    let scene = Scene::new(env);
    let before = scene.harbor.projects();
    assert_eq!(scene.counts(&["--dry-run"], &[&scene.source, &scene.harbor.host()]), [0, 0, 3, 0]);
    let output = scene.run(&["--dry-run"], &[&scene.source, &scene.harbor.host(), "--quota", "1GiB"]);
    let plan = format!("create private project {}/{}, quota 1.0 GiB", scene.harbor.host(), scene.project());
    let shown = format!("{}{}", output.stdout, output.stderr);
    assert!(output.status == 0 && shown.contains(&plan), "{plan}: {output:?}");
    assert_eq!(scene.harbor.projects(), before);
    assert_eq!(changes(&scene.harbor.take_log()), Vec::<String>::new());
}

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("scripts::registry-to-harbor goes on where it stopped", env, goes_on),
        trial("scripts::registry-to-harbor as a module", env, module),
    ]
}

/// A list whose images go to three projects, one of which has no room.
fn goes_on(env: &Env) {
    let scene = Scene::new(env);
    let host = scene.harbor.host();
    let registry = env.registry();
    let names = [env.fresh("root"), format!("{}/api", env.fresh("one")), format!("{}/web", env.fresh("two"))];
    for name in &names {
        env.push(&env.image(Kind::Busybox), &format!("{registry}/{name}:1"));
    }
    let lines: Vec<String> = names.iter().map(|name| format!("{registry}/{name}:1")).collect();
    let named = format!("{}/base:1 {host}/library/named:1", scene.source);
    std::fs::write(scene.stage.folder.join("list.txt"), format!("{}\n{named}\n", lines.join("\n"))).unwrap();
    let full = names[1].split('/').next().unwrap();
    scene.harbor.add(full, 1000);
    let run = ["file:list.txt", host.as_str(), "--jobs", "1", "--journal", "moved.journal", "--report", "moved.csv"];

    let output = scene.run(&[], &run);
    assert_eq!(output.status, 3, "{output:?}");
    assert!(output.stdout.contains("the project's quota is used up"), "{output:?}");
    assert!(output.stdout.contains("3 moved, 0 there already, 1 failed"), "{output:?}");
    // An image whose target is named makes no project.
    let made: Vec<String> = scene.harbor.projects().into_keys().collect();
    let mut expected = vec!["library".to_owned(), full.to_owned(), names[2].split('/').next().unwrap().to_owned()];
    expected.sort();
    assert_eq!(made, expected);
    assert!(scene.held(&format!("library/{}:1", names[0])).is_some());
    assert!(scene.held("library/named:1").is_some());

    scene.harbor.add(full, -1);
    scene.harbor.take_log();
    assert_eq!(scene.counts(&[], &run), [1, 3, 0, 0]);
    let log = changes(&scene.harbor.take_log());
    assert!(!log.is_empty() && log.iter().all(|change| change.contains(&format!(" /v2/{full}/api/"))), "{log:?}");
    assert_eq!(scene.counts(&[], &run), [0, 4, 0, 0]);

    // Without projects to be made, what lacks one fails alone and says why.
    std::fs::write(scene.stage.folder.join("list.txt"), format!("{registry}/{}:1\n{named}\n", names[2])).unwrap();
    let output = scene.run(&[], &["file:list.txt", &host, "--no-create", "--root-project", "other"]);
    assert!(output.status == 0 && output.stdout.contains("0 moved, 2 there already"), "{output:?}");
    std::fs::write(scene.stage.folder.join("list.txt"), format!("{registry}/{}:1\n{named}\n", names[0])).unwrap();
    let output = scene.run(&[], &["file:list.txt", &host, "--no-create", "--root-project", "other"]);
    assert_eq!(output.status, 3, "{output:?}");
    assert!(output.stdout.contains("there is no project other: "), "{output:?}");
}

fn module(env: &Env) {
    let scene = Scene::new(env);
    let script = format!(
        "import \"std/registry-to-harbor\" as harbor;\n\
         let r = harbor::all(\"{}\", \"{}\", #{{ include: \"*/base\" }});\nprint(r.done)",
        scene.source,
        scene.harbor.host()
    );
    std::fs::write(scene.stage.folder.join("uses.rhai"), script).unwrap();
    let mut command = env.ctrsh_command();
    command.env("DOCKER_CONFIG", &scene.stage.folder).arg("uses.rhai");
    assert_eq!(Output::of(command.current_dir(&scene.stage.folder)).ok(), "1\n");
}
