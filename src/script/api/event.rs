//! Events: what happens in the daemon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rhai::{Array, Dynamic, FnPtr, ImmutableString, Map};
use serde_json::Value;

use crate::containerd::events::Event;
use crate::grant::Access;
use crate::ops::event::{Filters, Happening, Watch, filters};
use crate::ops::{Error as Failed, Level};
use crate::script::call::Call;
use crate::script::catalog::{Catalog, Example, On, Opt, Param, Spec};
use crate::script::convert;
use crate::script::error::Result;
use crate::script::object::{Field, Object, Unit};
use crate::script::options::Options;
use crate::script::time::Time;
use crate::script::value::shown_type;

/// The most events that one list holds.
const MOST: usize = 100_000;

/// What the details call times.
const TIMES: [&str; 1] = ["exited_at"];

/// Something that happened.
#[derive(Clone)]
struct EventObject(Arc<Event>);

impl EventObject {
    fn new(event: Event) -> Self {
        Self(Arc::new(event))
    }

    fn detail(&self, name: &str) -> Dynamic {
        match self.0.fields.get(name) {
            None => Dynamic::UNIT,
            Some(Value::String(text)) if TIMES.contains(&name) => DateTime::parse_from_rfc3339(text)
                .map_or_else(|_| text.clone().into(), |at| Dynamic::from(Time(at.with_timezone(&Utc)))),
            Some(value) => convert::from_json(value.clone()),
        }
    }
}

impl Object for EventObject {
    const TYPE: &'static str = "Event";
    const DOC: &'static str = "Something that happened in a daemon.";

    fn fields() -> &'static [Field<Self>] {
        type F = Field<EventObject>;
        const FIELDS: &[F] = &[
            F::column("time", "Time", "When, by the daemon's clock.", |e, _| Ok(Dynamic::from(Time(e.0.at))))
                .unit(Unit::Time),
            F::column("namespace", "string", "In which namespace.", |e, _| Ok(e.0.namespace.clone().into())),
            F::column("topic", "string", "What, such as `/tasks/exit`.", |e, _| Ok(e.0.topic.clone().into())),
            F::column(
                "subject",
                "string",
                "What it happened to: the id of a container or sandbox, the name of an image or namespace, the key of a snapshot, the digest of content; else `()`.",
                |e, _| Ok(e.0.subject().map_or(Dynamic::UNIT, Into::into)),
            ),
            F::column("exit_status", "int", "The exit status, when something ended; else `()`.", |e, _| {
                Ok(e.detail("exit_status"))
            }),
            F::field("type", "string", "The type of the details, such as `containerd.events.TaskExit`.", |e, _| {
                Ok(e.0.type_url.clone().into())
            }),
            F::field(
                "payload",
                "map",
                "The details by the names of containerd's `api/events`, such as `container_id`, `id`, `pid`, `exit_status` and the Time `exited_at`.",
                |e, _| Ok(e.0.fields.keys().map(|name| (name.into(), e.detail(name))).collect::<Map>().into()),
            ),
            F::on_demand(
                "raw",
                "blob",
                "The details as they came, when their type is not known; else `()`.",
                |e, _| Ok(e.0.raw.clone().map_or(Dynamic::UNIT, Dynamic::from_blob)),
            ),
        ];
        FIELDS
    }

    /// As `ctr events` prints it: the time as Go writes one, then the namespace, the topic and the details.
    fn text(&self) -> Option<String> {
        let Event { namespace, topic, fields, at, .. } = &*self.0;
        let details: serde_json::Map<String, Value> = fields
            .iter()
            .filter(|(_, value)| !is_nothing(value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let details = serde_json::to_string(&details).unwrap_or_default();
        let fraction = format!(".{:09}", at.timestamp_subsec_nanos());
        let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
        Some(format!("{}{fraction} +0000 UTC {namespace} {topic} {details}", at.format("%Y-%m-%d %H:%M:%S")))
    }
}

/// Returns whether a detail says nothing, and ctr leaves it out.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) => false,
    }
}

