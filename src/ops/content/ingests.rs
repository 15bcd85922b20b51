//! `content::active`, `content::abort`: blobs that are being written, or whose writing stopped.

use async_trait::async_trait;

use crate::containerd::content::Status;
use crate::grant::Access;
use crate::ops::{Context, Effect, Error, Operation, Plan, Result};

/// Lists the ingests of the namespace, those whose ref matches a pattern where there is one; sorted by ref.
///
/// # Errors
/// When the pattern is not one, or there is no connection.
pub async fn active(ctx: &Context, pattern: Option<&str>) -> Result<Vec<Status>> {
    let pattern = pattern
        .map(regex_lite::Regex::new)
        .transpose()
        .map_err(|error| Error::argument("the pattern", format!("is not a regular expression: {error}")))?;
    let mut ingests = ctx.client().await?.content().statuses(&[]).await?;
    ctx.overlay().amend(&ctx.place_name(), &mut ingests, |ingest| &ingest.reference);
    ingests.retain(|ingest| pattern.as_ref().is_none_or(|pattern| pattern.is_match(&ingest.reference)));
    ingests.sort_by(|a, b| a.reference.cmp(&b.reference));
    Ok(ingests)
}

/// Throws an ingest away with what was written of it.
#[derive(Debug)]
pub struct Abort {
    reference: String,
}

impl Abort {
    /// Throws this ingest away.
    #[must_use]
    pub fn new(reference: &str) -> Self {
        Self { reference: reference.to_owned() }
    }
}

#[async_trait]
impl Operation for Abort {
    type Output = ();
    const NAME: &'static str = "content::abort";

    fn subject(&self) -> String {
        self.reference.clone()
    }

    async fn plan(&mut self, ctx: &Context) -> Result<Plan<()>> {
        let ingests = active(ctx, None).await?;
        if !ingests.iter().any(|ingest| ingest.reference == self.reference) {
            let names = ingests.iter().map(|ingest| ingest.reference.as_str());
            return Err(Error::not_found("ingest", &self.reference, names));
        }
        Ok(Plan::new(())
            .step(Access::Write, ctx.target(), format!("abort ingest {}", self.reference))
            .effect(Effect::gone::<Status>(&ctx.place_name(), &self.reference)))
    }

    async fn apply(self, ctx: &Context) -> Result<()> {
        Ok(ctx.client().await?.content().abort(&self.reference).await?)
    }
}
