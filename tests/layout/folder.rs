//! Layout folders.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use ctrsh::kind::Kind as Failure;
use ctrsh::layout::{Error, LayoutFolder, Selector};
use ctrsh::oci::store::{ImageSink, ImageSource, Labels};
use ctrsh::oci::{Descriptor, Digest, MediaType};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::movement::{Announce, copy, read};
use crate::harness::output::Output;
use crate::harness::{Env, Kind, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("layout::folder::others_read_what_was_copied", env, others_read_what_was_copied),
        trial("layout::folder::writers_at_once_lose_nothing", env, writers_at_once_lose_nothing),
        trial("layout::folder::other_entries_stay_as_they_are", env, other_entries_stay_as_they_are),
        trial("layout::folder::an_image_is_chosen_by_tag_or_digest", env, an_image_is_chosen_by_tag_or_digest),
        trial("layout::folder::a_bare_tag_takes_no_full_name_away", env, a_bare_tag_takes_no_full_name_away),
        trial("layout::folder::links_lead_nowhere", env, links_lead_nowhere),
        trial("layout::folder::wrong_bytes_leave_nothing", env, wrong_bytes_leave_nothing),
        trial("layout::folder::a_blob_is_read_from_any_offset", env, a_blob_is_read_from_any_offset),
        trial("layout::folder::a_full_folder_is_no_place", env, a_full_folder_is_no_place),
    ]
}

fn named(name: &str) -> Selector {
    Selector::Name(name.into())
}

fn others_read_what_was_copied(env: &Env) {
    for kind in [Kind::ThreeLayers, Kind::Index] {
        let image = env.image(kind);
        let source = LayoutFolder::new(&image.layout, named("v1"));
        let target = env.new_folder("layout").join("made");
        let sink = LayoutFolder::new(&target, named("example.org/team/app:v2"));
        let root = env.block_on(copy(&source, &sink, Announce::No)).unwrap();
        assert_eq!(root.digest.as_str(), image.digest);
        let name = format!("oci:{}:v2", target.display());
        let raw = env.skopeo(&["inspect", "--raw", &name]).ok();
        assert_eq!(Digest::sha256(raw.as_bytes()), root.digest, "{kind:?}");
        // skopeo reads and checks every blob when it copies.
        let again = env.new_folder("layout").join("again");
        env.skopeo(&["copy", "--all", &name, &format!("oci:{}:v3", again.display())]).ok();
        let listed = Output::of(Command::new("umoci").args(["ls", "--layout"]).arg(&target)).ok();
        assert_eq!(listed.trim(), "v2");
        let mode = fs::metadata(target.join("blobs/sha256").join(root.digest.hex())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        // A second copy finds all there.
        assert_eq!(env.block_on(sink.current()).unwrap().unwrap().digest, root.digest);
        assert!(leftovers(&target).is_empty());
    }
}

fn leftovers(folder: &std::path::Path) -> Vec<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".ctrsh-"))
        .collect()
}

fn writers_at_once_lose_nothing(env: &Env) {
    let image = env.image(Kind::ThreeLayers);
    let target = env.new_folder("layout").join("made");
    let writers = (0..16).map(|number| {
        let source = LayoutFolder::new(&image.layout, named("v1"));
        let sink = LayoutFolder::new(&target, named(&format!("t{number}")));
        env.runtime()
            .spawn(async move { copy(&source, &sink, Announce::No).await.map(drop).map_err(|e| e.to_string()) })
    });
    for writer in writers.collect::<Vec<_>>() {
        env.block_on(writer).unwrap().unwrap();
    }
    let mut tags: Vec<_> = env
        .block_on(LayoutFolder::new(&target, Selector::Only).images())
        .unwrap()
        .into_iter()
        .map(|image| image.tag.unwrap())
        .collect();
    tags.sort();
    let mut expected: Vec<_> = (0..16).map(|number| format!("t{number}")).collect();
    expected.sort();
    assert_eq!(tags, expected);
    assert!(leftovers(&target).is_empty());
}

