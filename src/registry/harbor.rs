//! Projects, through Harbor's own interface (its API v2.0), which stands beside the protocol's on the same host.
//!
//! It takes a user and a password with each request and names no way to log in, so they go along unasked; for that it is
//! asked first, without them, whether it is a Harbor at all.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::hosts::Capability;
use super::link::Pages;
use super::pace::Among;
use super::session::{Call, Done, Proof};
use super::target::Target;
use super::transport::Body;
use super::{Error, Registry, Result};
use crate::grant::Access;

/// The longest answer that is read.
const MAX_ANSWER: u64 = 8 << 20;
/// How many projects a page has at most (Harbor, `src/server/v2.0/handler`).
const MAX_PAGE: usize = 100;
/// Says that the path has the project's name: a name of digits alone could be a number otherwise.
const BY_NAME: HeaderName = HeaderName::from_static("x-is-resource-name");

/// The registries that are known to be Harbors.
#[derive(Debug, Default)]
pub(super) struct Harbors(Mutex<HashSet<String>>);

/// A project, as far as Harbor tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The name.
    pub name: String,
    /// Whether everybody may pull from it.
    pub public: Option<bool>,
    /// How many repositories it has.
    pub repositories: Option<u64>,
    /// When it was made.
    pub created: Option<DateTime<Utc>>,
    /// What it may hold, when that was asked for.
    pub quota: Option<Quota>,
}

/// How many bytes a project may hold, and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The most; none when it may hold any number.
    pub limit: Option<u64>,
    /// How many it holds.
    pub used: u64,
}

/// A project to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProject {
    /// The name.
    pub name: String,
    /// Whether everybody may pull from it.
    pub public: bool,
    /// How many bytes it may hold: `Some(None)` is any number, `None` what Harbor is set to give.
    pub quota: Option<Option<u64>>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    #[serde(default)]
    repo_count: Option<u64>,
    #[serde(default)]
    creation_time: Option<DateTime<Utc>>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    #[serde(default)]
    public: Option<String>,
}

impl From<Listed> for Project {
    fn from(listed: Listed) -> Self {
        let public = listed.metadata.and_then(|metadata| metadata.public);
        Self {
            name: listed.name,
            public: public.map(|text| text == "true"),
            repositories: listed.repo_count,
            created: listed.creation_time,
            quota: None,
        }
    }
}

#[derive(Serialize)]
struct Wanted<'a> {
    project_name: &'a str,
    metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_limit: Option<i64>,
}

