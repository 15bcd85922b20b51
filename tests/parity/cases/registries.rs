//! How a registry is reached: the same flags for all commands that do.

use serde_json::Value;

use super::super::{Asks, Case};
use super::case;

/// A flag, the flags that show it, an image in a registry that wants them, and a name there.
const WAYS: [(&str, &str, &str, &str); 10] = [
    ("--skip-verify", "--skip-verify --user $LOGIN --hosts-dir $HOSTS", "$SECURE", "$SECURETARGET"),
    ("--plain-http", "--plain-http", "$REF", "$TARGET"),
    ("--user", "--user $LOGIN --tlscacert $CA --hosts-dir $HOSTS", "$SECURE", "$SECURETARGET"),
    ("--refresh", "--plain-http --refresh $TOKEN", "$GUARDED", "$GUARDEDTARGET"),
    ("--hosts-dir", "--hosts-dir $HOSTS", "$MIRRORED", "$MIRROREDTARGET"),
    ("--tlscacert", "--tlscacert $CA --user $LOGIN --hosts-dir $HOSTS", "$SECURE", "$SECURETARGET"),
    ("--tlscert", "--tlscert $CERT --tlskey $KEY --tlscacert $MUTUALCA --hosts-dir $HOSTS", "$MUTUAL", "$MUTUALTARGET"),
    ("--tlskey", "--tlskey $KEY --tlscert $CERT --tlscacert $MUTUALCA --hosts-dir $HOSTS", "$MUTUAL", "$MUTUALTARGET"),
    ("--http-dump", "--http-dump --plain-http", "$REF", "$TARGET"),
    ("--http-trace", "--http-trace --plain-http", "$REF", "$TARGET"),
];

/// The uncompressed layers in the config that is an output, or is between what ctr says of its requests.
fn diff_ids_in(text: &str) -> Value {
    let config = text.split_once("{\"created\"").map_or("", |(_, rest)| rest);
    let diff_ids = config.split_once("\"diff_ids\":").map_or("", |(_, rest)| rest);
    serde_json::Deserializer::from_str(diff_ids).into_iter().next().unwrap().unwrap()
}

/// The same of the config itself.
fn diff_ids_of(config: &Value) -> Value {
    config["rootfs"]["diff_ids"].clone()
}

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

pub fn cases() -> Vec<Case> {
    let row = |command: &str, flag: &str| format!("{command} {flag}");
    let mut all = Vec::new();
    for (flag, words, image, target) in WAYS {
        // ctr says what it asked a registry between what it got, so only names in it are compared.
        let says = flag.starts_with("--http");
        all.push(case(row("images pull", flag), format!("images pull $LOCAL {words} {image}")));
        all.push(case(row("images push", flag), format!("images push $LOCAL {words} {target} $IMAGE")));
        all.push(case(row("content fetch", flag), format!("content fetch {words} {image}")));
        let object = case(row("content fetch-object", flag), format!("content fetch-object {words} {image}"));
        all.push(object.asks(if says { Asks::Words(&["$CONFIG", "$LAYER"]) } else { Asks::Lines }));
        let blob = case(row("content fetch-blob", flag), format!("content fetch-blob {words} {image} $CONFIG"));
        all.push(blob.asks(Asks::Read(diff_ids_in, diff_ids_of)));
        let push = format!("content push-object {words} {target} $CONFIG {CONFIG}");
        all.push(case(row("content push-object", flag), push).after(&["images import $ARCHIVE"]));
    }
    all
}
