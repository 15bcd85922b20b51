//! Lists: the tags of a repository, the repositories of a registry (distribution-spec, section Content Discovery).

use reqwest::Method;
use serde::Deserialize;

use super::hosts::Capability;
use super::session::{Call, Done, Target};
use super::{Registry, Repository, Result, link};

/// How many names are asked for at once.
const PAGE: &str = "1000";
/// The longest page that is read.
const MAX_PAGE: u64 = 8 << 20;
/// How many pages are read: a list without an end is somebody's trick.
const MAX_PAGES: usize = 10_000;

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
        let mut all = Vec::new();
        let mut target = Target::Path(format!("{}/tags/list", self.name()), vec![("n", PAGE.to_owned())]);
        for _ in 0..MAX_PAGES {
            let call = Call { target, whole: Some(MAX_PAGE), ..self.call(Method::GET, Capability::Resolve, "") };
            let done = self.send(call).await.map_err(|e| e.about(|| self.locator().to_owned()))?;
            let next = link::next(&done)?;
            let page: Tags = read(&done)?;
            all.extend(page.tags.unwrap_or_default());
            match next {
                Some(place) => target = Target::Named(place),
                None => break,
            }
        }
        Ok(all)
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
        let mut all = Vec::new();
        let mut target = Target::Path("_catalog".to_owned(), vec![("n", PAGE.to_owned())]);
        for _ in 0..MAX_PAGES {
            let done = self.get(target, vec!["registry:catalog:*".to_owned()], Some(MAX_PAGE)).await?;
            let next = link::next(&done)?;
            let page: Catalog = read(&done)?;
            all.extend(page.repositories.unwrap_or_default());
            match next {
                Some(place) => target = Target::Named(place),
                None => break,
            }
        }
        Ok(all)
    }
}

fn read<T: serde::de::DeserializeOwned>(done: &Done) -> Result<T> {
    serde_json::from_slice(&done.reply.body).map_err(|_| done.reply.nonsense("it is not the list that was asked for"))
}
