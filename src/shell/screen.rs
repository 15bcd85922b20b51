//! The only place that writes to standard output and standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use zeroize::Zeroizing;

use super::style::{Palette, Role, When};
use super::{escape, status};
use crate::kind::{Failure, Kind};
use crate::ops::container::Seat;
use crate::script::Sink;

/// How wide things are drawn when nobody says how wide the terminal is.
const DEFAULT_WIDTH: usize = 80;

/// One of the two outputs.
struct Output {
    to: Mutex<Box<dyn Write + Send>>,
    terminal: bool,
    palette: Palette,
}

/// What hides the progress bars while something is written above them.
type Aside = Box<dyn Fn(&mut dyn FnMut()) + Send + Sync>;

/// Standard output and standard error.
pub struct Screen {
    out: Output,
    err: Output,
    width: Option<usize>,
    json_errors: bool,
    closed: AtomicBool,
    lost: OnceLock<Option<Kind>>,
    on_closed: OnceLock<Box<dyn Fn() + Send + Sync>>,
    aside: OnceLock<Aside>,
    secret: Mutex<Option<Zeroizing<String>>>,
}

/// How a screen writes.
pub struct Outputs {
    /// Standard output.
    pub out: Box<dyn Write + Send>,
    /// Standard error.
    pub err: Box<dyn Write + Send>,
    /// Whether standard output is a terminal.
    pub out_terminal: bool,
    /// Whether standard error is a terminal.
    pub err_terminal: bool,
    /// A width that holds instead of the terminal's.
    pub width: Option<usize>,
}

impl Outputs {
    /// Returns the process's own outputs.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            out_terminal: io::stdout().is_terminal(),
            err_terminal: io::stderr().is_terminal(),
            width: None,
        }
    }
}

impl Screen {
    /// Makes a screen. `plain` says that a terminal wants no colours; `json_errors` that programs read the errors.
    #[must_use]
    pub fn new(outputs: Outputs, color: When, plain: bool, json_errors: bool) -> Self {
        let palette = |terminal: bool| {
            Palette::new(match color {
                When::Always => true,
                When::Never => false,
                When::Auto => terminal && !plain,
            })
        };
        let Outputs { out, err, out_terminal, err_terminal, width } = outputs;
        Self {
            out: Output { to: Mutex::new(out), terminal: out_terminal, palette: palette(out_terminal) },
            err: Output { to: Mutex::new(err), terminal: err_terminal, palette: palette(err_terminal) },
            width,
            json_errors,
            closed: AtomicBool::new(false),
            lost: OnceLock::new(),
            on_closed: OnceLock::new(),
            aside: OnceLock::new(),
            secret: Mutex::new(None),
        }
    }

    /// Sets what is done when nobody reads standard output any more.
    pub fn on_closed(&self, hook: impl Fn() + Send + Sync + 'static) {
        // Only the shell sets it, and once.
        let _ = self.on_closed.set(Box::new(hook));
    }

    /// Sets what hides the progress bars while something is written.
    pub fn set_aside(&self, aside: impl Fn(&mut dyn FnMut()) + Send + Sync + 'static) {
        let _ = self.aside.set(Box::new(aside));
    }

    /// Sets the secret that is given to whoever asks for one, in place of the user's answer.
    pub(super) fn set_secret(&self, secret: Option<String>) {
        *self.secret.lock().unwrap_or_else(PoisonError::into_inner) = secret.map(Zeroizing::new);
    }

    /// Returns whether nobody reads standard output any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Returns the status to end with when standard output took no more though somebody reads it, as a full disk.
    #[must_use]
    pub fn lost(&self) -> Option<u8> {
        self.lost.get().map(|kind| kind.map_or(status::FAILED, status::of_kind))
    }

