//! Files that are copied into a container and out of it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ctrsh::grant::{Access, Allow};
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::ops::Shared;
use ctrsh::ops::container::{CopyFiles, CopyFilesOptions, Direction};
use ctrsh::ops::plan::Step;
use ctrsh::ops::policy::Unasked;
use ctrsh::ops::progress::{Level, Meter, Progress, Silent};
use ctrsh::registry::{Client, Config};
use libtest_mimic::Trial;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, getxattr, mknodat, setxattr};
use rustix::io::Errno;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::stage::{IMAGE, Stage};
use crate::harness::disk::Disk;
use crate::harness::output::Output;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::container_files::a tree goes in and comes out as it was", env, tree),
        trial("ops::container_files::where it goes is as docker cp has it", env, places),
        trial("ops::container_files::what runs sees what it is given, and its mounts are seen", env, mounted),
        trial("ops::container_files::no link leads to the host", env, hostile),
        trial("ops::container_files::owners are those of the other side, or kept", env, owners),
        trial("ops::container_files::mistakes are named and leave nothing", env, mistakes),
        trial("ops::container_files::another PID namespace is not taken for the daemon's", env, elsewhere),
        trial("ops::container_files::Ctrl-C ends it", env, cancelled),
        trial("ops::container_files::Ctrl-C ends the wait for what the kernel has to say", env, waiting),
        trial("ops::container_files::a file that grows is copied as it was found", env, growing),
        trial("ops::container_files::attributes that the target cannot have are told of", env, bare),
        trial("ops::container_files::what stands on a view is entered", env, views),
    ]
}

/// Makes two containers: one that runs, and one that does not.
fn containers(stage: &Stage, snapshotter: &str) -> [String; 2] {
    let ids = [stage.env.fresh("files"), stage.env.fresh("files")];
    let [running, still] = &ids;
    stage.value(&format!(
        r#"
        image("{IMAGE}").unpack(#{{ snapshotter: "{snapshotter}" }});
        let how = #{{ id: "{running}", detach: true, command: ["sleep", "1000"], snapshotter: "{snapshotter}" }};
        run("{IMAGE}", how);
        create("{still}", "{IMAGE}", #{{ snapshotter: "{snapshotter}" }});
        "#
    ));
    ids
}

/// What there is of one file that a copy keeps: type, mode, time, length, and what is in it.
fn described(path: &Path) -> (u32, i64, u64, Vec<u8>) {
    let of = fs::symlink_metadata(path).unwrap();
    let content = match of.file_type() {
        kind if kind.is_symlink() => fs::read_link(path).unwrap().into_os_string().into_encoded_bytes(),
        kind if kind.is_file() && of.len() < 1 << 20 => fs::read(path).unwrap(),
        _ => Vec::new(),
    };
    (of.mode(), of.mtime(), if of.is_dir() { 0 } else { of.len() }, content)
}

fn assert_same(one: &Path, other: &Path) {
    assert_eq!(described(one), described(other), "{} and {}", one.display(), other.display());
    if !fs::symlink_metadata(one).unwrap().is_dir() {
        return;
    }
    let names = |path: &Path| {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(one), names(other));
    for name in names(one) {
        assert_same(&one.join(&name), &other.join(&name));
    }
}

/// Makes a tree with all that a copy has to keep.
fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("sub/empty")).unwrap();
    fs::write(root.join("plain"), "text").unwrap();
    fs::write(root.join("sub/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("sub/run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(root.join("sub"), fs::Permissions::from_mode(0o1711)).unwrap();
    fs::hard_link(root.join("plain"), root.join("sub/again")).unwrap();
    symlink("/nowhere/at all", root.join("link")).unwrap();
    mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(200 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 100 << 20).unwrap();
    let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000));
    sparse.set_times(old).unwrap();
}

