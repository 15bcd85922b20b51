//! Finding the daemon, not finding it, and finding it again.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Instant;

use ctrsh::containerd::{self, ConnectOptions, Endpoint, Error};
use ctrsh::kind::{Failure, Kind};
use libtest_mimic::Trial;

use super::{client, grant};
use crate::harness::daemon::Daemon;
use crate::harness::{Env, PROMPT, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("containerd::connect::version_and_identity", env, version_and_identity),
        trial("containerd::connect::each_way_of_not_connecting_has_its_error_at_once", env, not_connecting),
        trial("containerd::connect::no_permission_is_told", env, no_permission),
        trial("containerd::connect::a_restarted_daemon_is_found_again", env, restarted),
    ]
}

fn version_and_identity(env: &Env) {
    env.block_on(async {
        let client = client(env, "connect").await;
        let version = client.version().await.unwrap();
        let ctr = env.ctr(&["version"]).ok();
        assert!(ctr.contains(&format!("Version:  {}", version.version)), "{ctr}");
        let server = client.introspection().server().await.unwrap();
        assert!(ctr.contains(&server.uuid), "{ctr}");
        let plugins = client.introspection().plugins(&["type==io.containerd.snapshotter.v1".into()]).await.unwrap();
        assert!(plugins.iter().any(|p| p.id == "overlayfs" && p.failure.is_none()), "{plugins:?}");
        assert!(plugins.iter().all(|p| p.kind == "io.containerd.snapshotter.v1"), "{plugins:?}");
    });
}

/// Connects, and fails without waiting.
async fn refusal(socket: &Path) -> Error {
    let begin = Instant::now();
    let endpoint = Endpoint::parse(socket.to_str().unwrap()).unwrap();
    let error = containerd::connect(endpoint, ConnectOptions::default()).await.unwrap_err();
    assert!(begin.elapsed() < PROMPT, "{:?}", begin.elapsed());
    error
}

fn not_connecting(env: &Env) {
    let folder = env.new_folder("connect");
    let absent = folder.join("absent.sock");
    let dead = folder.join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    let plain = folder.join("plain");
    std::fs::write(&plain, "").unwrap();
    env.block_on(async {
        let error = refusal(&absent).await;
        assert_eq!(error.to_string(), format!("there is no containerd socket at {}", absent.display()));
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.hint().unwrap().contains("systemctl start containerd"), "{:?}", error.hint());
        for socket in [&dead, &plain] {
            let error = refusal(socket).await;
            assert_eq!(error.to_string(), format!("nobody listens on the containerd socket {}", socket.display()));
            assert!(error.hint().unwrap().contains("systemctl restart containerd"), "{:?}", error.hint());
        }
    });
}

fn no_permission(env: &Env) {
    // The suite's folder is root's alone, and the refusal has to come from the socket itself.
    let folder = tempfile::Builder::new().prefix("ctrsh-suite-open-").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let socket = folder.path().join("root.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o600)).unwrap();
    let attempt = std::thread::spawn({
        let socket = socket.clone();
        move || {
            let nobody = rustix::process::Uid::from_raw(65534);
            // The system call changes the user of this one thread, which ends with the test.
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(refusal(&socket))
        }
    });
    let error = attempt.join().unwrap();
    assert_eq!(error.to_string(), format!("no permission to use the containerd socket {}", socket.display()));
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.hint().unwrap().contains("root"), "{:?}", error.hint());
    let _ = env;
}

fn restarted(env: &Env) {
    let mut daemon = Daemon::start(&env.new_folder("restart"));
    env.block_on(async {
        let client = daemon.node().await.client("restart", &grant()).unwrap();
        client.version().await.unwrap();
        for _ in 0..5 {
            daemon.restart();
            client.version().await.unwrap();
            client.images().list(&[]).await.unwrap();
        }
        // While it is down the error is that of the first connection.
        daemon.kill();
        let error = client.version().await.unwrap_err();
        assert!(error.to_string().starts_with("nobody listens on"), "{error}");
        assert_eq!(error.kind(), Kind::Unavailable);
        daemon.restart();
        client.version().await.unwrap();
    });
}
