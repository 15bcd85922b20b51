//! Registries: what they hold, read and changed without a pull, and who is logged in there.

mod address;
mod delete;
mod inspect;
mod list;
mod login;
mod logout;
mod project;

pub use address::{Address, repository as repository_of};
pub use delete::{Delete, Deleted};
pub use inspect::{config, document, referrers, resolve, size};
pub use list::{repositories, tags};
pub use login::{LoggedIn, Login};
pub use logout::Logout;
pub(crate) use project::held;
pub use project::{CreateProject, DeleteProject, project, projects, quota};

use crate::oci::Reference;
use crate::ops::{Context, Effect, Error, Result, Seen};
use crate::registry::{Options, Repository};

/// A tag or manifest of a repository, in the overlay of a dry run.
#[derive(Debug, Clone)]
struct Held;

/// Says that a tag or digest of a repository would be gone.
fn gone(repository: &Reference, selector: &str) -> Effect {
    Effect::gone::<Held>(&repository.locator(), selector)
}

/// Returns whether an earlier change of the same dry run would have deleted a tag or digest.
fn is_gone(ctx: &Context, repository: &Reference, selector: &str) -> bool {
    matches!(ctx.overlay().get::<Held>(&repository.locator(), selector), Seen::Gone)
}

/// Refuses what an earlier change of the same dry run would have deleted.
fn check_held(ctx: &Context, reference: &Reference) -> Result<()> {
    match is_gone(ctx, reference, reference.selector()) {
        true => Err(Error::not_found("image", &reference.to_string(), [])),
        false => Ok(()),
    }
}

fn repository(ctx: &Context, reference: &Reference, options: &Options) -> Repository {
    ctx.registry().repository(reference.registry(), reference.repository(), ctx.grant(), options)
}
