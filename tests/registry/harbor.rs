//! Projects of a Harbor: what is asked, what is made, who may, and what a push is told.

use ctrsh::grant::{Access, Allow};
use ctrsh::kind::Kind as FailureKind;
use ctrsh::script::Report;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use crate::examples::Quiet;
use crate::harness::harbor::{ADMIN, Harbor, ROBOT};
use crate::harness::{Env, Kind, trial};
use crate::ops::stage::Stage;

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("registry::harbor::projects are made, found and deleted", env, made),
        trial("registry::harbor::lists come in pages", env, pages),
        trial("registry::harbor::a dry run makes nothing and goes on as if it had", env, dry),
        trial("registry::harbor::who may not is told so", env, who_may_not),
        trial("registry::harbor::a name that is none is not sent", env, names),
        trial("registry::harbor::a push is told of a quota and of a project that is missing", env, pushes),
        trial("registry::harbor::another registry is told apart and gets no password", env, others),
        trial("registry::harbor::a password stays where it belongs", env, elsewhere),
    ]
}

struct Scene {
    stage: Stage,
    harbor: Harbor,
    image: String,
}

impl Scene {
    fn new(env: &Env, user: Option<(&str, &str)>) -> Self {
        let scene = Self {
            stage: Stage::empty(env, "harbor"),
            harbor: Harbor::start(env),
            image: env.pushed(Kind::Busybox, "harbor"),
        };
        std::fs::create_dir_all(scene.stage.folder.join("docker")).unwrap();
        if let Some(user) = user {
            scene.log_in(user);
        }
        scene
    }

    fn log_in(&self, user: (&str, &str)) {
        std::fs::write(self.stage.folder.join("docker/config.json"), self.harbor.docker_config(user)).unwrap();
    }

    fn eval(&self, allow: Allow, dry: bool, code: &str) -> Result<Value, Report> {
        let ctx = self.stage.allowing(allow);
        let ctx = if dry { ctx.dry_run() } else { ctx };
        let mut interpreter = self.stage.interpreter(&ctx, Arc::new(Quiet));
        interpreter.set_constant("HARBOR", &self.harbor.host());
        interpreter.set_constant("IMAGE", &self.image);
        let evaluated = interpreter.run(code, None, CancellationToken::new())?;
        interpreter.json(&evaluated)
    }

    #[track_caller]
    fn gives(&self, code: &str, value: Value) {
        let given = self.eval(Allow::all(), false, code).unwrap_or_else(|report| panic!("{code}: {report:?}"));
        assert_eq!(given, value, "{code}");
    }

    /// Returns the message and the hint of a failure, which has to be of a kind.
    #[track_caller]
    fn fails(&self, code: &str, kind: FailureKind) -> String {
        let report = self.eval(Allow::all(), false, code).expect_err(code);
        assert_eq!(report.error.kind, kind, "{code}: {report:?}");
        format!("{}; {}", report.error.message, report.error.hint.unwrap_or_default())
    }

    /// Returns the requests since it was last asked, without those for whether it is a Harbor.
    fn requests(&self) -> Vec<String> {
        let log = self.harbor.take_log().into_iter().filter(|seen| !seen.path.ends_with("/systeminfo"));
        log.map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }
}

fn made(env: &Env) {
    let scene = Scene::new(env, Some(ADMIN));
    scene.gives(
        "let p = registry(HARBOR).create_project(\"shop\", #{ quota: \"10 MiB\" }); [p.name, p.is_public, p.quota, p.used, p.registry == HARBOR]",
        json!(["shop", false, 10 << 20, 0, true]),
    );
    let posts: Vec<String> = scene.requests();
    assert_eq!(
        posts,
        [
            "HEAD /api/v2.0/projects?project_name=shop",
            "POST /api/v2.0/projects",
            "GET /api/v2.0/projects/shop",
            "GET /api/v2.0/projects/shop/summary"
        ]
    );
    scene.gives("registry(HARBOR).create_project(\"open\", #{ is_public: true, quota: -1 }).is_public", json!(true));
    let projects = scene.harbor.projects();
    assert!(projects["open"].public && projects["open"].limit == -1);
    assert!(!projects["shop"].public && projects["shop"].limit == 10 << 20);
    scene.gives("registry(HARBOR).projects().map(|p| p.name)", json!(["library", "open", "shop"]));
    scene.gives("`${registry(HARBOR).project(\"open\")}` == `${HARBOR}/open`", json!(true));

    // What exists stays as it is.
    let taken = scene.fails("registry(HARBOR).create_project(\"shop\")", FailureKind::AlreadyExists);
    assert!(taken.contains("/shop already exists") && taken.contains("exists_ok"), "{taken}");
    scene.requests();
    scene.gives(
        "registry(HARBOR).create_project(\"shop\", #{ exists_ok: true, is_public: true }).is_public",
        json!(false),
    );
    assert!(!scene.requests().iter().any(|request| request.starts_with("POST")));
    let missing = scene.fails("registry(HARBOR).project(\"shpo\")", FailureKind::NotFound);
    assert!(missing.contains("no such project: ") && missing.contains("did you mean shop?"), "{missing}");
    let missing = scene.fails("registry(HARBOR).project(\"zebra\")", FailureKind::NotFound);
    assert!(missing.contains("create_project(\"zebra\")"), "{missing}");

    // A project with something in it is not deleted.
    scene.gives("copy(IMAGE, `${HARBOR}/shop/box:1`); registry(HARBOR).project(\"shop\").repositories", json!(1));
    scene.gives("registry(HARBOR).project(\"shop\").used > 0", json!(true));
    let full = scene.fails("registry(HARBOR).delete_project(\"shop\")", FailureKind::Conflict);
    assert!(full.contains("still has 1 repository"), "{full}");
    scene.gives("registry(HARBOR).delete_project(\"open\"); registry(HARBOR).projects().len()", json!(2));
}

