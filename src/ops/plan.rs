//! What a change would do, before it is done.

use std::fmt;

use crate::grant::Access;
use crate::ops::local::LocalPath;
use crate::ops::overlay::Effect;

/// One thing that a change would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The class of access that the step needs.
    pub access: Access,
    /// The daemon, registry or path that it changes, as grants name it: `containerd/k8s.io`, `HOST/REPOSITORY`, a path.
    pub target: String,
    /// What it does, as an imperative: `create image docker.io/library/nginx:alpine`.
    pub action: String,
    /// How many bytes it moves or frees, where that is known.
    pub bytes: Option<u64>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{} {}]", self.action, self.access, self.target)?;
        if let Some(bytes) = self.bytes {
            write!(f, " {bytes} bytes")?;
        }
        Ok(())
    }
}

/// What a change would do, and what it would return.
#[derive(Debug, Clone)]
pub struct Plan<T> {
    /// The steps, in order. None means that there is nothing to do.
    pub steps: Vec<Step>,
    /// The value that the call returns in a dry run, complete enough to go on with.
    pub preview: T,
    /// How the world would look to later reads of the same dry run.
    pub effects: Vec<Effect>,
}

impl<T> Plan<T> {
    /// Starts a plan that does nothing and returns the value.
    pub fn new(preview: T) -> Self {
        Self { steps: Vec::new(), preview, effects: Vec::new() }
    }

    /// Returns the same plan with the value that the call returns in a dry run.
    pub fn returning<U>(self, preview: U) -> Plan<U> {
        Plan { steps: self.steps, preview, effects: self.effects }
    }

    /// Adds a step.
    #[must_use]
    pub fn step(mut self, access: Access, target: impl Into<String>, action: impl Into<String>) -> Self {
        self.steps.push(Step { access, target: target.into(), action: action.into(), bytes: None });
        self
    }

    /// Adds a step that uses a local path.
    #[must_use]
    pub fn path(self, path: LocalPath, action: impl Into<String>) -> Self {
        self.step(path.access, path.subject, action)
    }

    /// Adds a step that reaches the host at a path, wherever that is.
    #[must_use]
    pub fn host_path(self, path: LocalPath, action: impl Into<String>) -> Self {
        self.step(Access::Host, path.subject, action)
    }

    /// Adds a step that moves bytes.
    #[must_use]
    pub fn transfer(mut self, target: impl Into<String>, action: impl Into<String>, bytes: u64) -> Self {
        self.steps.push(Step {
            access: Access::Write,
            target: target.into(),
            action: action.into(),
            bytes: Some(bytes),
        });
        self
    }

    /// Adds the steps and effects of another plan, and returns that plan's value beside.
    #[must_use]
    pub fn and<U>(mut self, other: Plan<U>) -> (Self, U) {
        self.steps.extend(other.steps);
        self.effects.extend(other.effects);
        (self, other.preview)
    }

    /// Adds a deletion that frees bytes.
    #[must_use]
    pub fn frees(mut self, target: impl Into<String>, action: impl Into<String>, bytes: u64) -> Self {
        self.steps.push(Step {
            access: Access::Delete,
            target: target.into(),
            action: action.into(),
            bytes: Some(bytes),
        });
        self
    }

    /// Adds how the world looks afterwards.
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }

    /// Counts the steps that delete something.
    #[must_use]
    pub fn deletions(&self) -> usize {
        self.steps.iter().filter(|step| step.access == Access::Delete).count()
    }
}
