//! The project's own rules, held by tests: the direction of imports, what only some layers may do, size, words, files.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;

use crate::harness::output::Output;
use crate::harness::pure;

/// The layers, and which others each may import: those to the right of the arrow in `src/lib.rs`.
const LAYERS: [(&str, &[&str]); 16] = [
    ("kind", &[]),
    ("grant", &["kind"]),
    ("oci", &["kind", "grant"]),
    ("socket", &["grant", "kind"]),
    ("containerd", &["socket", "oci", "grant", "kind"]),
    ("registry", &["oci", "grant", "kind"]),
    ("docker", &["socket", "oci", "grant", "kind"]),
    ("layout", &["oci", "grant", "kind"]),
    ("sandbox", &["kind"]),
    ("ctr", &["kind"]),
    ("ops", &["containerd", "registry", "docker", "layout", "oci", "grant", "kind"]),
    ("script", &["ops", "containerd", "registry", "docker", "layout", "oci", "grant", "kind"]),
    (
        "shell",
        &["ctr", "script", "ops", "sandbox", "containerd", "registry", "docker", "layout", "oci", "grant", "kind"],
    ),
    ("config", &["shell", "script", "ops", "sandbox", "containerd", "registry", "docker", "oci", "grant", "kind"]),
    (
        "cli",
        &[
            "config",
            "shell",
            "ctr",
            "script",
            "ops",
            "sandbox",
            "containerd",
            "registry",
            "docker",
            "layout",
            "oci",
            "grant",
            "kind",
        ],
    ),
    ("main", &["cli", "kind"]),
];

/// Crates and calls that only some layers, or single files, may use, and which.
const RESERVED: [(&str, &[&str]); 18] = [
    ("rhai::", &["script"]),
    ("containerd_client::", &["containerd"]),
    ("reqwest::", &["registry"]),
    ("hyper::", &["socket"]),
    ("rustyline::", &["shell"]),
    ("indicatif::", &["shell"]),
    ("clap::", &["cli", "main"]),
    ("println!", &["shell", "cli", "main"]),
    ("eprintln!", &["shell", "cli", "main"]),
    ("print!", &["shell", "cli", "main"]),
    ("process::exit", &["cli", "main", "src/shell/interrupt.rs"]),
    ("env::var", &["cli", "config", "main"]),
    ("env::args", &["cli", "config", "main"]),
    ("env::home_dir", &["cli", "config", "main"]),
    ("env::temp_dir", &["cli", "config", "main"]),
    ("env::current_dir", &["cli", "config", "main"]),
    ("io::stdout", &["shell", "cli", "main"]),
    ("io::stdin", &["shell", "cli", "main"]),
];

/// The only file with unsafe code, which says why in its first lines.
const UNSAFE: &str = "src/sandbox/spawn.rs";

/// The longest files.
const LINES: [(&str, usize); 2] = [("src", 500), ("tests", 700)];

/// Names that say nothing of what a module is about.
const EMPTY_NAMES: [&str; 7] = ["util", "utils", "common", "helper", "helpers", "manager", "misc"];

/// What a checkout has to have.
const FILES: [&str; 7] =
    ["LICENSE", "CHANGELOG.md", "docs/architecture.md", "Cargo.lock", ".ci/run", "scripts/test", "scripts/demo"];

/// The tests of the rules.
pub fn trials() -> Vec<Trial> {
    vec![
        pure("tidy::imports_follow_the_arrows", imports_follow_the_arrows),
        pure("tidy::the_scanner_sees_every_kind_of_path", the_scanner_sees_every_kind_of_path),
        pure("tidy::what_is_reserved_to_layers_stays_there", what_is_reserved_to_layers_stays_there),
        pure("tidy::files_are_short", files_are_short),
        pure("tidy::files_say_what_they_are", files_say_what_they_are),
        pure("tidy::every_file_is_part_of_the_build", every_file_is_part_of_the_build),
        pure("tidy::nothing_is_left_for_later", nothing_is_left_for_later),
        pure("tidy::the_files_of_a_project_are_there", the_files_of_a_project_are_there),
        pure("tidy::shell_scripts_are_strict", shell_scripts_are_strict),
    ]
}

/// A source file.
struct Source {
    /// Its path from the project's root.
    path: String,
    text: String,
}

