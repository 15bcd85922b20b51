//! Carrying a migration out: what each target lacks, and then as many images at a time as there are jobs.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use rand::Rng;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use super::Candidate;
use super::journal::{self, Event, Identity, Journal, Last, Line, Past};
use super::progress::Whole;
use super::report::{Outcome, Report, State, size};
use crate::containerd::Labels;
use crate::containerd::images::Deletion;
use crate::grant::Access;
use crate::kind::{Failure, Kind};
use crate::layout::LayoutFolder;
use crate::oci::Digest;
use crate::oci::store::ImageSource;
use crate::ops::image::{Copy, CopyOptions, Endpoint};
use crate::ops::lease;
use crate::ops::undo::{Debts, Undo};
use crate::ops::{Context, Error, Level, Operation, Plan, Result, Shared};
use crate::registry::{self, RegistryStore};

/// How many plans are kept whole: the others are made again when it is their turn, so that memory stays flat.
const KEPT_PLANS: usize = 256;
/// How old a lease may be when an image begins to arrive under it.
const LEASE_AGE: Duration = Duration::from_secs(lease::LIFETIME.as_secs() / 2);
/// The longest pause before another try.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// One image and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The image.
    pub candidate: Candidate,
    /// Where it goes.
    pub target: Endpoint,
}

/// One share of a migration that several workers split among them without talking to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: NonZeroUsize,
}

impl Shard {
    /// Makes share `index` of `count`, from 0 on, as an Indexed Job of Kubernetes counts.
    #[must_use]
    pub fn new(index: usize, count: usize) -> Option<Self> {
        let count = NonZeroUsize::new(count)?;
        (index < count.get()).then_some(Self { index, count })
    }

