//! Colours, for terminals that want them.

use std::fmt;
use std::str::FromStr;

/// A role that text plays, which sets its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A heading.
    Heading,
    /// An error's first word, and what it points at.
    Error,
    /// A warning's first word.
    Warning,
    /// A remark's first word, and hints.
    Note,
    /// What frames other text: line numbers, rules.
    Frame,
    /// What matters less.
    Faint,
    /// A string in a script.
    Text,
    /// A number in a script.
    Number,
    /// A keyword of the language.
    Keyword,
    /// A function of the catalog.
    Function,
    /// A line of the shell's own.
    Command,
    /// What went well.
    Good,
}

impl Role {
    /// Returns the SGR parameters (ECMA-48, section 8.3.117).
    const fn codes(self) -> &'static str {
        match self {
            Self::Heading => "1",
            Self::Error => "1;31",
            Self::Warning => "1;33",
            Self::Note => "1;36",
            Self::Frame => "34",
            Self::Faint => "2",
            Self::Text | Self::Good => "32",
            Self::Number => "36",
            Self::Keyword => "35",
            Self::Function => "34",
            Self::Command => "33",
        }
    }
}

/// Whether and how to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    on: bool,
}

impl Palette {
    /// Makes a palette that colours, or one that does not.
    #[must_use]
    pub const fn new(on: bool) -> Self {
        Self { on }
    }

    /// Returns whether it colours.
    #[must_use]
    pub const fn is_on(self) -> bool {
        self.on
    }

    /// Returns the text in the colour of its role.
    #[must_use]
    pub fn paint(self, role: Role, text: &str) -> String {
        if self.on && !text.is_empty() { format!("\x1b[{}m{text}\x1b[0m", role.codes()) } else { text.to_owned() }
    }
}

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum When {
    /// On a terminal, unless `NO_COLOR` is set (no-color.org) or the terminal is dumb.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl FromStr for When {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err("is not one of auto, always, never"),
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}