impl Source {
    fn all(folder: &str) -> Vec<Self> {
        let root = root();
        let read = |path: PathBuf| Self {
            text: fs::read_to_string(&path).unwrap(),
            path: path.strip_prefix(&root).unwrap().to_string_lossy().into_owned(),
        };
        let files =
            files(&root.join(folder)).into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "rs"));
        files.map(read).collect()
    }

    /// The layer of a file below `src`.
    fn layer(&self) -> &str {
        let rest = self.path.strip_prefix("src/").unwrap();
        rest.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// How many modules deep it is: 1 for `src/a.rs` and `src/a/mod.rs`, 2 for `src/a/b.rs`.
    fn depth(&self) -> usize {
        let parts = self.path.strip_prefix("src/").unwrap().split('/');
        parts.filter(|part| !matches!(*part, "mod.rs" | "lib.rs" | "main.rs")).count()
    }

    /// The code without comments, and without the unit tests at its end.
    fn code(&self) -> String {
        let lines = self.text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = lines.collect::<Vec<_>>().join("\n");
        code.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned()
    }

    /// The top-level modules that it names.
    fn imports(&self) -> BTreeSet<String> {
        let code = self.code();
        let climb = format!("{}{{", "super::".repeat(self.depth()));
        let up = &climb[..climb.len() - 1];
        let starts = ["crate::", "ctrsh::"].into_iter().chain((self.depth() > 0).then_some(up));
        starts.flat_map(|start| names_after(&code, start)).collect()
    }
}

