//! Text that came from elsewhere, made harmless for a terminal.
//!
//! Names, labels, registries' messages and output of containers can hold control sequences that move the cursor, change
//! the clipboard or turn text round. Everything of ours that reaches a terminal goes through here.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns whether a terminal would not simply show the character.
fn is_active(c: char) -> bool {
    c.is_control()
        // Marks, embeddings, overrides and isolates of the bidirectional algorithm (UAX #9), and line separators.
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes whatever a terminal would act on, except line ends and tabs.
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\n' || c == '\t')
}

/// Escapes whatever a terminal would act on, line ends and tabs too: for one cell or one line.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(|c| is_active(c) && !keep(c)) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if keep(c) || !is_active(c) => escaped.push(c),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c => {
                let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    Cow::Owned(escaped)
}

/// Escapes in JSON what its writer leaves as it is: the characters beyond ASCII that a terminal would act on.
#[must_use]
pub fn json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(|c| is_active(c) && c != '\n') {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_active(c) && c != '\n' {
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_sequence() {
        assert_eq!(text("a\x1b]0;title\x07b"), "a\\u{1b}]0;title\\u{7}b");
        assert_eq!(text("rtl \u{202e}gnp.exe \u{9b}31m"), "rtl \\u{202e}gnp.exe \\u{9b}31m");
        assert_eq!(text("two\nlines\tand a tab, ünïcode"), "two\nlines\tand a tab, ünïcode");
        assert_eq!(line("two\nlines"), "two\\nlines");
    }

    #[test]
    fn json_stays_json() {
        let value = serde_json::json!({ "name": "a\u{202e}b\u{9b}c\x1b" });
        let escaped = json(&value.to_string()).into_owned();
        assert!(!escaped.chars().any(is_active), "{escaped}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }
}
