//! Carrying a migration out: what each target lacks, and then as many images at a time as there are jobs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use super::journal::{self, Event, Journal, Last, Line, Past};
use super::keeper::Keeper;
use super::look::{is_there, look, need, verify};
use super::options::{Item, Options};
use super::progress::Whole;
use super::report::{Outcome, Report, State};
use crate::kind::{Failure, Kind};
use crate::oci::Digest;
use crate::ops::image::{Copy, Endpoint};
use crate::ops::progress::show_size;
use crate::ops::undo::{Debts, Undo};
use crate::ops::{Context, Error, Level, Operation, Plan, Result, Shared};
use crate::registry;

/// How many plans are kept whole: the others are made again when it is their turn, so that memory stays flat.
const KEPT_PLANS: usize = 256;

/// Moves many images.
pub struct Migrate {
    items: Vec<Item>,
    options: Options,
    heard: Option<UnboundedSender<Outcome>>,
    shared: Option<Arc<Shared>>,
    work: Vec<Work>,
    bytes: u64,
}

/// One image that is to be moved, and what the plan found.
pub(super) struct Work {
    pub(super) item: Item,
    pub(super) found: Found,
}

pub(super) enum Found {
    /// The target has it.
    Present(Digest),
    /// What has to be moved, at most so many bytes.
    Lacking { digest: Option<Digest>, bytes: u64, there: bool, copy: Option<Box<Copy>> },
    /// It cannot be moved.
    Failed(Error),
}

impl Migrate {
    /// Moves these images; `heard` is told of each that has come to its end.
    #[must_use]
    pub fn new(items: Vec<Item>, options: Options, heard: Option<UnboundedSender<Outcome>>) -> Self {
        Self { items, options, heard, shared: None, work: Vec::new(), bytes: 0 }
    }

    /// Returns what operations share, with registries asked at the migration's own rate.
    fn paced(&mut self, ctx: &Context) -> Arc<Shared> {
        let Some(rate) = self.options.rate else { return Arc::clone(ctx.shared()) };
        let shared = self.shared.get_or_insert_with(|| {
            Arc::new(Shared { registry: ctx.registry().paced(rate), ..Shared::clone(ctx.shared()) })
        });
        Arc::clone(shared)
    }

    /// Says which image each target gets, and refuses two for one.
    fn select(&mut self, past: &Past) -> Result<()> {
        let mut targets: HashMap<String, String> = HashMap::new();
        for item in &self.items {
            let source = item.candidate.source.to_string();
            if let Some(other) = targets.insert(item.target.to_string(), source.clone()) {
                return Err(Error::Conflict {
                    what: "target",
                    name: item.target.to_string(),
                    state: format!("is that of {other} and of {source}"),
                    cure: Some("rename them apart, or leave one out with 'exclude'".into()),
                });
            }
        }
        if let Some(shard) = self.options.shard {
            self.items.retain(|item| shard.has(&item.target.to_string()));
        }
        if self.options.retry_failed {
            if self.options.journal.is_none() {
                return Err(Error::argument("option 'retry_failed'", "needs the journal of the migration"));
            }
            let failed = |target: &str| past.entries.get(target).is_some_and(|entry| entry.last == Last::Failed);
            self.items.retain(|item| failed(&item.target.to_string()));
        }
        Ok(())
    }

    fn preview(&self) -> Report {
        let outcome = |work: &Work| {
            let (state, digest, bytes, failure) = match &work.found {
                Found::Present(digest) => (State::Skipped, Some(digest.clone()), 0, None),
                Found::Lacking { digest, bytes, .. } => (State::Planned, digest.clone(), *bytes, None),
                Found::Failed(error) => (State::Failed, None, 0, Some(told(error))),
            };
            Outcome { state, digest, bytes, failure, tries: 0, ..work.item.outcome() }
        };
        Report { outcomes: self.work.iter().map(outcome).collect(), millis: 0 }
    }
}

