//! Work in parallel, and again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;
use rhai::{Array, Dynamic, EvalAltResult, FnPtr, Map, NativeCallContext};

use crate::grant::Access;
use crate::kind::{Failure, Kind};
use crate::ops::{self, Context};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Opt, Param, Spec};
use crate::script::convert;
use crate::script::error::{Error, Result, Thrown, thrown_map};
use crate::script::held;
use crate::script::object::{Field, Object, Unit};
use crate::script::options::Options;
use crate::script::placed;
use crate::script::{captured, effort};

/// The most threads that one `parallel` starts.
const MAX_JOBS: usize = 64;
/// Closures nest; a thread's stack has to hold what the main thread's does.
const STACK: usize = 8 << 20;

/// What a batch came to.
#[derive(Clone)]
struct ReportObject {
    results: Array,
    failed: Array,
    seconds: f64,
}

impl Object for ReportObject {
    const TYPE: &'static str = "Report";
    const DOC: &'static str = "What a batch came to.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<ReportObject>;
        const FIELDS: &[F] = &[
            F::column("total", "int", "How many items there were.", |r, _| Ok(length(r.results.len()))),
            F::column("done", "int", "How many succeeded.", |r, _| Ok(length(r.results.len() - r.failed.len()))),
            F::column(
                "failed",
                "array",
                "The items that failed: maps with `index`, `item` and `error`, which is an `Error`, or the map that the closure threw, with the keys of an `Error` that it lacks.",
                |r, _| Ok(r.failed.clone().into()),
            ),
            F::data(
                "results",
                "array",
                "What the closure returned for each item, in the order of the items; `()` for those that failed. In JSON it is `null` for those.",
                |r, _| Ok(r.results.clone().into()),
            ),
            F::field("seconds", "float", "How long it took.", |r, _| Ok(r.seconds.into())).unit(Unit::Seconds),
        ];
        FIELDS
    }

    fn text(&self) -> Option<String> {
        let done = self.results.len() - self.failed.len();
        Some(format!("{done} of {} done, {} failed", self.results.len(), self.failed.len()))
    }
}

