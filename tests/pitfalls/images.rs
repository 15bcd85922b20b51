//! P7 to P9: images that the kubelet does not see, that cannot be pushed, and that the collector takes.

use std::process::{Child, Stdio};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::theirs::{Theirs, wait_until};
use super::{Ours, says};
use crate::harness::dam::Dam;
use crate::harness::generation;
use crate::harness::image::digest;
use crate::harness::output::Output;
use crate::harness::{Env, Kind, trial};

/// The label by which the kubelet knows its images, as ctr lists it.
const CRI_LABEL: &str = "io.cri-containerd.image=managed";
/// How many bytes of an image arrive before it is held back.
const HALF: u64 = 2 << 20;

pub fn trials(env: &Env) -> Vec<Trial> {
    let mut trials = vec![
        trial("pitfalls::P7 the kubelet sees what arrives in its namespace", env, kubelet),
        trial("pitfalls::P8 what was pulled for one platform can be pushed", env, one_platform),
        trial("pitfalls::P9 what ctr puts into the store by hand is collected", env, by_hand),
    ];
    // Each image is of a size of its own, as blobs that any namespace has would not have to arrive.
    for (size, verb) in [(6001, "pull"), (6011, "copy"), (6021, "load")] {
        let name = format!("pitfalls::P9 a {verb} is kept while it arrives, and gone when it is broken off");
        trials.push(trial(&name, env, move |env| arriving(env, verb, size)));
    }
    trials
}

/// Without the plugin of the kubelet, which adds its marks to whatever comes in, an image of ctr has none: as it is
/// where the kubelet is another daemon's, or the plugin misses the image.
fn kubelet(env: &Env) {
    // An image that no other test has, as the kubelet's record is called by its config.
    let image = env.image(Kind::Noise(61));
    let pushed = env.pushed(Kind::Noise(61), "pitfalls");
    let theirs = Theirs::at(env, "k8s.io");
    let records = |name: &str| theirs.run(&["images", "ls", &format!("name=={name}")]).lines().split_off(1);
    for (kind, id) in [("io.containerd.grpc.v1", "cri"), ("io.containerd.cri.v1", "images")] {
        assert!(!theirs.runs(kind, Some(id)), "the suite's daemon has {kind} {id}");
    }
    let archive = env.new_folder("pitfalls").join("image.tar");
    let archive = archive.to_str().unwrap();
    let mut arrivals = Vec::new();
    for way in Theirs::ways_with_hosts(env) {
        arrivals.push([&["images", "pull", "--plain-http"], &way[..], &[pushed.as_str()]].concat());
    }
    for way in Theirs::ways() {
        arrivals.push([&["images", "import"], &way[..], &[archive]].concat());
    }
    for arrives in arrivals {
        theirs.run(&arrives).ok();
        let record = records(&pushed);
        assert_eq!(record.len(), 1, "{record:?}");
        assert!(!record[0].contains(CRI_LABEL), "{record:?}");
        assert!(records(&image.config).is_empty());
        // Not by the daemon, whose answer may come before the file is whole (ctr 2.1.9).
        let export = generation::local(&["images", "export", archive, &pushed]);
        theirs.run(&export.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>()).ok();
        theirs.run(&["images", "rm", "--sync", &pushed]).ok();
    }

    let ours = Ours::at(env, "k8s.io");
    for script in [format!("pull(\"{pushed}\").digest"), format!("load(\"{archive}\")[0].digest")] {
        assert_eq!(ours.value(&script), json!(image.digest));
        for name in [&pushed, &image.config] {
            let record = records(name);
            assert!(
                record.len() == 1 && record[0].contains(CRI_LABEL) && record[0].contains(&image.digest),
                "{record:?}"
            );
        }
        assert_eq!(ours.value(&format!("delete_images([\"{pushed}\", \"{}\"])", image.config)), json!(2));
    }
}

/// A pull brings one platform and keeps the index that names them all, which ctr then can neither push nor export whole.
///
/// To the registry that it is from newer ones can, as that mounts the layers that are not here.
fn one_platform(env: &Env) {
    let pushed = env.pushed(Kind::Index, "pitfalls");
    let image = env.image(Kind::Index);
    let elsewhere = || format!("{}/{}", env.registry_of_harbors(), env.fresh("pitfalls"));
    let archive = env.new_folder("pitfalls").join("image.tar");
    let archive = archive.to_str().unwrap();
    for way in Theirs::ways_with_hosts(env) {
        let theirs = Theirs::new(env);
        theirs.pull(&way, &["--plain-http"], &pushed).ok();
        let target = format!("{}:theirs", elsewhere());
        let refused = theirs.run(&[&["images", "push", "--plain-http"], &way[..], &[&target, &pushed]].concat());
        assert!(!refused.succeeded(), "{refused}");
        says(&refused, &["not found"]);
        let refused = theirs.run(&[&["images", "export", "--all-platforms"], &way[..], &[archive, &pushed]].concat());
        assert!(!refused.succeeded(), "{refused}");
        says(&refused, &["not found"]);
    }

    let ours = Ours::new(env);
    let target = format!("{}:ours", elsewhere());
    ours.value(&format!("pull(\"{pushed}\").digest"));
    let sent = Output::of(&mut ours.command_with(&[], &format!("push(\"{target}\", \"{pushed}\").digest")));
    assert_eq!(super::value(&sent), json!(image.manifest));
    says(&sent, &["one platform of"]);
    assert_eq!(in_registry(env, &target), image.manifest);
    // All that is here whole is what an archive gets, and all of it comes back.
    let script =
        format!("save(\"{pushed}\", \"{archive}\"); load(\"{archive}\", #{{ force: true }})[0].check().complete");
    assert_eq!(ours.value(&script), json!(true));
    let script = format!("pull(\"{pushed}\", #{{ all_platforms: true }}); push(\"{target}\", \"{pushed}\").digest");
    assert_eq!(ours.value(&script), json!(image.digest));
    assert_eq!(in_registry(env, &target), image.digest);
}

