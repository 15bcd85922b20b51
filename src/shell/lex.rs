//! The words of a script, as far as colours and completion need them; whether it is right is the interpreter's business.

use std::ops::Range;

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A name.
    Name,
    /// A word of the language.
    Keyword,
    /// A number.
    Number,
    /// A string, with its quotes; `open` when its end is missing.
    Text {
        /// Whether the closing quote is missing.
        open: bool,
    },
    /// A comment.
    Comment,
    /// Anything else, a character each, but `#{` and `::` as one.
    Symbol,
}

/// A word and where it stands, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What it is.
    pub sort: Sort,
    /// Where it stands.
    pub at: Range<usize>,
}

/// The words of the language.
pub const KEYWORDS: [&str; 25] = [
    "let", "const", "if", "else", "switch", "do", "while", "until", "loop", "for", "in", "continue", "break", "fn",
    "private", "this", "return", "throw", "try", "catch", "import", "export", "as", "true", "false",
];

/// Splits a text into words, leaving out what is blank.
#[must_use]
pub fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (sort, length) = if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        } else if rest.starts_with("//") {
            (Sort::Comment, rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            (Sort::Comment, rest.find("*/").map_or(rest.len(), |end| end + 2))
        } else if matches!(first, '"' | '`' | '\'') {
            let (length, open) = string(rest, first);
            (Sort::Text { open }, length)
        } else if first.is_ascii_digit() {
            let number = |c: char| c.is_ascii_alphanumeric() || c == '_';
            (Sort::Number, rest.find(|c| !number(c)).unwrap_or(rest.len()))
        } else if first.is_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let keyword = KEYWORDS.contains(&&rest[..length]);
            (if keyword { Sort::Keyword } else { Sort::Name }, length)
        } else if rest.starts_with("#{") || rest.starts_with("::") {
            (Sort::Symbol, 2)
        } else {
            (Sort::Symbol, first.len_utf8())
        };
        words.push(Word { sort, at: at..at + length });
        at += length;
    }
    words
}

/// Returns whether a text ends in a semicolon, whatever comments follow.
#[must_use]
pub fn ends_in_semicolon(text: &str) -> bool {
    let words = words(text);
    let last = words.iter().rev().find(|word| word.sort != Sort::Comment);
    last.is_some_and(|word| &text[word.at.clone()] == ";")
}

/// What the variable of the last value is called in the scope: `_` alone is no name in Rhai.
pub const LAST: &str = "_last";

/// Replaces `_` by the last value's variable, except where `switch` has it for all other cases.
#[must_use]
pub fn with_last(text: &str) -> String {
    let words = words(text);
    let mut replaced = String::with_capacity(text.len() + LAST.len());
    let mut done = 0;
    for (i, word) in words.iter().enumerate() {
        let arm = words.get(i + 1).is_some_and(|next| text[next.at.start..].starts_with("=>"));
        if &text[word.at.clone()] == "_" && word.sort == Sort::Name && !arm {
            replaced.push_str(&text[done..word.at.start]);
            replaced.push_str(LAST);
            done = word.at.end;
        }
    }
    replaced.push_str(&text[done..]);
    replaced
}

/// Returns how long a string is, and whether its end is missing.
fn string(text: &str, quote: char) -> (usize, bool) {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            c if c == quote => return (i + 1, false),
            _ => {}
        }
    }
    (text.len(), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_into_its_words() {
        let text = "let x = pull(\"a\\\"b\", #{ all: 1_0 }); // end";
        let found: Vec<_> = words(text).into_iter().map(|word| (word.sort, &text[word.at])).collect();
        assert_eq!(found[0], (Sort::Keyword, "let"));
        assert_eq!(found[3], (Sort::Name, "pull"));
        assert_eq!(found[5], (Sort::Text { open: false }, "\"a\\\"b\""));
        assert_eq!(found[7], (Sort::Symbol, "#{"));
        assert_eq!(found[10], (Sort::Number, "1_0"));
        assert_eq!(found.last().unwrap(), &(Sort::Comment, "// end"));
    }

    #[test]
    fn the_last_value_is_a_variable_and_the_other_cases_are_not() {
        assert_eq!(with_last("_.len() + f(_, a_b)"), "_last.len() + f(_last, a_b)");
        assert_eq!(with_last("switch _ { 1 => \"_\", _ => 2 }"), "switch _last { 1 => \"_\", _ => 2 }");
    }

    #[test]
    fn an_open_string_reaches_to_the_end() {
        assert_eq!(words("image(\"dock").last().unwrap(), &Word { sort: Sort::Text { open: true }, at: 6..11 });
    }
}