    /// Returns whether a target is in the share. Only its name decides, so that it does not matter what else is listed.
    #[must_use]
    pub fn has(&self, target: &str) -> bool {
        let digest = Digest::sha256(target.as_bytes());
        let number = u64::from_str_radix(digest.hex().get(..15).unwrap_or_default(), 16).unwrap_or_default();
        number % self.count.get() as u64 == self.index as u64
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// What a migration may be told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which migration it is, for the journal.
    pub identity: Identity,
    /// Where the journal is.
    pub journal: Option<PathBuf>,
    /// Which share is done.
    pub shard: Option<Shard>,
    /// How many images move at the same time.
    pub jobs: usize,
    /// How often an image is tried again after a failure that may pass.
    pub retries: u32,
    /// The pause before the first retry; it doubles.
    pub delay: Duration,
    /// Whether the other images go on when one fails.
    pub keep_going: bool,
    /// Whether only those are moved that the journal has as failed.
    pub retry_failed: bool,
    /// Whether the targets are asked for their digests once more at the end.
    pub verify: bool,
    /// How many requests begin within a second, for each registry.
    pub rate: Option<f64>,
    /// How each image is copied.
    pub copy: CopyOptions,
}

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
struct Work {
    item: Item,
    found: Found,
}

enum Found {
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
            let mut config = ctx.registry().config().clone();
            config.limits.rate = Some(rate);
            Arc::new(Shared { registry: registry::Client::new(config), ..Shared::clone(ctx.shared()) })
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
    fn outcome(&self) -> Outcome {
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

    fn line(&self, digest: Option<Digest>) -> Line {
        Line {
            source: self.candidate.source.to_string(),
            target: self.target.to_string(),
            digest,
            content: self.candidate.content.clone(),
        }
    }

    fn copy(&self, options: &Options) -> Copy {
        Copy::new(self.candidate.source.clone(), self.target.clone(), options.copy.clone())
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
            plan = plan.step(ctx.path_access(path), path.display().to_string(), action);
        }
        self.work = work;
        self.bytes = sum;
        let report = self.preview();
        let text = format!(
            "{} images: {} to copy with at most {}, {} there already, {} that cannot be copied",
            report.outcomes.len(),
            report.count(State::Planned),
            size(sum),
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
                Some(Err(_)) => {
                    stop.get_or_insert(Error::Cancelled);
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
            keeper.end().await?;
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
fn ends_all(error: &Error) -> bool {
    matches!(error.kind(), Kind::Cancelled | Kind::Denied | Kind::NoSpace)
}

/// Returns what a change of a target needs, and how grants name it.
fn need(ctx: &Context, target: &Endpoint) -> (Access, String) {
    match target {
        Endpoint::Registry(reference) => (Access::Write, reference.locator()),
        Endpoint::Containerd { .. } => (Access::Write, target.context(ctx).target()),
        Endpoint::Layout { path, .. } | Endpoint::Archive { path, .. } => {
            (ctx.path_access(path), path.display().to_string())
        }
        // Copy itself refuses it as a target.
        Endpoint::Docker { .. } => (Access::Write, target.to_string()),
    }
}

/// Asks a target what it holds under the name.
async fn current(ctx: &Context, target: &Endpoint, options: &registry::Options) -> Result<Option<Digest>> {
    let found = match target {
        Endpoint::Registry(reference) => {
            let sink = RegistryStore::sink(ctx.registry(), reference, ctx.grant(), options);
            return Ok(crate::oci::store::ImageSink::current(&sink).await?.map(|root| root.digest));
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
async fn is_there(ctx: &Context, target: &Endpoint, copy: &Copy, options: &Options) -> Result<bool> {
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

/// Looks at one image and its target.
async fn look(ctx: &Context, item: Item, options: &Options, past: &Past) -> Result<(Work, Vec<crate::ops::Effect>)> {
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
        return Ok((Work { item, found }, Vec::new()));
    }
    let mut copy = item.copy(options);
    let planned = copy.plan(ctx).await;
    let found = match planned {
        Ok(plan) => {
            let (root, graph) = copy.found().map_or((None, None), |(root, graph)| (Some(root.digest.clone()), graph));
            let found = match (root, graph) {
                (Some(digest), None) => Found::Present(digest),
                (digest, _) => {
                    let bytes = graph.map_or(0, |graph| graph.size());
                    let there = is_there(ctx, &item.target, &copy, options).await?;
                    Found::Lacking { digest, bytes, there, copy: Some(Box::new(copy)) }
                }
            };
            return Ok((Work { item, found }, plan.effects));
        }
        Err(error) if ends_all(&error) => return Err(error),
        // It may have passed when it is its turn.
        Err(error) if error.retryable() => Found::Lacking { digest: None, bytes: 0, there: false, copy: None },
        Err(error) if options.keep_going => Found::Failed(error),
        Err(error) => return Err(error),
    };
    Ok((Work { item, found }, Vec::new()))
}

impl Past {
    /// Returns whether the journal has the image as complete.
    fn was(&self, item: &Item) -> Option<Last> {
        self.entries.get(&item.target.to_string()).map(|entry| entry.last)
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
        undo.push(async move { while set.join_next().await.is_some() {} });
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
                    let moved = totals.sent > 0 || totals.blobs_sent + totals.blobs_mounted > 0;
                    outcome.state = if there && !moved { State::Skipped } else { State::Done };
                    outcome.bytes = totals.sent;
                    outcome.digest = Some(digest.clone());
                    outcome.millis = millis(begun);
                    let line = item.line(Some(digest));
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
            let doubled = self.options.delay.saturating_mul(1 << (outcome.tries - 1).min(16)).min(MAX_DELAY);
            let pause = error.retry_after().unwrap_or_else(|| doubled.mul_f64(rand::rng().random_range(0.5..=1.0)));
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

/// Asks the targets once more what they hold.
async fn verify(
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
        let problem = match current(ctx, target, &options.copy.registry).await {
            Ok(found) if found == outcome.digest => return Ok(()),
            Ok(Some(found)) => (Kind::Conflict, format!("points to {found} by now")),
            Ok(None) => (Kind::Conflict, "is gone by now".to_owned()),
            Err(error) => (error.kind(), format!("cannot be asked for its digest: {error}")),
        };
        outcome.state = State::Failed;
        if let Some(journal) = journal {
            let line =
                Line { source: outcome.source.clone(), target: outcome.target.clone(), digest: None, content: None };
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

/// Keeps what has half arrived in the namespace, also when this process is killed: the next one takes the lease up.
struct Keeper {
    journal: Arc<Journal>,
    ctx: Context,
    id: String,
    made: Instant,
    undo: Undo,
}

impl Keeper {
    async fn new(ctx: &Context, journal: &Arc<Journal>, past: &Past) -> Result<Self> {
        let client = ctx.client().await?;
        let old = past.lease.as_ref().filter(|(place, _)| *place == ctx.place_name()).map(|(_, id)| id.clone());
        let usable = match &old {
            Some(id) => client.leases().find(id).await?.filter(|lease| {
                lease.expires_at().is_none_or(|end| end - chrono::Utc::now() > chrono::TimeDelta::hours(1))
            }),
            None => None,
        };
        let id = match usable {
            Some(lease) => lease.id,
            None => make(ctx, journal).await?,
        };
        let mut keeper = Self {
            journal: Arc::clone(journal),
            ctx: ctx.clone(),
            id: String::new(),
            made: Instant::now(),
            undo: Undo::new(ctx.debts()),
        };
        keeper.take(&client, id);
        if let Some(old) = old {
            keeper.take_back(&client, old);
        }
        Ok(keeper)
    }

    fn take(&mut self, client: &crate::containerd::Client, id: String) {
        self.take_back(client, id.clone());
        self.id = id;
        self.made = Instant::now();
    }

    /// Sees to it that a lease is deleted when the migration ends by anything but a kill.
    fn take_back(&mut self, client: &crate::containerd::Client, id: String) {
        let undoing = client.undoing();
        self.undo.push(async move {
            let _ = undoing.leases().delete(&id, Deletion::Synchronous).await;
        });
    }

    /// Returns the context for the next image; a lease that grows old is followed by a new one.
    async fn context(&mut self, ctx: &Context) -> Result<Context> {
        if self.made.elapsed() > LEASE_AGE {
            let id = make(&self.ctx, &self.journal).await?;
            let client = self.ctx.client().await?;
            self.take(&client, id);
        }
        Ok(ctx.with_lease(&self.ctx.place_name(), &self.id))
    }

    /// Deletes the lease: what was moved is kept by its image now.
    async fn end(self) -> Result<()> {
        drop(self.undo);
        self.ctx.debts().settle().await;
        Ok(())
    }
}

async fn make(ctx: &Context, journal: &Journal) -> Result<String> {
    let lease = ctx.client().await?.leases().create(lease::LIFETIME, &Labels::new()).await?;
    journal.write(&Event::Lease { place: ctx.place_name(), id: lease.id.clone() }).await?;
    Ok(lease.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_is_in_one_share() {
        for count in 1..5 {
            let shares: Vec<Shard> = (0..count).map(|index| Shard::new(index, count).unwrap()).collect();
            let mut sizes = vec![0; count];
            for number in 0..400 {
                let target = format!("registry:h.example/app{number}:1");
                let owners: Vec<usize> = (0..count).filter(|index| shares[*index].has(&target)).collect();
                assert_eq!(owners.len(), 1, "{target}");
                sizes[owners[0]] += 1;
            }
            assert!(sizes.iter().all(|size| *size > 250 / count), "{sizes:?}");
        }
        assert!(Shard::new(2, 2).is_none() && Shard::new(0, 0).is_none());
    }
}
