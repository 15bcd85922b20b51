//! The one way to a daemon: every RPC is checked against the grant here, and gets its headers here.

use std::future::{poll_fn, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use tonic::body::Body;
use tonic::transport::Channel;
use tower_service::Service;

use super::error::NoConnection;
use super::{Result, access, identifier};
use crate::grant::{Access, Grant, Refused};

// containerd pkg/namespaces/grpc.go and core/leases/grpc.go.
const NAMESPACE: HeaderName = HeaderName::from_static("containerd-namespace");
const LEASE: HeaderName = HeaderName::from_static("containerd-lease");

/// Where and under what grant calls are made.
#[derive(Clone)]
pub(super) struct Scope {
    pub(super) namespace: String,
    pub(super) namespace_header: HeaderValue,
    /// What grants name it by.
    pub(super) subject: String,
    pub(super) grant: Grant,
    pub(super) lease: Option<HeaderValue>,
    pub(super) undoing: bool,
}

impl Scope {
    pub(super) fn new(namespace: &str, grant: Grant) -> Result<Self> {
        identifier::check("namespace", namespace)?;
        let header = HeaderValue::from_str(namespace)
            .map_err(|_| identifier::refuse("namespace", namespace, "it has control characters"))?;
        Ok(Self {
            namespace: namespace.to_owned(),
            namespace_header: header,
            subject: format!("containerd/{namespace}"),
            grant,
            lease: None,
            undoing: false,
        })
    }
}

/// A channel that lets pass only what its grant covers.
#[derive(Clone)]
pub struct Guard {
    channel: Channel,
    scope: Arc<Scope>,
}

/// Why a request did not come back with an answer.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The grant does not cover it.
    #[error(transparent)]
    Refused(Refused),
    /// The access table does not have it.
    #[error("{0} is not in the access table")]
    Unlisted(String),
    /// The request could not be encoded.
    #[error(transparent)]
    Body(tonic::Status),
    /// The connection failed.
    #[error(transparent)]
    Transport(tonic::transport::Error),
}

impl Guard {
    pub(super) fn new(channel: Channel, scope: Arc<Scope>) -> Self {
        Self { channel, scope }
    }

    fn admit(&self, request: &mut Request<Body>) -> Result<Access, Stopped> {
        let rpc = request.uri().path();
        let access = access::of(rpc, self.scope.undoing).ok_or_else(|| Stopped::Unlisted(rpc.to_owned()))?;
        self.scope.grant.check(access, access::short(rpc), &self.scope.subject).map_err(Stopped::Refused)?;
        let headers = request.headers_mut();
        headers.insert(NAMESPACE, self.scope.namespace_header.clone());
        if let Some(lease) = &self.scope.lease {
            headers.insert(LEASE, lease.clone());
        }
        Ok(access)
    }
}

impl Service<Request<Body>> for Guard {
    type Response = Response<Body>;
    type Error = Stopped;
    type Future = BoxFuture<'static, Result<Response<Body>, Stopped>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        self.channel.poll_ready(cx).map_err(Stopped::Transport)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let noting = tracing::enabled!(tracing::Level::DEBUG).then(|| access::short(request.uri().path()).to_owned());
        let access = match self.admit(&mut request) {
            Err(stopped) => return Box::pin(ready(Err(stopped))),
            Ok(access) => access,
        };
        // The channel that is ready is this one; a clone has to become ready by itself.
        let clone = self.channel.clone();
        let mut channel = std::mem::replace(&mut self.channel, clone);
        let call: Self::Future = match access {
            Access::Read => Box::pin(look(channel, request)),
            _ => Box::pin(channel.call(request).map_err(Stopped::Transport)),
        };
        match noting {
            Some(rpc) => Box::pin(noted(rpc, call)),
            None => call,
        }
    }
}

/// Notes a call in the log. A stream of answers may go on after it.
async fn noted(
    rpc: String,
    call: impl Future<Output = Result<Response<Body>, Stopped>>,
) -> Result<Response<Body>, Stopped> {
    let begun = Instant::now();
    let answer = call.await;
    let status = answer.as_ref().map_or_else(ToString::to_string, |answer| {
        let status = answer.headers().get("grpc-status").and_then(|status| status.to_str().ok());
        tonic::Code::from_bytes(status.unwrap_or("0").as_bytes()).to_string()
    });
    tracing::debug!(rpc, status, milliseconds = begun.elapsed().as_secs_f64() * 1000.0, "answered");
    answer
}

/// Sends a read, once more if the connection breaks before the answer: the daemon may have been restarted since the last
/// call without this side having noticed, and to look twice does no harm.
async fn look(mut channel: Channel, request: Request<Body>) -> Result<Response<Body>, Stopped> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(Stopped::Body)?.to_bytes();
    let request = || Request::from_parts(head.clone(), Body::new(Full::new(body.clone())));
    match channel.call(request()).await {
        Err(error) if NoConnection::find(&error).is_none() => {}
        answer => return answer.map_err(Stopped::Transport),
    }
    poll_fn(|cx| channel.poll_ready(cx)).await.map_err(Stopped::Transport)?;
    channel.call(request()).await.map_err(Stopped::Transport)
}
