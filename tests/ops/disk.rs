//! `df`: its sums are those of the daemon.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ctrsh::grant::Allow;
use ctrsh::ops::Context;
use ctrsh::ops::disk::{Disk, disk};
use ctrsh::registry::Config;
use libtest_mimic::Trial;

use super::stage::{context_at, place};
use crate::examples::Quiet;
use crate::harness::daemon::Daemon;
use crate::harness::image::Kind;
use crate::harness::output::Output;
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![trial("ops::disk::the sums are those that the daemon reports", env, sums)]
}

/// A daemon in which nobody else changes anything.
struct Own {
    env: Env,
    daemon: Daemon,
    folder: PathBuf,
    ctx: Context,
}

impl Own {
    fn ctr(&self, namespace: &str, arguments: &[&str]) -> String {
        let mut command = std::process::Command::new("ctr");
        command.arg("--address").arg(self.daemon.socket()).args(["-n", namespace]).args(arguments);
        Output::of(command.env("PATH", crate::harness::env::path())).ok()
    }

    fn script(&self, namespace: &str, code: &str) {
        let mut interpreter = ctrsh::script::Interpreter::new(ctrsh::script::Setup {
            runtime: self.env.runtime().handle().clone(),
            context: self.ctx.in_namespace(namespace),
            sink: std::sync::Arc::new(Quiet),
            args: Vec::new(),
            environment: std::sync::Arc::new(|_| None),
            limits: ctrsh::script::Limits::default(),
            modules: None,
        });
        let run = interpreter.run(code, None, tokio_util::sync::CancellationToken::new());
        run.unwrap_or_else(|report| panic!("{code}\n{report:?}"));
    }

    fn namespaces(&self) -> Vec<String> {
        self.ctr("default", &["namespaces", "ls", "-q"]).lines().map(str::to_owned).collect()
    }

    /// The blobs that ctr lists in a namespace, with the bytes of their files: ctr rounds.
    fn blobs(&self, namespace: &str) -> BTreeMap<String, u64> {
        let folder = self.folder.join("root/io.containerd.content.v1.content/blobs/sha256");
        let size = |digest: &str| std::fs::metadata(folder.join(&digest["sha256:".len()..])).unwrap().len();
        let listed = self.ctr(namespace, &["content", "ls", "-q"]);
        listed.lines().map(|digest| (digest.to_owned(), size(digest))).collect()
    }

    /// What ctr says that all snapshots of a namespace take.
    fn snapshots(&self, namespace: &str) -> u64 {
        let usage = |snapshotter: &str| -> u64 {
            let listed = self.ctr(namespace, &["snapshots", "--snapshotter", snapshotter, "usage", "-b"]);
            let sizes = listed.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap());
            sizes.map(|size| size.parse::<u64>().unwrap()).sum()
        };
        usage("overlayfs") + usage("native")
    }

    fn df(&self) -> Disk {
        self.env.block_on(disk(&self.ctx)).unwrap()
    }

    /// Compares all sums with those of ctr, and returns what was compared.
    #[track_caller]
    fn compare(&self) -> Disk {
        let df = self.df();
        let namespaces = self.namespaces();
        let mut all: BTreeMap<String, u64> = BTreeMap::new();
        let mut snapshots = 0;
        for namespace in &namespaces {
            let told = df.namespaces.iter().find(|told| told.namespace == *namespace).unwrap();
            let blobs = self.blobs(namespace);
            assert_eq!(told.all.content, blobs.values().sum::<u64>(), "content of {namespace}");
            assert_eq!(told.all.snapshots, self.snapshots(namespace), "snapshots of {namespace}");
            let elsewhere: Vec<_> = namespaces.iter().filter(|other| *other != namespace).collect();
            let shared = |digest: &str| elsewhere.iter().any(|other| self.blobs(other).contains_key(digest));
            let unique: u64 = blobs.iter().filter(|(digest, _)| !shared(digest)).map(|(_, size)| size).sum();
            assert_eq!(told.unique.content, unique, "what only {namespace} has");
            snapshots += told.all.snapshots;
            all.extend(blobs);
        }
        assert_eq!(df.namespaces.len(), namespaces.len());
        assert_eq!((df.all.content, df.all.snapshots), (all.values().sum::<u64>(), snapshots));
        let files = std::fs::read_dir(self.folder.join("root/io.containerd.content.v1.content/blobs/sha256")).unwrap();
        assert_eq!(files.count(), all.len(), "the store has what the namespaces have");
        df
    }
}

