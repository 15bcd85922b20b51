//! `snapshots`.

use super::super::{Asks, Case};
use super::case;

const IMPORT: &str = "images import $ARCHIVE";
const WORK: &str = "snapshots prepare work $CHAIN";
/// What ctr makes and gives to nobody is taken by the collector at any time; ctrsh labels it.
const HELD: &[&str] = &["containerd.io/gc.root"];
const NATIVE: &str = "snapshots --snapshotter native prepare work";

/// A command with the flag of the group, on a snapshot there.
fn native(name: &str, rest: &str) -> Case {
    case(format!("snapshots {name} --snapshotter"), format!("snapshots --snapshotter native {name} {rest}"))
        .after(&[NATIVE])
}

pub fn cases() -> Vec<Case> {
    let mut all = own();
    all.extend([
        native("list", "").words(&["work"]),
        native("info", "work").words(&["work"]),
        native("tree", "").words(&["work"]),
        native("usage", "work").words(&["work"]),
        native("prepare", "more"),
        native("view", "more").kept().apart(HELD),
        native("commit", "base work"),
        native("delete", "work"),
        native("label", "work team=core"),
        native("mounts", "/mnt work").asks(Asks::Shape),
        native("diff", "work").asks(Asks::Lines),
    ]);
    all
}

fn own() -> Vec<Case> {
    vec![
        case("snapshots list", "snapshots list").after(&[IMPORT, WORK]).words(&["work", "$CHAIN"]),
        case("snapshots info", "snapshots info work").after(&[IMPORT, WORK]).words(&["work", "$CHAIN"]),
        case("snapshots tree", "snapshots tree").after(&[IMPORT, WORK]).words(&["work", "$CHAIN"]),
        case("snapshots usage", "snapshots usage $CHAIN").after(&[IMPORT]).words(&["$CHAIN"]),
        case("snapshots usage -b", "snapshots usage -b $CHAIN").after(&[IMPORT]).words(&["$CHAIN"]),
        case("snapshots prepare", WORK).after(&[IMPORT]),
        case("snapshots prepare --target", "snapshots prepare --target /mnt work $CHAIN")
            .after(&[IMPORT])
            .asks(Asks::Shape),
        case("snapshots prepare --mounts", "snapshots prepare --mounts work $CHAIN").after(&[IMPORT]),
        case("snapshots view", "snapshots view look $CHAIN").after(&[IMPORT]).kept().apart(HELD),
        case("snapshots view --target", "snapshots view --target /mnt look $CHAIN")
            .after(&[IMPORT])
            .asks(Asks::Shape)
            .kept()
            .apart(HELD),
        case("snapshots view --mounts", "snapshots view --mounts look $CHAIN").after(&[IMPORT]).kept().apart(HELD),
        case("snapshots commit", "snapshots commit base work").after(&[IMPORT, WORK]),
        case("snapshots delete", "snapshots delete work").after(&[IMPORT, WORK]),
        case("snapshots label", "snapshots label work team=core").after(&[IMPORT, WORK]),
        case("snapshots mounts", "snapshots mounts /mnt work").after(&[IMPORT, WORK]).asks(Asks::Shape),
        case("snapshots diff", "snapshots diff work").after(&[IMPORT, WORK]).asks(Asks::Lines),
        case("snapshots diff --media-type", "snapshots diff --media-type application/vnd.oci.image.layer.v1.tar work")
            .after(&[IMPORT, WORK])
            .asks(Asks::Lines),
        case("snapshots diff --ref", "snapshots diff --ref upload-1 work").after(&[IMPORT, WORK]).asks(Asks::Lines),
        case("snapshots diff --keep", "snapshots diff --keep work").after(&[IMPORT, WORK]).asks(Asks::Lines),
        case("snapshots diff --label", "snapshots diff --keep --label team=core work")
            .after(&[IMPORT, WORK])
            .asks(Asks::Lines),
        case("snapshots unpack", "snapshots unpack $MANIFEST").after(&["images import --no-unpack $ARCHIVE"]),
        case("snapshots unpack --snapshotter", "snapshots unpack --snapshotter native $MANIFEST")
            .after(&["images import --no-unpack $ARCHIVE"]),
        case("snapshots unpack --sync-fs", "snapshots unpack --sync-fs $MANIFEST")
            .after(&["images import --no-unpack $ARCHIVE"])
            .older("snapshots unpack $MANIFEST"),
    ]
}
