//! The forms in which a value can be written.

use std::fmt;
use std::str::FromStr;

/// How values are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people: tables and lists of fields.
    #[default]
    Table,
    /// JSON, a value a line; indented on a terminal.
    Json,
    /// YAML, a document a value.
    Yaml,
    /// Comma-separated values with a heading (RFC 4180).
    Csv,
    /// A line a row with tabs between, nothing shortened and no heading: for `cut` and `while read`.
    Text,
}

impl Format {
    /// Every form, in declaration order.
    pub const ALL: [Self; 5] = [Self::Table, Self::Json, Self::Yaml, Self::Csv, Self::Text];

    /// Returns the name that `--output` takes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Csv => "csv",
            Self::Text => "text",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|form| form.as_str() == text).ok_or("is not one of table, json, yaml, csv, text")
    }
}