fn own(env: &Env) -> Own {
    let folder = env.new_folder("disk");
    let daemon = Daemon::start(&folder);
    let there = place(&daemon.socket().to_string_lossy(), "one");
    let ctx = context_at(env, there, &folder, Allow::all(), Config::default());
    Own { env: env.clone(), daemon, folder, ctx }
}

fn sums(env: &Env) {
    let own = own(env);
    let (base, more) = (env.pushed(Kind::Busybox, "disk"), env.pushed(Kind::ThreeLayers, "disk"));
    let snapshotter = env.snapshotter();
    let pull = |namespace: &str, name: &str, snapshotter: &str| {
        own.ctr(namespace, &["images", "pull", "--plain-http", "--snapshotter", snapshotter, name]);
    };
    // Both have the base; the second has more over it, and that unpacked twice.
    pull("one", &base, &snapshotter);
    pull("two", &base, &snapshotter);
    pull("two", &more, &snapshotter);
    // ctr 2.1 has the daemon unpack, which it is not configured to do there.
    own.script("two", &format!("pull(\"{more}\", #{{ snapshotter: \"native\" }})"));
    let id = env.fresh("disk");
    own.ctr("one", &["containers", "create", "--snapshotter", &snapshotter, &base, &id]);
    let before = own.compare();
    let image = |df: &Disk, namespace: &str, name: &str| {
        let named = |image: &&ctrsh::ops::disk::ImageUsage| {
            image.namespace == namespace && image.names.iter().any(|known| known == name)
        };
        df.images.iter().find(named).unwrap().clone()
    };
    assert_eq!(before.images.len(), 3, "{:?}", before.images);
    assert_eq!(before.without_image.content, 0);
    for namespace in ["one", "two"] {
        let base = image(&before, namespace, &base);
        assert_eq!(base.unique.content, 0, "the other namespace has it too");
        assert!(base.all.content > 0 && base.all.snapshots > 0);
    }

    // A blob that nothing but a lease keeps.
    const ORPHAN: u64 = 5_000;
    let orphan = "x".repeat(5_000);
    own.script(
        "one",
        &format!(
            "leases::create(#{{ id: \"held\" }}); let made = content::ingest(\"{orphan}\"); \
             leases::add(\"held\", made.digest); content::label(made.digest, #{{ \"containerd.io/gc.root\": () }});"
        ),
    );
    let held = own.compare();
    assert_eq!(held.without_image.content, ORPHAN);
    assert_eq!(held.all.content, before.all.content + ORPHAN);
    assert_eq!(held.without_image.snapshots, before.without_image.snapshots);
    own.script("one", "leases::delete(\"held\", #{ wait: true })");
    let freed = own.compare();
    assert_eq!(freed.all, before.all, "what only the lease kept is gone");

    // What is called unique is what a removal frees.
    let unique = image(&freed, "two", &more).unique;
    own.ctr("two", &["images", "rm", "--sync", &more]);
    let after = own.compare();
    assert_eq!(freed.all.content - after.all.content, unique.content);
    assert_eq!(freed.all.snapshots - after.all.snapshots, unique.snapshots);
    own.ctr("one", &["containers", "rm", &id]);
    let last = own.compare();
    assert_eq!(last.without_image.snapshots, last.all.snapshots - snapshots_of(&last));
}

/// Adds up the snapshots that images refer to.
fn snapshots_of(df: &Disk) -> u64 {
    df.images.iter().map(|image| image.all.snapshots).sum()
}
