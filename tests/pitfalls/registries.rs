//! P1 to P6: registries, by whom they are asked, and who gets to know a password.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use containerd_client::services::v1::TransferRequest;
use containerd_client::services::v1::transfer_client::TransferClient;
use containerd_client::types::transfer::OciRegistry;
use libtest_mimic::Trial;
use prost::Message;
use serde_json::json;
use tonic::Code;

use super::theirs::{Asker, Held, Theirs};
use super::{NOWHERE, Ours, error, hosts, hosts_of, says, value};
use crate::harness::certificates::Certificates;
use crate::harness::fault::{Fault, FaultProxy};
use crate::harness::output::Output;
use crate::harness::{Env, Kind, trial};
use crate::registry::support::through;

/// The plugin that moves images inside the daemon.
const TRANSFER: &str = "io.containerd.transfer.v1";

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("pitfalls::P1 the same call takes the same way with every containerd", env, same_way),
        trial("pitfalls::P2 the settings of TLS are heard", env, settings_of_tls),
        trial("pitfalls::P3 a hosts folder is the caller's", env, hosts_folder),
        trial("pitfalls::P4 images go from registry to registry", env, registry_to_registry),
        trial("pitfalls::P5 credentials and hosts of the machine are used", env, credentials_of_the_machine),
        trial("pitfalls::P6 a password is not shown, and not told to a mirror", env, passwords),
    ]
}

/// By itself, ctr of 1.7 asks a registry from its own process, and ctr of 2.x lets containerd do it; 1.6 knows only the
/// first. Which it is decides what flags work, whose files and proxies count, and what breaks.
fn same_way(env: &Env) {
    let theirs = Theirs::new(env);
    let by_itself = theirs.asker(&[]);
    if let Some(local) = Theirs::option(&["images", "pull"], "--local") {
        assert!(theirs.runs(TRANSFER, None));
        assert_eq!(theirs.asker(&["--local=true"]), Asker::Client);
        assert_eq!(theirs.asker(&["--local=false"]), Asker::Daemon);
        // Neither is the same call in another version of ctr.
        let expected = if local.contains("default: false") { Asker::Daemon } else { Asker::Client };
        assert_eq!(by_itself, expected, "{local}");
    } else {
        assert!(!theirs.runs(TRANSFER, None));
        assert_eq!(by_itself, Asker::Client);
    }

    let ours = Ours::new(env);
    let held = Held::new(env, |reference| ours.command(&format!("pull(\"{reference}\")")));
    assert_eq!(held.asker(), Asker::Client);
    let image = env.image(Kind::ThreeLayers);
    let pushed = env.pushed(Kind::ThreeLayers, "pitfalls");
    assert_eq!(ours.value(&format!("pull(\"{pushed}\").digest")), json!(image.digest));
}