fn tree(env: &Env) {
    let stage = Stage::new(env, "files");
    let work = stage.folder.join("work");
    make_tree(&work.join("in"));
    fs::create_dir(work.join("sockets")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(work.join("sockets/one")).unwrap());
    for snapshotter in [stage.snapshotter.as_str(), "native"] {
        for id in containers(&stage, snapshotter) {
            let before = stage.leftovers();
            let went = stage.value(&format!("cp(\"in\", \"{id}:/opt\")"));
            assert_eq!(stage.value(&format!("cp(\"sockets\", \"{id}:/tmp\")"))["left_out"], 1);
            let came = stage.value(&format!("cp(\"{id}:/opt\", \"{id}\")"));
            assert_eq!((&came["files"], &came["left_out"]), (&json!(9), &json!(0)), "{came}");
            assert_eq!(came["bytes"], went["bytes"]);
            let out = work.join(&id);
            assert_same(&work.join("in"), &out);
            let of = |name: &str| fs::metadata(out.join(name)).unwrap();
            assert_eq!(of("plain").ino(), of("sub/again").ino());
            assert!(of("sparse").blocks() < 1000, "{} blocks", of("sparse").blocks());
            assert!(of("pipe").file_type().is_fifo());
            assert_eq!(stage.leftovers(), before);
        }
    }
    assert_eq!(fs::read_dir(&stage.ctx.settings().temp_dir).map_or(0, Iterator::count), 0);
}

fn places(env: &Env) {
    let stage = Stage::new(env, "files");
    let work = stage.folder.join("work");
    make_tree(&work.join("in"));
    for id in containers(&stage, &stage.snapshotter) {
        let [file, folder] = ["in/plain", "in"];
        for (source, target, made) in [
            (file, "/opt", "/opt"),
            (file, "/opt", "/opt"),
            (file, "/tmp", "/tmp/plain"),
            (file, "/tmp/", "/tmp/plain"),
            (file, "tmp/relative", "/tmp/relative"),
            (folder, "/tmp", "/tmp/in/plain"),
            (folder, "/tmp", "/tmp/in/sub/again"),
            (folder, "/tmp/new", "/tmp/new/plain"),
            (folder, "/tmp/new/", "/tmp/new/in/plain"),
            ("in/.", "/tmp/content", "/tmp/content/plain"),
            ("in/.", "/", "/plain"),
        ] {
            stage.value(&format!("cp(\"{source}\", \"{id}:{target}\")"));
            stage.value(&format!("cp(\"{id}:{made}\", \"got\")"));
            assert_eq!(fs::read_to_string(work.join("got")).unwrap(), "text", "{source} to {target}");
            fs::remove_file(work.join("got")).unwrap();
        }
        // A folder that is there keeps its mode, and what else is in it.
        stage.value(&format!("cp(\"{id}:/tmp\", \"out\")"));
        assert!(work.join("out/relative").exists() && work.join("out/in/sub/empty").is_dir());
        fs::set_permissions(work.join("out"), fs::Permissions::from_mode(0o700)).unwrap();
        stage.value(&format!("cp(\"{id}:/opt\", \"out\"); cp(\"{id}:/tmp/new/.\", \"out\")"));
        assert_eq!(fs::metadata(work.join("out")).unwrap().mode() & 0o7777, 0o700);
        assert!(
            work.join("out/relative").exists()
                && work.join("out/opt").exists()
                && work.join("out/in/link").is_symlink()
        );
        fs::remove_dir_all(work.join("out")).unwrap();
        for (call, says) in [
            (format!("cp(\"in/plain\", \"{id}:/tmp/none/\")"), "no such path"),
            (format!("cp(\"in/plain\", \"{id}:/no/where\")"), "no such path"),
            (format!("cp(\"in\", \"{id}:/opt\")"), "Not a directory"),
            (format!("cp(\"{id}:/absent\", \"x\")"), "no such path"),
            (format!("cp(\"{id}:/tmp/in\", \"in/plain\")"), "Not a directory"),
        ] {
            let report = stage.script(&call).unwrap_err();
            assert!(report.error.message.contains(says), "{call}: {report:?}");
        }
    }
}

