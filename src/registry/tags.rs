//! Lists: the tags of a repository, the repositories of a registry (distribution-spec, section Content Discovery).

use reqwest::Method;
use serde::Deserialize;

use super::hosts::Capability;
use super::link::Pages;
use super::session::{Call, Done};
use super::target::Target;
use super::{Registry, Repository, Result};

/// The longest page that is read.
const MAX_PAGE: u64 = 8 << 20;

impl Repository {
    /// Lists the tags of the repository, in the registry's order.
    ///
    /// # Errors
    /// [`Error::NotFound`](super::Error::NotFound) when there is no such repository.
    pub async fn tags(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Tags {
            tags: Option<Vec<String>>,
        }
        let (mut all, mut pages) = (Vec::new(), Pages::default());
        let mut target = Target::Path(format!("{}/tags/list", self.name()), vec![self.session.page()]);
        loop {
            let call = Call { target, whole: Some(MAX_PAGE), ..self.call(Method::GET, Capability::Resolve, "") };
            let done = self.send(call).await.map_err(|e| e.about(|| self.locator().to_owned()))?;
            let page: Tags = read(&done)?;
            let next = pages.after(&done)?;
            all.extend(page.tags.unwrap_or_default());
            match next {
                Some(place) => target = Target::Named(place),
                None => return Ok(all),
            }
        }
    }
}

impl Registry {
    /// Lists the repositories of the registry, where it tells them.
    ///
    /// # Errors
    /// Of kind `unauthorized` or `not_found` where the registry keeps them to itself, as the public ones do.
    pub async fn repositories(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Catalog {
            repositories: Option<Vec<String>>,
        }
        let (mut all, mut pages) = (Vec::new(), Pages::default());
        let mut target = Target::Path("_catalog".to_owned(), vec![self.session.page()]);
        loop {
            let done = self.get(target, vec!["registry:catalog:*".to_owned()], Some(MAX_PAGE)).await?;
            let page: Catalog = read(&done)?;
            let next = pages.after(&done)?;
            all.extend(page.repositories.unwrap_or_default());
            match next {
                Some(place) => target = Target::Named(place),
                None => return Ok(all),
            }
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(done: &Done) -> Result<T> {
    done.reply.refuse_page()?;
    serde_json::from_slice(&done.reply.body).map_err(|_| done.reply.nonsense("it is not the list that was asked for"))
}
