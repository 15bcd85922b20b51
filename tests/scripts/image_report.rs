//! `df` and `std/image-report`: the sums are those of ctr.

use std::collections::BTreeMap;
use std::process::Command;

use ctrsh::sandbox::Sandbox;
use serde_json::Value;

use super::program;
use crate::harness::Env;
use crate::harness::env::sandbox_in;
use crate::harness::output::Output;
use crate::ops::stage::Stage;

/// A containerd in which nobody else changes anything.
struct Own {
    env: Env,
    sandbox: Sandbox,
    folder: std::path::PathBuf,
}

impl Own {
    fn new(env: &Env) -> Self {
        let sandbox = Sandbox::start(&sandbox_in(std::env::temp_dir())).unwrap();
        Self { env: env.clone(), sandbox, folder: env.new_folder("report") }
    }

    fn ctr(&self, arguments: &[&str]) -> String {
        Output::of(Command::new("ctr").arg("--address").arg(self.sandbox.socket()).args(arguments)).ok()
    }

    fn ctrsh(&self, arguments: &[&str]) -> String {
        let mut command = self.env.bare_ctrsh_command();
        command
            .env("CONTAINERD_ADDRESS", self.sandbox.socket())
            .env("CONTAINERD_SNAPSHOTTER", self.sandbox.snapshotter());
        Output::of(command.args(arguments).current_dir(&self.folder)).ok()
    }

    fn namespaces(&self) -> Vec<String> {
        self.ctr(&["namespaces", "ls", "-q"]).lines().map(str::to_owned).collect()
    }

    /// All blobs with their sizes, each once.
    fn content(&self) -> u64 {
        let folder = self.sandbox.folder().join("root/io.containerd.content.v1.content/blobs/sha256");
        let mut blobs = BTreeMap::new();
        for namespace in self.namespaces() {
            for digest in self.ctr(&["-n", &namespace, "content", "ls", "-q"]).lines() {
                let file = folder.join(digest.strip_prefix("sha256:").unwrap());
                blobs.insert(digest.to_owned(), std::fs::metadata(file).unwrap().len());
            }
        }
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), blobs.len(), "files and records differ");
        blobs.values().sum()
    }

    fn snapshots(&self) -> u64 {
        let snapshotter = self.sandbox.snapshotter();
        let usage = |namespace: &String| {
            self.ctr(&["-n", namespace, "snapshots", "--snapshotter", snapshotter, "usage", "-b"])
                .lines()
                .skip(1)
                .map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap())
                .sum::<u64>()
        };
        self.namespaces().iter().map(usage).sum()
    }
}

pub fn real(env: &Env) {
    let own = Own::new(env);
    for name in ["common", "alone"] {
        std::fs::create_dir_all(own.folder.join(name)).unwrap();
        std::fs::write(own.folder.join(name).join("file"), format!("{name} {}\n", env.fresh("report")).repeat(9000))
            .unwrap();
    }
    let script = r#"
        let first = from_rootfs("common", "example.test/first:1", #{ cmd: ["/file"] });
        first.tag("example.test/first:again");
        from_rootfs("common", "example.test/second:1", #{ cmd: ["/file", "2"] });
        from_rootfs("alone", "example.test/alone:1", #{ cmd: ["/file"] });
        create("holds", "example.test/second:1");
        namespace("second");
        from_rootfs("common", "example.test/elsewhere:1", #{ cmd: ["/file", "3"] });
    "#;
    std::fs::write(own.folder.join("make.rhai"), script).unwrap();
    own.ctrsh(&["make.rhai"]);

    let report: Value = serde_json::from_str(&own.ctrsh(&["std/image-report", "--json"])).unwrap();
    let disk = &report["disk"];
    assert_eq!(disk["content"], own.content());
    assert_eq!(disk["snapshots"], own.snapshots());
    assert_eq!(disk["content_without_image"], 0);
    let images = report["images"].as_array().unwrap();
    assert_eq!(images.len(), 4, "the names of one image are one line: {images:?}");
    let image = |name: &str| images.iter().find(|image| image["name"] == format!("example.test/{name}:1")).unwrap();
    let of = |name: &str, key: &str| image(name)[key].as_u64().unwrap();
    assert_eq!(image("first")["names"].as_array().unwrap().len(), 2);
    assert_eq!((of("alone", "shared"), of("alone", "unique")), (0, of("alone", "content") + of("alone", "snapshots")));
    // Of the others, only the documents are their own, and in the second namespace the snapshot.
    assert!(of("first", "unique") < 4096 && of("second", "unique") < 4096, "{images:?}");
    assert!(of("elsewhere", "unique") > of("elsewhere", "snapshots"), "{images:?}");
    let unique: Vec<u64> = images.iter().map(|image| image["unique"].as_u64().unwrap()).collect();
    assert!(unique.is_sorted_by(|a, b| a >= b), "the largest first: {unique:?}");

    let csv = own.ctrsh(&["std/image-report", "--csv", "--namespace", "second"]);
    assert!(
        csv.starts_with(
            "namespace,name,digest,content,snapshots,shared,unique\nsecond,example.test/elsewhere:1,sha256:"
        )
    );
    assert_eq!(csv.trim().lines().count(), 2, "{csv}");
    let table = own.ctrsh(&["std/image-report", "--sort", "name"]);
    let rows: Vec<&str> = table.lines().filter_map(|line| line.split_whitespace().nth(1)).take(5).collect();
    assert_eq!(rows[1..], ["alone", "elsewhere", "first", "second"].map(|name| format!("example.test/{name}:1")));

    // What it calls unique is what a removal frees.
    for name in ["alone", "first", "elsewhere"] {
        let (before, wanted) = (own.content() + own.snapshots(), of(name, "unique"));
        let code = format!("prune(|image| image.name.contains(\"/{name}:\")).freed");
        let namespace = image(name)["namespace"].as_str().unwrap();
        assert_eq!(own.ctrsh(&["-n", namespace, "-e", &code]).trim(), wanted.to_string(), "{name}");
        assert_eq!(before - own.content() - own.snapshots(), wanted, "{name}");
    }
    own.ctrsh(&["-e", "container(\"holds\").delete()"]);
    own.sandbox.stop().unwrap();
}

pub fn dry(env: &Env) {
    let stage = Stage::new(env, "report");
    let before = stage.ctr(&["content", "ls", "-q"]);
    let said =
        program(&stage, &["--dry-run", "--allow", "read", "std/image-report", "--namespace", &stage.namespace]).ok();
    assert!(said.contains(&stage.namespace) && said.contains("of content"), "{said}");
    assert_eq!(stage.ctr(&["content", "ls", "-q"]), before);
}