impl Item {
    pub(super) fn outcome(&self) -> Outcome {
        Outcome {
            source: self.candidate.source.to_string(),
            target: self.target.to_string(),
            state: State::Planned,
            digest: None,
            bytes: 0,
            tries: 1,
            millis: 0,
            ended: 0,
            failure: None,
        }
    }

    pub(super) fn line(&self, digest: Option<Digest>) -> Line {
        Line {
            source: self.candidate.source.to_string(),
            target: self.target.to_string(),
            digest,
            content: self.candidate.content.clone(),
            sent: Vec::new(),
        }
    }

    pub(super) fn copy(&self, options: &Options) -> Copy {
        let copy = Copy::new(self.candidate.source.clone(), self.target.clone(), options.copy.clone());
        match self.candidate.opened() {
            Some((source, root)) => copy.opened_as(source, &root),
            None => copy,
        }
    }
}

#[async_trait]
impl Operation for Migrate {
    type Output = Report;
    const NAME: &'static str = "migrate";

    fn subject(&self) -> String {
        self.options.identity.to_string()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<Report>> {
        let past = match &self.options.journal {
            Some(path) => {
                ctx.check_path("reading the journal", path)?;
                journal::read(path, &self.options.identity)?
            }
            None => Past::default(),
        };
        self.select(&past)?;
        let ctx = ctx.with_shared(self.paced(ctx));
        let items = std::mem::take(&mut self.items);
        let looks = stream::iter(items).map(|item| look(&ctx, item, &self.options, &past));
        let mut looks = std::pin::pin!(looks.buffered(self.options.jobs * 2));
        let mut plan = Plan::new(());
        let mut blobs: HashSet<Digest> = HashSet::new();
        let mut work = Vec::new();
        let mut kept = 0;
        let mut sum = 0;
        while let Some(result) = looks.next().await {
            let (mut one, effects) = result?;
            if let Found::Lacking { bytes, copy, .. } = &mut one.found {
                if let Some(graph) = copy.as_ref().and_then(|copy| copy.found()?.1) {
                    // What several images share is sent once.
                    *bytes = graph.blobs.iter().filter(|b| blobs.insert(b.digest.clone())).map(|b| b.size).sum();
                }
                sum += *bytes;
                let (access, target) = need(&ctx, &one.item.target);
                let action = format!("copy {} to {}", one.item.candidate.source, one.item.target);
                plan = plan.step(access, target, action);
                if let Some(step) = plan.steps.last_mut() {
                    step.bytes = Some(*bytes);
                }
                kept += 1;
                if kept > KEPT_PLANS {
                    *copy = None;
                }
            }
            if ctx.is_dry_run() {
                plan.effects.extend(effects);
            }
            work.push(one);
        }
        if let Some(path) = &self.options.journal {
            let action = format!("write the journal {}", path.display());
            plan = plan.path(ctx.local(path), action);
        }
        self.work = work;
        self.bytes = sum;
        let report = self.preview();
        let text = format!(
            "{} images: {} to copy with at most {}, {} there already, {} that cannot be copied",
            report.outcomes.len(),
            report.count(State::Planned),
            show_size(sum),
            report.count(State::Skipped),
            report.count(State::Failed),
        );
        ctx.note(Level::Info, &text);
        Ok(plan.returning(report))
    }

    async fn apply(mut self, ctx: &Context) -> Result<Report> {
        let (journal, past) = match &self.options.journal {
            Some(path) => {
                let (journal, past) = Journal::open(path, &self.options.identity)?;
                (Some(Arc::new(journal)), past)
            }
            None => (None, Past::default()),
        };
        let whole = Arc::new(Whole::new(Arc::clone(ctx.progress()), "migrate", self.bytes));
        let shared = Shared { progress: Arc::clone(&whole) as _, ..Shared::clone(&self.paced(ctx)) };
        let ctx = ctx.with_shared(Arc::new(shared));
        let arriving = self.work.iter().find(|work| {
            matches!(work.item.target, Endpoint::Containerd { .. }) && matches!(work.found, Found::Lacking { .. })
        });
        let mut keeper = match (&journal, arriving) {
            (Some(journal), Some(work)) => Some(Keeper::new(&work.item.target.context(&ctx), journal, &past).await?),
            _ => None,
        };
        for work in &self.work {
            past.recall(&ctx, &work.item, &self.options.copy.registry);
        }
        let begun = Instant::now();
        let options = Arc::new(self.options);
        let works = std::mem::take(&mut self.work);
        let targets: Vec<Endpoint> = works.iter().map(|work| work.item.target.clone()).collect();
        let mut outcomes: Vec<Option<Outcome>> = works.iter().map(|_| None).collect();
        let mut queue = works.into_iter().enumerate();
        let mut running = Running::new(ctx.debts());
        let mut stop: Option<Error> = None;
        loop {
            while stop.is_none() && running.set.len() < options.jobs {
                let Some((index, work)) = queue.next() else { break };
                let ctx = match &mut keeper {
                    Some(keeper) => keeper.context(&ctx).await?,
                    None => ctx.clone(),
                };
                let run =
                    Run { ctx, options: Arc::clone(&options), journal: journal.clone(), past: past.was(&work.item) };
                running.set.spawn(async move { (index, run.one(work).await) });
            }
            let (index, result) = match running.set.join_next().await {
                None => break,
                Some(Ok(ended)) => ended,
                Some(Err(ended)) => {
                    stop.get_or_insert(ended.into());
                    continue;
                }
            };
            let (mut outcome, error) = result?;
            outcome.ended = millis(begun);
            if let Some(error) = error
                && (!options.keep_going || ends_all(&error))
            {
                stop.get_or_insert(error);
            }
            if let Some(heard) = &self.heard {
                let told = heard.send(outcome.clone());
                // Whoever listened has gone: a script's closure threw.
                if told.is_err() {
                    stop.get_or_insert(Error::Cancelled);
                }
            }
            if let Some(slot) = outcomes.get_mut(index) {
                *slot = Some(outcome);
            }
        }
        if options.verify && stop.is_none() {
            let ended = targets.iter().zip(outcomes.iter_mut().flatten());
            verify(&ctx, ended.collect(), &options, journal.as_deref()).await?;
        }
        let mut report = Report { outcomes: outcomes.into_iter().flatten().collect(), millis: 0 };
        if stop.is_none()
            && !options.keep_going
            && let Some(bad) = report.outcomes.iter().find(|outcome| outcome.state == State::Failed)
        {
            let state = bad.failure.as_ref().map_or_else(String::new, |(_, message, _)| message.clone());
            stop = Some(Error::Conflict { what: "target", name: bad.target.clone(), state, cure: None });
        }
        if let Some(keeper) = keeper {
            keeper.end().await;
        }
        if let Some(journal) = &journal {
            let failed = report.count(State::Failed);
            journal.write(&Event::End { complete: report.outcomes.len() - failed, failed }).await?;
        }
        whole.done();
        report.millis = millis(begun);
        match stop {
            Some(error) => Err(error),
            None => Ok(report),
        }
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn told(error: &Error) -> (Kind, String, Option<String>) {
    (error.kind(), error.to_string(), error.hint())
}

/// Says whether a failure ends the whole migration also when it should keep going: the next image would meet it too.
/// That is not so of a quota: the next may go to another project.
pub(super) fn ends_all(error: &Error) -> bool {
    matches!(error.kind(), Kind::Cancelled | Kind::Denied | Kind::NoSpace) && !error.is_quota()
}

impl Past {
    /// Returns whether the journal has the image as complete.
    fn was(&self, item: &Item) -> Option<Last> {
        self.entries.get(&item.target.to_string()).map(|entry| entry.last)
    }

    /// Tells the client of registries which blobs an image's target was sent before.
    fn recall(&self, ctx: &Context, item: &Item, options: &registry::Options) {
        if let (Endpoint::Registry(to), Some(entry)) = (&item.target, self.entries.get(&item.target.to_string())) {
            let repository = ctx.registry().repository(to.registry(), to.repository(), ctx.grant(), options);
            repository.suppose(&entry.line.sent);
        }
    }
}

/// What became of an image, and its failure for whoever decides on the others.
type Ended = (Outcome, Option<Error>);

/// The images that are under way. When it is dropped they are stopped, and what they made is taken back.
struct Running {
    set: JoinSet<(usize, Result<Ended>)>,
    debts: Debts,
}

impl Running {
    fn new(debts: &Debts) -> Self {
        Self { set: JoinSet::new(), debts: debts.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut set = std::mem::take(&mut self.set);
        set.abort_all();
        let mut undo = Undo::new(&self.debts);
        undo.push("copies of the migration that were stopped", async move { while set.join_next().await.is_some() {} });
    }
}

/// What it takes to move one image.
struct Run {
    ctx: Context,
    options: Arc<Options>,
    journal: Option<Arc<Journal>>,
    past: Option<Last>,
}

impl Run {
    async fn write(&self, event: Event) -> Result<()> {
        match &self.journal {
            Some(journal) => journal.write(&event).await,
            None => Ok(()),
        }
    }

    /// Moves one image. The failure of the image is beside its outcome; that of the journal is the result's.
    async fn one(&self, work: Work) -> Result<Ended> {
        let begun = Instant::now();
        let item = work.item;
        let mut outcome = item.outcome();
        let (digest, mut there, mut ready) = match work.found {
            Found::Present(digest) => {
                if self.past != Some(Last::Complete) {
                    self.write(Event::Present(item.line(Some(digest.clone())))).await?;
                }
                return Ok((Outcome { state: State::Skipped, digest: Some(digest), ..outcome }, None));
            }
            Found::Failed(error) => {
                let (kind, message, hint) = told(&error);
                self.write(journal::failed(item.line(None), kind, &message)).await?;
                outcome.failure = Some((kind, message, hint));
                return Ok((Outcome { state: State::Failed, ..outcome }, Some(error)));
            }
            Found::Lacking { digest, there, copy, .. } => (digest, there, copy),
        };
        self.write(Event::Start(item.line(digest))).await?;
        let error = loop {
            let copied = async {
                let copy = match ready.take() {
                    Some(copy) => *copy,
                    None => {
                        let mut copy = item.copy(&self.options);
                        copy.plan(&self.ctx.planning()).await?;
                        there = is_there(&self.ctx, &item.target, &copy, &self.options).await?;
                        copy
                    }
                };
                copy.apply(&self.ctx).await
            };
            let error = match Box::pin(copied).await {
                Ok(copied) => {
                    let digest = copied.root.digest;
                    let totals = copied.totals;
                    let moved = totals.sent > 0 || !totals.blobs_sent.is_empty() || totals.blobs_mounted > 0;
                    outcome.state = if there && !moved { State::Skipped } else { State::Done };
                    outcome.bytes = totals.sent;
                    outcome.digest = Some(digest.clone());
                    outcome.millis = millis(begun);
                    let mut line = item.line(Some(digest));
                    if let Endpoint::Registry(_) = &item.target {
                        line.sent = totals.blobs_sent;
                    }
                    match outcome.state {
                        State::Skipped if self.past == Some(Last::Complete) => {}
                        State::Skipped => self.write(Event::Present(line)).await?,
                        _ => self.write(Event::Done(line)).await?,
                    }
                    return Ok((outcome, None));
                }
                Err(error) => error,
            };
            self.ctx.debts().settle().await;
            if !error.retryable() || outcome.tries > self.options.retries {
                break error;
            }
            let pause = self.options.pause(outcome.tries, &error);
            outcome.tries += 1;
            tokio::time::sleep(pause).await;
        };
        let (kind, message, hint) = told(&error);
        self.write(journal::failed(item.line(None), kind, &message)).await?;
        outcome.millis = millis(begun);
        outcome.failure = Some((kind, message, hint));
        Ok((Outcome { state: State::Failed, ..outcome }, Some(error)))
    }
}