fn other_entries_stay_as_they_are(env: &Env) {
    let image = env.image(Kind::Busybox);
    let target = env.new_folder("layout");
    fs::write(target.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let strange = json!({ "mediaType": "application/x", "digest": "md5:1", "size": 1, "future": [1] });
    let old = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": Digest::sha256(b"old"), "size": 3,
        "annotations": { "org.opencontainers.image.ref.name": "v1" },
    });
    let index = json!({ "schemaVersion": 2, "manifests": [strange, old], "annotations": { "a": "b" } });
    fs::write(target.join("index.json"), index.to_string()).unwrap();
    let source = LayoutFolder::new(&image.layout, named("v1"));
    let sink = LayoutFolder::new(&target, named("v1"));
    let root = env.block_on(copy(&source, &sink, Announce::No)).unwrap();
    let index: Value = serde_json::from_slice(&fs::read(target.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["annotations"]["a"], "b");
    assert_eq!(index["manifests"][0], strange);
    assert_eq!(index["manifests"][1]["digest"], root.digest.as_str());
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
}

fn an_image_is_chosen_by_tag_or_digest(env: &Env) {
    let target = env.new_folder("layout").join("made");
    let mut digests = Vec::new();
    for (kind, tag) in [(Kind::Busybox, "a"), (Kind::ThreeLayers, "b")] {
        let source = LayoutFolder::new(&env.image(kind).layout, Selector::Only);
        let sink = LayoutFolder::new(&target, named(tag));
        digests.push(env.block_on(copy(&source, &sink, Announce::No)).unwrap().digest);
    }
    let resolve = |selector| env.block_on(LayoutFolder::new(&target, selector).resolve());
    assert_eq!(resolve(named("a")).unwrap().digest, digests[0]);
    assert_eq!(resolve(named("b")).unwrap().digest, digests[1]);
    assert_eq!(resolve(Selector::Digest(digests[1].clone())).unwrap().digest, digests[1]);
    let error = resolve(Selector::Only).unwrap_err();
    assert!(error.to_string().contains("has 2 images, and none was named"), "{error}");
    assert_eq!(error.hint().unwrap(), "name one of a, b");
    let error = resolve(named("c")).unwrap_err();
    assert_eq!(error.kind(), Failure::NotFound);
    assert_eq!(error.hint().unwrap(), "it has a, b");
    let nowhere = LayoutFolder::new(target.join("nowhere"), named("a"));
    assert_eq!(env.block_on(nowhere.resolve()).unwrap_err().kind(), Failure::NotFound);
    assert_eq!(env.block_on(nowhere.current()).unwrap(), None);
    assert!(!target.join("nowhere").exists());
}

fn a_bare_tag_takes_no_full_name_away(env: &Env) {
    let target = env.new_folder("layout").join("made");
    let write = |kind, name: &str| {
        let source = LayoutFolder::new(&env.image(kind).layout, Selector::Only);
        env.block_on(copy(&source, &LayoutFolder::new(&target, named(name)), Announce::No)).unwrap().digest
    };
    let names = || -> Vec<String> {
        let images = env.block_on(LayoutFolder::new(&target, Selector::Only).images()).unwrap();
        images.iter().map(|image| image.label().to_owned()).collect()
    };
    for name in ["docker.io/library/nginx:latest", "quay.io/a/b:latest"] {
        write(Kind::Busybox, name);
    }
    let tagged = LayoutFolder::new(&target, named("latest"));
    assert_eq!(env.block_on(tagged.current()).unwrap(), None);
    let digest = write(Kind::ThreeLayers, "latest");
    assert_eq!(names(), ["docker.io/library/nginx:latest", "quay.io/a/b:latest", "latest"]);
    // What has the tag as its name goes before what only ends in it.
    assert_eq!(env.block_on(tagged.resolve()).unwrap().digest, digest);
    assert_eq!(env.block_on(tagged.current()).unwrap().unwrap().digest, digest);
    // One name in two spellings is one.
    write(Kind::ThreeLayers, "nginx:latest");
    assert_eq!(names(), ["quay.io/a/b:latest", "latest", "nginx:latest"]);
    write(Kind::Busybox, "latest");
    assert_eq!(names(), ["quay.io/a/b:latest", "nginx:latest", "latest"]);
}

