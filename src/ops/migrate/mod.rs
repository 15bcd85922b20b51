//! `migrate`: moves many images, and goes on where it stopped.
//!
//! [`collect`] lists and filters what is to be moved. The names of the targets are given by the caller, who may ask a
//! script's closure. [`Migrate`] is the change: its plan asks every target what it has, its apply moves the rest, several
//! at a time, and writes each change of state to a journal first.

mod journal;
mod keeper;
mod look;
mod options;
mod progress;
mod report;
mod run;
mod select;
mod source;
mod target;

use chrono::{DateTime, Utc};

pub use journal::Identity;
pub use options::{Item, Options, Shard};
pub use report::{Outcome, Report, State};
pub use run::Migrate;
pub use select::{Filters, Pattern, range, version};
pub use source::Source;
pub use target::{Destination, default_name, fill, is_spare, target};

use crate::kind::Failure;
use crate::layout::ArchiveReader;
use crate::oci::store::ImageSource;
use crate::oci::{Descriptor, Reference};
use crate::ops::image::Endpoint;
use crate::ops::{Context, Error, Level, Result};

/// An image that may be migrated.
#[derive(Debug)]
pub struct Candidate {
    /// Where it is.
    pub source: Endpoint,
    /// Its name, wherever it is.
    pub name: Reference,
    /// Where it goes, when its source says so.
    pub target: Option<String>,
    /// When it was made, as far as that is known.
    pub created: Option<DateTime<Utc>>,
    /// What the source calls its content when it has no digest before it is read.
    pub content: Option<String>,
    /// Why it cannot be said when it was made, where a filter asks for that and the others go on.
    pub unread: Option<Error>,
    /// Its size in bytes, where only the list tells it.
    pub size: Option<u64>,
    /// For a name by digest: the tags of its repository in the same list that point to the same content.
    pub beside: Vec<Reference>,
    /// The archive that it was found in with others, open: a compressed one is spooled once for all of them.
    pub archive: Option<ArchiveReader>,
}

impl Candidate {
    /// Names an image of which nothing more is known.
    #[must_use]
    pub fn new(source: Endpoint, name: Reference) -> Self {
        Self {
            source,
            name,
            target: None,
            created: None,
            content: None,
            unread: None,
            size: None,
            beside: Vec::new(),
            archive: None,
        }
    }

    /// Returns the image as a source, where what it is in is open.
    fn opened(&self) -> Option<(Box<dyn ImageSource>, Descriptor)> {
        let (Some(archive), Endpoint::Archive { selector, .. }) = (&self.archive, &self.source) else { return None };
        // One that cannot be found is told of when it is looked for in the file.
        let image = archive.find(selector).ok()?;
        Some((Box::new(archive.source_for(&image)), image.target))
    }
}

/// Lists the sources and keeps what the filters let through, each source once, in the order of the list. Where the
/// others are to go on, images of which a filter cannot be told when they were made come last, and fail.
///
/// # Errors
/// When a source cannot be listed, also when that was tried again as often as an image is.
pub async fn collect(
    ctx: &Context,
    sources: &[Source],
    filters: &Filters,
    options: &Options,
) -> Result<Vec<Candidate>> {
    let mut all: Vec<Candidate> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for source in sources {
        for candidate in list(ctx, source, options).await? {
            if seen.insert((candidate.source.to_string(), candidate.target.clone())) {
                all.push(candidate);
            }
        }
    }
    let named = filters.by_name(all);
    if !filters.wants_times(&named) {
        return Ok(filters.by_time(named, Utc::now()));
    }
    let (known, unreadable) = source::read_times(ctx, named, options).await?;
    let mut kept = filters.by_time(known, Utc::now());
    kept.extend(unreadable);
    Ok(kept)
}

async fn list(ctx: &Context, source: &Source, options: &Options) -> Result<Vec<Candidate>> {
    let mut tries = 1;
    loop {
        match source.list(ctx, &options.copy.registry).await {
            Err(error) if error.retryable() && tries <= options.retries => {
                let pause = options.pause(tries, &error);
                let text =
                    format!("the sources cannot be listed: {error}; tried again in {:.1} s", pause.as_secs_f64());
                ctx.note(Level::Warn, &text);
                tokio::time::sleep(pause).await;
                tries += 1;
            }
            listed => return listed,
        }
    }
}