const ALL_NAMESPACES: Opt =
    Opt::new("all_namespaces", "bool", "Whether events of every namespace count. Default: the current one's.");

/// Which events are wanted, and how they are looked for.
struct Wanted {
    filters: Filters,
    matches: Option<FnPtr>,
    deadline: Option<Duration>,
}

impl Wanted {
    fn new(call: &Call<'_>, filter: Option<Dynamic>, options: &Options) -> Result<Self> {
        let (mut written, mut matches) = (Vec::new(), None);
        if let Some(filter) = filter.filter(|filter| !filter.is_unit()) {
            let text = |value: &Dynamic| value.read_lock::<ImmutableString>().map(|text| text.to_string());
            let list = filter.read_lock::<Array>().map(|list| list.iter().map(text).collect::<Option<Vec<_>>>());
            if let Some(closure) = filter.read_lock::<FnPtr>() {
                matches = Some(closure.clone());
            } else if let Some(one) = text(&filter) {
                written.push(one);
            } else if let Some(Some(several)) = list {
                written = several;
            } else {
                let problem = format!(
                    "must be a topic, a filter, an array of them, or a closure, not {}",
                    shown_type(call, &filter)
                );
                return Err(call.argument("filter", problem));
            }
        }
        let namespace = (!options.flag("all_namespaces")?).then(|| call.ctx().namespace());
        Ok(Self { filters: filters(&written, namespace)?, matches, deadline: options.duration("timeout")? })
    }

    fn watch<'c>(&'c self, call: &'c Call<'c>) -> Result<Watching<'c>> {
        let watch = call.wait(Watch::open(call.ctx(), &self.filters))?;
        let ends = self.deadline.and_then(|limit| Instant::now().checked_add(limit));
        Ok(Watching { call, wanted: self, watch, ends })
    }
}

/// A subscription, as long as one call runs.
struct Watching<'c> {
    call: &'c Call<'c>,
    wanted: &'c Wanted,
    watch: Watch,
    ends: Option<Instant>,
}

/// What a call sees next.
enum Next {
    Event(EventObject),
    Gap(EventObject),
    /// It is as late as was asked for.
    Late,
    /// The time is over.
    Over,
}

impl Watching<'_> {
    /// Waits for the next wanted event, not longer than until then.
    fn next(&mut self, until: Option<Instant>) -> Result<Next> {
        loop {
            let stop = [self.ends, until].into_iter().flatten().min();
            let watch = &mut self.watch;
            let seen = self.call.wait(async move {
                match stop {
                    None => watch.next().await.map(Some),
                    Some(stop) => {
                        tokio::time::timeout_at(stop.into(), watch.next()).await.map_or(Ok(None), |next| next.map(Some))
                    }
                }
            })?;
            match seen {
                None if stop == self.ends => return Ok(Next::Over),
                None => return Ok(Next::Late),
                Some(Happening::Gap(gap)) => return Ok(Next::Gap(EventObject::new(gap))),
                Some(Happening::Event(event)) => {
                    let event = EventObject::new(event);
                    match &self.wanted.matches {
                        Some(matches) if !self.matches(matches, &event)? => {
                            if self.is_over() {
                                return Ok(Next::Over);
                            }
                        }
                        _ => return Ok(Next::Event(event)),
                    }
                }
            }
        }
    }

    /// Says whether the time is over, however many events still wait.
    fn is_over(&self) -> bool {
        self.ends.is_some_and(|ends| ends <= Instant::now())
    }

    fn matches(&self, closure: &FnPtr, event: &EventObject) -> Result<bool> {
        let answer = self.call.closure(closure, (event.clone(),))?;
        let wrong = |ty| self.call.argument("filter", format!("must return true or false, not {ty}"));
        answer.as_bool().map_err(|_| wrong(shown_type(self.call, &answer)))
    }
}