    /// Returns whether standard output is a terminal.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.out.terminal
    }

    /// Returns whether standard error is a terminal.
    #[must_use]
    pub fn err_is_terminal(&self) -> bool {
        self.err.terminal
    }

    /// Returns the colours of standard output.
    #[must_use]
    pub fn palette(&self) -> Palette {
        self.out.palette
    }

    /// Returns the colours of standard error.
    #[must_use]
    pub fn err_palette(&self) -> Palette {
        self.err.palette
    }

    /// Returns whether errors are to be JSON.
    #[must_use]
    pub fn json_errors(&self) -> bool {
        self.json_errors
    }

    /// Returns how wide standard output is, or nothing when it is no terminal.
    #[must_use]
    pub fn width(&self) -> Option<usize> {
        if self.width.is_some() {
            return self.width;
        }
        self.out.terminal.then(|| {
            let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
            size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(DEFAULT_WIDTH)
        })
    }

    /// Writes text that is already safe and styled to standard output, with a line end.
    pub fn line(&self, text: &str) {
        self.write(&self.out, text, "\n");
    }

    /// Writes text that is already safe to standard output as it is.
    pub fn raw(&self, text: &str) {
        self.write(&self.out, text, "");
    }

    /// Writes text that is already safe and styled to standard error, with a line end.
    pub fn tell(&self, text: &str) {
        self.write(&self.err, text, "\n");
    }

    /// Writes a remark to standard error: a word in its colour, then text from anywhere.
    pub fn remark(&self, role: Role, word: &str, text: &str) {
        let word = self.err.palette.paint(role, word);
        self.tell(&format!("{word}: {}", escape::text(text)));
    }

    /// Writes a failure and its cure to standard error.
    pub fn failure(&self, failure: &dyn Failure) {
        let message = crate::kind::chain(failure);
        if self.json_errors {
            let error = serde_json::json!({ "error": {
                "kind": failure.kind().as_str(), "message": message, "hint": failure.hint(),
            }});
            self.tell(&escape::json(&error.to_string()));
            return;
        }
        self.remark(Role::Error, "error", &message);
        if let Some(hint) = failure.hint() {
            self.hint(&hint);
        }
    }

    /// Writes what to do about a failure.
    pub fn hint(&self, hint: &str) {
        let word = self.err.palette.paint(Role::Note, "hint");
        self.tell(&format!("  {word}: {}", escape::text(hint)));
    }

    fn write(&self, output: &Output, text: &str, end: &str) {
        let write = || {
            let mut to = output.to.lock().unwrap_or_else(PoisonError::into_inner);
            // In one piece, so that lines of several writers do not run into one another.
            to.write_all(&[text.as_bytes(), end.as_bytes()].concat()).and_then(|()| to.flush())
        };
        let mut result = Ok(());
        match self.aside.get() {
            Some(aside) if self.out.terminal || self.err.terminal => aside(&mut || result = write()),
            _ => result = write(),
        }
        // Where standard error cannot be written to there is nobody left to tell.
        let Err(error) = result else { return };
        if !std::ptr::eq(output, &raw const self.out) || self.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        if error.kind() != io::ErrorKind::BrokenPipe {
            let kind = Kind::of_io(&error);
            let _ = self.lost.set(kind);
            self.remark(Role::Error, "error", &format!("cannot write to standard output: {error}"));
            if kind == Some(Kind::NoSpace) {
                self.hint("make room where it goes, and run it again");
            }
        }
        if let Some(hook) = self.on_closed.get() {
            hook();
        }
    }
}

impl Sink for Screen {
    fn print(&self, text: &str) {
        if self.out.terminal { self.line(&escape::text(text)) } else { self.line(text) }
    }

    fn debug(&self, text: &str, at: &str) {
        let at = self.err.palette.paint(Role::Faint, &escape::line(at));
        self.tell(&format!("{at} {}", escape::text(text)));
    }

    fn ask_secret(&self, prompt: &str) -> Option<String> {
        let given =
            self.secret.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|secret| secret.to_string());
        given.or_else(|| super::secret::ask(&escape::line(prompt)))
    }

    fn secret_line(&self) -> Option<String> {
        super::secret::line()
    }

    fn seat(&self) -> Option<&dyn Seat> {
        (self.out.terminal && io::stdin().is_terminal()).then_some(self)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;

    /// What a screen wrote.
    #[derive(Clone, Default)]
    pub(crate) struct Written(Arc<Mutex<[Vec<u8>; 2]>>);

    struct Half(Written, usize);

    impl Write for Half {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.0.lock().unwrap()[self.1].extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        pub(crate) fn out(&self) -> String {
            String::from_utf8(self.0.lock().unwrap()[0].clone()).unwrap()
        }

        pub(crate) fn err(&self) -> String {
            String::from_utf8(self.0.lock().unwrap()[1].clone()).unwrap()
        }
    }

    /// Makes a screen that writes to memory and is no terminal.
    pub(crate) fn captured() -> (Arc<Screen>, Written) {
        let written = Written::default();
        let outputs = Outputs {
            out: Box::new(Half(written.clone(), 0)),
            err: Box::new(Half(written.clone(), 1)),
            out_terminal: false,
            err_terminal: false,
            width: Some(80),
        };
        (Arc::new(Screen::new(outputs, When::Auto, false, false)), written)
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_told_once() {
        let outputs =
            Outputs { out: Box::new(Gone), err: Box::new(Gone), out_terminal: false, err_terminal: false, width: None };
        let screen = Screen::new(outputs, When::Auto, false, false);
        let told = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&told);
        screen.on_closed(move || *counter.lock().unwrap() += 1);
        screen.line("a");
        screen.line("b");
        assert!(screen.is_closed());
        assert_eq!(*told.lock().unwrap(), 1);
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_disk_that_is_full_is_told_once() {
        let written = Written::default();
        let err = Box::new(Half(written.clone(), 1));
        let outputs = Outputs { out: Box::new(Full), err, out_terminal: false, err_terminal: false, width: None };
        let screen = Screen::new(outputs, When::Auto, false, false);
        screen.line("a");
        screen.line("b");
        assert_eq!(screen.lost(), Some(status::NO_SPACE));
        assert_eq!(written.err().matches("cannot write to standard output").count(), 1, "{}", written.err());
    }

    #[test]
    fn prints_go_out_and_remarks_go_to_standard_error() {
        let (screen, written) = captured();
        screen.print("value\x1b[31m");
        screen.remark(Role::Warning, "warning", "careful");
        assert_eq!(written.out(), "value\x1b[31m\n");
        assert_eq!(written.err(), "warning: careful\n");
    }
}
