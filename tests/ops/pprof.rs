//! Profiles of the daemon: what comes, and what is said when nothing does.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ctrsh::grant::{Access, Allow};
use ctrsh::kind::Kind as Failed;
use libtest_mimic::Trial;
use serde_json::json;

use super::stage::Stage;
use crate::harness::output::Output;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::pprof::each profile of the daemon comes, in memory and as a file", env, each),
        trial("ops::pprof::go reads what is written", env, read_by_go),
        trial("ops::pprof::mistakes are named and have a cure", env, mistakes),
        trial("ops::pprof::a socket that breaks off or is silent leaves no file", env, half),
        trial("ops::pprof::it is stopped by ctrl-c and by a limit", env, stopped),
    ]
}

/// An empty namespace, and a folder for files.
fn stage(env: &Env) -> Stage {
    let stage = Stage::empty(env, "pprof");
    std::fs::create_dir(stage.folder.join("work")).unwrap();
    stage
}

fn each(env: &Env) {
    let stage = stage(env);
    for name in ["allocs", "block", "goroutine", "heap", "mutex", "threadcreate"] {
        let code = format!("let p = pprof::read({name:?}); [p[0], p[1], pprof::save({name:?}, \"p\") > 0]");
        // The binary form is compressed.
        assert_eq!(stage.value(&code), json!([0x1f, 0x8b, true]), "{name}");
        assert!(stage.folder.join("work/p").exists());
    }
    let text = stage.value("pprof::read(\"goroutine\", #{ form: 2 }).as_string()");
    assert!(text.as_str().unwrap().contains("goroutine ") && text.as_str().unwrap().contains(".go:"), "{text}");
    let begun = Instant::now();
    assert_eq!(stage.value("pprof::read(\"trace\", #{ seconds: 0.5 }).len() > 16"), json!(true));
    assert!(begun.elapsed() >= Duration::from_millis(500));
    // A dry run writes nothing.
    let dry = env
        .ctrsh(&["--dry-run", "--allow", "all", "-e", "pprof::save(\"heap\", \"/tmp/ctrsh-not-written\")"])
        .expect_status(0);
    assert!(!std::path::Path::new("/tmp/ctrsh-not-written").exists(), "{dry}");
    // The same line with ctr and here.
    let socket = env.socket().with_file_name("debug.sock");
    for (command, form, begins) in [
        ("block", "1", "--- contention:"),
        ("goroutines", "1", "goroutine profile: total "),
        ("goroutines", "2", "goroutine "),
        ("heap", "1", "heap profile: "),
        ("threadcreate", "1", "threadcreate profile: total "),
    ] {
        let line = ["pprof", "-d", socket.to_str().unwrap(), command, "--debug", form];
        let ours = env.ctrsh(&[&["ctr"][..], &line].concat()).expect_status(0).stdout;
        assert!(ours.starts_with(begins), "{line:?}\n{ours}");
        let theirs = env.ctr(&line);
        // ctr 1.6 does not have the flag.
        if !theirs.stderr.contains("not defined: -debug") {
            assert!(theirs.expect_status(0).stdout.starts_with(begins), "{line:?}");
        }
    }
    let theirs = env.ctr(&["pprof", "-d", socket.to_str().unwrap(), "goroutines"]).expect_status(0);
    let ours = env.ctrsh(&["ctr", "pprof", "goroutines"]).expect_status(0);
    for stacks in [theirs.stdout, ours.stdout] {
        assert!(stacks.starts_with("goroutine ") && stacks.contains("net/http."));
    }
    // A pipe and a file get the same.
    let file = stage.folder.join("heap");
    let mut command = env.ctrsh_command();
    std::fs::write(&file, "before").unwrap();
    let appended = std::fs::File::options().append(true).open(&file).unwrap();
    command.args(["ctr", "pprof", "heap"]).stdout(appended).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
    assert_eq!(std::fs::read(&file).unwrap()[..8], *b"before\x1f\x8b");
}

fn read_by_go(env: &Env) {
    let stage = stage(env);
    stage.value("pprof::save(\"profile\", \"cpu\", #{ seconds: 1 })");
    let bytes = std::fs::read(stage.folder.join("work/cpu")).unwrap();
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).unwrap();
    let has = |word: &str| plain.windows(word.len()).any(|at| at == word.as_bytes());
    assert!(has("cpu") && has("nanoseconds"), "it is no profile of the processor");
    // Only one can measure so at a time.
    let second = "parallel([1, 2], |i| pprof::read(\"profile\", #{ seconds: 2 }).len())";
    let report = stage.script(second).unwrap_err();
    assert_eq!(report.error.kind, Failed::Conflict, "{report:?}");
    assert!(report.error.message.contains("already in use"), "{report:?}");
}

