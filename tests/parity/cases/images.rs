//! `images`, but for the flags that all commands with a registry share.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::{Asks, Case};
use super::case;

/// ctr only counts what is unpacked.
const USED: Asks = Asks::Read(used, |value| json!(mebibytes(value["snapshots"].as_f64().unwrap())));
const SECOND: &str = "images tag $IMAGE example.test/second:1";
const BOTH: &str = "images import $LOCAL --all-platforms $BOTH";
const MOUNT: &str = "images mount $IMAGE $MNT";

/// A mount of ctr is held by a lease, which ends after a day; one of ctrsh by a label, which does not.
const HOLD: &[&str] = &["lease ", "containerd.io/gc.root"];

/// What a layer is when it is uncompressed; of what they write anew, the two say it of other blobs.
const KNOWN: &[&str] = &["containerd.io/uncompressed"];

fn mebibytes(bytes: f64) -> f64 {
    (bytes / f64::from(1 << 20) * 10.0).round() / 10.0
}

/// The mebibytes that ctr says an image uses: a snapshot a line, with its key, its size in two words, and its inodes.
fn used(text: &str) -> Value {
    let sizes = text.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap());
    json!(sizes.sum::<f64>())
}

/// The digests of what ctr shows in a tree.
fn tree(text: &str) -> Value {
    let digests = text.split_whitespace().filter_map(|word| word.strip_prefix('@'));
    json!(digests.collect::<BTreeSet<_>>())
}