/// Where containerd asks the registry, ctr of 2.x refuses the flags of TLS, and ctr of 1.7 drops them without a word.
///
/// A registry on loopback is not checked unless its hosts file names it, so it does here.
fn settings_of_tls(env: &Env) {
    let registry = env.registry_htpasswd_tls();
    let reference = env.push_secure(&env.image(Kind::Busybox), "pitfalls");
    let server = format!("https://{}", registry.host);
    let folder = hosts_of(&env.new_folder("pitfalls"), &registry.host, &server, "");
    let (folder, ca) = (folder.to_str().unwrap(), registry.ca.to_str().unwrap());
    let user = format!("{}:{}", registry.user, registry.password);
    let options = ["--hosts-dir", folder, "--tlscacert", ca, "--user", &user];
    for way in Theirs::ways() {
        let theirs = Theirs::new(env);
        let pulled = theirs.pull(&way, &options, &reference);
        match theirs.asker(&way) {
            Asker::Client => {
                pulled.ok();
                let target = format!("{}/{}:v1", registry.host, env.fresh("pitfalls"));
                theirs.run(&[&["images", "push"], &way[..], &options, &[&target, &reference]].concat()).ok();
            }
            Asker::Daemon => {
                assert!(!pulled.succeeded(), "{pulled}");
                says(
                    &pulled,
                    &["\"--tlscacert\" requires \"--local\"", "x509: certificate signed by unknown authority"],
                );
                // Nor is it told not to check.
                let unchecked =
                    theirs.pull(&way, &["--hosts-dir", folder, "--skip-verify", "--user", &user], &reference);
                assert!(!unchecked.succeeded(), "{unchecked}");
            }
        }
    }

    let login = format!("user: \"{}\", password_stdin: true", registry.user);
    let ours = Ours::new(env);
    let pull = |reach: &str| {
        let script = format!("pull(\"{reference}\", #{{ {login}, {reach} }}).digest");
        ours.told(&script, registry.password)
    };
    let digest = json!(env.image(Kind::Busybox).digest);
    let setting = format!("ca = \"{ca}\"");
    let with_ca = hosts_of(&env.new_folder("pitfalls"), &registry.host, &server, &setting);
    for reach in [
        format!("tlscacert: \"{ca}\""),
        format!("tlscacert: \"{ca}\", hosts_dir: \"{folder}\""),
        format!("hosts_dir: \"{}\"", with_ca.display()),
        "skip_verify: true".to_owned(),
    ] {
        assert_eq!(value(&pull(&reach)), digest, "{reach}");
    }
    // It is checked: another authority has not signed this.
    let other = Certificates::make(&env.new_folder("pitfalls")).ca;
    let refused = error(&pull(&format!("tlscacert: \"{}\"", other.display())));
    assert!(refused["message"].as_str().unwrap().contains("certificate"), "{refused}");

    let target = format!("{}/{}:v1", registry.host, env.fresh("pitfalls"));
    let script = format!("push(\"{target}\", \"{reference}\", #{{ {login}, tlscacert: \"{ca}\" }}).digest");
    assert_eq!(value(&ours.told(&script, registry.password)), digest);
}

/// Where containerd asks the registry, the hosts folder is looked for where containerd is: a path from here means nothing. To
/// containerd 1.7 ctr does not hand it on at all.
///
/// The same holds for proxies, which containerd takes from its own environment. That is not shown, as it takes a daemon that
/// was started with them.
fn hosts_folder(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "pitfalls");
    let reference = through(NOWHERE, &pushed);
    let here = env.new_folder("pitfalls");
    let ways_with_hosts = Theirs::ways_with_hosts(env);
    let folder = hosts_of(&here.join("hosts"), NOWHERE, &format!("http://{}", env.registry()), "");
    for way in Theirs::ways() {
        let theirs = Theirs::new(env);
        let pull = |folder: &str| {
            let arguments = [&["images", "pull", "--hosts-dir", folder], &way[..], &[reference.as_str()]].concat();
            Output::of(theirs.command(&arguments).current_dir(&here))
        };
        match theirs.asker(&way) {
            Asker::Client => drop(pull("hosts").ok()),
            Asker::Daemon => {
                let elsewhere = pull("hosts");
                assert!(!elsewhere.succeeded(), "{elsewhere}");
                says(&elsewhere, &[NOWHERE]);
                assert_eq!(pull(folder.to_str().unwrap()).succeeded(), ways_with_hosts.contains(&way));
            }
        }
    }

    let digest = json!(env.image(Kind::Busybox).digest);
    let ours = Ours::new(env);
    let run =
        |script: &str, options: &[&str]| value(&Output::of(ours.command_with(options, script).current_dir(&here)));
    assert_eq!(run(&format!("pull(\"{reference}\", #{{ hosts_dir: \"hosts\" }}).digest"), &[]), digest);
    assert_eq!(run(&format!("digest(\"{reference}\")"), &["--hosts-dir", "hosts"]), digest);
    let refused = ours.error(&format!("digest(\"{reference}\")"));
    assert!(refused["message"].as_str().unwrap().contains(NOWHERE), "{refused}");
}

