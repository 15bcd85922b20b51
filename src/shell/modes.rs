//! What a program changed at a terminal and did not set back: the other screen, the mouse, a hidden cursor.

use std::collections::BTreeMap;

/// The modes that a terminal has on by itself: lines wrap, and there is a cursor. All others are off (xterm's ctlseqs, DECSET).
const ON: [u16; 2] = [7, 25];

/// Watches the private modes in what a program writes: `ESC [ ? NUMBER ; … h` sets them, with `l` they are reset.
#[derive(Debug, Default)]
pub(super) struct Modes {
    /// What was read of a sequence so far; empty outside of one.
    begun: Vec<u8>,
    set: BTreeMap<u16, bool>,
    /// Whether there was any: a terminal that understands none is sent none.
    escaped: bool,
}

impl Modes {
    /// Takes what was written next.
    pub(super) fn see(&mut self, written: &[u8]) {
        self.escaped |= written.contains(&0x1b);
        for byte in written {
            match (self.begun.len(), byte) {
                (_, 0x1b) => self.begun = vec![0x1b],
                (1, b'[') | (2, b'?') | (3..32, b'0'..=b'9' | b';') => self.begun.push(*byte),
                (4.., b'h' | b'l') => {
                    let numbers = String::from_utf8_lossy(&self.begun[3..]).into_owned();
                    for mode in numbers.split(';').filter_map(|number| number.parse().ok()) {
                        self.set.insert(mode, *byte == b'h');
                    }
                    self.begun.clear();
                }
                _ => self.begun.clear(),
            }
        }
    }

    /// Returns what clears the screen below the cursor, where there may be more of what the program drew.
    pub(super) fn below(&self) -> &'static str {
        if self.escaped { "\x1b[J" } else { "" }
    }

    /// Returns what sets back all that is not as a terminal has it by itself, and the colours; nothing when nothing was changed.
    pub(super) fn back(&self) -> String {
        let changed = self.set.iter().filter(|(mode, on)| **on != ON.contains(mode));
        let back: String = changed.map(|(mode, on)| format!("\x1b[?{mode}{}", if *on { 'l' } else { 'h' })).collect();
        if back.is_empty() { back } else { back + "\x1b[0m" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_and_not_set_back_is_set_back() {
        let back = |pieces: &[&str]| {
            let mut modes = Modes::default();
            pieces.iter().for_each(|piece| modes.see(piece.as_bytes()));
            modes.back()
        };
        assert_eq!(back(&["plain \x1b[31mred\x1b[0m [?25l"]), "");
        assert_eq!(back(&["\x1b[?1049h\x1b[?25l text"]), "\x1b[?25h\x1b[?1049l\x1b[0m");
        assert_eq!(back(&["\x1b[?1049h text \x1b[?1049l"]), "");
        // In pieces, and several at once.
        assert_eq!(back(&["a\x1b", "[?10", "00;1006h"]), "\x1b[?1000l\x1b[?1006l\x1b[0m");
        assert_eq!(back(&["\x1b[?25h\x1b[?7h"]), "");
        let mut plain = Modes::default();
        plain.see(b"plain");
        assert_eq!(plain.below(), "");
        assert_eq!(back(&["\x1b[?\x1b[?2004h", &format!("\x1b[?{}h", "1;".repeat(40))]), "\x1b[?2004l\x1b[0m");
    }
}
