//! Images moved by containerd's transfer service: the daemon itself speaks to the registry, and no byte comes by here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::containerd::transfer::{Login, Moving, Partner, Remote};
use crate::kind::BoxFailure;
use crate::oci::{Digest, Reference};
use crate::ops::copy::{Totals, label};
use crate::ops::{Context, Error, Meter, Result};
use crate::registry::{self, Credential};

mod pull;
mod push;

pub use pull::PullByDaemon;
pub use push::PushByDaemon;

/// Says how the daemon is to reach a registry.
///
/// # Errors
/// [`Error::Lacking`] when the daemon has no transfer service, [`Error::Argument`] when it cannot be told what was said of
/// the registry.
async fn remote(ctx: &Context, reference: &Reference, options: &registry::Options) -> Result<Remote> {
    let ability = ctx.client().await?.transfer().ability().await?.ok_or_else(|| Error::Lacking {
        daemon: ctx.place().daemon.endpoint().to_string(),
        what: "transfer service",
        reason: "its plugins 'transfer' and 'streaming' are not there, or do not work".into(),
        cure: "leave via away: the image is then moved by this program, with every containerd alike".into(),
    })?;
    let told = ctx.registry().handed(reference.registry(), options);
    let certificates =
        "put it into a hosts.toml on the daemon's machine and name the folder by hosts_dir, or leave via away";
    let hosts = "leave via away: the image is then moved by this program, which heeds it";
    let untold = [
        (told.skip_verify, "skip_verify", "cannot be said to a daemon that moves the image itself", certificates),
        (told.authorities, "tlscacert", "cannot be given to a daemon that moves the image itself", certificates),
        (told.certificate, "tlscert", "cannot be given to a daemon that moves the image itself", certificates),
        (told.plain_http && !ability.hosts, "plain_http", "is passed over by this daemon's transfer service", hosts),
    ];
    if let Some((_, name, problem, cure)) = untold.into_iter().find(|(given, ..)| *given) {
        return Err(Error::Argument { name: name.into(), problem: problem.into(), cure: Some(cure.into()) });
    }
    if let (Some(folder), false) = (&told.hosts_dir, ability.hosts) {
        return Err(Error::Argument {
            name: format!("hosts_dir {}", folder.display()),
            problem: "is passed over by this daemon's transfer service".into(),
            cure: Some(hosts.into()),
        });
    }
    Ok(Remote { reference: reference.to_string(), hosts_dir: told.hosts_dir, plain_http: told.plain_http })
}

/// This side of a transfer: credentials for who asks, and meters for who watches.
struct Party<'a> {
    ctx: &'a Context,
    registry: &'a str,
    options: &'a registry::Options,
    seen: Mutex<HashMap<Digest, Seen>>,
}

/// What is known of one blob or document.
struct Seen {
    /// Where it is shown; documents are not.
    meter: Option<Arc<dyn Meter>>,
    size: u64,
    shown: u64,
    /// Whether it was there before.
    present: bool,
    over: bool,
    layer: bool,
}

impl<'a> Party<'a> {
    fn new(ctx: &'a Context, reference: &'a Reference, options: &'a registry::Options) -> Self {
        Self { ctx, registry: reference.registry(), options, seen: Mutex::default() }
    }

    /// Ends what is still shown after the transfer succeeded, and adds up what was moved.
    fn finish(self) -> Totals {
        let mut totals = Totals::default();
        let seen = self.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (digest, mut one) in seen {
            one.end(one.present);
            let blob = one.layer;
            if one.present {
                totals.blobs_present += u64::from(blob);
                continue;
            }
            totals.sent += one.size;
            totals.blobs_sent.extend(blob.then_some(digest));
        }
        totals
    }
}

impl Seen {
    fn end(&mut self, present: bool) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.present = present;
        if let Some(meter) = &self.meter {
            meter.advance(self.size.saturating_sub(self.shown));
            meter.done(if present { "exists" } else { "done" });
        }
    }
}

#[async_trait]
impl Partner for Party<'_> {
    async fn login(&self, host: &str) -> std::result::Result<Option<Login>, BoxFailure> {
        let found = self.ctx.registry().credential_of(host, self.registry, self.options).await?;
        Ok(found.map(|found| match found {
            Credential::Password { user, password } => {
                Login { user: Some(user), secret: Zeroizing::new(password.expose().to_owned()) }
            }
            Credential::Identity(token) => Login { user: None, secret: Zeroizing::new(token.expose().to_owned()) },
        }))
    }

    fn moving(&self, moving: Moving) {
        let blob = moving.descriptor;
        let layer = !blob.media_type.is_manifest() && !blob.media_type.is_index();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let one = seen.entry(blob.digest.clone()).or_insert_with(|| Seen {
            meter: layer.then(|| self.ctx.progress().meter(&label(&blob), Some(blob.size))),
            size: blob.size,
            shown: 0,
            present: false,
            over: false,
            layer,
        });
        if moving.complete {
            one.end(moving.present);
        } else if let (Some(meter), false) = (&one.meter, one.over) {
            match moving.bytes.checked_sub(one.shown) {
                Some(more) => meter.advance(more),
                None => meter.rewind(one.shown - moving.bytes),
            }
            one.shown = moving.bytes;
        }
    }
}
