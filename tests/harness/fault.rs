//! A proxy in front of a real registry that does, once or always, what networks and registries do wrong.
//!
//! It speaks HTTP/1.1, one request a connection, and keeps a log of what it was asked. It can also stand guard as a
//! registry with token authentication does: the registry behind it stays open, and the proxy asks for the tokens of a
//! [`TokenServer`](super::token_server::TokenServer).

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::clock::{Errand, UnderWay};
use super::token_server::TokenServer;

/// How long apart the bytes of a trickle are.
const TRICKLE: Duration = Duration::from_millis(50);

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The proxy answers itself: status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// The connection is reset after so many bytes of the answer's body.
    Reset(usize),
    /// The connection is closed as if all were well after so many bytes of the answer's body.
    Truncate(usize),
    /// One byte of the answer's body is turned round.
    Corrupt(usize),
    /// Nothing comes after so many bytes of the answer's body.
    Stall(usize),
    /// After so many bytes of the answer's body only a byte comes now and then.
    Trickle(usize),
    /// The request's `Range` is not passed on.
    IgnoreRange,
    /// A byte too many is in the answer.
    Lengthen,
    /// The connection is reset after so many bytes of the request's body.
    ResetRequest(usize),
    /// The request is carried out, and its answer is lost.
    LoseAnswer,
    /// The request is not carried out, and the connection is reset.
    Refuse,
    /// The request is not carried out, and the connection is closed as if all were well.
    HangUp,
    /// The request is not carried out, and nothing is answered.
    Silence,
    /// A 401 as the guard gives it: the token counts no more.
    Expire,
    /// A redirect to the same path at another host.
    Elsewhere(String),
    /// The answer has this header instead of its own.
    Header(&'static str, String),
}

impl Fault {
    /// An answer with a status and nothing else.
    pub fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), String::new())
    }

    /// A redirect.
    pub fn redirect(target: impl Into<String>) -> Self {
        Self::Answer(307, vec![("Location", target.into())], String::new())
    }
}

/// Which requests a fault hits, and how often still.
#[derive(Debug, Clone)]
struct Rule {
    method: &'static str,
    part: String,
    left: usize,
    /// Whether only requests for a part of a blob are hit.
    resumed: bool,
    fault: Fault,
}

impl Rule {
    fn hits(&self, seen: &Seen, length: usize) -> bool {
        self.left > 0
            && self.method == seen.method
            && seen.path.contains(&self.part)
            && (!self.resumed || seen.header("range").is_some())
            // A body that ends before is not cut off.
            && !matches!(self.fault, Fault::ResetRequest(limit) if length <= limit)
    }
}

/// A request that was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// The path with its query.
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    rules: Mutex<Vec<Rule>>,
    log: Mutex<Vec<Seen>>,
    /// How often a fault happened.
    faults: AtomicUsize,
    tally: Tally,
    guard: Option<Arc<TokenServer>>,
    under_way: UnderWay,
}

/// What passed.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many bytes of answers' bodies were sent.
    sent: AtomicU64,
    /// How many requests the client gave up in the middle of their bodies.
    given_up: AtomicUsize,
}

/// A running proxy; its task ends with the last of its clones.
#[derive(Debug, Clone)]
pub struct FaultProxy {
    address: SocketAddr,
    state: Arc<State>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl FaultProxy {
    /// Starts a proxy in front of a registry, `127.0.0.1:PORT`.
    pub async fn start(upstream: &str) -> Self {
        Self::timed(upstream, None, &UnderWay::default()).await
    }

    /// Starts a proxy that asks for tokens.
    pub async fn guarded(upstream: &str, tokens: &Arc<TokenServer>) -> Self {
        Self::timed(upstream, Some(Arc::clone(tokens)), &UnderWay::default()).await
    }

    /// Starts a proxy whose requests are under way until they are answered, or meant to wait.
    pub async fn timed(upstream: &str, guard: Option<Arc<TokenServer>>, under_way: &UnderWay) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = upstream.parse().unwrap();
        let state = Arc::new(State {
            upstream,
            rules: Mutex::default(),
            log: Mutex::default(),
            faults: AtomicUsize::new(0),
            tally: Tally::default(),
            guard,
            under_way: under_way.clone(),
        });
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&serving);
                // What a broken connection ends with is what the client under test has to cope with.
                tokio::spawn(async move { serve(client, &state).await.ok() });
            }
        });
        Self { address, state, _task: Arc::new(AbortOnDropHandle::new(task)) }
    }

    /// Returns its name as a registry: `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Lets the next `times` requests of a method, with a part of the path, go wrong.
    pub fn fault(&self, method: &'static str, part: &str, times: usize, fault: Fault) {
        let rule = Rule { method, part: part.to_owned(), left: times, resumed: false, fault };
        self.state.rules.lock().unwrap().push(rule);
    }

    /// Lets the next `times` requests for a part of a blob go wrong.
    pub fn fault_resumed(&self, part: &str, times: usize, fault: Fault) {
        let rule = Rule { method: "GET", part: part.to_owned(), left: times, resumed: true, fault };
        self.state.rules.lock().unwrap().push(rule);
    }

    /// Returns what it was asked, in order.
    pub fn log(&self) -> Vec<Seen> {
        self.state.log.lock().unwrap().clone()
    }

    /// Returns how many requests of a method had a part in their path.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.log().iter().filter(|seen| seen.method == method && seen.path.contains(part)).count()
    }

    /// Returns how often something went wrong.
    pub fn faults(&self) -> usize {
        self.state.faults.load(Ordering::Relaxed)
    }

    /// Returns how many bytes of answers' bodies it has sent.
    pub fn sent(&self) -> u64 {
        self.state.tally.sent.load(Ordering::Relaxed)
    }

    /// Returns how many requests the client gave up in the middle of their bodies.
    pub fn given_up(&self) -> usize {
        self.state.tally.given_up.load(Ordering::Relaxed)
    }

    /// Lets nothing go wrong any more.
    pub fn forgive(&self) {
        self.state.rules.lock().unwrap().clear();
    }

    /// Forgets what it was asked.
    pub fn clear(&self) {
        self.state.log.lock().unwrap().clear();
    }
}

