//! Lines of a text that comes in pieces, at a price that the length of a line does not raise.

/// How much of a line is kept before it is given away: 1 MiB.
const MOST: usize = 1 << 20;

/// The beginning of a line whose end has not come yet.
#[derive(Debug)]
pub struct Lines {
    rest: Vec<u8>,
    cut: bool,
    most: usize,
}

impl Default for Lines {
    /// Gives lines above 1 MiB in pieces.
    fn default() -> Self {
        Self::up_to(MOST)
    }
}

impl Lines {
    /// Gives lines that are longer than this in pieces.
    #[must_use]
    pub fn up_to(most: usize) -> Self {
        Self { rest: Vec::new(), cut: false, most }
    }

    /// Takes more of the text, and gives every line that ends in it, without its end.
    pub fn add(&mut self, mut more: &[u8], mut give: impl FnMut(&[u8])) {
        while let Some(end) = more.iter().position(|byte| *byte == b'\n') {
            let line = &more[..end];
            more = &more[end + 1..];
            let cut = std::mem::take(&mut self.cut);
            if self.rest.is_empty() {
                // The pieces may have been all of it.
                if !(cut && line.is_empty()) {
                    give(line);
                }
            } else {
                self.rest.extend_from_slice(line);
                give(&self.rest);
                self.rest.clear();
            }
        }
        self.rest.extend_from_slice(more);
        let mut given = 0;
        while self.rest.len() - given > self.most {
            let piece = whole_characters(&self.rest[given..given + self.most]);
            give(&self.rest[given..given + piece]);
            given += piece;
            self.cut = true;
        }
        self.rest.drain(..given);
    }

    /// Gives what came after the last end of a line.
    pub fn end(self, mut give: impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            give(&self.rest);
        }
    }
}

/// Returns how much of a piece is whole characters of UTF-8 (RFC 3629, section 3), as far as it is UTF-8.
fn whole_characters(piece: &[u8]) -> usize {
    let start = piece.iter().rposition(|byte| byte & 0xc0 != 0x80).unwrap_or_default();
    let wanted = match piece.get(start) {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => 1,
    };
    if start > 0 && piece.len() - start < wanted { start } else { piece.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut given = Vec::new();
        let mut lines = Lines::default();
        for piece in pieces {
            lines.add(piece, |line| given.push(line.to_vec()));
        }
        lines.end(|line| given.push(line.to_vec()));
        given
    }

    #[test]
    fn lines_are_whole_whatever_the_pieces() {
        assert_eq!(lines(&[b"a\nb", b"", b"c\n\nd"]), [&b"a"[..], b"bc", b"", b"d"]);
        assert_eq!(lines(&[b"a\n"]), [b"a"]);
        assert_eq!(lines(&[]), [] as [&[u8]; 0]);
    }

    #[test]
    fn a_line_without_end_is_given_in_pieces() {
        let text = "aß€😀".repeat(1 << 20);
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(64 << 10).collect();
        let begun = std::time::Instant::now();
        let given = lines(&chunks);
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(given.concat(), text.as_bytes());
        assert!(given.iter().all(|piece| piece.len() <= MOST && std::str::from_utf8(piece).is_ok()));
        assert_eq!(given.len(), text.len() / MOST + 1);
        // The end of such a line is no line of its own.
        let exact = vec![b'x'; MOST];
        assert_eq!(lines(&[&exact, b"y", b"\nnext"]).len(), 3);
        assert_eq!(lines(&[&exact, b"\nnext"]).len(), 2);
        assert_eq!(lines(&[&[0x80; 3 << 20], b"\n"]).concat(), [0x80; 3 << 20]);
    }
}