fn mistakes(env: &Env) {
    let stage = stage(env);
    let deserted = stage.folder.join("deserted.sock");
    drop(UnixListener::bind(&deserted).unwrap());
    let deserted = format!("pprof::read(\"heap\", #{{ address: {deserted:?} }})");
    for (code, kind, part) in [
        ("pprof::read(\"heapp\")", Failed::Usage, "none of allocs, block, goroutine, heap"),
        ("pprof::read(\"../x\")", Failed::Usage, "none of"),
        ("pprof::read(\"heap\", #{ seconds: 1 })", Failed::Usage, "is for 'profile' and 'trace'"),
        ("pprof::read(\"profile\", #{ seconds: \"1500ms\" })", Failed::Usage, "whole seconds"),
        ("pprof::read(\"trace\", #{ seconds: 0 })", Failed::Usage, "more than none"),
        ("pprof::read(\"heap\", #{ form: -1 })", Failed::Usage, "negative"),
        ("pprof::read(\"heap\", #{ address: \"tcp://127.0.0.1:1\" })", Failed::Usage, "address of a Unix socket"),
        ("pprof::read(\"heap\", #{ address: \"/run/x\", shim: \"a\" })", Failed::Usage, "two sockets"),
        ("pprof::read(\"heap\", #{ shim: \"../a\" })", Failed::Usage, "shim's id"),
        ("pprof::read(\"heap\", #{ shim: \"not-there\" })", Failed::Unavailable, "debug socket of shim not-there"),
        ("pprof::read(\"heap\", #{ address: \"/nowhere/d\" })", Failed::Unavailable, "is not there: /nowhere/d"),
        (deserted.as_str(), Failed::Unavailable, "nobody listens on containerd's debug socket"),
    ] {
        let report = stage.script(code).unwrap_err();
        assert_eq!(report.error.kind, kind, "{code}: {report:?}");
        assert!(report.error.message.contains(part), "{code}: {report:?}");
    }
    let report = stage.script("pprof::read(\"heap\", #{ address: \"/nowhere/d\" })").unwrap_err();
    let hint = report.error.hint.unwrap_or_default();
    assert!(hint.contains("address = \"/nowhere/d\" under [debug]"), "{hint}");
    // Without the right to read nothing is asked, and a file elsewhere is the host's.
    let ctx = stage.allowing(Allow::of(&[Access::Write]));
    let mut blind = stage.interpreter(&ctx, std::sync::Arc::new(crate::examples::Quiet));
    let report = blind.run("pprof::read(\"heap\")", None, Default::default()).unwrap_err();
    assert_eq!(report.error.kind, Failed::Denied);
    let elsewhere = env.ctrsh(&["--allow", "read,files", "-e", "pprof::save(\"heap\", \"/tmp/ctrsh-elsewhere\")"]);
    elsewhere.expect_status(5);
    assert!(!std::path::Path::new("/tmp/ctrsh-elsewhere").exists());
}

/// Listens on a socket, and answers each connection with this text, which it then closes or not.
fn answering(path: &std::path::Path, text: &'static str, closes: bool) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(text.as_bytes());
            open.extend((!closes).then_some(stream));
        }
    });
}

fn half(env: &Env) {
    let stage = stage(env);
    let save = |name: &str, text: &'static str| {
        let path = stage.folder.join(name);
        answering(&path, text, true);
        stage.script(&format!("pprof::save(\"heap\", \"half\", #{{ address: {path:?} }})")).unwrap_err()
    };
    let report = save("cut.sock", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    assert_eq!(report.error.kind, Failed::Unavailable, "{report:?}");
    assert!(report.error.message.contains("the connection broke"), "{report:?}");
    let report = save("not.sock", "HTTP/1.1 404 Not Found\r\nContent-Length: 15\r\n\r\nUnknown profile");
    assert_eq!(report.error.kind, Failed::NotFound, "{report:?}");
    assert!(report.error.message.contains("Unknown profile"), "{report:?}");
    let report = save("bad.sock", "220 mail.example ESMTP\r\n");
    assert_eq!(report.error.kind, Failed::Unavailable, "{report:?}");
    let left: Vec<_> = std::fs::read_dir(stage.folder.join("work")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn stopped(env: &Env) {
    let stage = stage(env);
    let path = stage.folder.join("silent.sock");
    answering(&path, "", false);
    let code = format!("pprof::read(\"heap\", #{{ address: {path:?} }})");
    let begun = Instant::now();
    Output::of(env.ctrsh_command().args(["--timeout", "1s", "-e", &code])).expect_status(1);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let mut child = env.ctrsh_command();
    let mut child = child.args(["-e", &code]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    Output::of(Command::new("kill").args(["-INT", &child.id().to_string()])).ok();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
