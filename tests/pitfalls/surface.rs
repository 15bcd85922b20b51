//! P10 to P14: output that is lost, lists that are too long, texts for eyes only, exit statuses, and what is promised.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ctrsh::containerd::containers::{Container, Runtime};
use ctrsh::containerd::images::Deletion;
use ctrsh::containerd::{Client, Labels};
use ctrsh::oci::{Descriptor, Digest, MediaType};
use futures_util::{StreamExt, TryStreamExt, stream};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::theirs::{Theirs, wait_until};
use super::{Ours, says};
use crate::harness::output::Output;
use crate::harness::{Env, Kind, trial};

/// How many bytes a container writes: more than all pipes on its way hold.
const OUTPUT: usize = 1 << 20;
/// How many records there are in a list that is too long, and how many labels each has.
const RECORDS: usize = 600;
const LABELS: usize = 8;
/// The most that a message of containerd holds (its `defaults.DefaultMaxSendMsgSize`).
const MESSAGE: usize = 16 << 20;

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("pitfalls::P10 what a detached container writes is not lost", env, output),
        trial("pitfalls::P10 an address that is no socket is told with the cure", env, addresses),
        trial("pitfalls::P11 lists are longer than a message", env, long_lists),
        trial("pitfalls::P12 every list is JSON", env, lists_as_json),
        trial("pitfalls::P13 what was not done is an error", env, statuses),
        trial("pitfalls::P14 what is promised is written down", env, promises),
    ]
}

/// The output of a process goes through FIFOs, which are files of the daemon's host; when `ctr run --detach` has ended, nobody
/// reads them, and the container stands still when they are full. A command that reads them later there is not.
///
/// ctrsh uses the same FIFOs for what it reads itself, and lets a detached container write to a file. That a client on
/// another machine can do neither is the API's, and cannot be shown with a daemon on this one.
fn output(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "pitfalls");
    let script = format!("head -c {OUTPUT} /dev/zero | tr '\\0' x; exit 7");
    let later = format!("while [ ! -e /go ]; do sleep 0.05; done; {script}");
    let theirs = Theirs::new(env);
    theirs.pull(&[], &["--plain-http"], &pushed).ok();
    let (id, folder) = (env.fresh("pitfalls"), env.new_folder("pitfalls"));
    let fifos = folder.to_str().unwrap();
    theirs.run(&["run", "--detach", "--fifo-dir", fifos, &pushed, &id, "sh", "-c", &later]).ok();
    // ctr has ended, and does not read any more.
    theirs.run(&["tasks", "exec", "--exec-id", "go", &id, "touch", "/go"]).ok();
    let mut end = File::open(fifo(&folder).expect("no FIFO for the output")).unwrap();
    wait_until("the FIFO is full", || rustix::io::ioctl_fionread(&end).unwrap() >= 32 << 10);
    let status = theirs.run(&["tasks", "ls"]).lines();
    assert!(status.iter().any(|line| line.starts_with(&id) && line.contains("RUNNING")), "{status:?}");
    assert!(!Theirs::has(&["tasks"], "logs") && !Theirs::has(&["containers"], "logs"));
    theirs.run(&["tasks", "kill", "--signal", "SIGKILL", &id]).ok();
    // The task's end waits for its output to be taken.
    let rest = std::thread::spawn(move || end.read_to_end(&mut Vec::new()).unwrap());
    theirs.run(&["tasks", "rm", "--force", &id]).ok();
    assert!(rest.join().unwrap() < OUTPUT);
    theirs.run(&["containers", "rm", &id]).ok();

    let ours = Ours::new(env);
    ours.value(&format!("pull(\"{pushed}\").digest"));
    let command = json!(["sh", "-c", script]);
    ours.value(&format!("run(\"{pushed}\", #{{ id: \"{id}\", detach: true, command: {command} }}).id"));
    assert_eq!(ours.value(&format!("wait(\"{id}\")")), json!(7));
    assert_eq!(ours.value(&format!("logs(\"{id}\")")), json!("x".repeat(OUTPUT)));
    ours.run(&format!("delete(\"{id}\")")).ok();
}

/// Finds the FIFO of a process's output.
fn fifo(folder: &Path) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.into_iter().find_map(|path| {
        if path.is_dir() { fifo(&path) } else { path.to_string_lossy().ends_with("-stdout").then_some(path) }
    })
}

/// containerd listens on a Unix socket, and takes no other address on purpose.
fn addresses(env: &Env) {
    let address = "tcp://127.0.0.1:1";
    let mut ctr = std::process::Command::new("ctr");
    let theirs = Output::of(ctr.args(["--address", address, "--connect-timeout", "100ms", "version"]));
    assert!(!theirs.succeeded(), "{theirs}");
    let mut command = env.bare_ctrsh_command();
    let ours = Output::of(command.args(["--json", "--address", address, "-e", "version()"]));
    assert_ne!(ours.status, 0, "{ours}");
    says(&ours, &[&format!("'{address}' is not the address of a Unix socket")]);
    says(&ours, &["such as /run/containerd/containerd.sock"]);
}