/// containerd's transfer service does not move from one registry to another, and ctr has no command for it.
///
/// That its `ContainerPath`, for files of containers, exists as a message only cannot be asked of a daemon: nothing
/// registers it, which is the same answer.
fn registry_to_registry(env: &Env) {
    let pushed = env.pushed(Kind::Index, "pitfalls");
    let target = format!("{}/{}:v1", env.registry_of_harbors(), env.fresh("pitfalls"));
    let theirs = Theirs::new(env);
    for absent in ["copy", "cp"] {
        assert!(!Theirs::has(&["images"], absent), "ctr has images {absent}");
    }
    let registry = |reference: &str| {
        let registry = OciRegistry { reference: reference.to_owned(), resolver: None };
        let type_url = "containerd.types.transfer.OCIRegistry".to_owned();
        Some(prost_types::Any { type_url, value: registry.encode_to_vec() })
    };
    let status = env.block_on(async {
        let channel = containerd_client::connect(env.socket()).await.unwrap();
        let request = TransferRequest { source: registry(&pushed), destination: registry(&target), options: None };
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("containerd-namespace", theirs.namespace.parse().unwrap());
        TransferClient::new(channel).transfer(request).await.unwrap_err()
    });
    assert_eq!(status.code(), Code::Unimplemented, "{status}");
    assert_eq!(status.message().contains("unknown service"), !theirs.runs(TRANSFER, None), "{status}");

    let ours = Ours::new(env);
    let copied = ours.value(&format!("copy(\"{pushed}\", \"{target}\", #{{ platforms: \"all\" }}).digest"));
    assert_eq!(copied, json!(env.image(Kind::Index).digest));
    let raw = env.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{target}")]).ok();
    assert_eq!(json!(ctrsh::oci::Digest::sha256(raw.as_bytes()).to_string()), copied);
    // Nothing went through the daemon on the way.
    assert!(Theirs::at(env, &ours.namespace).blobs().is_empty());
}

/// ctr takes neither the credentials of `docker login` nor `/etc/containerd/certs.d`, where the machine's registries are
/// configured, unless a flag says the folder. Credentials in the configuration of CRI are containerd's own; ctrsh does
/// not read them either.
fn credentials_of_the_machine(env: &Env) {
    let registry = env.registry_htpasswd_tls();
    let reference = env.push_secure(&env.image(Kind::Busybox), "pitfalls");
    let (server, ca) = (format!("https://{}", registry.host), format!("ca = \"{}\"", registry.ca.display()));
    let folder = hosts_of(&env.new_folder("pitfalls"), &registry.host, &server, &ca);
    let folder = folder.to_str().unwrap();
    let home = env.new_folder("pitfalls");
    std::fs::create_dir(home.join(".docker")).unwrap();
    let user = format!("{}:{}", registry.user, registry.password);
    let kept = json!({ "auths": { registry.host.clone(): { "auth": STANDARD.encode(&user) } } });
    let file = home.join(".docker/config.json");
    std::fs::write(&file, kept.to_string()).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let output = |mut command: Command| Output::of(command.env("HOME", &home));
    for way in Theirs::ways_with_hosts(env) {
        let theirs = Theirs::new(env);
        let pull = |options: &[&str]| {
            let begin = ["images", "pull", "--hosts-dir", folder];
            output(theirs.command(&[&begin, &way[..], options, &[reference.as_str()]].concat()))
        };
        let refused = pull(&[]);
        assert!(!refused.succeeded(), "{refused}");
        says(&refused, &["401", "authorization failed", "no basic auth credentials"]);
        pull(&["--user", &user]).ok();
    }
    let ours = Ours::new(env);
    let digest = json!(env.image(Kind::Busybox).digest);
    let script = format!("pull(\"{reference}\", #{{ hosts_dir: \"{folder}\" }}).digest");
    assert_eq!(value(&output(ours.command(&script))), digest);

    let pushed = env.pushed(Kind::Busybox, "pitfalls");
    let reference = through(NOWHERE, &pushed);
    let etc = env.new_folder("pitfalls");
    hosts_of(&etc.join("containerd/certs.d"), NOWHERE, &format!("http://{}", env.registry()), "");
    for way in Theirs::ways() {
        let theirs = Theirs::new(env);
        let pull = theirs.command(&[&["images", "pull"], &way[..], &[reference.as_str()]].concat());
        let refused = output(over_etc(&etc, &pull));
        assert!(!refused.succeeded(), "{refused}");
        says(&refused, &[NOWHERE]);
    }
    let script = format!("pull(\"{reference}\").digest");
    assert_eq!(value(&output(over_etc(&etc, &ours.command(&script)))), digest);
}