fn length(number: usize) -> Dynamic {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

/// Takes apart `(options, closure)` and `(closure)`.
pub(super) fn closure_last(call: &Call<'_>, first: Dynamic, second: Option<Dynamic>) -> Result<(Options, FnPtr)> {
    let (options, closure) = match second {
        Some(closure) => (Some(first), closure),
        None => (None, first),
    };
    let map = match options {
        None => Map::new(),
        Some(value) => match value.read_lock::<Map>() {
            Some(map) => map.clone(),
            None => return Err(call.argument("options", "must be a map, and the closure comes last")),
        },
    };
    match closure.read_lock::<FnPtr>() {
        Some(closure) => Ok((Options::new(call.spec(), map)?, closure.clone())),
        None => Err(call.argument("closure", "must be a closure like |x| …, and comes last")),
    }
}

const RETRIES: Opt =
    Opt::new("retries", "int", "How often an item is tried again after a failure that may pass. Default 0.");
const DELAY: Opt = Opt::new(
    "delay",
    "duration",
    "The pause before the first retry; it doubles each time, up to 30 s, less a random part. Default 1 s.",
);

const PARALLEL: Spec = Spec {
    name: "parallel",
    on: On::Free,
    params: &[Param::new("list"), Param::new("options"), Param::new("closure")],
    options: &[
        Opt::new("jobs", "int", "How many items run at the same time, up to 64. Default 4."),
        Opt::new("keep_going", "bool", "Whether the other items go on when one fails. Default false."),
        RETRIES,
        DELAY,
        Opt::new(
            "timeout",
            "duration",
            "How long an item may take, its retries and their pauses included. Default: no limit.",
        ),
        Opt::new("rate", "float", "How many items are begun in a second at most, as 10 or 0.5. Default: no limit."),
    ],
    access: Access::Read,
    doc: "Calls a closure for each item of a list, several at the same time, and returns a `Report`.\n\nThe results have the order of the items. Without `keep_going` the first failure is thrown, after the items that run by then have ended. With it the failures are in the report, and when a script ends after that its exit status is 3. An item that takes longer than `timeout` is cancelled as by Ctrl-C: what it was waiting for ends, what it made and did not finish is taken back, no `catch` goes on after it, and it has failed with the kind `timeout`. The options stand before the closure and may be left out. Ctrl-C stops all items.\n\nWhat the closure captures and only reads, each of the threads has for itself; what it changes, as by `+=` or `push`, is one for all. Read that after the batch: a method that is called on it while another item changes it fails with a data race. `namespace(name)` in the closure holds for its item.",
    examples: &[
        Example::gives("parallel([1, 2, 3], |x| x * x).results", "[1,4,9]"),
        Example::gives(
            "let r = parallel([1, 0], #{ jobs: 2, keep_going: true }, |x| if x == 0 { throw \"zero\" } else { x });\nr.failed[0].error.message",
            "\"zero\"",
        ),
        Example::gives(
            "let r = parallel([\"1ms\", \"60s\"], #{ timeout: \"200ms\", rate: 100, keep_going: true }, |time| { sleep(time); time });\n[r.results[0], r.failed[0].error.kind]",
            "[\"1ms\",\"timeout\"]",
        ),
    ],
};

fn parallel(call: &Call<'_>, list: Array, first: Dynamic, second: Option<Dynamic>) -> Result<ReportObject> {
    let (options, closure) = closure_last(call, first, second)?;
    let jobs = options.count("jobs")?.unwrap_or(4);
    if jobs == 0 || jobs > MAX_JOBS {
        return Err(options.bad("jobs", format!("must be from 1 to {MAX_JOBS}, not {jobs}")));
    }
    let keep_going = options.flag("keep_going")?;
    let patience = Patience::of(&options)?;
    let limit = options.duration("timeout")?;
    let pace = Pace::of(&options)?;
    let native = call.native().ok_or_else(|| call.argument("closure", "cannot be called here"))?;
    let started = Instant::now();
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let results: Mutex<Vec<Option<Result<Dynamic>>>> = Mutex::new(list.iter().map(|_| None).collect());
    // Without the leases, which the thread has.
    let place = call.session().context().with_leases(Vec::new());
    let work = |closure: &FnPtr| {
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = list.get(index) else { break };
            let _place = placed::enter(place.clone());
            let once = |ctx: &Context| patience.call(call, ctx, native, closure, Some(item));
            let result = pace.wait(call).and_then(|()| match limit {
                None => once(call.ctx()),
                Some(limit) => limited(call, limit, index, once),
            });
            let fatal = result.as_ref().err().is_some_and(|e| !keep_going || is_final(e));
            if fatal {
                stop.store(true, Ordering::Relaxed);
            }
            if let Some(slot) = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_mut(index) {
                *slot = Some(result);
            }
        }
    };
    let (leases, cancel) = (held::current(), held::cancel());
    let work_beside = || {
        effort::begin();
        let _held = (held::enter(leases.clone()), held::cancelled_by(cancel.clone()));
        work(&captured::for_thread(&closure, native));
    };
    std::thread::scope(|scope| {
        for number in 1..jobs.min(list.len()) {
            let builder = std::thread::Builder::new().name(format!("job-{number}")).stack_size(STACK);
            // When the system has no thread to give, those that run do the work.
            if builder.spawn_scoped(scope, work_beside).is_err() {
                break;
            }
        }
        if jobs == 1 {
            work(&closure);
        } else {
            work(&captured::for_thread(&closure, native));
        }
    });
    let mut report = ReportObject { results: Array::new(), failed: Array::new(), seconds: 0.0 };
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (index, (result, item)) in results.into_iter().zip(&list).enumerate() {
        match result {
            Some(Ok(value)) => report.results.push(value),
            Some(Err(error)) if !keep_going || is_final(&error) => return Err(error),
            Some(Err(error)) => {
                report.results.push(Dynamic::UNIT);
                let entry = [
                    ("index".into(), length(index)),
                    ("item".into(), item.flatten_clone()),
                    ("error".into(), told(call, &error)?),
                ];
                report.failed.push(Dynamic::from(Map::from(entry)));
            }
            None => report.results.push(Dynamic::UNIT),
        }
    }
    if !report.failed.is_empty() {
        call.session().note_batch_failure();
    }
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// Returns what the report has of a failure.
fn told(call: &Call<'_>, error: &Error) -> Result<Dynamic> {
    let thrown = Dynamic::from(Thrown::new(error));
    let Error::Script(inner) = error else { return Ok(thrown) };
    let Some(own) = thrown_map(inner) else { return Ok(thrown) };
    let mut map = convert::to_map(&thrown, call.session())?.unwrap_or_default();
    map.extend(own);
    Ok(map.into())
}

/// Runs an item, and cancels it when it takes too long.
fn limited(
    call: &Call<'_>,
    limit: Duration,
    index: usize,
    run: impl Fn(&Context) -> Result<Dynamic>,
) -> Result<Dynamic> {
    let cancel = call.ctx().grant().cancel().child_token();
    let result = {
        let _alarm = call.session().cancel_after(limit, cancel.clone());
        let _cancelled = held::cancelled_by(Some(cancel.clone()));
        run(&call.ctx().with_cancel(cancel.clone()))
    };
    let late = cancel.is_cancelled() && !call.ctx().grant().cancel().is_cancelled();
    result.map_err(|error| match error.kind() {
        Kind::Cancelled if late => ops::Error::Timeout { attempted: format!("item {index}"), limit }.into(),
        _ => error,
    })
}

/// How fast items are begun.
struct Pace {
    gap: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    fn of(options: &Options) -> Result<Self> {
        let gap = match options.float("rate")? {
            None => Duration::ZERO,
            Some(rate) if rate > 0.0 => Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX),
            Some(_) => return Err(options.bad("rate", "must be a number above 0, of items in a second")),
        };
        Ok(Self { gap, next: Mutex::new(Instant::now()) })
    }

    /// Waits until the next item may begin.
    fn wait(&self, call: &Call<'_>) -> Result<()> {
        if self.gap.is_zero() {
            return Ok(());
        }
        let at = {
            let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let at = (*next).max(Instant::now());
            *next = at.checked_add(self.gap).unwrap_or(at);
            at
        };
        call.wait(async move {
            tokio::time::sleep_until(at.into()).await;
            Ok(())
        })
    }
}

