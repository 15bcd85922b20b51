//! Live names for completion, within a budget: from a cache, or as soon as the daemon answers, or not at all.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::ops::{self, Context};
use crate::script::catalog::Names;

/// How long an answer counts as new.
const FRESH: Duration = Duration::from_secs(2);
/// How long Tab waits when there is an older answer, and when there is none.
const WARM: Duration = Duration::from_millis(50);
const COLD: Duration = Duration::from_millis(300);

const SIGNALS: [&str; 10] =
    ["SIGTERM", "SIGKILL", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGSTOP", "SIGCONT", "SIGWINCH"];

type Key = (String, Names);

/// Names of things that exist now.
pub(super) struct Live {
    runtime: tokio::runtime::Handle,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    answers: HashMap<Key, (Instant, Vec<String>)>,
    asked: HashSet<Key>,
}

impl Live {
    pub(super) fn new(runtime: tokio::runtime::Handle) -> Self {
        Self { runtime, known: Arc::default() }
    }

    /// Returns the names of a sort, in at most 300 ms.
    pub(super) fn names(&self, ctx: &Context, sort: Names) -> Vec<String> {
        match sort {
            Names::Any | Names::File | Names::MountPoint => return Vec::new(),
            Names::Signal => return SIGNALS.iter().map(|name| (*name).to_owned()).collect(),
            Names::Image | Names::Container | Names::Namespace | Names::Snapshotter => {}
        }
        let key = (ctx.place_name(), sort);
        let mut known = lock(&self.known);
        let old = known.answers.get(&key).cloned();
        if let Some((at, names)) = &old
            && at.elapsed() < FRESH
        {
            return names.clone();
        }
        let patience = if old.is_some() { WARM } else { COLD };
        let old = old.map(|(_, names)| names).unwrap_or_default();
        // A daemon that does not answer is asked once, not at every Tab.
        if !known.asked.insert(key.clone()) {
            return old;
        }
        drop(known);
        let (answer, answered) = mpsc::channel();
        let known = Arc::clone(&self.known);
        let ctx = ctx.with_cancel(CancellationToken::new());
        self.runtime.spawn(async move {
            let names = fetch(&ctx, sort).await;
            let mut known = lock(&known);
            known.asked.remove(&key);
            if let Ok(names) = names {
                known.answers.insert(key, (Instant::now(), names.clone()));
                // Nobody listens any more when it took too long; the next Tab has it.
                let _ = answer.send(names);
            }
        });
        answered.recv_timeout(patience).unwrap_or(old)
    }
}

fn lock(known: &Mutex<Known>) -> std::sync::MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn fetch(ctx: &Context, sort: Names) -> ops::Result<Vec<String>> {
    let client = ctx.client().await?;
    let mut names: Vec<String> = match sort {
        Names::Image => client.images().list(&[]).await?.into_iter().map(|image| image.name).collect(),
        Names::Container => ops::container::list(ctx, &[]).await?.into_iter().map(|one| one.id).collect(),
        Names::Namespace => client.namespaces().list().await?.into_iter().map(|one| one.name).collect(),
        Names::Snapshotter => {
            let filter = ["type==io.containerd.snapshotter.v1".to_owned()];
            let plugins = client.introspection().plugins(&filter).await?;
            plugins.into_iter().filter(|plugin| plugin.failure.is_none()).map(|plugin| plugin.id).collect()
        }
        Names::Any | Names::File | Names::MountPoint | Names::Signal => Vec::new(),
    };
    names.sort_unstable();
    Ok(names)
}
