//! `login` and `logout`: what is kept, by whom, and what is not.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::ops::registry::{Login, Logout};
use ctrsh::registry::{Config, Credential, Options};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::support::{reference, through};
use crate::harness::env::{SecureRegistry, path};
use crate::harness::fault::FaultProxy;
use crate::harness::output::Output;
use crate::harness::token_server::{Flow, IDENTITY, PASSWORD, TokenServer, USER};
use crate::harness::{Env, Kind, trial};
use crate::ops::stage::Stage;

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("registry::login::a_login_is_kept_for_later_pulls_and_for_skopeo", env, kept),
        trial("registry::login::a_wrong_password_is_refused_and_changes_nothing", env, wrong),
        trial("registry::login::what_is_not_granted_or_dry_changes_nothing", env, not_granted),
        trial("registry::login::a_logout_forgets_one_registry", env, logout),
        trial("registry::login::a_helper_keeps_what_it_is_named_for", env, helper),
        trial("registry::login::token_services_are_asked", env, tokens),
        trial("registry::login::a_login_counts_at_once", env, at_once),
    ]
}

/// What was in the file before.
const BEFORE: &str = "{\n\t\"auths\": {\n\t\t\"other.example\": {\n\t\t\t\"auth\": \"YW5uOmI=\"\n\t\t}\n\t},\n\t\"psFormat\": \"table\"\n}";

/// Someone with a home, and the registry with a password.
struct User {
    env: Env,
    home: PathBuf,
    registry: SecureRegistry,
}

impl User {
    fn new(env: &Env, before: &str) -> Self {
        let home = env.new_folder("login");
        std::fs::create_dir(home.join(".docker")).unwrap();
        let user = Self { env: env.clone(), home, registry: env.registry_htpasswd_tls() };
        std::fs::write(user.file(), before).unwrap();
        user
    }

