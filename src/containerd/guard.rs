//! The one way to a daemon: every RPC is checked against the grant here, and gets its headers here.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::TryFutureExt;
use futures_util::future::{Either, MapErr, Ready, ready};
use http::{HeaderName, HeaderValue, Request, Response};
use tonic::body::Body;
use tonic::transport::Channel;
use tower_service::Service;

use super::{Result, access, identifier};
use crate::grant::{Grant, Refused};

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
    /// The connection failed.
    #[error(transparent)]
    Transport(tonic::transport::Error),
}

impl Guard {
    pub(super) fn new(channel: Channel, scope: Arc<Scope>) -> Self {
        Self { channel, scope }
    }

    fn admit(&self, request: &mut Request<Body>) -> Result<(), Stopped> {
        let rpc = request.uri().path();
        let access = access::of(rpc, self.scope.undoing).ok_or_else(|| Stopped::Unlisted(rpc.to_owned()))?;
        self.scope.grant.check(access, access::short(rpc), &self.scope.subject).map_err(Stopped::Refused)?;
        let headers = request.headers_mut();
        headers.insert(NAMESPACE, self.scope.namespace_header.clone());
        if let Some(lease) = &self.scope.lease {
            headers.insert(LEASE, lease.clone());
        }
        Ok(())
    }
}

impl Service<Request<Body>> for Guard {
    type Response = Response<Body>;
    type Error = Stopped;
    type Future = Either<
        Ready<Result<Response<Body>, Stopped>>,
        MapErr<<Channel as Service<Request<Body>>>::Future, fn(tonic::transport::Error) -> Stopped>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        self.channel.poll_ready(cx).map_err(Stopped::Transport)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.admit(&mut request) {
            Err(stopped) => Either::Left(ready(Err(stopped))),
            Ok(()) => {
                let stop: fn(tonic::transport::Error) -> Stopped = Stopped::Transport;
                Either::Right(self.channel.call(request).map_err(stop))
            }
        }
    }
}