/// A list comes as one message, of 16 MiB at most: ctr cannot list the images of a namespace with more than that. Containers
/// come one by one, for ctr as well.
fn long_lists(env: &Env) {
    let client = env.block_on(crate::containerd::client(env, "pitfalls"));
    let long = Long::fill(env, client);
    let theirs = Theirs::at(env, long.client.namespace());
    let refused = theirs.run(&["images", "ls", "-q"]);
    assert!(!refused.succeeded(), "{}", refused.stdout.len());
    says(&refused, &["larger than max"]);
    assert_eq!(theirs.run(&["containers", "ls", "-q"]).lines().len(), RECORDS);

    let ours = Ours::at(env, long.client.namespace());
    let names = "let seen = #{}; for i in images() { seen[i.name] = 1 } ";
    assert_eq!(ours.value(&format!("{names} [images().len(), seen.len()]")), json!([RECORDS, RECORDS]));
    // A filter is heard where the list is asked for in parts, several are, and where it fits at once.
    assert_eq!(ours.value("images(\"name~=long.test\").len()"), json!(RECORDS));
    assert_eq!(ours.value("images([\"name~=long.test/0:\", \"name!=long.test/0:1\"]).len()"), json!(RECORDS));
    assert_eq!(ours.value("images(\"name==long.test/7:1\").len()"), json!(1));
    assert_eq!(ours.value("containers().len()"), json!(RECORDS));
    drop(long);
}

/// Records that are too long for one message, which go with this.
struct Long {
    env: Env,
    client: Client,
}

impl Long {
    fn fill(env: &Env, client: Client) -> Self {
        let value = "x".repeat(4000);
        let labels: Labels = (0..LABELS).map(|number| (format!("label-{number}"), value.clone())).collect();
        assert!(RECORDS * LABELS * value.len() > MESSAGE);
        let long = Self { env: env.clone(), client };
        env.block_on(long.each(|number| long.make(number, &labels))).unwrap();
        long
    }

    /// Does something for every record, several at a time.
    async fn each<F>(&self, act: impl Fn(usize) -> F) -> ctrsh::containerd::Result<()>
    where
        F: Future<Output = ctrsh::containerd::Result<()>>,
    {
        stream::iter(0..RECORDS).map(act).buffer_unordered(16).try_collect().await
    }

    async fn make(&self, number: usize, labels: &Labels) -> ctrsh::containerd::Result<()> {
        let target = Digest::sha256(number.to_string().as_bytes());
        let target = Descriptor::new(MediaType::OciManifest, target, 1);
        self.client.images().create(&format!("long.test/{number}:1"), &target, labels).await?;
        let container = Container {
            id: format!("long-{number}"),
            image: String::new(),
            labels: labels.clone(),
            created_at: Default::default(),
            updated_at: Default::default(),
            runtime: Runtime::default(),
            snapshotter: String::new(),
            snapshot_key: String::new(),
            spec: Some(ctrsh::oci::spec::default_spec(self.client.namespace(), "long")),
            extensions: Default::default(),
            sandbox: None,
        };
        self.client.containers().create(&container).await.map(drop)
    }

    async fn remove(&self, number: usize) -> ctrsh::containerd::Result<()> {
        self.client.images().delete(&format!("long.test/{number}:1"), None, Deletion::Later).await?;
        self.client.containers().delete(&format!("long-{number}")).await
    }
}