/// What follows the filter: options and closures, in any order.
struct Rest {
    filter: Option<Dynamic>,
    options: Options,
    closure: Option<FnPtr>,
}

/// Sorts arguments by what they are. The closure that acts is the last one; another before it is the filter.
fn sort(call: &Call<'_>, arguments: [Option<Dynamic>; 3], acts: bool) -> Result<Rest> {
    let mut given: Vec<Dynamic> = arguments.into_iter().flatten().collect();
    let least = usize::from(!acts);
    let last = given.iter().rposition(Dynamic::is_fnptr).filter(|at| *at >= least);
    let closure = last.and_then(|at| given.remove(at).try_cast::<FnPtr>());
    let map = given.iter().position(Dynamic::is_map).and_then(|at| given.remove(at).try_cast::<Map>());
    let filter = if given.is_empty() { None } else { Some(given.remove(0)) };
    if let Some(more) = given.first() {
        let what = shown_type(call, more);
        return Err(call.argument("options", format!("must be a map, not {what}; the closure comes last")));
    }
    Ok(Rest { filter, options: Options::new(call.spec(), map.unwrap_or_default())?, closure })
}

const EVENTS: Spec = Spec {
    name: "events",
    on: On::Node,
    params: &[Param::new("filter")],
    options: &[
        Opt::new("timeout", "duration", "How long events are collected."),
        Opt::new("count", "int", "After how many it ends, up to 100000."),
        ALL_NAMESPACES,
    ],
    access: Access::Read,
    doc: "Collects events as they happen, and returns them as a list. It needs a `timeout` or a `count`; what happened before is not kept anywhere.\n\nThe filter is a topic or the beginning of one (`\"tasks/exit\"`, `\"tasks\"`), or containerd's own, which the daemon applies: `topic==\"/tasks/exit\"`, `topic~=\"^/tasks/\"`, and the details as in `event.container_id==\"web\"`, several with a comma between. An array means any of them. A closure that gets each event and returns `true` or `false` filters here. Where events may have been missed, as in a restart of the daemon, the list has an event with the topic `/ctrsh/gap`.\n\nTo follow events as `ctr events` does: `on(|event| print(event))`.",
    examples: &[
        Example::gives(
            "events(\"images\", #{ timeout: \"10ms\" }).filter(|e| !e.topic.starts_with(\"/images/\"))",
            "[]",
        ),
        Example::runs(
            "for e in events([\"tasks/exit\", \"tasks/oom\"], #{ timeout: \"10ms\", count: 5 }) { print(e) }",
        ),
    ],
};

fn events(call: &Call<'_>, filter: Option<Dynamic>, options: Options) -> Result<Vec<EventObject>> {
    // events(#{ … }) has options alone.
    let (filter, options) = match filter {
        Some(map) if map.is_map() => (None, Options::new(call.spec(), map.cast::<Map>())?),
        other => (other, options),
    };
    let wanted = Wanted::new(call, filter, &options)?;
    let count = options.count("count")?;
    if count.is_none() && wanted.deadline.is_none() {
        return Err(Failed::Argument {
            name: "events:".into(),
            problem: "would never end".into(),
            cure: Some("give a timeout or a count; on(|event| print(event)) follows events".into()),
        }
        .into());
    }
    let most = count.unwrap_or(MOST).min(MOST);
    let mut watching = wanted.watch(call)?;
    let mut list = Vec::new();
    while list.len() < most && !watching.is_over() {
        match watching.next(None)? {
            Next::Event(event) | Next::Gap(event) => list.push(event),
            Next::Late | Next::Over => break,
        }
    }
    Ok(list)
}