fn links_lead_nowhere(env: &Env) {
    let secret = env.new_folder("layout");
    let content = b"not for everybody".as_slice();
    let digest = Digest::sha256(content);
    fs::write(secret.join(digest.hex()), content).unwrap();
    let descriptor = Descriptor::new(MediaType::OciConfig, digest.clone(), content.len() as u64);
    let link = |at: &str| {
        let target = env.new_folder("layout");
        fs::write(target.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(target.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
        match at {
            "blob" => {
                fs::create_dir_all(target.join("blobs/sha256")).unwrap();
                symlink(secret.join(digest.hex()), target.join("blobs/sha256").join(digest.hex())).unwrap();
            }
            "algorithm" => {
                fs::create_dir_all(target.join("blobs")).unwrap();
                symlink(&secret, target.join("blobs/sha256")).unwrap();
            }
            _ => {
                let elsewhere = env.new_folder("layout");
                symlink(&secret, elsewhere.join("sha256")).unwrap();
                symlink(elsewhere, target.join("blobs")).unwrap();
            }
        }
        target
    };
    for at in ["blob", "algorithm", "blobs"] {
        let layout = LayoutFolder::new(link(at), named("v1"));
        assert!(env.block_on(layout.open(&descriptor, 0)).is_err(), "{at}");
        assert!(env.block_on(layout.has(&descriptor)).is_err(), "{at}");
        if at != "blob" {
            let other = Descriptor::new(MediaType::OciConfig, Digest::sha256(b"x"), 1);
            assert!(env.block_on(layout.write(&other, &Labels::new())).is_err(), "{at}");
        }
    }
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 1);
}

fn wrong_bytes_leave_nothing(env: &Env) {
    let target = env.new_folder("layout").join("made");
    let layout = LayoutFolder::new(&target, named("v1"));
    let descriptor = Descriptor::new(MediaType::OciConfig, Digest::sha256(b"right"), 5);
    for (bytes, said) in [(b"wrong".as_slice(), "sha256:"), (b"righ", "4 bytes"), (b"right!", "at least 6 bytes")] {
        let error = env.block_on(async {
            let mut writer = layout.write(&descriptor, &Labels::new()).await?.unwrap();
            writer.write(bytes.into()).await?;
            writer.commit().await
        });
        let error = error.unwrap_err();
        assert_eq!(error.kind(), Failure::Integrity);
        assert!(error.to_string().contains(said), "{error}");
        assert!(!env.block_on(layout.has(&descriptor)).unwrap());
    }
    let manifest = Descriptor::new(MediaType::OciManifest, Digest::sha256(b"{}"), 2);
    let error = env.block_on(layout.put_manifest(&manifest, b"[]".as_slice().into(), &Labels::new())).unwrap_err();
    assert_eq!(error.kind(), Failure::Integrity);
    assert!(leftovers(&target).is_empty());
    assert_eq!(fs::read_dir(target.join("blobs/sha256")).unwrap().count(), 0);
}

fn a_blob_is_read_from_any_offset(env: &Env) {
    let image = env.image(Kind::Big(3));
    let layout = LayoutFolder::new(&image.layout, Selector::Only);
    let digest: Digest = image.layers[1].parse().unwrap();
    let whole = fs::read(image.blob(&image.layers[1])).unwrap();
    let descriptor = Descriptor::new(MediaType::OciConfig, digest, whole.len() as u64);
    for offset in [0, 1, 1 << 20, (1 << 20) + 7, whole.len() - 1, whole.len()] {
        let read = env.block_on(read(&layout, &descriptor, offset as u64)).unwrap();
        assert!(read == whole[offset..], "from {offset}");
    }
}

fn a_full_folder_is_no_place(env: &Env) {
    let target = env.new_folder("layout");
    fs::write(target.join("thesis.txt"), "years of work").unwrap();
    let layout = LayoutFolder::new(&target, named("v1"));
    let descriptor = Descriptor::new(MediaType::OciConfig, Digest::sha256(b"x"), 1);
    let Err(error) = env.block_on(layout.write(&descriptor, &Labels::new())) else { panic!("it was taken") };
    assert!(error.to_string().contains("no OCI image layout"), "{error}");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    let Err(Error::NoLayout { .. }) = env.block_on(layout.images()) else { panic!("it was listed") };
}
