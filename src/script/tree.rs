//! Trees as text.

/// Draws lines that each say how deep they stand, a line before those below it.
pub(crate) fn draw(lines: &[(usize, String)]) -> String {
    // From the last line upwards it is known at which depths another line follows.
    let mut follows: Vec<bool> = Vec::new();
    let mut drawn: Vec<String> = Vec::with_capacity(lines.len());
    for (depth, text) in lines.iter().rev() {
        follows.resize(follows.len().max(depth + 1), false);
        let mut line = String::new();
        for open in &follows[1..(*depth).max(1)] {
            line.push_str(if *open { "│   " } else { "    " });
        }
        if *depth > 0 {
            line.push_str(if follows[*depth] { "├── " } else { "└── " });
        }
        line.push_str(&one_line(text));
        drawn.push(line);
        follows.truncate(depth + 1);
        follows[*depth] = true;
    }
    drawn.reverse();
    drawn.join("\n")
}

/// containerd takes names with line ends and commands for terminals in them; none of them makes a line of its own.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_end_at_the_last_of_each_depth() {
        let lines = [(0, "a"), (1, "b"), (2, "c"), (2, "d\n"), (1, "e"), (2, "f"), (0, "g"), (1, "h"), (2, "i")];
        let drawn = draw(&lines.map(|(depth, text)| (depth, text.to_owned())));
        let expected = ["a", "├── b", "│   ├── c", "│   └── d\\n", "└── e", "    └── f", "g", "└── h", "    └── i"];
        assert_eq!(drawn.lines().collect::<Vec<_>>(), expected);
        assert_eq!(draw(&[]), "");
    }
}
