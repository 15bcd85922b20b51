//! ttrpc, which shims speak: one request and its answer over a connection of its own (containerd/ttrpc `PROTOCOL.md`).

use std::path::Path;
use std::time::Duration;

use containerd_client::google::rpc;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::socket::{self, Error};

/// What stands before each message: its length, its stream, its type and flags.
const HEADER: usize = 10;
/// The longest message that either side takes (ttrpc `channel.go`).
const MAX_MESSAGE: usize = 4 << 20;
/// The only stream. A client's have odd numbers.
const STREAM: u32 = 1;
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
/// The header that names the namespace (containerd `pkg/namespaces/ttrpc.go`).
const NAMESPACE: &str = "containerd-namespace-ttrpc";

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(string, tag = "2")]
    method: String,
    #[prost(bytes = "vec", tag = "3")]
    payload: Vec<u8>,
    #[prost(int64, tag = "4")]
    timeout_nano: i64,
    #[prost(message, repeated, tag = "5")]
    metadata: Vec<Pair>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    status: Option<rpc::Status>,
    #[prost(bytes = "vec", tag = "2")]
    payload: Vec<u8>,
}

/// What is called.
pub(super) struct Call<'a> {
    pub(super) socket: &'a Path,
    pub(super) service: &'a str,
    pub(super) method: &'a str,
    pub(super) namespace: &'a str,
    pub(super) payload: Vec<u8>,
    /// How long the other side may work on it, as it is told.
    pub(super) timeout: Duration,
}

/// Sends a request and returns the answer's bytes, or the status of a failure.
pub(super) async fn call(call: Call<'_>) -> Result<Result<Vec<u8>, rpc::Status>, Error> {
    let mut stream = socket::connect(call.socket).await.map_err(Error::NoConnection)?;
    let request = Request {
        service: call.service.to_owned(),
        method: call.method.to_owned(),
        payload: call.payload,
        timeout_nano: i64::try_from(call.timeout.as_nanos()).unwrap_or(i64::MAX),
        metadata: vec![Pair { key: NAMESPACE.to_owned(), value: call.namespace.to_owned() }],
    };
    let body = request.encode_to_vec();
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_MESSAGE);
    let length = length.ok_or_else(|| Error::Request(format!("it has {} bytes", body.len())))?;
    let mut frame = Vec::with_capacity(HEADER + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&STREAM.to_be_bytes());
    frame.extend_from_slice(&[REQUEST, 0]);
    frame.extend_from_slice(&body);
    stream.write_all(&frame).await.map_err(|error| Error::Broken(error.to_string()))?;
    let answer = answer(&mut stream).await?;
    Ok(match answer.status {
        Some(status) if status.code != 0 => Err(status),
        _ => Ok(answer.payload),
    })
}

async fn answer(stream: &mut UnixStream) -> Result<Response, Error> {
    let broken = |error: std::io::Error| Error::Broken(error.to_string());
    loop {
        let length = stream.read_u32().await.map_err(broken)? as usize;
        let number = stream.read_u32().await.map_err(broken)?;
        let kind = stream.read_u8().await.map_err(broken)?;
        let _flags = stream.read_u8().await.map_err(broken)?;
        if length > MAX_MESSAGE {
            return Err(Error::Broken(format!(
                "a message of {length} bytes is announced, at most {MAX_MESSAGE} are taken"
            )));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.map_err(broken)?;
        if (number, kind) == (STREAM, RESPONSE) {
            return Response::decode(body.as_slice()).map_err(|error| Error::Broken(error.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// Answers one request with these bytes.
    async fn against(answer: Vec<u8>) -> Result<Result<Vec<u8>, rpc::Status>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shim.sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_u32().await.unwrap();
            assert_eq!((stream.read_u32().await.unwrap(), stream.read_u16().await.unwrap()), (STREAM, 0x0100));
            let mut body = vec![0; length as usize];
            stream.read_exact(&mut body).await.unwrap();
            let request = Request::decode(body.as_slice()).unwrap();
            assert_eq!((request.service.as_str(), request.method.as_str()), ("a.Service", "State"));
            stream.write_all(&answer).await.unwrap();
        });
        let (service, method, namespace) = ("a.Service", "State", "default");
        call(Call { socket: &path, service, method, namespace, payload: vec![1], timeout: Duration::from_secs(1) })
            .await
    }

    fn frame(stream: u32, kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap();
        [&length.to_be_bytes()[..], &stream.to_be_bytes(), &[kind, 0], body].concat()
    }

    #[tokio::test]
    async fn an_answer_is_that_of_the_stream() {
        let good = Response { status: None, payload: vec![7] }.encode_to_vec();
        let both = [frame(3, RESPONSE, b"x"), frame(1, 3, b"x"), frame(1, RESPONSE, &good)].concat();
        assert_eq!(against(both).await.unwrap().unwrap(), [7]);
        let status = rpc::Status { code: 5, message: "no such".into(), details: Vec::new() };
        let bad = Response { status: Some(status), payload: Vec::new() }.encode_to_vec();
        assert_eq!(against(frame(1, RESPONSE, &bad)).await.unwrap().unwrap_err().code, 5);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_refused() {
        for bad in
            [Vec::new(), b"HTTP/1.1 400 Bad Request\r\n".to_vec(), frame(1, RESPONSE, b"\xff\xff"), vec![0, 0, 1]]
        {
            assert!(matches!(against(bad).await, Err(Error::Broken(_))));
        }
    }
}