    fn file(&self) -> PathBuf {
        self.home.join(".docker/config.json")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    fn document(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.env.ctrsh_command();
        command.env("HOME", &self.home).env("PATH", format!("{}:{}", self.home.display(), path()));
        command.current_dir(&self.home).args(["--progress", "none"]).args(arguments);
        command
    }

    fn login(&self, arguments: &[&str], password: &str) -> Output {
        let script = format!(
            "login(\"{}\", #{{ user: \"{}\", password_stdin: true, tlscacert: \"{}\" }})",
            self.registry.host,
            self.registry.user,
            self.registry.ca.display()
        );
        let mut command = self.command(&[arguments, &["-e", &script]].concat());
        Output::with_input(&mut command, format!("{password}\n").as_bytes())
    }

    /// Asks for a digest, with what was kept.
    fn digest(&self, reference: &str) -> Output {
        let script = format!("digest(\"{reference}\", #{{ tlscacert: \"{}\" }})", self.registry.ca.display());
        Output::of(&mut self.command(&["-e", &script]))
    }
}

fn kept(env: &Env) {
    let me = User::new(env, BEFORE);
    let image = env.image(Kind::Busybox);
    let pushed = env.push_secure(&image, "login");
    assert!(me.digest(&pushed).expect_status(1).stderr.contains("401"));
    let shown = me.login(&["--json"], me.registry.password).ok();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["user"], me.registry.user);
    assert_eq!(shown["kept_in"], *me.file().to_string_lossy());
    assert_eq!(me.file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut document = me.document();
    assert!(document["auths"].as_object_mut().unwrap().remove(&me.registry.host).unwrap()["auth"].is_string());
    assert_eq!(document, serde_json::from_str::<Value>(BEFORE).unwrap());
    assert_eq!(me.digest(&pushed).ok().trim(), image.digest);
    let namespace = env.namespace("login");
    let script = format!("pull(\"{pushed}\", #{{ tlscacert: \"{}\" }}).digest", me.registry.ca.display());
    let pulled = Output::of(&mut me.command(&["-n", &namespace, "-e", &script])).ok();
    assert_eq!(pulled.trim(), image.digest);
    // Another program reads the same file.
    let file = me.file();
    let folder = me.registry.cert_dir.to_string_lossy().into_owned();
    let arguments = ["inspect", "--authfile", file.to_str().unwrap(), "--cert-dir", &folder, "--format", "{{.Digest}}"];
    let theirs = env.skopeo(&[&arguments[..], &[&format!("docker://{pushed}")]].concat()).ok();
    assert_eq!(theirs.trim(), image.digest);
}

fn wrong(env: &Env) {
    let me = User::new(env, BEFORE);
    let refused = me.login(&[], "guessed").expect_status(1);
    for part in ["login", &me.registry.host, "401 Unauthorized", "hint:"] {
        assert!(refused.stderr.contains(part), "{part}: {refused}");
    }
    assert!(!refused.stderr.contains("guessed"), "{refused}");
    let script = format!(
        "try {{ login(\"{}\", #{{ user: \"x\", password_stdin: true, tlscacert: \"{}\" }}) }} catch (e) {{ print(e.kind) }}",
        me.registry.host,
        me.registry.ca.display()
    );
    let caught = Output::with_input(&mut me.command(&["-e", &script]), b"guessed\n").ok();
    assert_eq!(caught.trim(), "unauthorized");
    assert_eq!(me.text(), BEFORE);
    for (arguments, part) in [
        ("\"https://r.example\", #{ user: \"a\", password_stdin: true }", "scheme"),
        ("\"registry\", #{ user: \"a\", password_stdin: true }", "without a dot or port"),
        ("\"r.example\"", "user"),
        ("\"r.example\", #{ user: \"a:b\", password_stdin: true }", "name alone"),
        ("\"127.0.0.1:1\", #{ user: \"a\", password_stdin: true, plain_http: true }", "cannot connect"),
    ] {
        let mut command = me.command(&["-e", &format!("login({arguments})")]);
        let output = Output::with_input(&mut command, b"x\n").expect_status(1);
        assert!(output.stderr.contains(part), "{part}: {output}");
        assert_eq!(me.text(), BEFORE, "{arguments}");
    }
    // A file that nobody understands is left alone.
    std::fs::write(me.file(), "{ \"auths\": ").unwrap();
    let output = me.login(&[], me.registry.password).expect_status(1);
    assert!(output.stderr.contains("config.json"), "{output}");
    assert_eq!(me.text(), "{ \"auths\": ");
}

fn not_granted(env: &Env) {
    let me = User::new(env, BEFORE);
    let denied = me.login(&["--allow", "read,files"], me.registry.password).expect_status(5);
    assert!(denied.stderr.contains("write"), "{denied}");
    let elsewhere = me.login(&["--allow", "read,write=other.example"], me.registry.password).expect_status(5);
    assert!(elsewhere.stderr.contains(&me.registry.host), "{elsewhere}");
    let dry = me.login(&["--dry-run"], me.registry.password).expect_status(0);
    assert!(format!("{}{}", dry.stdout, dry.stderr).contains("keep the credentials of tester"), "{dry}");
    assert!(!format!("{dry:?}").contains(me.registry.password));
    me.login(&["--dry-run"], "guessed").expect_status(1);
    Output::of(&mut me.command(&["--dry-run", "-e", "logout(\"other.example\")"])).ok();
    assert_eq!(me.text(), BEFORE);
    let here = format!("read,write={}", me.registry.host);
    me.login(&["--allow", &here], me.registry.password).ok();
    assert_ne!(me.text(), BEFORE);
}

fn logout(env: &Env) {
    let me = User::new(env, BEFORE);
    let pushed = env.push_secure(&env.image(Kind::Busybox), "login");
    me.login(&[], me.registry.password).ok();
    me.digest(&pushed).ok();
    let logout = || Output::of(&mut me.command(&["-e", &format!("logout(\"{}\")", me.registry.host)])).ok();
    assert_eq!(logout().trim(), "true");
    assert_eq!(me.text(), BEFORE);
    assert_eq!(me.file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(me.digest(&pushed).expect_status(1).stderr.contains("401"));
    assert_eq!(logout().trim(), "false");
}

/// Writes a credential helper that keeps each registry in a file.
fn install(folder: &Path) {
    let path = folder.join("docker-credential-drawer");
    let script = r#"#!/bin/sh
set -eu
cd "$(dirname "$0")"
case "$1" in
store) cat > drawer ;;
erase) test -e drawer || { echo "credentials not found in native keychain"; exit 1; }; cat > erased; rm drawer ;;
get) test -e drawer || { echo "credentials not found in native keychain"; exit 1; }; cat drawer ;;
esac
"#;
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn helper(env: &Env) {
    let registry = env.registry_htpasswd_tls();
    for setting in [json!({ "credsStore": "drawer" }), json!({ "credHelpers": { registry.host.clone(): "drawer" } })] {
        let me = User::new(env, &setting.to_string());
        let pushed = env.push_secure(&env.image(Kind::Busybox), "login");
        // Named and not there: nothing is kept in the file in its stead.
        let missing = me.login(&[], registry.password).expect_status(1);
        assert!(missing.stderr.contains("docker-credential-drawer could not be started"), "{missing}");
        assert_eq!(me.document(), setting);
        install(&me.home);
        let shown: Value = serde_json::from_str(&me.login(&["--json"], registry.password).ok()).unwrap();
        assert_eq!(shown["kept_in"], "docker-credential-drawer");
        let told: Value = serde_json::from_str(&std::fs::read_to_string(me.home.join("drawer")).unwrap()).unwrap();
        let expected = json!({ "ServerURL": registry.host, "Username": registry.user, "Secret": registry.password });
        assert_eq!(told, expected);
        assert_eq!(me.document()["auths"], json!({ registry.host.clone(): {} }));
        me.digest(&pushed).ok();
        let script = format!("logout(\"{}\")", registry.host);
        assert_eq!(Output::of(&mut me.command(&["-e", &script])).ok().trim(), "true");
        assert_eq!(std::fs::read_to_string(me.home.join("erased")).unwrap(), registry.host);
        assert_eq!(me.document()["auths"], json!({}));
        assert_eq!(Output::of(&mut me.command(&["-e", &script])).ok().trim(), "false");
    }
}

