//! `copy` with what goes along, and of some platforms.

use std::collections::BTreeSet;

use ctrsh::grant::Allow;
use ctrsh::kind::{Failure, Kind as Failed};
use ctrsh::layout::{LayoutFolder, Selector};
use ctrsh::oci::media_type::Compression;
use ctrsh::oci::store::ImageSource;
use ctrsh::oci::{Descriptor, Digest, Index, Matcher, MediaType, Platform};
use ctrsh::ops::Operation;
use ctrsh::ops::image::{Copied, Copy, CopyOptions, Endpoint, Platforms};
use ctrsh::registry::Repository;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::copy::{content, copy, endpoint};
use super::stage::Stage;
use crate::harness::fault::FaultProxy;
use crate::harness::image::{Kind, foreign, host};
use crate::harness::{Env, trial};

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![
        trial("ops::companions::referrers and digest tags go along, through a layout and back", env, along),
        trial("ops::companions::two who add to a list at once both stand in it", env, at_once),
        trial("ops::companions::where they cannot go that is said", env, nowhere),
        trial("ops::companions::a list of platforms makes an index of them", env, listed),
        trial("ops::companions::an archive is compressed as asked, and read again", env, compressed),
    ]
}

fn repository(stage: &Stage, text: &str) -> Repository {
    let Endpoint::Registry(reference) = endpoint(stage, text) else { panic!("{text} is no reference") };
    let ctx = stage.allowing(Allow::all());
    ctx.registry().repository(reference.registry(), reference.repository(), ctx.grant(), &Default::default())
}

/// Stores an artifact about a manifest, by its digest or under a tag.
async fn artifact(repository: &Repository, subject: Option<&Descriptor>, kind: &str, tag: Option<&str>) -> Descriptor {
    let blob = |text: &[u8]| Descriptor::new(MediaType::parse(kind), Digest::sha256(text), text.len() as u64);
    for text in [b"{}".as_slice(), kind.as_bytes()] {
        let mut writer = repository.upload().await.unwrap().writer(&blob(text));
        ctrsh::oci::store::BlobWriter::write(&mut writer, text.to_vec().into()).await.unwrap();
        ctrsh::oci::store::BlobWriter::commit(Box::new(writer)).await.unwrap();
    }
    let mut config = blob(b"{}");
    config.media_type = MediaType::parse("application/vnd.oci.empty.v1+json");
    let mut document = json!({
        "schemaVersion": 2, "mediaType": MediaType::OciManifest.as_str(), "artifactType": kind,
        "config": config, "layers": [blob(kind.as_bytes())],
    });
    if let Some(subject) = subject {
        document["subject"] = serde_json::to_value(subject).unwrap();
    }
    let bytes = serde_json::to_vec(&document).unwrap();
    let descriptor = Descriptor::new(MediaType::OciManifest, Digest::sha256(&bytes), bytes.len() as u64);
    let selector = tag.map_or_else(|| descriptor.digest.to_string(), str::to_owned);
    repository.put_manifest(&selector, &descriptor, bytes.into()).await.unwrap();
    descriptor
}

fn accompanied(stage: &Stage, source: &Endpoint, target: &Endpoint) -> ctrsh::ops::Result<Copied> {
    let options = CopyOptions { referrers: true, digest_tags: true, ..CopyOptions::default() };
    stage.run(Copy::new(source.clone(), target.clone(), options))
}