fn in_registry(env: &Env, reference: &str) -> String {
    let raw = env.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]).ok();
    digest(raw.as_bytes())
}

/// ctr can make a lease, but nothing that it puts into the store by hand can be put into the lease.
fn by_hand(env: &Env) {
    let theirs = Theirs::new(env);
    let bytes = env.fresh("by hand").into_bytes();
    let (name, size) = (digest(&bytes), bytes.len().to_string());
    theirs.run(&["leases", "create", "--id", "held"]).ok();
    for command in [&["content", "ingest"][..], &["leases", "create"]] {
        for option in ["--lease", "--resource", "--content"] {
            assert!(!Theirs::takes(command, option), "ctr {command:?} takes {option}");
        }
    }
    theirs.feed(&["content", "ingest", "--expected-size", &size, "--expected-digest", &name, "by-hand"], &bytes).ok();
    is_collected(&theirs);
    theirs.run(&["leases", "rm", "held"]).ok();
}

/// An image on its way into the store, half of which is there.
struct Arriving {
    theirs: Theirs,
    dam: Dam,
    child: Child,
    name: String,
    layer: String,
}

impl Arriving {
    fn new(env: &Env, verb: &str, size: u32) -> Self {
        let theirs = Theirs::new(env);
        let folder = env.new_folder("pitfalls");
        let dam = env.block_on(Dam::build(env.socket(), &folder.join("dam.sock"), HALF));
        let image = env.image(Kind::Noise(size));
        let pushed = env.pushed(Kind::Noise(size), "pitfalls");
        let name = if verb == "pull" { pushed.clone() } else { format!("example.test/{verb}:{size}") };
        let archive = folder.join("image.tar");
        let script = match verb {
            "pull" => format!("pull(\"{name}\")"),
            "copy" => format!("copy(\"{pushed}\", \"containerd:{name}\")"),
            _ => {
                env.skopeo(&["copy", &image.skopeo_name(), &format!("oci-archive:{}", archive.display())]).ok();
                format!("load(\"{}\", #{{ name: \"{name}\" }})", archive.display())
            }
        };
        let ours = Ours::at(env, &theirs.namespace);
        let mut command = ours.command_with(&["--address", &dam.socket().to_string_lossy()], &script);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        env.block_on(dam.full());
        Self { theirs, dam, child, name, layer: image.layers[0].clone() }
    }

    /// Looks that the collector takes nothing of it.
    fn is_kept(&self) {
        let on_its_way = || self.theirs.ingests().iter().any(|ingest| ingest.contains(&self.layer));
        wait_until("the layer is on its way", on_its_way);
        let before = self.theirs.blobs();
        self.theirs.collect();
        let after = self.theirs.blobs();
        assert!(before.iter().all(|blob| after.contains(blob)), "{before:?} {after:?}");
        assert!(on_its_way(), "{:?}", self.theirs.ingests());
        let leases = self.theirs.leases();
        // Nobody's for ever.
        assert!(leases.len() == 1 && leases[0].contains("containerd.io/gc.expire="), "{leases:?}");
    }

    /// Lets it go on and returns the status that it ends with, and what it said.
    fn end(self) -> (Option<i32>, String) {
        self.dam.open();
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

/// Looks that nothing keeps what is in a namespace.
fn is_collected(theirs: &Theirs) {
    wait_until("all is collected", || {
        theirs.collect();
        let snapshots = theirs.run(&["snapshots", "ls"]).lines().len() - 1;
        theirs.blobs().len() + theirs.ingests().len() + snapshots == 0
    });
}

/// Looks that a namespace has nothing at all.
fn is_empty(theirs: &Theirs) {
    assert_eq!(theirs.run(&["images", "ls", "-q"]).lines(), [""; 0]);
    assert_eq!(theirs.leases(), [""; 0]);
    is_collected(theirs);
}

/// While an image arrives, a lease keeps it; afterwards its name does. Broken off, it takes what has come with it, and
/// after `kill -9` the end of the lease does that.
fn arriving(env: &Env, verb: &str, size: u32) {
    let begun = Arriving::new(env, verb, size);
    begun.is_kept();
    let (theirs, name) = (Theirs::at(env, &begun.theirs.namespace), begun.name.clone());
    let (status, said) = begun.end();
    assert_eq!(status, Some(0), "{said}");
    theirs.collect();
    let checked = theirs.run(&["images", "check", &format!("name=={name}")]).ok();
    assert!(checked.contains("complete (2/2)"), "{checked}");
    assert_eq!(theirs.leases(), [""; 0]);

    for (signal, expected) in [(Signal::INT, Some(130)), (Signal::TERM, Some(143))] {
        let broken = Arriving::new(env, verb, size + u32::try_from(signal.as_raw()).unwrap());
        broken.is_kept();
        broken.signal(signal);
        let theirs = Theirs::at(env, &broken.theirs.namespace);
        let (status, said) = broken.end();
        assert_eq!(status, expected, "{said}");
        is_empty(&theirs);
    }

    let killed = Arriving::new(env, verb, size + 9);
    killed.is_kept();
    killed.signal(Signal::KILL);
    let theirs = Theirs::at(env, &killed.theirs.namespace);
    assert_eq!(killed.end().0, None);
    let leases = theirs.leases();
    assert_eq!(leases.len(), 1, "{leases:?}");
    // As the collector does when it has expired.
    theirs.run(&["leases", "rm", "--sync", leases[0].split_whitespace().next().unwrap()]).ok();
    is_empty(&theirs);
}