/// Lets a command see a folder's files over those of `/etc`, and nobody else.
fn over_etc(folder: &Path, command: &Command) -> Command {
    let script = format!("mount -t overlay overlay -o lowerdir='{}':/etc /etc && exec \"$@\"", folder.display());
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    inside.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => inside.env(name, value),
            None => inside.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        inside.current_dir(folder);
    }
    inside
}

/// `--user NAME:PASSWORD` is there for everybody to read in the list of processes, and goes to every host that asks for
/// credentials, a mirror among them.
fn passwords(env: &Env) {
    const SECRET: &str = "s3cret";
    let seen_of = |pid: u32| {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
        String::from_utf8_lossy(&[read("cmdline"), read("environ")].concat()).into_owned()
    };
    for way in Theirs::ways() {
        let theirs = Theirs::new(env);
        let held = Held::new(env, |reference| {
            let options = ["--plain-http", "--user", "ann:s3cret", reference];
            theirs.command(&[&["images", "pull"], &way[..], &options].concat())
        });
        assert!(seen_of(held.pid()).contains(SECRET));
    }
    let ours = Ours::new(env);
    let held = Held::new(env, |reference| {
        ours.command(&format!("pull(\"{reference}\", #{{ user: \"ann\", password_stdin: true }})"))
    });
    assert!(!seen_of(held.pid()).contains(SECRET));
    // It cannot even be done as ctr does it; nor is what was tried repeated.
    let refused = ours.run(&format!("pull(\"{NOWHERE}/a/b:1\", #{{ user: \"ann:{SECRET}\" }})"));
    let shown = error(&refused);
    assert!(shown["message"].as_str().unwrap().contains("user"), "{shown}");
    assert!(!shown["message"].as_str().unwrap().contains(SECRET), "{shown}");

    let pushed = env.pushed(Kind::Busybox, "pitfalls");
    let mirrored = || {
        let (mirror, own) = env
            .block_on(async { (FaultProxy::start(&env.registry()).await, FaultProxy::start(&env.registry()).await) });
        let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", own.host(), mirror.host());
        let folder = hosts(&env.new_folder("pitfalls"), &own.host(), &text);
        for asking in [&mirror, &own] {
            let challenge = vec![("WWW-Authenticate", "Basic realm=\"x\"".to_owned())];
            asking.fault("HEAD", "", 1, Fault::Answer(401, challenge, String::new()));
        }
        (mirror, own, folder)
    };
    let basic = format!("Basic {}", STANDARD.encode(format!("ann:{SECRET}")));
    let told = |proxy: &FaultProxy| proxy.log().iter().any(|seen| seen.header("authorization") == Some(&basic));
    for way in Theirs::ways_with_hosts(env) {
        let (mirror, own, folder) = mirrored();
        let options = ["--plain-http", "--hosts-dir", folder.to_str().unwrap(), "--user", "ann:s3cret"];
        Theirs::new(env).pull(&way, &options, &through(&own.host(), &pushed)).ok();
        assert!(told(&mirror), "{way:?}: {:#?}", mirror.log());
    }
    let (mirror, own, folder) = mirrored();
    let reach = format!("user: \"ann\", password_stdin: true, hosts_dir: \"{}\"", folder.display());
    let script = format!("pull(\"{}\", #{{ {reach} }}).digest", through(&own.host(), &pushed));
    assert_eq!(value(&ours.told(&script, SECRET)), json!(env.image(Kind::Busybox).digest));
    assert!(!mirror.log().is_empty());
    assert!(mirror.log().iter().all(|seen| seen.header("authorization").is_none()), "{:#?}", mirror.log());
    assert!(told(&own), "{:#?}", own.log());
}
