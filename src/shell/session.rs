//! The lines of a session: what was entered, and a script of it.

use super::lex::{self, Sort};

/// What was entered at a prompt, apart from the shell's own lines.
#[derive(Debug, Default)]
pub(super) struct Session {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    text: String,
    succeeded: bool,
}

impl Session {
    /// Takes in a line that has run.
    pub(super) fn note(&mut self, text: String, succeeded: bool) {
        self.lines.push(Line { text, succeeded });
    }

    /// Returns every line, oldest first.
    pub(super) fn lines(&self) -> impl ExactSizeIterator<Item = &str> {
        self.lines.iter().map(|line| line.text.as_str())
    }

    /// Writes a script of the lines that succeeded, and says of how many. The last value, `_`, becomes a variable where the line
    /// before is one expression; where it is not, what uses it is left as a comment. `parses` says whether a text is a script.
    pub(super) fn script(&self, parses: impl Fn(&str) -> bool) -> (String, usize) {
        let lines: Vec<&str> =
            self.lines.iter().filter(|line| line.succeeded).map(|line| line.text.trim_end()).collect();
        let mut script = String::new();
        // Whether the variable has the value of the line before.
        let (mut has_last, mut declared) = (false, false);
        for (i, line) in lines.iter().enumerate() {
            let text = lex::with_last(line);
            if text != *line && !has_last {
                script.push_str("// _ has no value here that a script could name:\n");
                line.lines().for_each(|line| script.extend(["// ", line, "\n"]));
                continue;
            }
            let (code, comment) = parted(&text);
            let kept = format!("{}{} = ({code});", if declared { "" } else { "let " }, lex::LAST);
            let used = lines.get(i + 1).is_some_and(|next| lex::with_last(next) != *next);
            has_last = used && parses(&kept);
            declared |= has_last;
            if has_last {
                script.push_str(&kept);
            } else {
                script.push_str(code);
                script.push_str(if code.is_empty() { "" } else { ";" });
            }
            script.push_str(comment);
            script.push('\n');
        }
        (script, lines.len())
    }
}

/// Parts a line into what runs, without semicolons at its end, and the comments behind that.
fn parted(text: &str) -> (&str, &str) {
    let words = lex::words(text);
    let is_end = |word: &&lex::Word| word.sort == Sort::Comment || &text[word.at.clone()] == ";";
    let end = words.iter().rev().find(|word| !is_end(word)).map_or(0, |word| word.at.end);
    let behind = words.iter().find(|word| word.at.start >= end && word.sort == Sort::Comment);
    (&text[..end], behind.map_or("", |comment| &text[if end == 0 { comment.at.start } else { end }..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(lines: &[(&str, bool)]) -> String {
        let mut session = Session::default();
        for (line, succeeded) in lines {
            session.note((*line).to_owned(), *succeeded);
        }
        let engine = rhai::Engine::new();
        let (text, _) = session.script(|text| engine.compile(text).is_ok());
        assert!(engine.compile(&text).is_ok(), "{text}");
        text
    }

    #[test]
    fn only_what_succeeded_is_written() {
        assert_eq!(
            script(&[("let a = 1", true), ("a +", false), ("nope()", false), ("a + 1;", true)]),
            "let a = 1;\na + 1;\n"
        );
    }

    #[test]
    fn the_last_value_is_a_variable_or_the_line_a_comment() {
        assert_eq!(
            script(&[("40 + 2;", true), ("_ + 1", true), ("_ * 2", true)]),
            "let _last = (40 + 2);\n_last = (_last + 1);\n_last * 2;\n"
        );
        let text = script(&[("let a = 1", true), ("print(_)", true), ("a", true)]);
        assert_eq!(text, "let a = 1;\n// _ has no value here that a script could name:\n// print(_)\na;\n");
        // What failed left the last value as it was.
        assert_eq!(script(&[("7", true), ("nope()", false), ("_", true)]), "let _last = (7);\n_last;\n");
        assert_eq!(script(&[("1; 2", true), ("_", true)]).lines().next(), Some("1; 2;"));
    }

    #[test]
    fn comments_swallow_nothing() {
        assert_eq!(
            script(&[("1 // one", true), ("\"//\"", true), ("// alone", true)]),
            "1; // one\n\"//\";\n// alone\n"
        );
        assert_eq!(script(&[("1 // one", true), ("_", true)]), "let _last = (1); // one\n_last;\n");
    }
}
