//! One script that every generation of containerd has to answer alike: its transcript is `transcript.txt`.
//!
//! With `CTRSH_UPDATE` set the file is written anew.

use std::path::Path;

use libtest_mimic::Trial;

use crate::harness::{Env, Kind, trial};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/script.rhai");
const TRANSCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/transcript.txt");

pub fn trials(env: &Env) -> Vec<Trial> {
    vec![trial("conformance::the transcript is that of every generation of containerd", env, transcript)]
}

fn transcript(env: &Env) {
    let namespace = env.namespace("conformance");
    let source = env.pushed(Kind::Busybox, "conformance");
    let (missing, pushed, other) =
        (env.repository("missing"), env.repository("conformance-pushed"), env.fresh("conformance-other"));
    let pushed = format!("{pushed}:v2");
    let mut command = env.ctrsh_command();
    command.args(["-n", &namespace, "--snapshotter", &env.snapshotter()]).current_dir(env.new_folder("conformance"));
    command.args([SCRIPT, &source, &missing, &pushed, &other]);
    let mut text = crate::harness::output::Output::of(&mut command).ok();
    let (repository, _) = source.rsplit_once(':').unwrap();
    for (found, name) in [
        (repository, "REGISTRY/app"),
        (&missing, "REGISTRY/missing"),
        (missing.split_once('/').unwrap().1, "missing"),
        (pushed.rsplit_once(':').unwrap().0, "REGISTRY/pushed"),
        (&other, "OTHER"),
        (&namespace, "NAMESPACE"),
        (&env.registry(), "REGISTRY"),
        (&env.socket().display().to_string(), "SOCKET"),
        (&env.snapshotter(), "SNAPSHOTTER"),
    ] {
        text = text.replace(found, name);
    }
    let text = without_digests(&text);
    if std::env::var_os("CTRSH_UPDATE").is_some() {
        std::fs::write(TRANSCRIPT, &text).unwrap();
    }
    let wanted = std::fs::read_to_string(Path::new(TRANSCRIPT)).unwrap();
    for (found, wanted) in text.lines().zip(wanted.lines()) {
        assert_eq!(found, wanted);
    }
    assert_eq!(text.lines().count(), wanted.lines().count(), "{text}");
}

/// Puts a name for each digest, in their order, and a word for each size: the image is made of this machine's busybox.
fn without_digests(text: &str) -> String {
    let digest = regex_lite::Regex::new("sha256:[0-9a-f]{64}").unwrap();
    let size = regex_lite::Regex::new(r#""(size|total|present)":\d+"#).unwrap();
    let mut seen: Vec<String> = Vec::new();
    let text = digest.replace_all(text, |found: &regex_lite::Captures<'_>| {
        let found = found[0].to_owned();
        let at = seen.iter().position(|known| *known == found).unwrap_or_else(|| {
            seen.push(found);
            seen.len() - 1
        });
        format!("sha256:{}", at + 1)
    });
    size.replace_all(&text, "\"$1\":SIZE").into_owned()
}