impl Drop for Long {
    fn drop(&mut self) {
        let removed = self.env.block_on(async {
            self.each(|number| self.remove(number)).await?;
            self.client.namespaces().delete(self.client.namespace()).await
        });
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

/// ctr prints its lists for people, and most of them in no other form.
fn lists_as_json(env: &Env) {
    let theirs = Theirs::new(env);
    let pushed = env.pushed(Kind::Busybox, "pitfalls");
    theirs.pull(&[], &["--plain-http"], &pushed).ok();
    let id = env.fresh("pitfalls");
    theirs.run(&["run", "--detach", "--null-io", &pushed, &id, "sleep", "600"]).ok();
    for list in ["images", "containers", "tasks", "namespaces", "plugins", "leases", "content", "snapshots"] {
        let listed = theirs.run(&[list, "ls"]).ok();
        assert!(serde_json::from_str::<Value>(&listed).is_err(), "{listed}");
        for option in ["--json", "--output", "--format"] {
            assert!(!Theirs::takes(&[list, "ls"], option), "ctr {list} ls takes {option}");
        }
    }

    let ours = Ours::at(env, &theirs.namespace);
    let catalog = ctrsh::script::api::catalog();
    // Whatever can be called without an argument and returns a list.
    let lists = catalog.entries().filter(|entry| {
        let needs = entry.signature.params.iter().any(|param| !param.optional);
        entry.receiver().is_none() && entry.signature.returns == "array" && !needs
    });
    // Events have to be told when to end, and not every daemon has sandboxes.
    let others = ["args()", "events()", "sandboxes::list()"];
    let own = lists.map(|entry| format!("{}()", entry.path()));
    let own: Vec<String> = own.filter(|call| !others.contains(&call.as_str())).collect();
    for expected in ["images()", "check()", "containers()", "tasks()", "namespaces()", "plugins()"] {
        assert!(own.iter().any(|call| call == expected), "{own:?}");
    }
    let repository = pushed.rsplit_once(':').unwrap().0;
    let registry = [
        format!("tags(\"{repository}\")"),
        format!("repositories(\"{}\")", env.registry()),
        "metrics()".to_owned(),
        "df().images".to_owned(),
        "df().namespaces".to_owned(),
        format!("container(\"{id}\").ps()"),
    ];
    let filled = ["images()", "check()", "containers()", "tasks()", "namespaces()", "plugins()"];
    for call in own.iter().chain(&registry) {
        let list = ours.value(call);
        let list = list.as_array().unwrap_or_else(|| panic!("{call}: {list}"));
        let is_full = filled.contains(&call.as_str()) || registry.contains(call);
        assert!(!is_full || !list.is_empty(), "{call} gives an empty list");
        assert!(list.iter().all(|item| item.is_object() || call.starts_with("tags(")), "{call}: {list:?}");
    }
    // A read of nothing is a list, too.
    assert_eq!(ours.value("images(\"name==nothing\")"), json!([]));
    theirs.run(&["tasks", "rm", "--force", &id]).ok();
    theirs.run(&["containers", "rm", &id]).ok();
}

/// ctr ends with 0 when an image is incomplete, when what is to be removed is not there, and when a prune has done nothing.
fn statuses(env: &Env) {
    let theirs = Theirs::new(env);
    let ours = Ours::at(env, &theirs.namespace);
    let image = env.image(Kind::ThreeLayers);
    let pushed = env.pushed(Kind::ThreeLayers, "pitfalls");
    theirs.pull(&[], &["--plain-http"], &pushed).ok();
    theirs.run(&["content", "rm", &image.layers[2]]).ok();
    says(&theirs.run(&["images", "check"]).expect_status(0), &["incomplete (3/4)"]);
    let lacking = format!("{} lacks {:?}", pushed, [&image.layers[2]]);
    let check = "for c in check() { if !c.complete { throw `${c.name} lacks ${c.missing}` } }";
    assert_eq!(ours.error(check)["message"], json!(lacking));
    // Whoever does not ask is told when it matters.
    let archive = env.new_folder("pitfalls").join("image.tar");
    let refused = ours.error(&format!("save(\"{pushed}\", \"{}\")", archive.display()));
    assert!(refused["message"].as_str().unwrap().contains(&image.layers[2]), "{refused}");
    assert!(!archive.exists());

    let missing = "example.test/missing:1";
    theirs.run(&["images", "rm", missing]).expect_status(0);
    theirs.run(&["content", "rm", &format!("sha256:{}", "0".repeat(64))]).expect_status(0);
    let nowhere = env.fresh("nowhere");
    theirs.run(&["namespaces", "rm", &nowhere]).expect_status(0);
    for (script, name) in [
        (format!("delete_images([\"{pushed}\", \"{missing}\"])"), missing),
        (format!("image(\"{missing}\").delete()"), missing),
        (format!("namespaces::delete(\"{nowhere}\")"), nowhere.as_str()),
        (format!("delete(\"{nowhere}\")"), nowhere.as_str()),
    ] {
        let refused = ours.error(&script);
        assert_eq!(refused["kind"], json!("not_found"), "{script}: {refused}");
        assert!(refused["message"].as_str().unwrap().contains(name), "{script}: {refused}");
    }
    // The one that is there was not taken along.
    assert_eq!(theirs.run(&["images", "ls", "-q"]).lines(), [pushed.as_str()]);

    if Theirs::has(&["images"], "prune") {
        theirs.run(&["images", "prune"]).expect_status(0);
        assert_eq!(theirs.run(&["images", "ls", "-q"]).lines(), [pushed.as_str()]);
    }
    assert_eq!(ours.value("prune().removed"), json!([pushed]));
    assert!(theirs.run(&["images", "ls", "-q"]).lines().is_empty());
    // For people the same is words and a status.
    let refused = env.ctrsh(&["-n", &theirs.namespace, "-e", &format!("delete_images(\"{missing}\")")]);
    assert!(refused.clone().expect_status(1).stderr.contains(missing), "{refused}");
}

/// ctr is an unsupported tool whose commands and options may change with any release. Whether a promise is kept only time can
/// show; that the surface does not change unseen is what `tests/reference.rs` holds, by the page that lists all of it.
fn promises(_env: &Env) {
    let help = Output::of(std::process::Command::new("ctr").arg("--help")).ok();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["unsupported debug and administrative client", "not guaranteed to be backward compatible"] {
        assert!(help.contains(part), "{help}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let section = readme.split("\n## ").find(|section| section.starts_with("Stability\n")).expect("no such section");
    let section = section.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["functions", "option keys", "JSON", "exit statuses", "CHANGELOG.md", "docs/reference.md", "1.0"] {
        assert!(section.contains(part), "{part}: {section}");
    }
}
