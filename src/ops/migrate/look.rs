//! What targets hold: before, and once more at the end.

use futures_util::{StreamExt, stream};

use super::journal::{self, Journal, Last, Line, Past};
use super::options::{Item, Options};
use super::report::{Outcome, State};
use super::run::{Found, Work, ends_all};
use crate::grant::Access;
use crate::kind::{Failure, Kind};
use crate::layout::LayoutFolder;
use crate::oci::Digest;
use crate::oci::store::ImageSource;
use crate::ops::image::{Copy, Endpoint};
use crate::ops::registry as ops_registry;
use crate::ops::{Context, Effect, LocalPath, Operation, Result};
use crate::registry;

/// Returns what a change of a target needs, and how grants name it.
pub(super) fn need(ctx: &Context, target: &Endpoint) -> (Access, String) {
    match target {
        Endpoint::Registry(reference) => (Access::Write, reference.locator()),
        Endpoint::Containerd { .. } => (Access::Write, target.context(ctx).target()),
        Endpoint::Layout { path, .. } | Endpoint::Archive { path, .. } => {
            let LocalPath { access, subject } = ctx.local(path);
            (access, subject)
        }
        // Copy itself refuses it as a target.
        Endpoint::Docker { .. } => (Access::Write, target.to_string()),
    }
}

/// Asks a target what it holds under the name.
pub(super) async fn current(ctx: &Context, target: &Endpoint, options: &registry::Options) -> Result<Option<Digest>> {
    let found = match target {
        Endpoint::Registry(reference) => {
            return Ok(ops_registry::held(ctx, reference, options).await?.map(|root| root.digest));
        }
        Endpoint::Containerd { name, .. } => {
            return match target.context(ctx).client().await?.images().get(name).await {
                Ok(image) => Ok(Some(image.target.digest)),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
        Endpoint::Layout { path, selector } => LayoutFolder::new(path, selector.clone()).resolve().await,
        // A new file each time; and never a target.
        Endpoint::Archive { .. } | Endpoint::Docker { .. } => return Ok(None),
    };
    match found {
        Ok(root) => Ok(Some(root.digest)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether the target has the name for what a planned copy would bring, though maybe not all of its content.
pub(super) async fn is_there(ctx: &Context, target: &Endpoint, copy: &Copy, options: &Options) -> Result<bool> {
    match (copy.found(), target) {
        (None, _) => Ok(false),
        (Some((_, None)), _) => Ok(true),
        // A registry was asked by the plan.
        (Some(_), Endpoint::Registry(_)) => Ok(false),
        (Some((root, Some(_))), target) => {
            Ok(current(ctx, target, &options.copy.registry).await?.as_ref() == Some(&root.digest))
        }
    }
}

/// Looks at one image and its target. What fails and may pass is left for when it is the image's turn.
pub(super) async fn look(ctx: &Context, mut item: Item, options: &Options, past: &Past) -> Result<(Work, Vec<Effect>)> {
    if let Some(error) = item.candidate.unread.take() {
        // It may be one that the filter would leave out, also if it can be read by now.
        return Ok((Work { item, found: Found::Failed(error) }, Vec::new()));
    }
    let (found, effects) = match find(ctx, &item, options, past).await {
        Ok(found) => found,
        Err(error) if ends_all(&error) => return Err(error),
        Err(error) if error.retryable() => {
            let bytes = item.candidate.size.unwrap_or_default();
            (Found::Lacking { digest: None, bytes, there: false, copy: None }, Vec::new())
        }
        Err(error) if options.keep_going => (Found::Failed(error), Vec::new()),
        Err(error) => return Err(error),
    };
    Ok((Work { item, found }, effects))
}

async fn find(ctx: &Context, item: &Item, options: &Options, past: &Past) -> Result<(Found, Vec<Effect>)> {
    let registry = &options.copy.registry;
    if let Some(content) = &item.candidate.content {
        // To read it costs as much as to copy it. When the same content went to the target before, the digest is known.
        let known = past
            .entries
            .get(&item.target.to_string())
            .filter(|entry| entry.last == Last::Complete && entry.line.content.as_ref() == Some(content));
        let known = known.and_then(|entry| entry.line.digest.clone());
        let found = match (known, current(ctx, &item.target, registry).await?) {
            (Some(known), Some(current)) if known == current => Found::Present(known),
            _ => {
                let bytes = item.candidate.size.unwrap_or_default();
                Found::Lacking { digest: None, bytes, there: false, copy: None }
            }
        };
        return Ok((found, Vec::new()));
    }
    let mut copy = item.copy(options);
    let plan = copy.plan(ctx).await?;
    let (root, graph) = copy.found().map_or((None, None), |(root, graph)| (Some(root.digest.clone()), graph));
    let found = match (root, graph) {
        (Some(digest), None) => Found::Present(digest),
        (digest, _) => {
            let bytes = graph.map_or(0, |graph| graph.size());
            let there = is_there(ctx, &item.target, &copy, options).await?;
            Found::Lacking { digest, bytes, there, copy: Some(Box::new(copy)) }
        }
    };
    Ok((found, plan.effects))
}

/// Asks the targets once more what they hold.
pub(super) async fn verify(
    ctx: &Context,
    ended: Vec<(&Endpoint, &mut Outcome)>,
    options: &Options,
    journal: Option<&Journal>,
) -> Result<()> {
    let moved = ended.into_iter().filter(|(_, outcome)| outcome.state == State::Done);
    let checks = moved.map(|(target, outcome)| async move {
        if matches!(target, Endpoint::Archive { .. }) {
            return Ok(());
        }
        let mut tries = 1;
        let found = loop {
            match current(ctx, target, &options.copy.registry).await {
                Err(error) if error.retryable() && tries <= options.retries => {
                    tokio::time::sleep(options.pause(tries, &error)).await;
                    tries += 1;
                }
                found => break found,
            }
        };
        let problem = match found {
            Ok(found) if found == outcome.digest => return Ok(()),
            Ok(Some(found)) => (Kind::Conflict, format!("points to {found} by now")),
            Ok(None) => (Kind::Conflict, "is gone by now".to_owned()),
            Err(error) => (error.kind(), format!("cannot be asked for its digest: {error}")),
        };
        outcome.state = State::Failed;
        if let Some(journal) = journal {
            let line = Line { source: outcome.source.clone(), target: outcome.target.clone(), ..Line::default() };
            journal.write(&journal::failed(line, problem.0, &problem.1)).await?;
        }
        outcome.failure = Some((problem.0, problem.1, None));
        Result::Ok(())
    });
    let mut checks = stream::iter(checks.collect::<Vec<_>>()).buffer_unordered(options.jobs * 2);
    while let Some(check) = checks.next().await {
        check?;
    }
    Ok(())
}