fn pages(env: &Env) {
    let scene = Scene::new(env, Some(ADMIN));
    for number in 0..6 {
        scene.harbor.add(&format!("p{number}"), -1);
    }
    scene.harbor.habit(|habits| habits.page = 2);
    let names = json!(["library", "p0", "p1", "p2", "p3", "p4", "p5"]);
    for links in [true, false] {
        scene.harbor.habit(|habits| habits.links = links);
        scene.requests();
        scene.gives("registry(HARBOR).projects().map(|p| p.name)", names.clone());
        assert_eq!(scene.requests().len(), 4, "with links: {links}");
    }
    // Without a login there are the public ones.
    std::fs::remove_file(scene.stage.folder.join("docker/config.json")).unwrap();
    scene.gives("registry(HARBOR).projects().map(|p| p.name)", json!(["library"]));
}

fn dry(env: &Env) {
    let scene = Scene::new(env, Some(ADMIN));
    let before = scene.harbor.projects();
    let code = "let h = registry(HARBOR); h.create_project(\"shop\"); h.create_project(\"shop\", #{ exists_ok: true });\n\
        let r = migrate(#{ from: [IMAGE], to: `${HARBOR}/shop`, rename: \"{name}\" });\n\
        [h.project(\"shop\").repositories, h.projects().len(), r.planned, r.failed.len()]";
    assert_eq!(scene.eval(Allow::all(), true, code).unwrap(), json!([0, 2, 1, 0]));
    scene.eval(Allow::all(), true, "registry(HARBOR).create_project(\"x\"); copy(IMAGE, `${HARBOR}/x/box:1`)").unwrap();
    let gone = "let h = registry(HARBOR); h.delete_project(\"library\"); h.project(\"library\")";
    assert_eq!(scene.eval(Allow::all(), true, gone).unwrap_err().error.kind, FailureKind::NotFound);
    assert_eq!(scene.harbor.projects(), before);
    assert!(scene.requests().iter().all(|request| request.starts_with("GET ") || request.starts_with("HEAD ")));
}

fn who_may_not(env: &Env) {
    let scene = Scene::new(env, Some(ADMIN));
    let create = "registry(HARBOR).create_project(\"shop\")";
    let read = Allow::of(&[Access::Read]);
    let denied = scene.eval(read, false, create).unwrap_err();
    assert_eq!(denied.error.kind, FailureKind::Denied, "{denied:?}");
    let elsewhere = format!("read,write={}/other", scene.harbor.host()).parse().unwrap();
    let denied = scene.eval(elsewhere, false, create).unwrap_err();
    assert!(denied.error.kind == FailureKind::Denied && denied.error.message.contains("/shop"), "{denied:?}");
    assert!(!scene.requests().iter().any(|request| request.starts_with("POST")));
    let here = format!("read,write={}/shop", scene.harbor.host()).parse().unwrap();
    scene.eval(here, false, create).unwrap();

    scene.log_in(("admin", "wrong"));
    let wrong = scene.fails("registry(HARBOR).create_project(\"more\")", FailureKind::Unauthorized);
    assert!(wrong.contains("401") && wrong.contains("these credentials are wrong"), "{wrong}");
    std::fs::remove_file(scene.stage.folder.join("docker/config.json")).unwrap();
    let nobody = scene.fails("registry(HARBOR).create_project(\"more\")", FailureKind::Unauthorized);
    assert!(nobody.contains("log in first"), "{nobody}");
    scene.log_in(ROBOT);
    let robot = scene.fails("registry(HARBOR).create_project(\"more\")", FailureKind::Unauthorized);
    assert!(robot.contains("403") && robot.contains("Only system admins"), "{robot}");
    // What exists it may use; the quota is not for it to know.
    scene.gives("registry(HARBOR).create_project(\"shop\", #{ exists_ok: true }).quota", json!(null));
    assert_eq!(scene.harbor.projects().len(), 2);
}

