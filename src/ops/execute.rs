//! The one path of changes: plan, permission, confirmation, dry run, apply, audit.

use async_trait::async_trait;

use crate::grant::Access;
use crate::oci::excerpt;
use crate::ops::Context;
use crate::ops::error::{Error, Result};
use crate::ops::plan::{Plan, Step};

/// A change: what it would do, and doing it.
///
/// `plan` runs with clients that refuse every write, so it can only look; what it finds it may keep in `self` for `apply`.
#[async_trait]
pub trait Operation: Send {
    /// What the call returns.
    type Output: Send;

    /// The verb, as scripts call it.
    const NAME: &'static str;

    /// Returns what the verb is done to, for messages and the audit line.
    fn subject(&self) -> String;

    /// Works out the steps, and the value that a dry run returns.
    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Self::Output>>;

    /// Does it.
    async fn apply(self, ctx: &Context) -> Result<Self::Output>;
}

/// Runs a change, or only plans it when the context is a dry run.
///
/// # Errors
/// [`Error::Denied`] when a step needs access that the grant lacks, [`Error::NotConfirmed`] when the user was asked and
/// said no, else [`Error::Failed`] with the reason.
pub async fn execute<O: Operation>(ctx: &Context, mut operation: O) -> Result<O::Output> {
    let subject = operation.subject();
    let failed = |source| wrap(O::NAME, &subject, source);
    let plan = operation.plan(&ctx.planning()).await.map_err(failed)?;
    permit(ctx, O::NAME, &subject, &plan.steps)?;
    if ctx.is_dry_run() {
        ctx.progress().planned(O::NAME, &subject, &plan.steps);
        ctx.overlay().record(plan.effects);
        return Ok(plan.preview);
    }
    if plan.deletions() > 1 && !ctx.confirm(O::NAME, &subject, &plan.steps) {
        return Err(Error::NotConfirmed { operation: O::NAME, subject });
    }
    let steps = plan.steps;
    let result = operation.apply(ctx).await;
    ctx.debts().settle().await;
    record(ctx, O::NAME, &subject, &steps, result.as_ref().map(drop))?;
    result.map_err(|source| wrap(O::NAME, &subject, source))
}

/// Asks the user about several deletions that are made one after the other, before the first.
///
/// # Errors
/// [`Error::NotConfirmed`] when the user said no.
pub fn ask(ctx: &Context, operation: &'static str, what: &str, names: &[String]) -> Result<()> {
    if names.len() < 2 || ctx.is_dry_run() {
        return Ok(());
    }
    let step = |name: &String| Step {
        access: Access::Delete,
        target: ctx.target(),
        action: format!("delete {what} {name}"),
        bytes: None,
    };
    let (subject, steps) = (names.join(", "), names.iter().map(step).collect::<Vec<_>>());
    if ctx.confirm(operation, &excerpt(&subject), &steps) {
        return Ok(());
    }
    Err(Error::NotConfirmed { operation, subject: excerpt(&subject) })
}

/// Checks each step against the grant.
///
/// # Errors
/// [`Error::Denied`], with the first step that it does not cover.
pub(super) fn permit(ctx: &Context, operation: &'static str, subject: &str, steps: &[Step]) -> Result<()> {
    match steps.iter().find(|step| !ctx.grant().allow().covers(step.access, &step.target)) {
        None => Ok(()),
        Some(Step { access, target, action, .. }) => Err(Error::Denied {
            operation,
            subject: subject.to_owned(),
            access: *access,
            to: target.clone(),
            action: excerpt(action),
        }),
    }
}

/// Writes the audit line of a change that had steps.
///
/// # Errors
/// When the audit file cannot be written.
pub(super) fn record(
    ctx: &Context,
    operation: &'static str,
    subject: &str,
    steps: &[Step],
    result: std::result::Result<(), &Error>,
) -> Result<()> {
    match ctx.audit() {
        Some(audit) if !steps.is_empty() => audit.record(operation, subject, steps, result),
        _ => Ok(()),
    }
}

/// Says what was attempted on what, once: a change within a change keeps the inner words.
fn wrap(operation: &'static str, subject: &str, source: Error) -> Error {
    match source {
        Error::Failed { .. } | Error::Denied { .. } | Error::NotConfirmed { .. } | Error::Cancelled => source,
        source => Error::Failed { operation, subject: excerpt(subject), source: Box::new(source) },
    }
}