/// The digests of what a tree of ctrsh describes.
fn described(value: &Value) -> Value {
    fn digests<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("digest").and_then(Value::as_str));
                map.values().for_each(|value| digests(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| digests(item, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    digests(value, &mut found);
    json!(found)
}

fn alike(row: &str, line: &str, older: &str) -> Case {
    case(row, line).older(older)
}

pub fn cases() -> Vec<Case> {
    let mut all = vec![
        case("images list", "images list name~=example.test").after(&[SECOND]).words(&["example.test/", "sha256:"]),
        case("images list --quiet", "i ls -q name~=example.test").after(&[SECOND]).asks(Asks::Lines),
        case("images pull", "images pull $REF"),
        case("images pull --label", "images pull --label team=core --label tier=1 $REF"),
        case("images pull --platform", "images pull $LOCAL $SKIP --platform $FOREIGN $INDEX"),
        case("images pull --snapshotter", "images pull $LOCAL --snapshotter native $REF"),
        // ctr unpacks what cannot run here too.
        case("images pull --all-platforms", "images pull $LOCAL --all-platforms $PAIR").apart(&[
            "containerd.io/uncompressed",
            "containerd.io/gc.ref.snapshot",
            "overlayfs",
            "native",
        ]),
        case("images pull --print-chainid", "images pull $LOCAL --print-chainid $REF").words(&["$CHAIN"]),
        case("images pull --max-concurrent-downloads", "images pull $LOCAL --max-concurrent-downloads 1 $REF"),
        case("images push", "images push --plain-http $TARGET $IMAGE"),
        case("images push --platform", "images push $LOCAL --plain-http --platform $PLATFORM $TARGET $INDEX")
            .after(&["images pull $INDEX"]),
        case(
            "images push --max-concurrent-uploaded-layers",
            "images push $LOCAL --plain-http --max-concurrent-uploaded-layers 1 $TARGET $IMAGE",
        ),
        case(
            "images push --allow-non-distributable-blobs",
            "images push $LOCAL --plain-http --allow-non-distributable-blobs $TARGET $IMAGE",
        ),
        case("images tag", "images tag $IMAGE example.test/other:1 example.test/other:2"),
        case("images tag --force", "images tag --force $IMAGE example.test/other:1")
            .after(&["images pull $INDEX", "images tag $INDEX example.test/other:1"]),
        case("images delete", "images delete $IMAGE"),
        case("images delete --sync", "images rm --sync $REF $IMAGE"),
        case("images import", "images import $ARCHIVE"),
        case("images import --no-unpack", "images import --no-unpack $ARCHIVE"),
        case("images import --base-name", "images import --base-name example.test/based $NAKED"),
        // ctr gives the image a second name, after the day and the digest.
        case("images import --digests", "images import --digests $ARCHIVE").apart(&["import-"]),
        case("images import --all-platforms", "images import --all-platforms --no-unpack $BOTH"),
        // Of an archive with several, ctrsh brings in all.
        case("images import --platform", "images import --platform $PLATFORM $ARCHIVE"),
        case("images import --index-name", "images import --index-name example.test/all:1 $ARCHIVE")
            .shows("example.test/all:1"),
        case("images import --compress-blobs", "images import --compress-blobs $ARCHIVE"),
        case("images import --snapshotter", "images import $LOCAL --snapshotter native $ARCHIVE"),
        case("images export", "images export $LOCAL $FILE $IMAGE").asks(Asks::Archive),
        case("images export --skip-manifest-json", "images export $LOCAL --skip-manifest-json $FILE $IMAGE")
            .asks(Asks::Archive),
        case("images export --skip-non-distributable", "images export $LOCAL --skip-non-distributable $FILE $IMAGE")
            .asks(Asks::Archive),
        case("images export --platform", "images export $LOCAL --platform $PLATFORM $FILE example.test/both:1")
            .after(&[BOTH])
            .asks(Asks::Archive),
        case("images export --all-platforms", "images export $LOCAL --all-platforms $FILE example.test/both:1")
            .after(&[BOTH])
            .asks(Asks::Archive),
        case("images check", "images check name~=example.test").after(&[SECOND]).words(&["example.test/"]),
        case("images check --quiet", "i check -q name~=example.test").after(&[SECOND]).asks(Asks::Lines),
        case("images check --snapshotter", "i check -q --snapshotter native name~=example.test/one")
            .after(&["images import $LOCAL --snapshotter native $ARCHIVE", "images tag $IMAGE example.test/one:1"])
            .asks(Asks::Lines),
        case("images label", "images label $IMAGE team=core old=").after(&["images label $IMAGE old=1"]),
        case("images label --replace-all", "images label --replace-all $IMAGE team=core")
            .after(&["images label $IMAGE old=1 team=b"]),
        case("images mount", MOUNT).asks(Asks::Mounted).apart(HOLD),
        // ctr 1.6 and 1.7 take the usual one all the same.
        case("images mount --snapshotter", "images mount --snapshotter native $IMAGE $MNT")
            .asks(Asks::Mounted)
            .apart(&["lease ", "native", "overlayfs", "containerd.io/gc.ref.snapshot"])
            .shows("\"native\":{\"/"),
        case("images mount --platform", "images mount --platform $PLATFORM example.test/both:1 $MNT")
            .after(&[BOTH])
            .asks(Asks::Mounted)
            .apart(HOLD),
        case("images unmount", "images unmount $MNT").after(&[MOUNT]).asks(Asks::Mounted),
        case("images unmount --snapshotter", "images unmount --snapshotter native --rm $MNT")
            .after(&["images mount --snapshotter native $IMAGE $MNT"])
            .asks(Asks::Mounted),
        case("images unmount --rm", "images unmount --rm $MNT").after(&[MOUNT]).asks(Asks::Mounted),
        case("images convert", "images convert example.test/both:1 example.test/new:1").after(&[BOTH]),
        case("images convert --uncompress", "images convert --uncompress $IMAGE example.test/new:1").apart(KNOWN),
        case("images convert --oci", "images convert --oci $IMAGE example.test/new:1"),
        case("images convert --platform", "images convert --platform $PLATFORM example.test/both:1 example.test/new:1")
            .after(&[BOTH]),
        case("images convert --all-platforms", "images convert --all-platforms example.test/both:1 example.test/new:1")
            .after(&[BOTH])
            .apart(KNOWN),
    ];
    all.extend(newer());
    all
}

/// What ctr 1.6 does not have, or not all of the others.
fn newer() -> Vec<Case> {
    vec![
        // Of an index, ctr also brings manifests of which it brings no layers.
        alike("images pull --all-metadata", "images pull --all-metadata $REF", "images pull $REF"),
        alike("images pull --skip-metadata", "images pull --skip-metadata $REF", "images pull $REF"),
        alike("images pull --local", "images pull --local $REF", "images pull $REF"),
        alike("images pull --sync-fs", "images pull --sync-fs $REF", "images pull $REF"),
        alike(
            "images push --local",
            "images push --local --plain-http $TARGET $IMAGE",
            "images push --plain-http $TARGET $IMAGE",
        ),
        alike(
            "images tag --local",
            "images tag --local $IMAGE example.test/other:1",
            "images tag $IMAGE example.test/other:1",
        ),
        alike(
            "images tag --skip-reference-check",
            "images tag --skip-reference-check $IMAGE example.test/other:1",
            "images tag $IMAGE example.test/other:1",
        ),
        case("images import --skip-digest-for-named", "images import --digests --skip-digest-for-named $ARCHIVE")
            .apart(&["import-"]),
        alike("images import --local", "images import --local $ARCHIVE", "images import $ARCHIVE"),
        case("images import --discard-unpacked-layers", "images import $LOCAL --discard-unpacked-layers $ARCHIVE"),
        case("images import --label", "images import --label team=core $ARCHIVE").shows("\"team\":\"core\""),
        alike("images import --sync-fs", "images import --sync-fs $ARCHIVE", "images import $ARCHIVE"),
        alike("images export --local", "images export --local $FILE $IMAGE", "images export $FILE $IMAGE")
            .asks(Asks::Archive),
        // Another name of an image that is used goes with ctr, and stays with ctrsh.
        case("images prune", "images prune --all").after(&["images rm $REF", "images pull $INDEX", super::CREATE]),
        case("images prune --all", "images prune --all").after(&[SECOND]),
        alike("images mount --sync-fs", "images mount --sync-fs $IMAGE $MNT", MOUNT).asks(Asks::Mounted).apart(HOLD),
        case("images usage", "images usage $IMAGE").asks(USED),
        case("images usage --snapshotter", "images usage --snapshotter native $IMAGE")
            .after(&["images import $LOCAL --snapshotter native $ARCHIVE"])
            .asks(USED),
        case("images inspect", "images inspect $IMAGE").asks(Asks::Read(tree, described)).shows("sha256:"),
        case("images inspect --content", "images inspect --content $IMAGE").words(&["sha256:"]).shows("sha256:"),
    ]
}