impl State {
    fn next_fault(&self, seen: &Seen, length: usize) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules.iter_mut().find(|rule| rule.hits(seen, length))?;
        rule.left -= 1;
        self.faults.fetch_add(1, Ordering::Relaxed);
        Some(rule.fault.clone())
    }
}

/// A message's head, and what was read of its body with it.
pub struct Head {
    pub first: String,
    pub headers: Vec<(String, String)>,
    pub rest: Vec<u8>,
}

impl Head {
    /// Reads a head; `None` when the other side hung up before.
    pub async fn read(stream: &mut TcpStream) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
                let mut lines = text.split("\r\n");
                let first = lines.next().unwrap_or_default().to_owned();
                let header = |line: &str| line.split_once(':').map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()));
                return Ok(Some(Self {
                    first,
                    headers: lines.filter_map(header).collect(),
                    rest: bytes.split_off(end + 4),
                }));
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(None);
            }
            if bytes.starts_with(&[22]) {
                // The greeting of TLS, which has no end that could be waited for here.
                return Ok(Some(Self { first: "TLS".into(), headers: Vec::new(), rest: Vec::new() }));
            }
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn length(&self) -> usize {
        self.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// Writes a whole answer and closes.
pub async fn answer(client: &mut TcpStream, status: u16, headers: &[(&str, String)], body: &str) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    client.write_all(format!("{text}\r\n{body}").as_bytes()).await?;
    client.shutdown().await
}

/// Reads what is left of a request's body, so that closing does not reset the connection.
pub async fn drain(client: &mut TcpStream, mut left: usize) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let count = client.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        left = left.saturating_sub(count);
    }
    Ok(())
}

