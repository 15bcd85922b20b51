//! What a program said, and running programs for it.

use std::fmt;
use std::io::Write;
use std::process::{Command, Stdio};

/// How a program ended and what it wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// The exit status, or 128 and the signal's number as shells have it.
    pub status: i32,
    /// What it wrote on standard output.
    pub stdout: String,
    /// What it wrote on standard error.
    pub stderr: String,
}

impl Output {
    /// Runs a command to its end with nothing on its standard input.
    pub fn of(command: &mut Command) -> Self {
        Self::with_input(command, b"")
    }

    /// Runs a command to its end with bytes on its standard input.
    pub fn with_input(command: &mut Command, input: &[u8]) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let line = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {line}: {error}"));
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        // From a thread, or a program that answers while it reads would wait for us and we for it.
        let writer = std::thread::spawn(move || {
            // A program that does not read all of its input is in its right.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let status = output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal)).unwrap();
        Self {
            command: line,
            status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Returns whether it ended with 0.
    pub fn succeeded(&self) -> bool {
        self.status == 0
    }

    /// Returns itself, or panics with everything that is known when the status is another.
    #[track_caller]
    pub fn expect_status(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// Returns what it wrote on standard output, or panics when it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        self.expect_status(0).stdout
    }

    /// Returns the lines of its standard output without blank ones, or panics when it failed.
    #[track_caller]
    pub fn lines(self) -> Vec<String> {
        self.ok().lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, status, stdout, stderr } = self;
        write!(f, "{command}\nstatus {status}\nstdout:\n{stdout}\nstderr:\n{stderr}")
    }
}