impl Registry {
    /// Lists the projects that the user may see, sorted by name.
    ///
    /// # Errors
    /// [`Error::NotHarbor`] when it is none.
    pub async fn projects(&self) -> Result<Vec<Project>> {
        self.check_harbor(self.name()).await?;
        let size = self.session.shared.config.limits.page.clamp(1, MAX_PAGE);
        let (mut all, mut pages) = (Vec::new(), Pages::default());
        let page = |number: usize| {
            let query = vec![("page", number.to_string()), ("page_size", size.to_string()), ("sort", "name".into())];
            Target::Harbor("projects".to_owned(), query)
        };
        let (mut number, mut linked) = (1, false);
        let mut target = page(number);
        loop {
            let done = self.session.send(self.harbor(Method::GET, Access::Read, self.name(), target)).await?;
            let next = pages.after(&done)?;
            let read: Vec<Listed> = read(&done)?;
            let is_empty = read.is_empty();
            all.extend(read.into_iter().map(Project::from));
            let total = done.reply.header("x-total-count").and_then(|text| text.parse::<usize>().ok());
            match next {
                Some(place) => (target, linked) = (Target::Named(place), true),
                // What stands between may have taken the link away.
                None if !linked && !is_empty && total.is_some_and(|total| all.len() < total) => {
                    number += 1;
                    target = page(number);
                }
                None => break,
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.dedup_by(|a, b| a.name == b.name);
        Ok(all)
    }

    /// Returns whether there is a project of this name, whoever may see it.
    ///
    /// # Errors
    /// [`Error::NotHarbor`] when it is none; of kind `unauthorized` without a login.
    pub async fn has_project(&self, name: &str) -> Result<bool> {
        let subject = self.subject(name);
        self.check_harbor(&subject).await?;
        let target = Target::Harbor("projects".to_owned(), vec![("project_name", name.to_owned())]);
        match self.session.send(self.harbor(Method::HEAD, Access::Read, &subject, target)).await {
            Ok(_) => Ok(true),
            Err(Error::Answer(answer)) if answer.status == StatusCode::NOT_FOUND => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Looks a project up.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none, [`Error::NotHarbor`] when it is none.
    pub async fn project(&self, name: &str) -> Result<Project> {
        let done = self.of_project(Method::GET, Access::Read, name, "").await?;
        Ok(read::<Listed>(&done)?.into())
    }

    /// Asks what a project may hold; nothing where Harbor does not tell this user.
    ///
    /// # Errors
    /// As [`Registry::project`].
    pub async fn quota(&self, name: &str) -> Result<Option<Quota>> {
        #[derive(Deserialize)]
        struct Summary {
            #[serde(default)]
            quota: Option<Told>,
        }
        #[derive(Deserialize)]
        struct Told {
            hard: Storage,
            used: Storage,
        }
        #[derive(Deserialize)]
        struct Storage {
            storage: i64,
        }
        let done = self.of_project(Method::GET, Access::Read, name, "/summary").await?;
        let quota = read::<Summary>(&done)?.quota;
        Ok(quota.map(|told| Quota {
            // -1 is what Harbor says for no limit.
            limit: u64::try_from(told.hard.storage).ok(),
            used: u64::try_from(told.used.storage).unwrap_or(0),
        }))
    }

    /// Makes a project.
    ///
    /// # Errors
    /// Of kind `conflict` when there is one of the name, `unauthorized` when the user may not.
    pub async fn create_project(&self, wanted: &NewProject) -> Result<()> {
        let subject = self.subject(&wanted.name);
        self.check_harbor(&subject).await?;
        let document = Wanted {
            project_name: &wanted.name,
            metadata: Metadata { public: Some(wanted.public.to_string()) },
            storage_limit: wanted.quota.map(|quota| {
                // No disk has more than the largest number.
                quota.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
            }),
        };
        let document = serde_json::to_vec(&document)
            .map_err(|error| Error::SetUp { what: "request for a project", reason: error.to_string() })?;
        let target = Target::Harbor("projects".to_owned(), Vec::new());
        let mut call = self.harbor(Method::POST, Access::Write, &subject, target);
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        call.body = Body::Bytes(Bytes::from(document));
        self.session.send(call).await.map(drop)
    }

    /// Deletes a project, which has to be empty.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn delete_project(&self, name: &str) -> Result<()> {
        self.of_project(Method::DELETE, Access::Delete, name, "").await.map(drop)
    }

    /// Makes sure that it is a Harbor before a password is sent to its interface.
    async fn check_harbor(&self, subject: &str) -> Result<()> {
        let known = &self.session.shared.harbors.0;
        if known.lock().unwrap_or_else(PoisonError::into_inner).contains(self.name()) {
            return Ok(());
        }
        let not = |reason: String| Error::NotHarbor { registry: self.name().to_owned(), reason };
        let target = Target::Harbor("systeminfo".to_owned(), Vec::new());
        let call = Call { proof: Proof::Nothing, ..self.harbor(Method::GET, Access::Read, subject, target) };
        let done = match self.session.send(call).await {
            Ok(done) => done,
            Err(Error::Answer(answer)) if answer.status.is_client_error() && answer.retry_after.is_none() => {
                return Err(not(answer.to_string()));
            }
            Err(error @ Error::NotARegistry { .. }) => return Err(not(error.to_string())),
            Err(error) => return Err(error),
        };
        let told: Option<serde_json::Value> = serde_json::from_slice(&done.reply.body).ok();
        // To nobody an old one tells its version, and each how to log in.
        if !told.is_some_and(|told| told.get("harbor_version").is_some() || told.get("auth_mode").is_some()) {
            return Err(not("what it answers for Harbor's systeminfo is something else".to_owned()));
        }
        known.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name().to_owned());
        Ok(())
    }

    /// Returns what grants and messages call a project.
    fn subject(&self, name: &str) -> String {
        format!("{}/{name}", self.name())
    }

    async fn of_project(&self, method: Method, access: Access, name: &str, below: &str) -> Result<Done> {
        let subject = self.subject(name);
        self.check_harbor(&subject).await?;
        let target = Target::Harbor(format!("projects/{name}{below}"), Vec::new());
        let call = self.harbor(method, access, &subject, target);
        self.session.send(call).await.map_err(|error| error.about(|| format!("project {subject}")))
    }

    /// Describes a request to Harbor's interface. It goes to the host that takes pushes: a mirror's projects are others.
    fn harbor<'a>(&self, method: Method, access: Access, subject: &'a str, target: Target) -> Call<'a> {
        let whole = (method == Method::GET).then_some(MAX_ANSWER);
        Call {
            method,
            access,
            capability: Capability::Push,
            subject,
            target,
            proof: Proof::Password,
            scopes: Vec::new(),
            headers: HeaderMap::from_iter([(BY_NAME, HeaderValue::from_static("true"))]),
            body: Body::Empty,
            among: Among::Requests,
            whole,
            once: false,
            commits: false,
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(done: &Done) -> Result<T> {
    serde_json::from_slice(&done.reply.body)
        .map_err(|_| done.reply.nonsense("it is not what Harbor's interface is known to say"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_are_read_as_harbor_writes_them() {
        let text = r#"{"creation_time":"2024-03-01T10:00:00.123Z","metadata":{"public":"true"},"name":"shop",
            "owner_name":"admin","project_id":7,"repo_count":3}"#;
        let project = Project::from(serde_json::from_str::<Listed>(text).unwrap());
        assert_eq!((project.name.as_str(), project.public, project.repositories), ("shop", Some(true), Some(3)));
        assert!(project.created.is_some());
        let bare = Project::from(serde_json::from_str::<Listed>(r#"{"name":"x"}"#).unwrap());
        assert_eq!((bare.public, bare.repositories, bare.created), (None, None, None));
    }

    #[test]
    fn what_is_wanted_is_written_as_harbor_reads_it() {
        let write = |storage_limit| {
            let metadata = Metadata { public: Some("false".into()) };
            serde_json::to_string(&Wanted { project_name: "shop", metadata, storage_limit }).unwrap()
        };
        assert_eq!(write(None), r#"{"project_name":"shop","metadata":{"public":"false"}}"#);
        let limited = r#"{"project_name":"shop","metadata":{"public":"false"},"storage_limit":-1}"#;
        assert_eq!(write(Some(-1)), limited);
    }
}