fn names(env: &Env) {
    let scene = Scene::new(env, Some(ADMIN));
    for name in ["", "Shop", "-shop", "a/b", "a b", "../users", "a?x=1"] {
        for call in ["create_project", "project", "delete_project"] {
            let told = scene.fails(&format!("registry(HARBOR).{call}(\"{name}\")"), FailureKind::Usage);
            assert!(told.contains("lower-case letters"), "{told}");
        }
    }
    let quota = scene.fails("registry(HARBOR).create_project(\"x\", #{ quota: -2 })", FailureKind::Usage);
    assert!(quota.contains("negative"), "{quota}");
    assert_eq!(scene.harbor.take_log().len(), 0);
}

fn pushes(env: &Env) {
    let scene = Scene::new(env, Some(ADMIN));
    let copy = "copy(IMAGE, `${HARBOR}/shop/box:1`)";
    let missing = scene.fails(copy, FailureKind::NotFound);
    assert!(
        missing.contains("there is no project shop: ") && missing.contains("create_project(\"shop\")"),
        "{missing}"
    );
    for status in [403, 412, 500] {
        scene.harbor.habit(|habits| habits.over_quota = status);
        scene.harbor.add("shop", 1000);
        scene.requests();
        let full = scene.fails(copy, FailureKind::NoSpace);
        assert!(full.contains("the project's quota is used up: PUT ") && full.contains(&status.to_string()), "{full}");
        assert!(full.contains("raise it"), "{full}");
        let puts = scene.requests().into_iter().filter(|request| request.starts_with("PUT"));
        assert!(puts.count() <= 2, "each blob is sent once: {status}");
    }
    // A quota of one project does not end what goes to another.
    scene.harbor.add("room", -1);
    scene.gives(
        "let r = migrate(#{ from: [#{ source: IMAGE, target: `${HARBOR}/shop/box:1` }, #{ source: IMAGE, target: `${HARBOR}/room/box:1` }],\n\
         jobs: 1, keep_going: true }); [r.done, r.failed.len(), r.failed[0].kind]",
        json!([1, 1, "no_space"]),
    );
    // A project may go to a registry below another host name only after a login; without one the answer says so.
    std::fs::remove_file(scene.stage.folder.join("docker/config.json")).unwrap();
    let nobody = scene.fails(copy, FailureKind::Unauthorized);
    assert!(nobody.contains("401"), "{nobody}");
}

fn others(env: &Env) {
    let scene = Scene::new(env, Some(ADMIN));
    let plain = env.registry();
    for call in ["projects()", "project(\"x\")", "create_project(\"x\")", "delete_project(\"x\")"] {
        let told = scene.fails(&format!("registry(\"{plain}\").{call}"), FailureKind::Usage);
        assert!(told.contains(&format!("{plain} is not a Harbor: ")) && told.contains("404"), "{told}");
        assert!(told.contains("only Harbor has projects"), "{told}");
    }
    scene.harbor.habit(|habits| habits.is_harbor = false);
    scene.fails("registry(HARBOR).create_project(\"x\")", FailureKind::Usage);
    let log = scene.harbor.take_log();
    assert!(!log.is_empty() && log.iter().all(|seen| seen.header("authorization").is_none()), "{log:?}");
}

fn elsewhere(env: &Env) {
    let scene = Scene::new(env, Some(ADMIN));
    let other = Harbor::start(env);
    scene.harbor.habit(|habits| habits.elsewhere = Some(format!("http://{}", other.host())));
    // There everybody sees the public project, and nobody may make one.
    scene.gives("registry(HARBOR).projects().map(|p| p.name)", json!(["library"]));
    assert!(scene.harbor.take_log().iter().any(|seen| seen.header("authorization").is_some()));
    scene.fails("registry(HARBOR).create_project(\"shop\")", FailureKind::Unauthorized);
    let log = other.take_log();
    assert!(log.len() >= 2 && log.iter().all(|seen| seen.header("authorization").is_none()), "{log:?}");
    assert_eq!(other.projects().len(), 1);
    // The next page of a list is where the list began.
    for number in 0..3 {
        scene.harbor.add(&format!("p{number}"), -1);
    }
    scene.harbor.habit(|habits| {
        habits.elsewhere = None;
        habits.page = 2;
        habits.next_at = Some(format!("http://{}", other.host()));
    });
    let led = scene.fails("registry(HARBOR).projects()", FailureKind::Internal);
    assert!(led.contains("the next page of a list must be on the same host"), "{led}");
    assert_eq!(other.take_log().len(), 0);
}
