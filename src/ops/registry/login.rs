//! `login`: keeps credentials for a registry that has taken them.

use async_trait::async_trait;

use crate::grant::Access;
use crate::ops::{Context, Level, Operation, Plan, Result};
use crate::registry::{Credential, Options};

/// What a login came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// The registry, `HOST[:PORT]`.
    pub registry: String,
    /// The user.
    pub user: String,
    /// Who keeps the credentials: Docker's config file, or a helper.
    pub keeper: String,
}

/// Checks credentials with a registry and keeps them where Docker would.
#[derive(Debug)]
pub struct Login {
    registry: String,
    credential: Credential,
    options: Options,
}

impl Login {
    /// Logs in at a registry, `HOST[:PORT]`.
    #[must_use]
    pub fn new(registry: &str, credential: Credential, options: Options) -> Self {
        Self { registry: registry.to_owned(), credential, options }
    }

    fn user(&self) -> &str {
        match &self.credential {
            Credential::Password { user, .. } => user,
            Credential::Identity(_) => "<token>",
        }
    }
}

#[async_trait]
impl Operation for Login {
    type Output = LoggedIn;
    const NAME: &'static str = "login";

    fn subject(&self) -> String {
        self.registry.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<LoggedIn>> {
        let options = Options { credential: Some(self.credential.clone()), ..self.options.clone() };
        let registry = ctx.registry().registry(&self.registry, ctx.grant(), &options);
        if !registry.ping().await? {
            let text = format!("{} asks for no login, so these credentials are kept unchecked", self.registry);
            ctx.note(Level::Warn, &text);
        }
        let keeper = ctx.registry().keeper(&self.registry)?.to_string();
        let user = self.user().to_owned();
        let action = format!("keep the credentials of {user} for {} in {keeper}", self.registry);
        let preview = LoggedIn { registry: self.registry.clone(), user, keeper };
        Ok(Plan::new(preview).step(Access::Write, self.registry.clone(), action))
    }

    async fn apply(self, ctx: &Context) -> Result<LoggedIn> {
        let keeper = ctx.registry().keep(&self.registry, &self.credential, ctx.grant()).await?.to_string();
        Ok(LoggedIn { user: self.user().to_owned(), registry: self.registry, keeper })
    }
}
