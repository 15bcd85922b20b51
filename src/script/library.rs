//! The ready scripts of `scripts/`, which are in the binary: `import "std/prune" as prune;` and `ctrsh std/prune`.
//!
//! A ready script is a module and a program in one file: its functions are for those that import it, and what stands below
//! `if is_main()` runs when it is the program. The lines of `//!` at its beginning are its manual, in Markdown: the first
//! line says what it does.

use std::fmt::Write as _;

/// What stands before the name of a ready script.
pub const PREFIX: &str = "std/";

/// A ready script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Script {
    /// The name that follows [`PREFIX`].
    pub name: &'static str,
    /// The text.
    pub text: &'static str,
}

macro_rules! scripts {
    ($($name:literal),* $(,)?) => {
        &[$(Script { name: $name, text: include_str!(concat!("../../scripts/", $name, ".rhai")) }),*]
    };
}

/// All of them, by name.
pub const SCRIPTS: &[Script] = scripts![
    "bundle",
    "docker-to-containerd",
    "image-report",
    "mirror",
    "node-to-node",
    "prune",
    "registry-to-harbor",
    "restart-on-failure"
];

/// What the page of the ready scripts says before it comes to them.
const INTRODUCTION: &str = "\
# Ready scripts

They are in the binary. As programs they are called `std/NAME`; a script imports them and calls their functions:

```sh
ctrsh scripts            # lists them
ctrsh scripts prune      # the manual of one
```

```rhai
import \"std/prune\" as prune;
print(prune::by_policy(#{ keep: 3 }));
```

Each is a file of `scripts/` to read and to start from. Like every script it has all access but `host`, unless `--allow` says
otherwise; what each needs is named below. `--dry-run` before the name shows what it would change and changes nothing. This page
is made by `ctrsh scripts --markdown`.
";

impl Script {
    /// Returns what it is called on the command line and in an import: `std/prune`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// Returns its manual, in Markdown.
    #[must_use]
    pub fn manual(&self) -> String {
        let lines = self.text.lines().map_while(|line| line.strip_prefix("//!"));
        lines.fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{}", line.strip_prefix(' ').unwrap_or(line));
            text
        })
    }

    /// Returns the first sentence of its manual.
    #[must_use]
    pub fn summary(&self) -> &'static str {
        self.text.lines().next().and_then(|line| line.strip_prefix("//! ")).unwrap_or_default()
    }
}

/// Finds a ready script by its path, `std/prune`.
#[must_use]
pub fn find(path: &str) -> Option<&'static Script> {
    let name = path.strip_prefix(PREFIX)?;
    let name = name.strip_suffix(".rhai").unwrap_or(name);
    SCRIPTS.iter().find(|script| script.name == name)
}

/// Writes what each of them does, with a line each.
#[must_use]
pub fn overview() -> String {
    let width = SCRIPTS.iter().map(|script| script.path().len()).max().unwrap_or_default();
    SCRIPTS.iter().fold(String::new(), |mut text, script| {
        let _ = writeln!(text, "  {:width$}  {}", script.path(), script.summary());
        text
    })
}

/// Writes the manual of all: `docs/scripts.md`.
#[must_use]
pub fn markdown() -> String {
    SCRIPTS.iter().fold(String::from(INTRODUCTION), |mut text, script| {
        let _ = write!(text, "\n## {}\n\n{}", script.path(), script.manual());
        text
    })
}
