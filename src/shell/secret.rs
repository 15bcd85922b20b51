//! Asking for a secret: on the terminal without showing it, or as a line of standard input.

use std::fs::OpenOptions;
use std::io::{self, BufRead, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const CTRL_U: u8 = 21;
const ESCAPES: [u8; 2] = [8, 127];

/// The longest secret that is read.
const MAX: usize = 4096;

/// Sets the terminal back whatever happens.
struct Quiet<'a> {
    terminal: &'a std::fs::File,
    before: Termios,
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no setting back.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Asks on the user's terminal, also when standard input is something else. `None` when there is none, or Ctrl-C was pressed.
pub(super) fn ask(prompt: &str) -> Option<String> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
    write!(terminal, "{prompt}").ok()?;
    let other = terminal.try_clone().ok()?;
    let before = tcgetattr(&other).ok()?;
    let mut silent = before.clone();
    silent.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    tcsetattr(&other, OptionalActions::Flush, &silent).ok()?;
    let quiet = Quiet { terminal: &other, before };
    let secret = read_keys(&mut terminal);
    drop(quiet);
    let _ = writeln!(terminal);
    secret
}

/// Reads keys up to Enter.
fn read_keys(keys: &mut impl Read) -> Option<String> {
    let mut typed = Zeroizing::new(Vec::new());
    let mut key = [0];
    loop {
        match keys.read(&mut key) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return None,
        }
        match key[0] {
            b'\r' | b'\n' => return String::from_utf8(typed.to_vec()).ok(),
            CTRL_C | CTRL_D => return None,
            CTRL_U => typed.clear(),
            key if ESCAPES.contains(&key) => {
                typed.pop();
            }
            key if typed.len() < MAX => typed.push(key),
            _ => {}
        }
    }
}

/// Reads one line of standard input, without its end. `None` when there is none.
pub(super) fn line() -> Option<String> {
    let mut text = String::new();
    let read = io::stdin().lock().take(MAX as u64).read_line(&mut text).ok()?;
    (read > 0).then(|| text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_a_terminal_reads_them() {
        for (keys, secret) in [
            (&b"abc\r"[..], Some("abc")),
            (b"abx\x7fc\n", Some("abc")),
            (b"wrong\x15abc\r", Some("abc")),
            (b"\r", Some("")),
            (b"ab\x03c\r", None),
            (b"ab", None),
        ] {
            assert_eq!(read_keys(&mut &keys[..]).as_deref(), secret, "{keys:?}");
        }
    }
}