fn along(env: &Env) {
    let pushed = env.pushed(Kind::Index, "along");
    let stage = Stage::empty(env, "along");
    let proxy = env.block_on(FaultProxy::start(&env.registry()));
    let source = endpoint(&stage, &pushed);
    let from = repository(&stage, &pushed);
    let digest: Digest = env.image(Kind::Index).digest.parse().unwrap();
    let image: Digest = env.image(Kind::Index).manifest.parse().unwrap();
    let signature_tag = format!("sha256-{}.sig", digest.hex());
    let (sbom, second, signed, tagged) = env.block_on(async {
        let root = from.resolve("v1").await.unwrap();
        let child = from.resolve(image.as_str()).await.unwrap();
        let sbom = artifact(&from, Some(&root), "application/x-sbom", None).await;
        let second = artifact(&from, Some(&child), "application/x-provenance", None).await;
        let signed = artifact(&from, Some(&sbom), "application/x-signature", None).await;
        let tagged = artifact(&from, None, "application/x-cosign", Some(&signature_tag)).await;
        // Not about this image.
        artifact(&from, None, "application/x-other", Some(&format!("sha256-{}.sig", "0".repeat(64)))).await;
        (sbom, second, signed, tagged)
    });
    let check = |text: &str| {
        let there = repository(&stage, text);
        env.block_on(async {
            for (subject, referrer) in [(&digest, &sbom), (&image, &second), (&sbom.digest, &signed)] {
                let listed = there.referrers(subject, None).await.unwrap();
                let listed: Vec<&Digest> = listed.iter().map(|one| &one.digest).collect();
                assert_eq!(listed, [&referrer.digest], "{text}");
                assert!(there.has_blob(&Digest::sha256(b"{}")).await.unwrap());
            }
            assert_eq!(there.resolve(&signature_tag).await.unwrap().digest, tagged.digest, "{text}");
            let tags = there.tags().await.unwrap();
            assert!(!tags.iter().any(|tag| tag.contains("0000000000")), "{tags:?}");
        });
    };
    let through = |text: &str| text.replacen(&env.registry(), &proxy.host(), 1);
    let direct = format!("{}:v1", env.repository("along"));
    let target = endpoint(&stage, &through(&direct));
    let copied = accompanied(&stage, &source, &target).unwrap();
    assert_eq!((copied.companions, &copied.root.digest), (4, &digest));
    check(&direct);
    // The second time all is there: only questions, and not one write.
    proxy.clear();
    let again = accompanied(&stage, &source, &target).unwrap();
    assert_eq!((again.companions, again.totals.sent), (4, 0));
    let written: Vec<_> = proxy.log().into_iter().filter(|seen| !["GET", "HEAD"].contains(&&*seen.method)).collect();
    assert!(written.is_empty(), "{written:?}");
    // Through a folder, where the list is a tag.
    let folder = endpoint(&stage, "oci:bundle");
    accompanied(&stage, &source, &folder).unwrap();
    let layout = LayoutFolder::new(stage.folder.join("work/bundle"), Selector::Only);
    let names = || {
        let mut names: Vec<String> =
            env.block_on(layout.images()).unwrap().iter().map(|image| image.label().to_owned()).collect();
        names.sort();
        names
    };
    let before = names();
    // The image, the lists of three subjects, and the signature by tag.
    assert_eq!(before.len(), 5, "{before:?}");
    let again = accompanied(&stage, &source, &folder).unwrap();
    assert_eq!((again.totals.sent, names()), (0, before));
    // A layout with companions still has one image.
    let back = format!("{}:v1", env.repository("along"));
    let copied = accompanied(&stage, &folder, &endpoint(&stage, &back)).unwrap();
    assert_eq!((copied.companions, &copied.root.digest), (4, &digest));
    check(&back);
}

fn at_once(env: &Env) {
    let stage = Stage::empty(env, "along");
    let ctx = stage.allowing(Allow::all());
    let kinds: Vec<String> = (0..8).map(|number| format!("application/x-sbom-{number}")).collect();
    let digests = |listed: Vec<Descriptor>| listed.into_iter().map(|one| one.digest).collect::<BTreeSet<_>>();
    // In a registry, whose list is a tag that each reads and writes anew.
    let pushed = env.pushed(Kind::Busybox, "along");
    let there = repository(&stage, &pushed);
    env.block_on(async {
        let root = there.resolve("v1").await.unwrap();
        let stored = kinds.iter().map(|kind| artifact(&there, Some(&root), kind, None));
        let stored = futures_util::future::join_all(stored).await;
        assert_eq!(digests(there.referrers(&root.digest, None).await.unwrap()), digests(stored));
    });
    // In a folder, when it was looked at before either of two was written.
    let folder = endpoint(&stage, "oci:at-once:v1");
    let options = CopyOptions { referrers: true, ..CopyOptions::default() };
    let mut copies = Vec::new();
    let mut stored = Vec::new();
    for kind in &kinds[..2] {
        let pushed = env.pushed(Kind::Busybox, "along");
        let from = repository(&stage, &pushed);
        env.block_on(async {
            let root = from.resolve("v1").await.unwrap();
            stored.push(artifact(&from, Some(&root), kind, None).await);
            let mut copy = Copy::new(endpoint(&stage, &pushed), folder.clone(), options.clone());
            copy.plan(&ctx).await.unwrap();
            copies.push(copy);
        });
    }
    env.block_on(futures_util::future::join_all(copies.into_iter().map(|copy| copy.apply(&ctx))));
    let Endpoint::Layout { path, .. } = &folder else { panic!("{folder}") };
    let subject: Digest = env.image(Kind::Busybox).digest.parse().unwrap();
    let list = LayoutFolder::new(path, Selector::Name(subject.referrers_tag()));
    env.block_on(async {
        let root = list.resolve().await.unwrap();
        let index: Index = serde_json::from_slice(&list.manifest(&root).await.unwrap()).unwrap();
        assert_eq!(digests(index.manifests), digests(stored));
    });
    // And all of it goes on from there.
    let to = format!("{}:v1", env.repository("along"));
    let copied = stage.run(Copy::new(folder, endpoint(&stage, &to), options)).unwrap();
    assert_eq!(copied.companions, 2);
}