const ON_SPEC: Spec = Spec {
    name: "on",
    on: On::Node,
    params: &[Param::new("filter"), Param::new("options"), Param::new("closure")],
    options: &[
        Opt::new("timeout", "duration", "After what time it ends. Default: it goes on until Ctrl-C."),
        Opt::new("count", "int", "After how many events it ends."),
        Opt::new(
            "on_gap",
            "closure",
            "Called with an event of the topic `/ctrsh/gap` whenever events may have been missed; its `payload.reason` is `subscribed` at the beginning, `reconnected` after a restart of the daemon, `overflow` with the number `missed`. The place to list what there is.",
        ),
        Opt::new("on_tick", "closure", "Called without arguments between events, every so often."),
        Opt::new("every", "duration", "How often `on_tick` is called. Default 1 s."),
        ALL_NAMESPACES,
    ],
    access: Access::Read,
    doc: "Calls a closure for each event as it happens, and returns for how many.\n\nThe filter is as `events` has it, and may be left out. It ends when a closure returns `false`, when the time is over or the count reached, and with Ctrl-C. Closures run one after another on the script's own thread; events that come meanwhile wait, up to 16 MiB of them. When the connection breaks, as with a restart of the daemon, it subscribes anew and calls `on_gap`, or warns without one. In a dry run it listens as ever, and what the closures would change is planned.\n\nDo not wait for `/tasks/delete` or `/snapshot/remove`: a shim of containerd 2.1 may end before it has told of the deletion (about one in five measured, with ctr's `run` too), and containerd 1.6 tells nothing of a snapshot that its garbage collector removed. `/tasks/exit` and `/containers/delete` are always told.",
    examples: &[
        Example::gives(
            "on(\"tasks/exit\", #{ timeout: \"10ms\" }, |e| print(`${e.subject} ended with ${e.exit_status}`))",
            "0",
        ),
        Example::runs(
            "on([\"containers\", \"tasks\"], #{ timeout: \"10ms\", on_gap: |gap| print(containers().len()) }, |e| print(e))",
        ),
        Example::gives(
            "let ticks = 0;\non(#{ every: \"1ms\", on_tick: || { ticks += 1; ticks < 3 } }, |e| print(e));\nticks",
            "3",
        ),
    ],
};

/// Says whether a closure asked for the end.
fn ends(answer: &Dynamic) -> bool {
    answer.as_bool() == Ok(false)
}

fn on(call: &Call<'_>, first: Dynamic, second: Option<Dynamic>, third: Option<Dynamic>) -> Result<u64> {
    let Rest { filter, options, closure } = sort(call, [Some(first), second, third], true)?;
    let closure = closure.ok_or_else(|| call.argument("closure", "is missing; it is like |event| … and comes last"))?;
    let wanted = Wanted::new(call, filter, &options)?;
    let (on_gap, on_tick) = (options.closure("on_gap")?, options.closure("on_tick")?);
    let most = options.count("count")?.map_or(u64::MAX, |count| u64::try_from(count).unwrap_or(u64::MAX));
    let every = options.duration("every")?.unwrap_or(Duration::from_secs(1));
    let mut watching = wanted.watch(call)?;
    let gap = |gap: EventObject, first: bool| -> Result<bool> {
        match &on_gap {
            Some(closure) => Ok(!ends(&call.closure(closure, (gap,))?)),
            None if first => Ok(true),
            None => {
                call.ctx().note(Level::Warn, &format!("events may have been missed: {}", reason(&gap)));
                Ok(true)
            }
        }
    };
    let mut seen = 0;
    if most == 0 || !gap(EventObject::new(Happening::gap(call.ctx().namespace(), "subscribed", None)), true)? {
        return Ok(seen);
    }
    // One that is too far away never comes.
    let next = || Instant::now().checked_add(every);
    let mut tick = on_tick.as_ref().and_then(|_| next());
    loop {
        if let (Some(due), Some(closure)) = (tick, &on_tick)
            && due <= Instant::now()
        {
            if ends(&call.closure(closure, ())?) {
                return Ok(seen);
            }
            tick = next();
        }
        if watching.is_over() {
            return Ok(seen);
        }
        match watching.next(tick)? {
            Next::Over => return Ok(seen),
            Next::Late => {}
            Next::Gap(event) => {
                if !gap(event, false)? {
                    return Ok(seen);
                }
            }
            Next::Event(event) => {
                seen += 1;
                if ends(&call.closure(&closure, (event,))?) || seen >= most {
                    return Ok(seen);
                }
            }
        }
    }
}

