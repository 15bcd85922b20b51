//! From a Rhai call to a Rust function: what all calls share, and the call itself.

use std::future::Future;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use rhai::{Dynamic, FnPtr, NativeCallContext};
use tokio_util::sync::CancellationToken;

use crate::ops::{self, Context};
use crate::script::catalog::Spec;
use crate::script::convert::Output;
use crate::script::effort;
use crate::script::error::{Error, Result};
use crate::script::held;
use crate::script::placed;

/// Receives what a script prints.
pub trait Sink: Send + Sync {
    /// Takes one `print`.
    fn print(&self, text: &str);

    /// Takes one `debug`, with where it came from.
    fn debug(&self, text: &str, at: &str);

    /// Asks the user for a secret without showing it; `None` when there is nobody to ask.
    fn ask_secret(&self, _prompt: &str) -> Option<String> {
        None
    }

    /// Reads a secret from a line of standard input; `None` when there is none.
    fn secret_line(&self) -> Option<String> {
        None
    }

    /// Returns the user at a terminal, whom a process can be connected with; `None` when there is nobody.
    fn seat(&self) -> Option<&dyn ops::container::Seat> {
        None
    }

    /// Writes a value as text for people, as `table(…)` returns it: at full width unless the sink knows better.
    fn render(&self, output: &Output) -> String {
        super::convert::plain(output)
    }
}

/// Looks up environment variables, which only the command line reads itself.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What every call of one interpreter shares.
pub struct Session {
    runtime: tokio::runtime::Handle,
    context: RwLock<Context>,
    catalog: std::sync::OnceLock<Arc<super::catalog::Catalog>>,
    sink: Arc<dyn Sink>,
    args: Vec<String>,
    environment: Environment,
    main: RwLock<Option<String>>,
    ending: Mutex<Ending>,
}

/// How the running source has to end, once something said so.
#[derive(Default)]
struct Ending {
    exit: Option<i32>,
    batch_failed: bool,
    denied: Option<Dynamic>,
}

impl Session {
    /// Makes a session.
    #[must_use]
    pub(crate) fn new(
        runtime: tokio::runtime::Handle,
        context: Context,
        sink: Arc<dyn Sink>,
        args: Vec<String>,
        environment: Environment,
    ) -> Self {
        Self {
            runtime,
            context: RwLock::new(context),
            catalog: std::sync::OnceLock::new(),
            sink,
            args,
            environment,
            main: RwLock::default(),
            ending: Mutex::default(),
        }
    }

    /// Returns the context that calls run in now, with the leases that the thread holds, and cancelled by what cancels the thread.
    #[must_use]
    pub fn context(&self) -> Context {
        let context = placed::own()
            .unwrap_or_else(|| self.context.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone());
        let context = match held::cancel() {
            Some(cancel) => context.with_cancel(cancel),
            None => context,
        };
        let leases = held::current();
        if leases.is_empty() { context } else { context.with_leases(leases) }
    }

    /// Changes the context for the calls to come, as `namespace("k8s.io")` does; in an item of a batch, for that item.
    pub fn set_context(&self, context: Context) {
        // Leases are the thread's, and end before the context does.
        let context = if context.leases().is_empty() { context } else { context.with_leases(Vec::new()) };
        if placed::change(&context) {
            return;
        }
        let mut shared = self.context.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        // So is what cancels it.
        let context =
            if held::cancel().is_some() { context.with_cancel(shared.grant().cancel().clone()) } else { context };
        *shared = context;
    }

    /// Begins a source, known by its name: forgets how the last one ended.
    pub(crate) fn begin(&self, context: Context, source: Option<&str>) {
        effort::begin();
        self.set_context(context);
        *self.main.write().unwrap_or_else(std::sync::PoisonError::into_inner) = source.map(str::to_owned);
        *self.ending() = Ending::default();
    }

    /// Returns whether a source is the one that was begun, and not a module that it imports.
    pub(crate) fn is_main(&self, source: Option<&str>) -> bool {
        self.main.read().unwrap_or_else(std::sync::PoisonError::into_inner).as_deref() == source
    }

    fn ending(&self) -> std::sync::MutexGuard<'_, Ending> {
        self.ending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Remembers a denial, so that no `catch` around a function of the script goes on after it.
    pub(crate) fn deny(&self, value: Dynamic) {
        self.ending().denied.get_or_insert(value);
    }

    /// Remembers the exit status that the script asked for.
    pub(crate) fn set_exit_status(&self, status: i32) {
        self.ending().exit = Some(status);
    }

    /// Returns the exit status that the script asked for.
    pub(crate) fn exit_status(&self) -> Option<i32> {
        self.ending().exit
    }

    /// Remembers that items of a batch failed while the script goes on.
    pub(crate) fn note_batch_failure(&self) {
        self.ending().batch_failed = true;
    }

    /// Returns whether items of a batch failed.
    pub(crate) fn batch_failed(&self) -> bool {
        self.ending().batch_failed
    }

    /// Asks for an environment variable.
    pub(crate) fn environment(&self, name: &str) -> Option<String> {
        (self.environment)(name)
    }

