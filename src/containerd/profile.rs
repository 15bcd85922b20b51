//! What the Go runtime of a daemon or a shim measures of itself: the profiles behind a debug socket (Go `net/http/pprof`,
//! containerd `cmd/containerd/server`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use http::StatusCode;

use super::beside::{Whose, no_answer};
use super::connect::Endpoint;
use super::error::{Error, Fault, excerpt_long};
use super::shim::socket_address;
use super::{Result, identifier};
use crate::grant::Grant;
use crate::socket::{self, Answer, Question};

/// How long the other side may be silent beyond the time that it measures for.
const SILENCE: Duration = Duration::from_secs(30);
/// How much of an error is read.
const MAX_ERROR: usize = 64 << 10;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// All memory that was ever allocated.
    Allocs,
    /// Where goroutines waited for each other.
    Block,
    /// What each goroutine does.
    Goroutine,
    /// The memory in use.
    Heap,
    /// Who held contended locks.
    Mutex,
    /// Where the processor's time goes, over some seconds.
    Cpu,
    /// What made new threads.
    Threads,
    /// All that the scheduler does, over some seconds.
    Trace,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 8] =
        [Self::Allocs, Self::Block, Self::Goroutine, Self::Heap, Self::Mutex, Self::Cpu, Self::Threads, Self::Trace];

    /// Returns its name in Go.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allocs => "allocs",
            Self::Block => "block",
            Self::Goroutine => "goroutine",
            Self::Heap => "heap",
            Self::Mutex => "mutex",
            Self::Cpu => "profile",
            Self::Threads => "threadcreate",
            Self::Trace => "trace",
        }
    }

    /// Finds a profile by its name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == name)
    }

    /// Returns how long it is measured unless something else is said; none of what is known at once.
    #[must_use]
    pub const fn takes(self) -> Option<Duration> {
        match self {
            // As ctr does.
            Self::Cpu => Some(Duration::from_secs(30)),
            Self::Trace => Some(Duration::from_secs(5)),
            _ => None,
        }
    }
}

/// A process with a debug socket, under a grant. Nothing is kept open between calls.
#[derive(Debug, Clone)]
pub struct Profiler {
    whose: Whose,
    socket: PathBuf,
    subject: String,
    grant: Grant,
}

/// The bytes of a profile.
pub type Bytestream = BoxStream<'static, Result<Bytes>>;

impl Profiler {
    /// Names the debug socket of a daemon: the one that is given, else `debug.sock` beside the daemon's own.
    #[must_use]
    pub fn daemon(endpoint: &Endpoint, socket: Option<&Endpoint>, subject: &str, grant: &Grant) -> Self {
        let beside = || endpoint.path().with_file_name("debug.sock");
        let socket = socket.map_or_else(beside, |socket| socket.path().to_owned());
        Self { whose: Whose::Debug, socket, subject: subject.to_owned(), grant: grant.clone() }
    }

    /// Names the debug socket of a shim, by the daemon that started it, the namespace and the shim's id.
    ///
    /// # Errors
    /// That the id cannot be one.
    pub fn shim(endpoint: &Endpoint, namespace: &str, id: &str, subject: &str, grant: &Grant) -> Result<Self> {
        identifier::check("shim's id", id)?;
        let socket = socket_address(&endpoint.path().join(namespace).join(id).join("debug"));
        Ok(Self { whose: Whose::ShimDebug(id.to_owned()), socket, subject: subject.to_owned(), grant: grant.clone() })
    }

    /// Returns the socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Measures, and returns the bytes as they come; form 0 is the binary one.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn read(&self, profile: Profile, form: usize, length: Option<Duration>) -> Result<Bytestream> {
        let name = profile.as_str();
        let length = length.or(profile.takes());
        let seconds = length.map_or_else(String::new, |length| format!("&seconds={}", length.as_secs_f64()));
        let path = format!("/debug/pprof/{name}?debug={form}{seconds}");
        let limit = SILENCE.saturating_add(length.unwrap_or_default());
        let action = format!("read profile {name}");
        let question = Question { socket: &self.socket, path: &path, action: &action, subject: &self.subject, limit };
        let answer = socket::get(&self.grant, question).await.map_err(|error| self.no_answer(error))?;
        if answer.status() != StatusCode::OK {
            return Err(self.failure(name, answer).await);
        }
        let (whose, socket) = (self.whose.clone(), self.socket.clone());
        Ok(answer.stream(limit, limit).map_err(move |error| no_answer(&whose, &socket, error)).boxed())
    }

    /// Reads the words of a failure.
    async fn failure(&self, name: &str, answer: Answer) -> Error {
        let status = answer.status();
        let said = answer.whole(MAX_ERROR, SILENCE).await.unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let fault = match status {
            StatusCode::NOT_FOUND => Fault::NotFound,
            // Only one at a time can measure so.
            _ if said.contains("already in use") || said.contains("already enabled") => Fault::Conflict,
            _ => Fault::Other,
        };
        let message = match said.trim() {
            "" => format!("it answered {status}"),
            said => excerpt_long(said),
        };
        Error::Call { fault, action: "read profile", subject: name.to_owned(), message }
    }

    fn no_answer(&self, error: socket::Error) -> Error {
        no_answer(&self.whose, &self.socket, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Allow;

    #[test]
    fn sockets_are_where_containerd_has_them() {
        let grant = Grant::new(Allow::all(), Default::default());
        let endpoint = Endpoint::parse("/run/containerd/containerd.sock").unwrap();
        let daemon = Profiler::daemon(&endpoint, None, "containerd/default", &grant);
        assert_eq!(daemon.socket(), Path::new("/run/containerd/debug.sock"));
        // As containerd 2.1 has it for a daemon at this address.
        let endpoint = Endpoint::parse("/tmp/d/c.sock").unwrap();
        let shim = Profiler::shim(&endpoint, "default", "web", "containerd/default", &grant).unwrap();
        let name = "881bcaab53f4574886d37c4d21632138ec334acd48ef1d23479ee56355e1197c";
        assert_eq!(shim.socket(), Path::new("/run/containerd/s").join(name));
        assert!(Profiler::shim(&endpoint, "default", "../x", "containerd/default", &grant).is_err());
    }
}