fn mounted(env: &Env) {
    let stage = Stage::new(env, "files");
    let work = stage.folder.join("work");
    fs::create_dir_all(&work).unwrap();
    fs::write(work.join("hosts"), "old\n").unwrap();
    let (id, volume) = (env.fresh("files"), work.join("hosts").display().to_string());
    let result = stage.value(&format!(
        r#"
        write_file("new", "new\n");
        let mount = "type=bind,src={volume},dst=/etc/hosts,options=rbind:rw";
        let c = run("{IMAGE}", #{{ id: "{id}", detach: true, command: ["sleep", "1000"], mount: mount }});
        c.copy_to("new", "/etc/hosts");
        c.exec(["sh", "-c", "echo made > /tmp/made; mknod /tmp/null c 1 3; chmod 6755 /tmp/made"]);
        c.copy_from("/", "all");
        c.copy_from("/proc/version", "version");
        c.copy_from("/tmp", "kept", #{{ archive: true }});
        c.exec(["cat", "/etc/hosts"]).stdout
        "#
    ));
    assert_eq!(result, "new\n");
    // What is mounted there is written, not replaced.
    assert_eq!(fs::read_to_string(work.join("hosts")).unwrap(), "new\n");
    let itself = stage.script(&format!("cp(\"hosts\", \"{id}:/etc/hosts\")")).unwrap_err();
    assert!(itself.error.message.contains("the same file"), "{itself:?}");
    assert_eq!(fs::read_to_string(work.join("hosts")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(work.join("all/etc/hosts")).unwrap(), "new\n");
    assert_eq!(fs::read_dir(work.join("all/proc")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(work.join("version")).unwrap(), fs::read_to_string("/proc/version").unwrap());
    assert!(!work.join("all/tmp/null").exists());
    assert_eq!(fs::metadata(work.join("all/tmp/made")).unwrap().mode() & 0o7777, 0o755);
    assert!(fs::metadata(work.join("kept/null")).unwrap().file_type().is_char_device());
    assert_eq!(fs::metadata(work.join("kept/made")).unwrap().mode() & 0o7777, 0o6755);
}

fn hostile(env: &Env) {
    let stage = Stage::new(env, "files");
    let work = stage.folder.join("work");
    fs::create_dir_all(work.join("host")).unwrap();
    fs::write(work.join("host/secret"), "secret").unwrap();
    fs::write(work.join("given"), "given").unwrap();
    let there = work.join("host").display().to_string();
    for id in containers(&stage, &stage.snapshotter) {
        fs::create_dir_all(work.join("links")).unwrap();
        for (name, target) in
            [("host", there.clone()), ("up", "../../../../../../..".into()), ("self", "/proc/self/root".into())]
        {
            let _ = symlink(target, work.join("links").join(name));
        }
        stage.value(&format!("cp(\"links\", \"{id}:/tmp\")"));
        for path in [format!("host{there}/x"), "host/x".to_owned(), format!("up{there}/x"), format!("self{there}/x")] {
            let call = format!("cp(\"given\", \"{id}:/tmp/links/{path}\")");
            assert!(stage.script(&call).is_err(), "{call}");
        }
        let read = format!("cp(\"{id}:/tmp/links/host/secret\", \"stolen\")");
        assert!(stage.script(&read).is_err());
        let read = format!("cp(\"{id}:/tmp/links/host\", \"stolen\", #{{ follow: true }})");
        assert!(stage.script(&read).is_err());
        // Above the root is the root.
        stage
            .value(&format!("cp(\"{id}:/tmp/links/up/etc/passwd\", \"passwd\"); cp(\"given\", \"{id}:/../../given\")"));
        assert_ne!(fs::read(work.join("passwd")).unwrap(), fs::read("/etc/passwd").unwrap());
        stage.value(&format!("cp(\"{id}:/given\", \"back\")"));
        // Nor does one of the host lead on what comes out: it is not written through.
        fs::create_dir_all(work.join("out")).unwrap();
        let _ = symlink(&there, work.join("out/etc"));
        let through = stage.script(&format!("cp(\"{id}:/etc\", \"out\")"));
        assert!(through.is_err());
        assert_eq!(fs::read_dir(work.join("host")).unwrap().count(), 1);
        assert!(!work.join("stolen").exists());
    }
}

fn owners(env: &Env) {
    let stage = Stage::new(env, "files");
    let work = stage.folder.join("work");
    fs::create_dir_all(&work).unwrap();
    fs::write(work.join("mine"), "mine").unwrap();
    std::os::unix::fs::chown(work.join("mine"), Some(1234), Some(2345)).unwrap();
    fs::set_permissions(work.join("mine"), fs::Permissions::from_mode(0o4750)).unwrap();
    setxattr(work.join("mine"), "user.note", b"a note", XattrFlags::empty()).unwrap();
    let id = env.fresh("files");
    stage.value(&format!(
        r#"
        let c = create("{id}", "{IMAGE}", #{{ uidmap: "0:100000:65536", gidmap: "0:200000:65536" }});
        c.copy_to("mine", "/tmp/roots");
        c.copy_to("mine", "/tmp/kept", #{{ archive: true }});
        c.copy_from("/tmp/roots", "plain");
        c.copy_from("/tmp/roots", "archived", #{{ archive: true }});
        "#
    ));
    let owner = |name: &str| {
        let of = fs::metadata(work.join(name)).unwrap();
        (of.uid(), of.gid(), of.mode() & 0o7777)
    };
    assert_eq!(owner("plain"), (0, 0, 0o750));
    assert_eq!(owner("archived"), (100_000, 200_000, 0o4750));
    stage.value(&format!("cp(\"{id}:/tmp/kept\", \"kept\", #{{ archive: true }})"));
    assert_eq!(owner("kept"), (1234, 2345, 0o4750));
    let note = |name: &str| {
        let mut value = [0; 100];
        getxattr(work.join(name), "user.note", &mut value[..]).map(|length| value[..length].to_vec())
    };
    assert_eq!((note("kept"), note("plain")), (Ok(b"a note".to_vec()), Err(Errno::NODATA)));
}

fn mistakes(env: &Env) {
    let stage = Stage::new(env, "files");
    let work = stage.folder.join("work");
    make_tree(&work.join("in"));
    let [running, _] = containers(&stage, &stage.snapshotter);
    let before = stage.leftovers();
    let files = || fs::read_dir(&work).unwrap().count();
    let count = files();
    for (call, says) in [
        ("cp(\"a\", \"b\")".to_owned(), "ID:PATH"),
        (format!("cp(\"{running}:/a\", \"{running}:/b\")"), "both of a container"),
        (format!("cp(\"{running}:\", \"b\")"), "is empty"),
        ("cp(\"nobody:/a\", \"b\")".to_owned(), "no such container: nobody"),
        (format!("cp(\"in\", \"{running}:/proc/x\")"), "/proc/x"),
        (format!("container(\"{running}\").copy_to(\"absent\", \"/tmp\")"), "absent"),
        (format!("cp(\"in\", \"{running}:/tmp\", #{{ archiv: true }})"), "archive"),
    ] {
        let report = stage.script(&call).unwrap_err();
        let text = format!("{} {}", report.error.message, report.error.hint.unwrap_or_default());
        assert!(text.contains(says), "{call}: {text}");
    }
    let out = || CopyFiles::new(&running, Direction::Out, "/etc", "out", CopyFilesOptions::default());
    let allow = Allow::of(&[Access::Read, Access::Write, Access::Run, Access::Files]);
    let error = stage.run_in(&stage.allowing(allow), out()).unwrap_err();
    assert_eq!(error.kind(), Failed::Denied, "{error}");
    let planned = stage.run_in(&stage.ctx.dry_run(), out()).unwrap();
    assert_eq!((planned.files, files()), (0, count));
    assert_eq!(stage.leftovers(), before);
}

fn elsewhere(env: &Env) {
    let stage = Stage::new(env, "files");
    let [running, _] = containers(&stage, &stage.snapshotter);
    let ctrsh = env.ctrsh_command();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc"]).arg(ctrsh.get_program()).args(ctrsh.get_args());
    for (name, value) in ctrsh.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(&stage.folder).args(["-n", &stage.namespace, "--allow", "all"]);
    let output = Output::of(command.args(["-e", &format!("cp(\"{running}:/etc/passwd\", \"out\")")])).expect_status(1);
    assert!(output.stderr.contains("which is not that here"), "{output}");
    assert!(output.stderr.contains("hint: run ctrsh on the daemon's host"), "{output}");
    assert!(!stage.folder.join("out").exists());
}

/// Returns the stage's context with somebody who is told of what goes on.
fn told(stage: &Stage, progress: Arc<dyn Progress>, cancel: CancellationToken) -> ctrsh::ops::Context {
    let shared = Shared {
        registry: Client::new(Config::default()),
        progress,
        confirm: Arc::new(Unasked),
        streams: None,
        audit: None,
        settings: stage.ctx.settings().clone(),
    };
    stage.ctx.with_shared(Arc::new(shared)).with_cancel(cancel)
}

fn cancelled(env: &Env) {
    let stage = Stage::new(env, "files");
    let [running, _] = containers(&stage, &stage.snapshotter);
    let work = stage.folder.join("work");
    fs::create_dir_all(&work).unwrap();
    let mut big = fs::File::create(work.join("big")).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(7), 300 << 20), &mut big).unwrap();
    let cancel = CancellationToken::new();
    let ctx = told(&stage, Arc::new(Press(cancel.clone())), cancel);
    let copy = CopyFiles::new(&running, Direction::In, "/tmp/big", "big", CopyFilesOptions::default());
    assert_eq!(stage.run_in(&ctx, copy).unwrap_err().kind(), Failed::Cancelled);
    let listed = stage.value(&format!("container(\"{running}\").exec([\"ls\", \"-a\", \"/tmp\"]).stdout"));
    assert_eq!(listed, ".\n..\n");
}

fn waiting(env: &Env) {
    let stage = Stage::new(env, "files");
    let [running, _] = containers(&stage, &stage.snapshotter);
    let work = stage.folder.join("work");
    fs::create_dir_all(&work).unwrap();
    let cancel = CancellationToken::new();
    let ctx = stage.ctx.with_cancel(cancel.clone());
    // It has no end: the kernel goes on telling.
    let copy = CopyFiles::new(&running, Direction::Out, "/proc/kmsg", "kmsg", CopyFilesOptions::default());
    let began = Instant::now();
    let (copied, ()) = env.block_on(async {
        let press = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            cancel.cancel();
        };
        tokio::join!(ctrsh::ops::execute(&ctx, copy), press)
    });
    assert_eq!(copied.unwrap_err().kind(), Failed::Cancelled);
    assert!(began.elapsed() < crate::harness::PROMPT, "{:?}", began.elapsed());
    assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
}

fn growing(env: &Env) {
    let stage = Stage::new(env, "files");
    let [_, still] = containers(&stage, &stage.snapshotter);
    let work = stage.folder.join("work");
    fs::create_dir_all(work.join("in")).unwrap();
    fs::write(work.join("in/log"), "begun").unwrap();
    let (grown, end) = (work.join("in/log"), 64 << 20);
    let ctx = told(&stage, Arc::new(Grow(grown.clone(), end)), CancellationToken::new());
    let copy = CopyFiles::new(&still, Direction::In, "/tmp/log", "in/log", CopyFilesOptions::default());
    let copied = stage.run_in(&ctx, copy).unwrap();
    let length = fs::metadata(&grown).unwrap().len();
    assert!(length < end, "{length}");
    assert_eq!(copied.bytes, 5);
    let version = CopyFiles::new(&still, Direction::In, "/tmp/version", "/proc/version", CopyFilesOptions::default());
    assert_eq!(stage.run(version).unwrap().bytes, fs::read("/proc/version").unwrap().len() as u64);
}

fn bare(env: &Env) {
    let stage = Stage::new(env, "files");
    let [running, _] = containers(&stage, &stage.snapshotter);
    let work = stage.folder.join("work");
    fs::create_dir_all(work.join("in/sub")).unwrap();
    for name in ["in/noted", "in/sub/noted"] {
        fs::write(work.join(name), "noted").unwrap();
        setxattr(work.join(name), "user.note", b"a note", XattrFlags::empty()).unwrap();
    }
    let notes = Arc::new(Notes::default());
    let ctx = told(&stage, notes.clone(), CancellationToken::new());
    let archive = CopyFilesOptions { archive: true, ..CopyFilesOptions::default() };
    stage.run_in(&ctx, CopyFiles::new(&running, Direction::In, "/tmp/in", "in", archive)).unwrap();
    assert_eq!(*notes.0.lock().unwrap(), Vec::<String>::new());
    let _mounted = Disk::bare(&work.join("bare"));
    let copied = stage.run_in(&ctx, CopyFiles::new(&running, Direction::Out, "/tmp/in", "bare/out", archive)).unwrap();
    assert_eq!((copied.files, fs::read_to_string(work.join("bare/out/sub/noted")).unwrap()), (4, "noted".into()));
    let said = notes.0.lock().unwrap().clone();
    assert!(said.len() == 1 && said[0].contains("2 files") && said[0].contains("attributes"), "{said:?}");
}

fn views(env: &Env) {
    super::operate::open_to_users(env);
    let stage = Stage::new(env, "files");
    fs::create_dir_all(stage.folder.join("work")).unwrap();
    // With both, ctr starts it on a view, which has no upper folder.
    let maps = ["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", "--read-only"];
    let run = ["run", "-d", "--null-io", "--snapshotter", &stage.snapshotter];
    stage.ctr(&[run.as_slice(), &maps, &[IMAGE, "view", "sleep", "600"]].concat());
    stage.value("cp(\"view:/etc/passwd\", \"passwd\")");
    assert!(fs::read_to_string(stage.folder.join("work/passwd")).unwrap().contains("app:x:1000"));
}

/// Keeps what is said.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn meter(&self, _label: &str, _total: Option<u64>) -> Arc<dyn Meter> {
        Arc::new(Silent)
    }

    fn note(&self, _level: Level, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    fn planned(&self, _operation: &str, _subject: &str, _steps: &[Step]) {}
}

/// Lets a file grow whenever something was copied, up to some length.
struct Grow(PathBuf, u64);

impl Progress for Grow {
    fn meter(&self, _label: &str, _total: Option<u64>) -> Arc<dyn Meter> {
        Arc::new(Self(self.0.clone(), self.1))
    }

    fn note(&self, _level: Level, _text: &str) {}

    fn planned(&self, _operation: &str, _subject: &str, _steps: &[Step]) {}
}

impl Meter for Grow {
    fn advance(&self, _bytes: u64) {
        let mut file = fs::OpenOptions::new().append(true).open(&self.0).unwrap();
        if file.metadata().unwrap().len() < self.1 {
            std::io::Write::write_all(&mut file, &vec![7; 1 << 20]).unwrap();
        }
    }

    fn rewind(&self, _bytes: u64) {}

    fn phase(&self, _phase: &'static str) {}

    fn done(&self, _outcome: &'static str) {}
}

/// Presses Ctrl-C at the first bytes of a copy.
struct Press(CancellationToken);

impl Progress for Press {
    fn meter(&self, _label: &str, _total: Option<u64>) -> Arc<dyn Meter> {
        Arc::new(Self(self.0.clone()))
    }

    fn note(&self, _level: Level, _text: &str) {}

    fn planned(&self, _operation: &str, _subject: &str, _steps: &[Step]) {}
}

impl Meter for Press {
    fn advance(&self, _bytes: u64) {
        self.0.cancel();
    }

    fn rewind(&self, _bytes: u64) {}

    fn phase(&self, _phase: &'static str) {}

    fn done(&self, _outcome: &'static str) {}
}
