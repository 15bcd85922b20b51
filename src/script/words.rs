//! What those call things who come from docker, nerdctl, crictl and ctr, for suggestions.

/// Each word, and what there is here for it.
const WORDS: &[(&str, &str)] = &[
    ("rmi", "image(NAME).delete() or delete_images([NAMES])"),
    ("rm", "delete(ID)"),
    ("top", "ps(ID)"),
    ("stats", "metrics(ID), and Metrics.rate compares two"),
    ("inspect", "container(ID), image(NAME) or image(NAME).inspect()"),
    ("unpause", "resume(ID)"),
    ("history", "image(NAME).history()"),
    ("commit", "container(ID).commit(NAME)"),
    ("rename", "create(ID, IMAGE): a container of containerd keeps its id, so a new one is made"),
    ("build", "load(FILE): buildctl, buildah and nerdctl build, this does not"),
    ("ls", "images(), containers(), tasks() or namespaces()"),
    ("list", "images(), containers(), tasks() or namespaces()"),
    ("volume", "the option mount of create and run"),
    ("volumes", "the option mount of create and run"),
    ("network", "the option cni of create and run"),
    ("networks", "the option cni of create and run"),
    ("pods", "sandboxes::list()"),
    ("search", "registry(HOST).repositories()"),
    ("fetch", "content::fetch(NAME)"),
    ("quit", "exit(), or Ctrl-D at the prompt"),
];

/// Returns what there is here for a word of others.
pub(super) fn meant(word: &str) -> Option<String> {
    WORDS.iter().find(|(name, _)| *name == word).map(|(_, here)| format!("{word} is here: {here}"))
}

/// What there is here for words that Rhai reserves and others have.
const RESERVED: &[(&[&str], &str)] = &[
    (&["match"], "to choose there is switch"),
    (&["null", "nil", "void"], "nothing is written ()"),
    (&["var"], "a variable is made with let"),
    (&["async", "await", "go", "spawn", "thread"], "parallel(LIST, |x| …) does several things at once"),
    (&["use", "package", "module"], "a file is imported by import \"PATH\" as NAME"),
];

/// Says what to do about a reserved word.
pub(super) fn reserved(word: &str) -> String {
    let here = RESERVED.iter().find(|(words, _)| words.contains(&word));
    let here = here.map_or_else(String::new, |(_, here)| format!("; {here}"));
    format!(
        "{word} is a word that Rhai keeps for itself: take another name, {word}_, and [\"{word}\"] for a key of a map{here}"
    )
}

/// Returns the words.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    WORDS.iter().copied()
}
