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

/// How deep texts are looked into that stand in the code of texts.
const DEPTH: usize = 16;

/// Splits a text into words, leaving out what is blank.
#[must_use]
pub fn words(text: &str) -> Vec<Word> {
    split(text, 0).0
}

/// Splits the code that stands so deep in texts, up to the brace that ends it; returns the words and where that is.
fn split(text: &str, depth: usize) -> (Vec<Word>, usize) {
    let mut words = Vec::new();
    let mut open = 0_usize;
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
            let string = string(rest, first, depth);
            (Sort::Text { open: string.open }, string.length)
        } else if first.is_ascii_digit() {
            let number = |c: char| c.is_ascii_alphanumeric() || c == '_';
            (Sort::Number, rest.find(|c| !number(c)).unwrap_or(rest.len()))
        } else if first.is_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let keyword = KEYWORDS.contains(&&rest[..length]);
            (if keyword { Sort::Keyword } else { Sort::Name }, length)
        } else {
            let length = if rest.starts_with("#{") || rest.starts_with("::") { 2 } else { first.len_utf8() };
            match &rest[..length] {
                "{" | "#{" => open += 1,
                "}" if open == 0 && depth > 0 => break,
                "}" => open = open.saturating_sub(1),
                _ => {}
            }
            (Sort::Symbol, length)
        };
        words.push(Word { sort, at: at..at + length });
        at += length;
    }
    (words, at)
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

/// Replaces `_` by the last value's variable, also in the code of texts, except where `switch` has it for all other cases.
#[must_use]
pub fn with_last(text: &str) -> String {
    let mut replaced = String::with_capacity(text.len() + LAST.len());
    let mut done = 0;
    for at in last_values(text, 0) {
        replaced.push_str(&text[done..at]);
        replaced.push_str(LAST);
        done = at + 1;
    }
    replaced.push_str(&text[done..]);
    replaced
}

/// Returns where `_` is the last value in code that stands so deep in texts.
fn last_values(text: &str, depth: usize) -> Vec<usize> {
    let words = split(text, depth).0;
    let mut found = Vec::new();
    for (i, word) in words.iter().enumerate() {
        let (begin, own) = (word.at.start, &text[word.at.clone()]);
        let arm = || words.get(i + 1).is_some_and(|next| text[next.at.start..].starts_with("=>"));
        match word.sort {
            Sort::Name if own == "_" && !arm() => found.push(begin),
            Sort::Text { .. } if own.starts_with('`') => {
                for code in string(own, '`', depth).code {
                    let inside = last_values(&own[code.clone()], depth + 1);
                    found.extend(inside.into_iter().map(|at| begin + code.start + at));
                }
            }
            _ => {}
        }
    }
    found
}

/// What a string is.
struct Text {
    /// How long it is, with its quotes.
    length: usize,
    /// Whether its end is missing.
    open: bool,
    /// Where it has code in it, between `${` and `}`.
    code: Vec<Range<usize>>,
}

/// Reads a string that stands in code so deep in texts.
fn string(text: &str, quote: char, depth: usize) -> Text {
    let mut code = Vec::new();
    let mut at = quote.len_utf8();
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if quote == '`' && rest.starts_with("${") && depth < DEPTH {
            let end = at + 2 + split(&rest[2..], depth + 1).1;
            code.push(at + 2..end);
            at = end;
            continue;
        }
        at += match c {
            '\\' if quote != '`' || rest.starts_with("\\${") => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            c => c.len_utf8(),
        };
        if c == quote {
            return Text { length: at, open: false, code };
        }
    }
    Text { length: text.len(), open: true, code }
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
    fn what_a_text_has_between_braces_is_code() {
        assert_eq!(with_last("`_ ${_.len()} _${ _ }` + _"), "`_ ${_last.len()} _${ _last }` + _last");
        assert_eq!(with_last("`${#{ a: `${_}` }.a} _`"), "`${#{ a: `${_last}` }.a} _`");
        assert_eq!(with_last("`${\"}\" + _} \\${_}` + _"), "`${\"}\" + _last} \\${_}` + _last");
        assert_eq!(with_last("`${_"), "`${_last");
        assert_eq!(with_last("\"${_}\""), "\"${_}\"");
        let text = "`a${f(`b`)}c`.len()";
        assert_eq!(words(text).into_iter().map(|word| &text[word.at]).collect::<Vec<_>>()[..2], ["`a${f(`b`)}c`", "."]);
        // However deep.
        assert_eq!(words(&"`${".repeat(100_000)).len(), 1);
    }

    #[test]
    fn an_open_string_reaches_to_the_end() {
        assert_eq!(words("image(\"dock").last().unwrap(), &Word { sort: Sort::Text { open: true }, at: 6..11 });
    }
}