/// Waits until the other end has all that was sent: a reset throws away what still waits to be sent.
async fn wait_until_delivered(client: &TcpStream) {
    let ports = (client.local_addr().unwrap().port(), client.peer_addr().unwrap().port());
    // The fields of a line: number, local and remote address with port, state, what waits to be sent and to be read (proc(5)).
    let waits = |line: &str| -> Option<u32> {
        let mut fields = line.split_whitespace().skip(1);
        let mut port = || u16::from_str_radix(fields.next()?.rsplit(':').next()?, 16).ok();
        let found = (port()?, port()?) == ports;
        let queue = fields.nth(1)?.split(':').next()?;
        found.then(|| u32::from_str_radix(queue, 16).ok())?
    };
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        if table.lines().find_map(waits).is_none_or(|left| left == 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn reset(client: TcpStream) {
    client.set_zero_linger().unwrap();
    drop(client);
}

async fn serve(mut client: TcpStream, state: &State) -> io::Result<()> {
    let Some(mut head) = Head::read(&mut client).await? else { return Ok(()) };
    let errand = state.under_way.begin();
    let mut parts = head.first.split(' ');
    let seen = Seen {
        method: parts.next().unwrap_or_default().to_owned(),
        path: parts.next().unwrap_or_default().to_owned(),
        headers: head.headers.clone(),
    };
    if !seen.path.starts_with("/v2/") {
        // What a server without TLS says to TLS.
        return answer(&mut client, 400, &[], "").await;
    }
    state.log.lock().unwrap().push(seen.clone());
    let body_left = head.length().saturating_sub(head.rest.len());
    if let Some(challenge) = state.guard.as_ref().and_then(|guard| guard.challenge(&seen)) {
        drain(&mut client, body_left).await?;
        return answer(&mut client, 401, &[("WWW-Authenticate", challenge)], "").await;
    }
    let fault = state.next_fault(&seen, head.length());
    match &fault {
        Some(Fault::Answer(status, headers, body)) => {
            drain(&mut client, body_left).await?;
            return answer(&mut client, *status, headers, body).await;
        }
        Some(Fault::Elsewhere(host)) => {
            drain(&mut client, body_left).await?;
            let target = format!("http://{host}{}", seen.path);
            return answer(&mut client, 307, &[("Location", target)], "").await;
        }
        Some(Fault::Expire) => {
            drain(&mut client, body_left).await?;
            let nobody = Seen { headers: Vec::new(), ..seen.clone() };
            let challenge = state.guard.as_ref().and_then(|guard| guard.challenge(&nobody)).unwrap();
            return answer(&mut client, 401, &[("WWW-Authenticate", challenge)], "").await;
        }
        Some(Fault::Refuse) => {
            reset(client);
            return Ok(());
        }
        Some(Fault::HangUp) => {
            drain(&mut client, body_left).await?;
            return client.shutdown().await;
        }
        Some(Fault::Silence) => {
            drain(&mut client, body_left).await?;
            drop(errand);
            // Until the client gives up.
            return client.read(&mut [0; 1]).await.map(drop);
        }
        Some(Fault::IgnoreRange) => head.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("range")),
        _ => {}
    }
    forward(client, &head, state.upstream, fault, &state.tally, errand).await
}

/// Hands a request on to a registry that asks for no login, and its answer back.
pub async fn forward(
    mut client: TcpStream,
    head: &Head,
    upstream: SocketAddr,
    fault: Option<Fault>,
    tally: &Tally,
    errand: Errand,
) -> io::Result<()> {
    let mut registry = TcpStream::connect(upstream).await?;
    let mut request = format!("{}\r\nConnection: close\r\n", head.first);
    for (name, value) in &head.headers {
        // The registry behind is open: what is meant for the guard stays here.
        if !["connection", "authorization"].iter().any(|kept| name.eq_ignore_ascii_case(kept)) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    registry.write_all(format!("{request}\r\n").as_bytes()).await?;
    registry.write_all(&head.rest).await?;
    let (mut left, mut passed) = (head.length().saturating_sub(head.rest.len()), head.rest.len());
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        if matches!(fault, Some(Fault::ResetRequest(limit)) if passed >= limit) {
            reset(client);
            return Ok(());
        }
        let count = client.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            tally.given_up.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        registry.write_all(&buffer[..count]).await?;
        left = left.saturating_sub(count);
        passed += count;
    }
    relay(client, registry, fault, &tally.sent, errand).await
}

/// Passes the answer on, with the fault.
async fn relay(
    mut client: TcpStream,
    mut registry: TcpStream,
    fault: Option<Fault>,
    sent: &AtomicU64,
    errand: Errand,
) -> io::Result<()> {
    let Some(head) = Head::read(&mut registry).await? else { return Ok(()) };
    if matches!(fault, Some(Fault::LoseAnswer)) {
        reset(client);
        return Ok(());
    }
    let mut text = format!("{}\r\n", head.first);
    for (name, value) in &head.headers {
        let value = match &fault {
            Some(Fault::Lengthen) if name.eq_ignore_ascii_case("content-length") => (head.length() + 1).to_string(),
            Some(Fault::Header(other, _)) if name.eq_ignore_ascii_case(other) => continue,
            _ => value.clone(),
        };
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(Fault::Header(name, value)) = &fault {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    client.write_all(format!("{text}\r\n").as_bytes()).await?;
    let mut at = 0;
    let mut bytes = head.rest;
    loop {
        let end = at + bytes.len();
        match fault {
            Some(Fault::Reset(limit)) if end > limit => {
                sent.fetch_add((limit - at) as u64, Ordering::Relaxed);
                client.write_all(&bytes[..limit - at]).await?;
                client.flush().await?;
                wait_until_delivered(&client).await;
                reset(client);
                return Ok(());
            }
            Some(Fault::Truncate(limit)) if end > limit => {
                sent.fetch_add((limit - at) as u64, Ordering::Relaxed);
                client.write_all(&bytes[..limit - at]).await?;
                return client.shutdown().await;
            }
            Some(Fault::Stall(limit)) if end > limit => {
                sent.fetch_add((limit - at) as u64, Ordering::Relaxed);
                client.write_all(&bytes[..limit - at]).await?;
                drop(errand);
                // Until the client gives up.
                return client.read(&mut [0; 1]).await.map(drop);
            }
            Some(Fault::Trickle(limit)) if end > limit => {
                client.write_all(&bytes[..limit - at]).await?;
                drop(errand);
                for byte in &bytes[limit - at..] {
                    client.write_all(&[*byte]).await?;
                    // Until the client gives up.
                    if tokio::time::timeout(TRICKLE, client.read(&mut [0; 1])).await.is_ok() {
                        break;
                    }
                }
                return Ok(());
            }
            Some(Fault::Corrupt(place)) if (at..end).contains(&place) => bytes[place - at] ^= 0xff,
            _ => {}
        }
        sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        client.write_all(&bytes).await?;
        at = end;
        bytes.resize(64 << 10, 0);
        let count = registry.read(&mut bytes).await?;
        bytes.truncate(count);
        if count == 0 {
            break;
        }
    }
    if matches!(fault, Some(Fault::Lengthen)) {
        client.write_all(b"x").await?;
    }
    client.shutdown().await
}