fn nowhere(env: &Env) {
    let pushed = env.pushed(Kind::Busybox, "along");
    let stage = Stage::empty(env, "along");
    let before = stage.leftovers();
    for text in ["containerd:x:1", "archive:x.tar"] {
        let error = accompanied(&stage, &endpoint(&stage, &pushed), &endpoint(&stage, text)).unwrap_err();
        assert_eq!(error.kind(), Failed::Usage, "{error}");
        assert!(error.to_string().contains("do not go to"), "{error}");
        let error = accompanied(&stage, &endpoint(&stage, text), &endpoint(&stage, &pushed)).unwrap_err();
        assert!(error.to_string().contains("do not go from"), "{error}");
    }
    assert_eq!(stage.leftovers(), before);
}

fn platforms(names: &[&str]) -> Platforms {
    let all = names.iter().map(|name| format!("linux/{name}").parse::<Platform>().unwrap());
    Platforms::Listed(Matcher::Any(all.collect()))
}

fn listed(env: &Env) {
    let pushed = env.pushed(Kind::Index, "listed");
    let stage = Stage::empty(env, "listed");
    let source = endpoint(&stage, &pushed);
    let index: Value =
        serde_json::from_slice(&std::fs::read(env.image(Kind::Index).blob(&env.image(Kind::Index).digest)).unwrap())
            .unwrap();
    let mut expected = index.clone();
    // This machine's image and its attestation, in their order.
    expected["manifests"].as_array_mut().unwrap().remove(1);
    let expected = serde_json::to_vec(&expected).unwrap();
    let digest = Digest::sha256(&expected);
    let mut previous = source.clone();
    for text in [
        format!("{}:v1", env.repository("listed")),
        "oci:some:tag".to_owned(),
        "containerd:some:1".to_owned(),
        "archive:some.tar:some:1".to_owned(),
    ] {
        let target = endpoint(&stage, &text);
        let copied = copy(&stage, &source, &target, platforms(&[host()])).unwrap();
        assert_eq!(copied.root.digest, digest, "{text}");
        let there = content(&stage, &target);
        assert!(
            there.contains_key(digest.as_str()) && there.contains_key(&env.image(Kind::Index).manifest),
            "{there:?}"
        );
        // An index, an image with a config and a layer, an attestation with as much.
        assert_eq!(there.len(), 7, "{text}: {there:?}");
        let again = copy(&stage, &source, &target, platforms(&[host()])).unwrap();
        assert_eq!(again.root, copied.root);
        if !text.starts_with("archive") {
            assert_eq!(again.totals.sent, 0, "{text}");
        }
        // The new index is whole: it goes on under its digest.
        previous = target;
        let onward = endpoint(&stage, &format!("{}:v1", env.repository("listed")));
        assert_eq!(copy(&stage, &previous, &onward, Platforms::All).unwrap().root.digest, digest, "{text}");
    }
    let all = endpoint(&stage, &format!("{}:v1", env.repository("listed")));
    let copied = copy(&stage, &source, &all, platforms(&[foreign(), host()])).unwrap();
    assert_eq!(copied.root.digest.as_str(), env.image(Kind::Index).digest, "all there are keep the digest");
    let missing = copy(&stage, &previous, &all, platforms(&[host(), "s390x"])).unwrap_err();
    assert_eq!(missing.kind(), Failed::NotFound, "{missing}");
    assert!(missing.to_string().contains("s390x"), "{missing}");
}

fn compressed(env: &Env) {
    let pushed = env.pushed(Kind::ThreeLayers, "packed");
    let stage = Stage::empty(env, "packed");
    std::fs::create_dir_all(stage.folder.join("work")).unwrap();
    std::fs::create_dir_all(stage.folder.join("tmp")).unwrap();
    let source = endpoint(&stage, &pushed);
    let whole = content(&stage, &source);
    for (name, compression, magic) in [
        ("a.tar", None, None),
        ("b.tar.gz", None, Some([0x1f, 0x8b])),
        ("c.tar.zst", None, Some([0x28, 0xb5])),
        ("d.bin", Some(Compression::Zstd), Some([0x28, 0xb5])),
        ("e.tgz", Some(Compression::None), None),
    ] {
        let target = endpoint(&stage, &format!("archive:{name}:packed:1"));
        let options = CopyOptions { compression, ..CopyOptions::default() };
        stage.run(Copy::new(source.clone(), target.clone(), options)).unwrap();
        let bytes = std::fs::read(stage.folder.join("work").join(name)).unwrap();
        match magic {
            Some(magic) => assert_eq!(bytes[..2], magic, "{name}"),
            None => assert_eq!(&bytes[257..262], b"ustar", "{name}"),
        }
        assert_eq!(content(&stage, &target), whole, "{name}");
    }
}