fn tokens(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "login");
    let password = || Credential::password(USER, PASSWORD);
    let cases = [
        (Flow::Get, password(), true),
        (Flow::Form, password(), true),
        (Flow::Identity, Credential::Identity(IDENTITY.into()), true),
        (Flow::Get, Credential::password(USER, "wrong"), false),
        (Flow::Identity, Credential::Identity("wrong".into()), false),
    ];
    for (flow, credential, good) in cases {
        let file = env.new_folder("login").join("docker/config.json");
        let config = Config { docker_config: Some(file.clone()), ..Config::default() };
        let stage = Stage::with_registry(env, "login", config);
        let tokens = env.block_on(TokenServer::start(flow, Duration::from_secs(300)));
        let proxy = env.block_on(FaultProxy::guarded(&env.registry(), &tokens));
        let result = stage.run(Login::new(&proxy.host(), credential, Options::default()));
        let image = reference(&through(&proxy.host(), &pushed));
        let resolve = || {
            let options = Options::default();
            env.block_on(ctrsh::ops::registry::resolve(&stage.ctx, &image, None, &options))
        };
        if !good {
            assert_eq!(result.unwrap_err().kind(), Failed::Unauthorized, "{flow:?}");
            assert!(!file.exists());
            continue;
        }
        result.unwrap();
        assert_eq!(resolve().unwrap().digest.as_str(), env.image(Kind::Busybox).digest, "{flow:?}");
        assert!(stage.run(Logout::new(&proxy.host())).unwrap());
        // The token of the login went with it; a service of forms answers nobody without one.
        let expected = if flow == Flow::Get { Failed::Unauthorized } else { Failed::Internal };
        assert_eq!(resolve().unwrap_err().kind(), expected, "{flow:?}");
    }
}

fn at_once(env: &Env) {
    let me = User::new(env, "{}");
    let pushed = env.push_secure(&env.image(Kind::Busybox), "login");
    let script = format!(
        "let reach = #{{ tlscacert: \"{ca}\" }}; let seen = [];
        fn kind(reference, reach) {{ try {{ digest(reference, reach); return \"found\"; }} catch (e) {{ return e.kind; }} }}
        seen.push(kind(\"{pushed}\", reach));
        login(\"{host}\", #{{ user: \"{user}\", password_stdin: true }} + reach);
        seen.push(kind(\"{pushed}\", reach));
        logout(\"{host}\");
        seen.push(kind(\"{pushed}\", reach));
        seen",
        ca = me.registry.ca.display(),
        host = me.registry.host,
        user = me.registry.user,
    );
    let mut command = me.command(&["--json", "-e", &script]);
    let output = Output::with_input(&mut command, format!("{}\n", me.registry.password).as_bytes()).ok();
    let seen: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(seen, json!(["unauthorized", "found", "unauthorized"]));
}