/// Finds the identifiers that follow a path's beginning, also those of a group in braces.
fn names_after(code: &str, start: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(start) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + start.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(word(rest));
            continue;
        };
        let (mut level, mut first) = (0, true);
        for (index, c) in group.char_indices() {
            match c {
                '}' if level == 0 => break,
                '{' => level += 1,
                '}' => level -= 1,
                ',' if level == 0 => first = true,
                c if first && level == 0 && !c.is_whitespace() => {
                    names.insert(word(&group[index..]));
                    first = false;
                }
                _ => {}
            }
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Finds a word that is not the end of a longer one.
fn uses(code: &str, word: &str) -> bool {
    let mut found = code.match_indices(word).map(|(at, _)| code[..at].chars().next_back());
    found.any(|before| !before.is_some_and(|c| c.is_alphanumeric() || c == '_'))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Lists the files below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Fails with one line for each breach of a rule.
#[track_caller]
fn assert_none(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

fn imports_follow_the_arrows() {
    let sources = Source::all("src");
    assert!(sources.len() > 20, "the sources are not found");
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| source.path != "src/lib.rs") {
        let Some((layer, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == source.layer()) else {
            breaches.push(format!("{}: the layer is not in the table of tests/tidy.rs", source.path));
            continue;
        };
        let layers = source.imports().into_iter().filter(|name| LAYERS.iter().any(|(layer, _)| layer == name));
        let wrong = layers.filter(|name| name != layer && !allowed.contains(&name.as_str()));
        breaches.extend(wrong.map(|name| format!("{}: {layer} must not know {name}", source.path)));
    }
    assert_none(breaches);
}

fn the_scanner_sees_every_kind_of_path() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let imports = |path: &str, text: &str| source(path, text).imports().into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(imports("src/oci/a.rs", "use crate::ops::x;\nlet y = crate::shell::z();"), "ops shell");
    assert_eq!(imports("src/oci/a.rs", "use crate::{ops::{a, b}, script, grant::Access};"), "grant ops script");
    assert_eq!(imports("src/oci/a.rs", "use super::super::ops::x;\nuse super::error;"), "ops");
    assert_eq!(imports("src/oci/mod.rs", "use super::ops;"), "ops");
    assert_eq!(imports("src/oci/a.rs", "// crate::ops\n/// [`crate::shell`]\nuse mycrate::cli;"), "");
    assert_eq!(imports("src/oci/a.rs", "use crate::kind;\n#[cfg(test)]\nmod tests {\n use crate::ops; }"), "kind");
    assert_eq!(imports("src/main.rs", "ctrsh::cli::main()"), "cli");
}

fn what_is_reserved_to_layers_stays_there() {
    let mut breaches = Vec::new();
    for source in Source::all("src") {
        let code = source.code();
        let allowed = |places: &[&str]| places.contains(&source.layer()) || places.contains(&source.path.as_str());
        let misused = RESERVED.iter().filter(|(word, places)| !allowed(places) && uses(&code, word));
        breaches
            .extend(misused.map(|(word, layers)| format!("{}: {word} is only for {}", source.path, layers.join(", "))));
        if source.path != UNSAFE && (uses(&code, "unsafe ") || code.contains("allow(unsafe_code)")) {
            breaches.push(format!("{}: unsafe code", source.path));
        }
    }
    assert_none(breaches);
}

fn files_are_short() {
    let long = LINES.iter().flat_map(|(folder, most)| {
        let sources = Source::all(folder).into_iter().map(|source| (source.text.lines().count(), source.path));
        sources
            .filter(move |(lines, _)| lines > most)
            .map(move |(lines, path)| format!("{path}: {lines} lines, at most {most}"))
    });
    assert_none(long.collect());
}

fn files_say_what_they_are() {
    let mut breaches = Vec::new();
    for source in ["src", "tests", "benches"].iter().flat_map(|folder| Source::all(folder)) {
        let first = source.text.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") {
            breaches.push(format!("{}: does not begin with a line of //!", source.path));
        }
        let name = Path::new(&source.path).file_stem().unwrap().to_string_lossy().into_owned();
        if EMPTY_NAMES.contains(&name.as_str()) {
            breaches.push(format!("{}: the name says nothing", source.path));
        }
    }
    assert_none(breaches);
}

fn every_file_is_part_of_the_build() {
    let sources: Vec<Source> = ["src", "tests"].iter().flat_map(|folder| Source::all(folder)).collect();
    let mut breaches = Vec::new();
    for source in &sources {
        let path = Path::new(&source.path);
        let (folder, file) = (path.parent().unwrap(), path.file_stem().unwrap().to_string_lossy().into_owned());
        // `a/mod.rs` is declared one folder up; `a/b.rs` in `a/mod.rs`, `a.rs`, or a crate's root.
        let (name, home) = match file.as_str() {
            "main" | "lib" => continue,
            "mod" => (folder.file_name().unwrap().to_string_lossy().into_owned(), folder.parent().unwrap()),
            _ => (file, folder),
        };
        let homes = ["mod.rs", "main.rs", "lib.rs"].map(|file| home.join(file)).into_iter();
        let homes: Vec<PathBuf> = homes.chain([home.with_extension("rs")]).collect();
        let declared = sources.iter().filter(|other| homes.iter().any(|home| home == Path::new(&other.path)));
        let declaration = format!("mod {name};");
        if !declared.into_iter().any(|other| uses(&other.text, &declaration)) {
            breaches.push(format!("{}: no `{declaration}` in {}", source.path, home.display()));
        }
    }
    assert_none(breaches);
}

fn nothing_is_left_for_later() {
    // Put together here, or this file would break its own rule.
    let words = [["TO", "DO"], ["FIX", "ME"], ["unimple", "mented!"], ["to", "do!"]].map(|parts| parts.concat());
    let mut breaches = Vec::new();
    for folder in ["src", "tests", "benches", "scripts", "docs", ".ci"] {
        for path in files(&root().join(folder)) {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            for (number, line) in text.lines().enumerate() {
                let found = words.iter().filter(|word| uses(line, word));
                breaches.extend(found.map(|word| format!("{}:{}: {word}", path.display(), number + 1)));
            }
        }
    }
    assert_none(breaches);
}

fn the_files_of_a_project_are_there() {
    let missing = FILES.iter().filter(|file| !root().join(file).exists());
    assert_none(missing.map(|file| format!("{file} is missing")).collect());
    let changes = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    assert!(changes.contains("## [Unreleased]"), "CHANGELOG.md has no section for what is not released yet");
    let version = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    let release = changes.lines().find(|line| line.starts_with("## [") && !line.starts_with("## [Unreleased]"));
    assert!(
        release.is_none_or(|line| line.starts_with(&version)),
        "the newest release in CHANGELOG.md is not {version}"
    );
}

fn shell_scripts_are_strict() {
    let candidates = files(&root().join("scripts")).into_iter().chain(files(&root().join(".ci")));
    let scripts: Vec<PathBuf> = candidates.filter(|path| path.extension().is_none_or(|ext| ext == "sh")).collect();
    assert!(scripts.len() >= 3, "{scripts:?}");
    for path in scripts {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\nset -euo pipefail\n"), "{} is not strict", path.display());
        Output::of(std::process::Command::new("bash").arg("-n").arg(&path)).ok();
        // A part that others read in needs no mode; what is run does.
        let runs = path.extension().is_none();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o111 != 0, runs, "{}: mode {mode:o}", path.display());
    }
}
