//! Signals by name and number.

use std::fmt;
use std::str::FromStr;

use crate::ops::Error;

/// A signal (signal(7), the numbers of Linux on x86 and ARM).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(u32);

const NAMES: [(&str, u32); 33] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The first real-time signal that libc leaves to programs, and the last one.
const REAL_TIME: (u32, u32) = (34, 64);

impl Signal {
    /// Asks to end.
    pub const TERM: Self = Self(15);
    /// Ends at once.
    pub const KILL: Self = Self(9);

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Lists the names, for completion.
    pub fn names() -> impl Iterator<Item = String> {
        NAMES.iter().map(|(name, _)| format!("SIG{name}"))
    }
}

impl FromStr for Signal {
    type Err = Error;

    /// Reads `SIGTERM`, `term`, `15`, `RTMIN+3` or `RTMAX-1`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let by_number = name.parse::<u32>().ok();
        let by_name = || NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        let offset = |rest: &str, sign: char| match rest {
            "" => Some(0),
            rest => rest.strip_prefix(sign)?.parse::<u32>().ok(),
        };
        let real_time = || {
            let low = name.strip_prefix("RTMIN").and_then(|rest| REAL_TIME.0.checked_add(offset(rest, '+')?));
            low.or_else(|| name.strip_prefix("RTMAX").and_then(|rest| REAL_TIME.1.checked_sub(offset(rest, '-')?)))
                .filter(|number| (REAL_TIME.0..=REAL_TIME.1).contains(number))
        };
        by_number
            .or_else(by_name)
            .or_else(real_time)
            .filter(|number| (1..=REAL_TIME.1).contains(number))
            .map(Self)
            .ok_or_else(|| Error::Argument {
                name: format!("signal '{}'", text.escape_debug()),
                problem: "is not a signal".into(),
                cure: Some("give a name like SIGTERM or a number from 1 to 64".into()),
            })
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read() {
        for (text, number) in
            [("SIGTERM", 15), ("term", 15), ("9", 9), ("RTMIN", 34), ("sigrtmin+3", 37), ("RTMAX-1", 63)]
        {
            assert_eq!(text.parse::<Signal>().unwrap().number(), number, "{text}");
        }
        for text in ["", "0", "65", "NOPE", "RTMIN+31", "RTMAX-31", "RTMIN-1", "-1", "RTMAX-99"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
        assert_eq!(Signal::KILL.to_string(), "SIGKILL");
    }
}
