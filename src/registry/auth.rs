//! What one host wants to see before it answers, and the tokens there are for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{HeaderMap, HeaderValue};
use tokio::sync::OnceCell;

use super::challenge::Challenge;
use super::credentials::{self, Credential};
use super::reach::Reach;
use super::token::{Asking, Service, Token, basic};
use super::{Config, Result};

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
    credential: OnceCell<Option<Credential>>,
    tokens: Mutex<HashMap<Vec<String>, Arc<tokio::sync::Mutex<Slot>>>>,
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
                let who = self.credential(ask.config, &ask.endpoint.login).await?;
                let mut all = slot.demanded.clone();
                all.extend(scopes.iter().filter(|scope| !slot.demanded.contains(scope)).cloned());
                let token = service.fetch(ask, &all, who).await?;
                let header = token.header.clone();
                slot.token = Some(token);
                Ok(Some(header))
            }
        }
    }

    /// Returns the Authorization header with the user and the password, if there are any.
    pub(super) async fn password(&self, ask: &Asking<'_>) -> Result<Option<HeaderValue>> {
        match self.credential(ask.config, &ask.endpoint.login).await? {
            Some(Credential::Password { user, password }) => Ok(Some(basic(user, password)?)),
            Some(Credential::Identity(_)) | None => Ok(None),
        }
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
                let who = self.credential(ask.config, &ask.endpoint.login).await?;
                Ok(used.is_none() && matches!(who, Some(Credential::Password { .. })))
            }
            Some(Challenge::Bearer { realm, service, scope }) => {
                let service = Service::new(ask.base, &realm, service, reach)?;
                if self.credential(ask.config, &ask.endpoint.login).await?.is_some() {
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

    async fn credential(&self, config: &Config, host: &str) -> Result<Option<&Credential>> {
        Ok(self.credential.get_or_try_init(|| credentials::find(config, host)).await?.as_ref())
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
