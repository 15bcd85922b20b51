//! What one host wants to see before it answers, and the tokens there are for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::Result;
use super::challenge::Challenge;
use super::credentials::{self, Credential};
use super::reach::Reach;
use super::token::{Asking, Service, Token, basic};

/// How long credentials are not looked up again, however often they are refused.
const LOOKED_UP: Duration = Duration::from_secs(2);

/// The logins of all hosts, by origin: what is for one scheme, host and port is for no other.
#[derive(Debug, Default)]
pub(super) struct Logins(Mutex<HashMap<url::Origin, Arc<Login>>>);

impl Logins {
    /// Forgets what is known, so that changed credentials are looked up again.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn of(&self, origin: url::Origin) -> Arc<Login> {
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(origin).or_default())
    }
}

/// What is known of one host's wishes.
#[derive(Debug, Default)]
pub(super) struct Login {
    scheme: Mutex<Option<Scheme>>,
    /// The lock is held while they are looked up, so that one request does so for all.
    credential: tokio::sync::Mutex<Option<Known>>,
    tokens: Mutex<HashMap<Vec<String>, Arc<tokio::sync::Mutex<Slot>>>>,
}

/// Credentials as they were found: what a helper gives runs out, and a user may log in meanwhile.
#[derive(Debug)]
struct Known {
    credential: Option<Credential>,
    since: Instant,
}

#[derive(Debug, Clone)]
enum Scheme {
    Basic,
    Bearer(Arc<Service>),
}

/// The token for one set of scopes. The lock is held while it is fetched, so that one request fetches it for all.
#[derive(Debug, Default)]
struct Slot {
    token: Option<Token>,
    /// What the registry asked for beyond what was wanted, in its words.
    demanded: Vec<String>,
}

impl Login {
    /// Returns the Authorization header for a request that needs these scopes, if the host has asked for one before.
    pub(super) async fn authorization(&self, ask: &Asking<'_>, scopes: &[String]) -> Result<Option<HeaderValue>> {
        let scheme = self.scheme.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match scheme {
            None => Ok(None),
            Some(Scheme::Basic) => self.password(ask).await,
            Some(Scheme::Bearer(service)) => {
                let slot = self.slot(scopes);
                let mut slot = slot.lock().await;
                if let Some(token) = slot.token.as_ref().filter(|token| token.is_fresh()) {
                    return Ok(Some(token.header.clone()));
                }
                let mut all = slot.demanded.clone();
                all.extend(scopes.iter().filter(|scope| !slot.demanded.contains(scope)).cloned());
                let token = self.token(ask, &service, &all).await?;
                let header = token.header.clone();
                slot.token = Some(token);
                Ok(Some(header))
            }
        }
    }

    /// Fetches a token, once more with what a user is known by meanwhile if the service refuses what was known before.
    async fn token(&self, ask: &Asking<'_>, service: &Service, scopes: &[String]) -> Result<Token> {
        let who = self.credential(ask).await?;
        match service.fetch(ask, scopes, who.as_ref()).await {
            Err(error) if matches!(error.status(), Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) => {
                if !self.renewed(ask, |now| *now != who).await {
                    return Err(error);
                }
                let who = self.credential(ask).await?;
                service.fetch(ask, scopes, who.as_ref()).await
            }
            other => other,
        }
    }

    /// Returns the Authorization header with the user and the password, if there are any.
    pub(super) async fn password(&self, ask: &Asking<'_>) -> Result<Option<HeaderValue>> {
        self.credential(ask).await?.as_ref().map_or(Ok(None), header)
    }