/// Says why events may have been missed.
fn reason(gap: &EventObject) -> String {
    match gap.0.fields.get("missed") {
        Some(missed) => format!("{missed} came faster than they were taken"),
        None => "the connection to containerd was broken for a while".to_owned(),
    }
}

const WAIT_FOR: Spec = Spec {
    name: "wait_for",
    on: On::Node,
    params: &[Param::new("filter"), Param::new("options"), Param::new("action")],
    options: &[
        Opt::new(
            "timeout",
            "duration",
            "How long it waits before it fails with the kind `timeout`. Default: no limit.",
        ),
        ALL_NAMESPACES,
    ],
    access: Access::Read,
    doc: "Waits for an event and returns it.\n\nThe filter is as `events` has it, or a closure that gets each event and returns `true` for the one that is waited for. The action, a closure without parameters that comes last, is called once the subscription stands: what it causes is not missed. When events may have been missed meanwhile, as in a restart of the daemon, it fails with the kind `unavailable`, which `retry` tries again. A dry run calls the action and does not wait: the event of the result has the topic that was waited for and no details.",
    examples: &[
        Example::gives(
            "wait_for(\"images/create\", #{ timeout: \"20s\" }, || tag(\"busybox\", \"example.test/seen:1\")).subject",
            "\"example.test/seen:1\"",
        ),
        Example::gives(
            "let e = wait_for(|e| e.topic == \"/tasks/exit\" && e.subject == \"wait-for-1\", #{ timeout: \"20s\" }, || run(\"busybox\", #{ id: \"wait-for-1\", detach: true, command: [\"sh\", \"-c\", \"exit 3\"] }));\ndelete(\"wait-for-1\", #{ force: true });\n[e.payload.exit_status, e.payload.exited_at.age < 60]",
            "[3,true]",
        ),
    ],
};

fn wait_for(call: &Call<'_>, first: Dynamic, second: Option<Dynamic>, third: Option<Dynamic>) -> Result<EventObject> {
    let Rest { filter, options, closure: action } = sort(call, [Some(first), second, third], false)?;
    let wanted = Wanted::new(call, filter, &options)?;
    let act = || action.as_ref().map_or(Ok(()), |action| call.closure(action, ()).map(drop));
    let shown = match &wanted.matches {
        Some(_) => "an event that the closure takes".to_owned(),
        None => wanted.filters.shown.clone(),
    };
    if call.ctx().is_dry_run() {
        act()?;
        let topic = wanted.filters.topic.unwrap_or(Happening::GAP).to_owned();
        return Ok(EventObject::new(Event { topic, ..Happening::gap(call.ctx().namespace(), "dry run", None) }));
    }
    let mut watching = wanted.watch(call)?;
    act()?;
    match (watching.next(None)?, wanted.deadline) {
        (Next::Event(event), _) => Ok(event),
        (Next::Gap(gap), _) => Err(Failed::Missed { waiting: shown, reason: reason(&gap) }.into()),
        (Next::Late | Next::Over, limit) => {
            Err(Failed::Timeout { attempted: format!("waiting for {shown}"), limit: limit.unwrap_or_default() }.into())
        }
    }
}

/// Registers the functions and the object of events.
pub(crate) fn register(catalog: &mut Catalog) {
    catalog.add_object::<EventObject>();
    catalog.add(&EVENTS, events);
    catalog.add(&ON_SPEC, on);
    catalog.add(&WAIT_FOR, wait_for);
}
