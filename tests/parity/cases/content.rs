//! `content`, but for the flags that all commands with a registry share.

use super::super::{Asks, Case};
use super::case;

/// What comes of an edit, which ctr leaves to the collector.
const EDITED: &[&str] = &[
    "sha256:2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806",
    "sha256:27dd8ed44a83ff94d557f9fd0412ed5a8cbca69ea04922d88c01184a07300a5a",
];
const HELLO: &str = "hello";
const DIGEST: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const FETCH: &str = "content fetch --plain-http $REF";
/// ctr cannot store what the daemon has from elsewhere when it knows the digest, so it has bytes of its own.
const AGAIN: &str = "sha256:3908c567feda72bc0dbdb2dff040fe0d3470dcd51b942374378a476930dbf6b3";
const BAIT: &[&str] = &[DIGEST, AGAIN];
const IMPORT: &str = "images import $ARCHIVE";

pub fn cases() -> Vec<Case> {
    vec![
        case("content list", "content list").after(&[FETCH]).words(&["sha256:"]),
        case("content list --quiet", "content ls -q").after(&[FETCH]).asks(Asks::Lines),
        // An editor that puts another file in place of the one it got is not seen by ctr.
        case("content edit", "content edit --editor 'echo one | tee' $CONFIG")
            .after(&[IMPORT])
            .asks(Asks::Lines)
            .apart(EDITED),
        case("content edit --editor", "content edit --editor 'echo two | tee' $CONFIG")
            .after(&[IMPORT])
            .asks(Asks::Lines)
            .apart(EDITED),
        case("content get", "content get $LAYER").after(&[IMPORT]).asks(Asks::Lines),
        // What ctr stores is held by nothing, and gone as soon as the collector runs.
        case("content ingest", "content ingest upload-1").input(HELLO).apart(BAIT).shows(DIGEST),
        case("content ingest --expected-size", "content ingest --expected-size 5 upload-1")
            .input(HELLO)
            .apart(BAIT)
            .shows(DIGEST),
        case("content ingest --expected-digest", format!("content ingest --expected-digest {AGAIN} upload-1"))
            .input("hello again")
            .apart(BAIT)
            .shows(AGAIN),
        // What an image refers to is deleted by ctr, and not by ctrsh.
        case("content delete", "content delete $CONFIG").after(&[
            FETCH,
            "content label $CONFIG containerd.io/gc.root=now",
            "images rm --sync $REF",
        ]),
        case("content label", "content label $CONFIG team=core old=").after(&[IMPORT, "content label $CONFIG old=1"]),
        case("content active", "content active"),
        case("content fetch", "content fetch --plain-http $REF"),
        case("content fetch --label", "content fetch --plain-http --label team=core $REF"),
        case("content fetch --platform", "content fetch --plain-http $SKIP --platform $FOREIGN $INDEX"),
        case("content fetch --all-platforms", "content fetch --plain-http --all-platforms $INDEX"),
        // Of an index, ctr also brings manifests of which it brings no layers.
        case("content fetch --all-metadata", "content fetch --plain-http --all-metadata $REF").older(FETCH),
        case("content fetch --skip-metadata", "content fetch --plain-http --skip-metadata $REF").older(FETCH),
        case("content fetch --metadata-only", "content fetch --plain-http --metadata-only $PAIR"),
        case("content fetch-object", "content fetch-object --plain-http $REF").asks(Asks::Lines),
        case("content fetch-blob", "content fetch-blob --plain-http $REF $CONFIG $LAYER").asks(Asks::Lines),
        case(
            "content fetch-blob --media-type",
            "content fetch-blob --plain-http --media-type application/vnd.oci.image.config.v1+json $REF $CONFIG",
        )
        .asks(Asks::Lines),
        case(
            "content push-object",
            "content push-object --plain-http $TARGET $LAYER application/vnd.oci.image.layer.v1.tar+gzip",
        )
        .after(&[IMPORT]),
        case("content prune references", "content prune references").after(&[IMPORT]),
        case("content prune references --async", "content prune references --async").after(&[IMPORT]),
        case("content prune references --dry", "content prune references --dry").after(&[IMPORT]),
    ]
}