/// Says whether a failure ends the batch also when it should keep going.
fn is_final(error: &Error) -> bool {
    let exits = match error {
        Error::Exit => true,
        // As the closure passes it on.
        Error::Script(inner) => matches!(inner.unwrap_inner(), EvalAltResult::Exit(..)),
        _ => false,
    };
    exits || matches!(error.kind(), Kind::Cancelled | Kind::Denied)
}

const RETRY: Spec = Spec {
    name: "retry",
    on: On::Free,
    params: &[Param::new("options"), Param::new("closure")],
    options: &[
        Opt::new("retries", "int", "How often the closure is called again after a failure that may pass. Default 3."),
        DELAY,
        Opt::new(
            "any",
            "bool",
            "Whether every failure is tried again, also one that will not pass by itself. Default false.",
        ),
    ],
    access: Access::Read,
    doc: "Calls a closure until it succeeds, and returns its value.\n\nOnly failures whose `retryable` is true are tried again, with a growing pause; what the registry asks to wait is waited.",
    examples: &[
        Example::gives("retry(|| 6 * 7)", "42"),
        Example::gives(
            "let n = 0;\nretry(#{ any: true, delay: \"1ms\" }, || { n += 1; if n < 3 { throw \"not yet\" } n })",
            "3",
        ),
    ],
};

fn retry(call: &Call<'_>, first: Dynamic, second: Option<Dynamic>) -> Result<Dynamic> {
    let (options, closure) = closure_last(call, first, second)?;
    let mut patience = Patience::of(&options)?;
    patience.retries = options.count("retries")?.unwrap_or(3);
    patience.any = options.flag("any")?;
    let native = call.native().ok_or_else(|| call.argument("closure", "cannot be called here"))?;
    patience.call(call, call.ctx(), native, &closure, None)
}

/// How often, and how far apart, a closure is called again.
struct Patience {
    retries: usize,
    delay: Duration,
    any: bool,
}

impl Patience {
    const MAX_DELAY: Duration = Duration::from_secs(30);

    fn of(options: &Options) -> Result<Self> {
        let delay = options.duration("delay")?.unwrap_or(Duration::from_secs(1));
        Ok(Self { retries: options.count("retries")?.unwrap_or(0), delay, any: false })
    }

    fn call(
        &self,
        call: &Call<'_>,
        ctx: &Context,
        native: &NativeCallContext<'_>,
        closure: &FnPtr,
        item: Option<&Dynamic>,
    ) -> Result<Dynamic> {
        let mut tried = 0;
        loop {
            let result = match item {
                Some(item) => closure.call_within_context::<Dynamic>(native, (item.clone(),)),
                None => closure.call_within_context::<Dynamic>(native, ()),
            };
            let error = match result {
                Ok(value) => return Ok(value),
                Err(error) => Error::Script(error),
            };
            let again = (self.any && !is_final(&error)) || error.retryable();
            if tried >= self.retries || !again {
                return Err(error);
            }
            let doubled = self.delay.saturating_mul(1 << tried.min(16)).min(Self::MAX_DELAY);
            let pause = error.retry_after().unwrap_or_else(|| doubled.mul_f64(rand::rng().random_range(0.5..=1.0)));
            tried += 1;
            call.session().wait(ctx, async move {
                tokio::time::sleep(pause).await;
                Ok(())
            })?;
        }
    }
}

/// Registers the functions.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add_object::<ReportObject>();
    catalog.add(&PARALLEL, parallel);
    catalog.add(&RETRY, retry);
}
