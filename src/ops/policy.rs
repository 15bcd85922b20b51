//! Who is asked before a change, and who is told afterwards.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;

use serde_json::json;

use crate::kind::Failure;
use crate::ops::error::{Error, Result};
use crate::ops::plan::Step;

/// Asks the user before more than one thing is deleted.
pub trait Confirm: Send + Sync {
    /// Returns whether to go on with these steps.
    fn confirm(&self, operation: &str, subject: &str, steps: &[Step]) -> bool;
}

/// Goes on without asking, as scripts do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unasked;

impl Confirm for Unasked {
    fn confirm(&self, _operation: &str, _subject: &str, _steps: &[Step]) -> bool {
        true
    }
}

/// Appends one JSON line a change to a file that only its owner can read.
#[derive(Debug)]
pub struct Audit {
    path: String,
    file: Mutex<File>,
}

impl Audit {
    /// Opens the file for appending, making it with mode 0600 when it is not there.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| Error::File { attempted: "open the audit file", path: shown.clone(), source })?;
        Ok(Self { path: shown, file: Mutex::new(file) })
    }

    /// Writes down one change that was applied, or that failed on the way.
    ///
    /// # Errors
    /// [`Error::File`] when the line cannot be written: a change that cannot be audited must be known.
    pub fn record(
        &self,
        operation: &str,
        subject: &str,
        steps: &[Step],
        outcome: std::result::Result<(), &Error>,
    ) -> Result<()> {
        let line = json!({
            "time": chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            "operation": operation,
            "subject": subject,
            "steps": steps.iter().map(|s| json!({
                "access": s.access.as_str(), "target": s.target, "action": s.action,
            })).collect::<Vec<_>>(),
            "result": outcome.map_or_else(|e| e.kind().as_str(), |()| "ok"),
            "error": outcome.err().map(ToString::to_string),
        });
        let mut text = line.to_string();
        text.push('\n');
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.write_all(text.as_bytes()).map_err(|source| Error::File {
            attempted: "write the audit file",
            path: self.path.clone(),
            source,
        })
    }
}