    /// Learns from a 401, and returns whether another try can do better than the header that was used.
    pub(super) async fn learn(
        &self,
        ask: &Asking<'_>,
        (headers, reach): (&HeaderMap, Reach),
        scopes: &[String],
        used: Option<&HeaderValue>,
    ) -> Result<bool> {
        match Challenge::best(headers) {
            None => Ok(false),
            Some(Challenge::Basic) => {
                *self.scheme.lock().unwrap_or_else(PoisonError::into_inner) = Some(Scheme::Basic);
                // Without a header nobody was asked for credentials yet, or there were none.
                let differs = |now: &Option<Credential>| {
                    let now = now.as_ref().and_then(|now| header(now).ok().flatten());
                    now.is_some() && now.as_ref() != used
                };
                Ok(differs(&self.credential(ask).await?) || self.renewed(ask, differs).await)
            }
            Some(Challenge::Bearer { realm, service, scope }) => {
                let service = Service::new(ask.base, &realm, service, reach)?;
                let who = self.credential(ask).await?;
                if used.is_some() && self.renewed(ask, |now| *now != who).await {
                    // What there was did not do, and is of whoever was known before.
                    self.tokens.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                if self.credential(ask).await?.is_some() {
                    // Before it takes the place of one that is trusted.
                    service.check_trust(ask)?;
                }
                {
                    let mut scheme = self.scheme.lock().unwrap_or_else(PoisonError::into_inner);
                    if !matches!(&*scheme, Some(Scheme::Bearer(known)) if known.is(&service)) {
                        *scheme = Some(Scheme::Bearer(Arc::new(service)));
                    }
                }
                let slot = self.slot(scopes);
                let mut slot = slot.lock().await;
                // Another request may have fetched a new one while this one was on its way.
                let current = slot.token.as_ref().map(|token| &token.header);
                if current.is_some() && current != used {
                    return Ok(true);
                }
                slot.token = None;
                let demanded: Vec<String> = scope.iter().flat_map(|s| s.split(' ')).map(str::to_owned).collect();
                // Some services read only the first scope: ours, which covers what will come, unless it did not do.
                slot.demanded = match (used, scopes) {
                    (None, [first, ..]) => {
                        let rest = demanded.iter().filter(|scope| !covers(scopes, scope));
                        std::iter::once(first).chain(rest).cloned().collect()
                    }
                    _ => demanded,
                };
                Ok(true)
            }
        }
    }

    fn slot(&self, scopes: &[String]) -> Arc<tokio::sync::Mutex<Slot>> {
        Arc::clone(self.tokens.lock().unwrap_or_else(PoisonError::into_inner).entry(scopes.to_vec()).or_default())
    }

    async fn credential(&self, ask: &Asking<'_>) -> Result<Option<Credential>> {
        let mut known = self.credential.lock().await;
        if let Some(known) = &*known {
            return Ok(known.credential.clone());
        }
        let credential = credentials::find(ask.config, &ask.endpoint.login).await?;
        *known = Some(Known { credential: credential.clone(), since: Instant::now() });
        Ok(credential)
    }

    /// Looks credentials up again that were refused, unless another request just did, and returns whether they are others.
    async fn renewed(&self, ask: &Asking<'_>, differs: impl Fn(&Option<Credential>) -> bool) -> bool {
        let mut known = self.credential.lock().await;
        let Some(known) = &mut *known else { return false };
        if differs(&known.credential) {
            return true;
        }
        if known.since.elapsed() < LOOKED_UP {
            return false;
        }
        known.since = Instant::now();
        match credentials::find(ask.config, &ask.endpoint.login).await {
            Ok(credential) => known.credential = credential,
            // What the registry said of the former ones says more.
            Err(error) => tracing::debug!(%error, "credentials cannot be looked up again"),
        }
        differs(&known.credential)
    }
}

/// Makes the header with the user and the password, if that is what there is.
fn header(credential: &Credential) -> Result<Option<HeaderValue>> {
    match credential {
        Credential::Password { user, password } => Ok(Some(basic(user, password)?)),
        Credential::Identity(_) => Ok(None),
    }
}

/// Returns whether one of the scopes allows all that another names: same resource, at least its actions.
fn covers(scopes: &[String], wanted: &str) -> bool {
    let Some((resource, actions)) = wanted.rsplit_once(':') else { return false };
    scopes.iter().any(|scope| {
        scope.rsplit_once(':').is_some_and(|(own, allowed)| {
            own == resource && actions.split(',').all(|action| allowed.split(',').any(|a| a == action))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_scope_covers_a_narrower() {
        let own = ["repository:a/b:pull,push".to_owned()];
        assert!(covers(&own, "repository:a/b:pull"));
        assert!(covers(&own, "repository:a/b:push,pull"));
        assert!(!covers(&own, "repository:a/b:delete"));
        assert!(!covers(&own, "repository:a/c:pull"));
        assert!(!covers(&own, "registry"));
    }
}
