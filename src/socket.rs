//! Unix sockets of daemons: a connection to one, and HTTP over it. Only `GET` is sent.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::grant::{Access, Grant, Refused};
use crate::kind::chain;

/// How long a socket may take to accept.
const ACCEPT: Duration = Duration::from_secs(10);

/// Why there is no answer, or only a part of one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The grant does not cover it, or the user stopped it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no connection.
    #[error("there is no connection: {0}")]
    NoConnection(io::Error),
    /// Nothing came for too long.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Silent(Duration),
    /// The connection ended before the answer did, or the answer is longer than what is taken of it.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The request could not be written.
    #[error("the request cannot be sent: {0}")]
    Request(String),
}

/// Connects to a socket.
///
/// # Errors
/// What the kernel says; that it timed out when nobody accepts.
pub async fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = tokio::time::timeout(ACCEPT, UnixStream::connect(socket)).await;
    stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Waits for something of the other side, until the limit or until the user stops it.
///
/// # Errors
/// [`Error::Silent`] or that it was cancelled.
pub async fn within<T>(grant: &Grant, limit: Duration, waited: impl Future<Output = T>) -> Result<T, Error> {
    let waited = tokio::time::timeout(limit, waited);
    let ended = grant.cancel().run_until_cancelled(waited).await.ok_or(Refused::Cancelled)?;
    ended.map_err(|_| Error::Silent(limit))
}

/// What a daemon is asked over HTTP.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Where it listens.
    pub socket: &'a Path,
    /// The path of the request, with its query.
    pub path: &'a str,
    /// What is attempted, as denials call it.
    pub action: &'a str,
    /// How grants name it.
    pub subject: &'a str,
    /// How long the answer may take to begin.
    pub limit: Duration,
}

/// An answer whose head has come.
#[derive(Debug)]
pub struct Answer {
    response: Response<Incoming>,
    grant: Grant,
}

/// Asks under a grant.
///
/// # Errors
/// Why there is no answer. One that tells of a failure is an answer.
pub async fn get(grant: &Grant, question: Question<'_>) -> Result<Answer, Error> {
    grant.check(Access::Read, question.action, question.subject)?;
    let begun = Instant::now();
    let answer = within(grant, question.limit, send(question.socket, question.path)).await?;
    let status = answer.as_ref().map_or_else(ToString::to_string, |answer| answer.status().to_string());
    let milliseconds = begun.elapsed().as_secs_f64() * 1000.0;
    let socket = question.socket.display();
    tracing::debug!(method = "GET", %socket, path = question.path, status, milliseconds, "answered");
    Ok(Answer { response: answer?, grant: grant.clone() })
}

async fn send(socket: &Path, path: &str) -> Result<Response<Incoming>, Error> {
    let stream = connect(socket).await.map_err(Error::NoConnection)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    // It ends when the answer was read, or is dropped.
    tokio::spawn(connection);
    // The host is a matter of form (RFC 9112, section 3.2); Go wants one that it can read.
    let request = Request::get(path).header(header::HOST, "localhost").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| Error::Request(error.to_string()))?;
    sender.send_request(request).await.map_err(|error| broken(&error))
}

fn broken(error: &(dyn std::error::Error + 'static)) -> Error {
    Error::Broken(chain(error))
}

impl Answer {
    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Returns a header that is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Reads all of it into memory, at most so many bytes, and within the limit.
    ///
    /// # Errors
    /// That it broke off, is longer or took longer.
    pub async fn whole(self, most: usize, limit: Duration) -> Result<Bytes, Error> {
        let body = within(&self.grant, limit, Limited::new(self.response.into_body(), most).collect()).await?;
        Ok(body.map_err(|error| broken(&*error))?.to_bytes())
    }

    /// Returns its bytes as they come. The first may take as long as `first`, each other as long as `limit`.
    #[must_use]
    pub fn stream(self, first: Duration, limit: Duration) -> BoxStream<'static, Result<Bytes, Error>> {
        let grant = self.grant;
        stream::try_unfold((self.response.into_body(), first), move |(mut body, patience)| {
            let grant = grant.clone();
            async move {
                loop {
                    match within(&grant, patience, body.frame()).await? {
                        None => return Ok(None),
                        Some(Err(error)) => return Err(broken(&error)),
                        // What is no data are trailers.
                        Some(Ok(frame)) => {
                            if let Ok(bytes) = frame.into_data() {
                                return Ok(Some((bytes, (body, limit))));
                            }
                        }
                    }
                }
            }
        })
        .boxed()
    }
}