    /// Returns why a running source has to stop between two of its statements, if it has to.
    pub(crate) fn stopped(&self) -> Option<Dynamic> {
        let cancelled = self.context.read().is_ok_and(|ctx| ctx.grant().cancel().is_cancelled());
        if cancelled || held::cancel().is_some_and(|cancel| cancel.is_cancelled()) {
            return Some(super::engine::cancelled());
        }
        self.ending().denied.clone()
    }

    pub(crate) fn set_catalog(&self, catalog: Arc<super::catalog::Catalog>) {
        let _ = self.catalog.set(catalog);
    }

    /// Returns the catalog of the interpreter.
    pub(crate) fn catalog(&self) -> Option<&Arc<super::catalog::Catalog>> {
        self.catalog.get()
    }

    /// Returns where prints go.
    #[must_use]
    pub fn sink(&self) -> &Arc<dyn Sink> {
        &self.sink
    }

    /// Returns the arguments of the script.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// Cancels something after a while, unless what is returned is dropped before.
    pub(crate) fn cancel_after(&self, limit: Duration, cancel: CancellationToken) -> Alarm {
        Alarm(self.runtime.spawn(async move {
            tokio::time::sleep(limit).await;
            cancel.cancel();
        }))
    }

    /// Waits for an operation on the script's thread, or until the user stops it.
    ///
    /// # Errors
    /// What the operation failed with, or that it was cancelled.
    pub fn wait<T>(&self, ctx: &Context, operation: impl Future<Output = ops::Result<T>>) -> Result<T> {
        let cancel = ctx.grant().cancel().clone();
        effort::rest();
        let result = self.runtime.block_on(async move {
            let operation = std::pin::pin!(operation);
            tokio::select! {
                biased;
                result = operation => result.map_err(Error::from),
                () = cancel.cancelled() => Err(ops::Error::Cancelled.into()),
            }
        });
        if result.is_err() {
            // Only now is a cancelled operation dropped, and what it made can be taken back.
            self.runtime.block_on(ctx.settle());
        }
        result
    }

    /// Waits for what ends an operation, also when the user stopped it, and settles what it could not end.
    ///
    /// # Errors
    /// What ending it failed with.
    pub(crate) fn finish(&self, ctx: &Context, ending: impl Future<Output = ops::Result<()>>) -> Result<()> {
        let result = self.runtime.block_on(ending).map_err(Error::from);
        if result.is_err() {
            self.runtime.block_on(ctx.settle());
        }
        result
    }
}

/// What is to be cancelled after a while.
pub(crate) struct Alarm(tokio::task::JoinHandle<()>);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One call of a function.
pub struct Call<'a> {
    spec: &'static Spec,
    session: &'a Arc<Session>,
    ctx: Context,
    native: Option<NativeCallContext<'a>>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        spec: &'static Spec,
        session: &'a Arc<Session>,
        ctx: Context,
        native: Option<NativeCallContext<'a>>,
    ) -> Self {
        Self { spec, session, ctx, native }
    }

    /// Returns the entry that is called.
    #[must_use]
    pub fn spec(&self) -> &'static Spec {
        self.spec
    }

    /// Returns the context that the call runs in: the current node and namespace, or those of the `Node` it is called on.
    #[must_use]
    pub fn ctx(&self) -> &Context {
        &self.ctx
    }

    /// Returns what all calls share.
    #[must_use]
    pub fn session(&self) -> &'a Arc<Session> {
        self.session
    }

    /// Returns Rhai's own context, for calling closures.
    #[must_use]
    pub fn native(&self) -> Option<&NativeCallContext<'a>> {
        self.native.as_ref()
    }

    /// Waits for a read, or until the user stops it.
    ///
    /// # Errors
    /// What it failed with.
    pub fn wait<T>(&self, operation: impl Future<Output = ops::Result<T>>) -> Result<T> {
        self.session.wait(&self.ctx, operation)
    }

    /// Runs a change through the one path of changes, in the call's context.
    ///
    /// # Errors
    /// What it failed with.
    pub fn run<O: ops::Operation>(&self, operation: O) -> Result<O::Output> {
        self.run_in(&self.ctx, operation)
    }

    /// Runs a change in another context, as methods do that belong to an object's own node.
    ///
    /// # Errors
    /// What it failed with.
    pub fn run_in<O: ops::Operation>(&self, ctx: &Context, operation: O) -> Result<O::Output> {
        self.session.wait(ctx, ops::execute(ctx, operation))
    }

    /// Returns the call's context moved to an object's own place.
    #[must_use]
    pub fn at(&self, place: &ops::Place) -> Context {
        self.ctx.at(place)
    }

    /// Calls a closure of the script.
    ///
    /// # Errors
    /// What the closure threw.
    pub fn closure(&self, closure: &FnPtr, args: impl rhai::FuncArgs) -> Result<Dynamic> {
        let native = self.native.as_ref().ok_or_else(|| self.argument("closure", "cannot be called here"))?;
        closure.call_within_context(native, args).map_err(Error::Script)
    }

    /// Says that an argument cannot be used.
    #[must_use]
    pub fn argument(&self, argument: &str, problem: impl Into<String>) -> Error {
        Error::Argument { function: self.spec.name, argument: argument.to_owned(), problem: problem.into() }
    }
}
