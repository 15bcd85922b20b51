//! What can go wrong with a request, and what has to come of it.

use ctrsh::kind::Kind;

use super::operation::Operation;
use crate::harness::fault::Fault;

/// What an operation has to come to when a fault hits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeds, however often the fault happens.
    Harmless,
    /// It succeeds once the fault is over; one that lasts is an error of this kind.
    Passes(Kind),
    /// Once is taken for an accident; what happens again is an error of this kind.
    Once(Kind),
    /// An error of this kind, at once.
    Refused(Kind),
}

/// A kind of fault.
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    pub name: &'static str,
    /// Makes it; the argument is the name of another host.
    pub make: fn(&str) -> Fault,
    /// What happens to the requests after it.
    pub then: Option<fn() -> Fault>,
    nature: Nature,
}

/// What sort of fault it is, from which follows what it may do to which operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    /// A status or a broken connection that may pass.
    Passing(Kind),
    /// A body that breaks off or stops in the middle.
    Broken(Kind),
    /// A body with other bytes than it should have.
    Damaged,
    /// A download that has to begin again.
    Restarted,
    /// A request's body that breaks off.
    Cut,
    /// An answer that says no.
    No(u16),
    /// A wait that is too long.
    TooLong,
    /// A token that counts no more.
    Expired,
    /// A token service that may not be trusted.
    Realm,
    /// A redirect to another host.
    Moved,
    /// A redirect to where a registry may not send us.
    Forbidden,
    /// A web page where a document should be.
    Page,
    /// A header with another digest.
    WrongDigest,
    /// A header with another media type.
    WrongType,
    /// An upload that the registry has no more.
    Gone,
    /// An upload of which the registry has other bytes than were sent.
    Behind,
}

/// How much of a layer comes before it breaks off.
pub const PART: usize = 100_000;

const fn trouble(name: &'static str, nature: Nature, make: fn(&str) -> Fault) -> Trouble {
    Trouble { name, make, then: None, nature }
}

fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Fault {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Fault::Answer(status, headers, body.to_owned())
}

/// All kinds of faults.
pub const TROUBLES: &[Trouble] = &[
    trouble("408", Nature::Passing(Kind::Timeout), |_| Fault::status(408)),
    trouble("429", Nature::Passing(Kind::Unavailable), |_| Fault::status(429)),
    trouble("429 with seconds to wait", Nature::Passing(Kind::Unavailable), |_| {
        answer(429, &[("Retry-After", "3")], "")
    }),
    trouble("429 with a date to wait for", Nature::Passing(Kind::Unavailable), |_| {
        answer(429, &[("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT")], "")
    }),
    trouble("429 with an hour to wait", Nature::TooLong, |_| answer(429, &[("Retry-After", "3600")], "")),
    trouble("500", Nature::Passing(Kind::Unavailable), |_| Fault::status(500)),
    trouble("502", Nature::Passing(Kind::Unavailable), |_| Fault::status(502)),
    trouble("503", Nature::Passing(Kind::Unavailable), |_| Fault::status(503)),
    trouble("503 with seconds to wait", Nature::Passing(Kind::Unavailable), |_| {
        answer(503, &[("Retry-After", "2")], "")
    }),
    trouble("503 with a web page", Nature::Passing(Kind::Unavailable), |_| {
        answer(503, &[("Content-Type", "text/html")], "<html>back soon</html>")
    }),
    trouble("504", Nature::Passing(Kind::Timeout), |_| Fault::status(504)),
    trouble("522", Nature::Passing(Kind::Unavailable), |_| Fault::status(522)),
    trouble("connection reset", Nature::Passing(Kind::Unavailable), |_| Fault::Refuse),
    trouble("connection closed", Nature::Passing(Kind::Unavailable), |_| Fault::HangUp),
    trouble("no answer", Nature::Passing(Kind::Timeout), |_| Fault::Silence),
    trouble("answer lost", Nature::Passing(Kind::Unavailable), |_| Fault::LoseAnswer),
    trouble("body reset at its beginning", Nature::Passing(Kind::Unavailable), |_| Fault::Reset(0)),
    trouble("body reset", Nature::Broken(Kind::Unavailable), |_| Fault::Reset(PART)),
    trouble("body ends early", Nature::Broken(Kind::Unavailable), |_| Fault::Truncate(PART)),
    trouble("body stalls", Nature::Broken(Kind::Timeout), |_| Fault::Stall(PART)),
    trouble("body trickles", Nature::Broken(Kind::Timeout), |_| Fault::Trickle(PART)),
    Trouble {
        then: Some(|| Fault::IgnoreRange),
        ..trouble("range ignored", Nature::Restarted, |_| Fault::Reset(PART))
    },
    Trouble {
        then: Some(|| Fault::status(416)),
        ..trouble("range refused", Nature::Restarted, |_| Fault::Reset(PART))
    },
    Trouble {
        then: Some(|| Fault::Header("Content-Range", "bytes 7-9/10".into())),
        ..trouble("another range than was asked for", Nature::Restarted, |_| Fault::Reset(PART))
    },
    trouble("damaged byte", Nature::Damaged, |_| Fault::Corrupt(40)),
    trouble("byte too many", Nature::Damaged, |_| Fault::Lengthen),
    trouble("request cut off", Nature::Cut, |_| Fault::ResetRequest(70_000)),
    trouble("400", Nature::No(400), |_| Fault::status(400)),
    trouble("401 without a way to log in", Nature::No(401), |_| Fault::status(401)),
    trouble("403", Nature::No(403), |_| answer(403, &[], r#"{"errors":[{"code":"DENIED","message":"go away"}]}"#)),
    trouble("404", Nature::No(404), |_| Fault::status(404)),
    trouble("upload unknown", Nature::Gone, |_| {
        answer(404, &[], r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}]}"#)
    }),
    trouble("upload invalid", Nature::Gone, |_| {
        answer(404, &[], r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID","message":"blob upload invalid"}]}"#)
    }),
    trouble("416", Nature::Behind, |_| Fault::status(416)),
    trouble("405", Nature::No(405), |_| Fault::status(405)),
    trouble("507", Nature::No(507), |_| Fault::status(507)),
    trouble("token expired", Nature::Expired, |_| Fault::Expire),
    trouble("token service elsewhere", Nature::Realm, |_| {
        answer(401, &[("WWW-Authenticate", r#"Bearer realm="https://evil.example/token",service="x""#)], "")
    }),
    trouble("redirect to another host", Nature::Moved, |elsewhere| Fault::Elsewhere(elsewhere.to_owned())),
    trouble("redirect to a link-local address", Nature::Forbidden, |_| {
        Fault::redirect("http://169.254.169.254/latest/meta-data")
    }),
    trouble("web page", Nature::Page, |_| answer(200, &[("Content-Type", "text/html")], "<html>hello</html>")),
    trouble("another digest in the header", Nature::WrongDigest, |_| {
        Fault::Header("Docker-Content-Digest", format!("sha256:{}", "ab".repeat(32)))
    }),
    trouble("another media type in the header", Nature::WrongType, |_| {
        Fault::Header("Content-Type", "application/vnd.oci.image.index.v1+json".into())
    }),
];

impl Trouble {
    /// Returns what the fault has to come to at an operation; `None` where it cannot happen.
    pub fn outcome(&self, at: Operation) -> Option<Outcome> {
        use Operation as Op;
        use Outcome::{Harmless, Once, Passes, Refused};
        if at == Op::Token {
            return match self.nature {
                Nature::Passing(kind) if self.name.len() == 3 => Some(Passes(kind)),
                Nature::No(401 | 403) if self.name != "403" => Some(Refused(Kind::Unauthorized)),
                _ => None,
            };
        }
        if at == Op::Mount {
            // A mount is a favour: without it the blob is sent.
            let possible = matches!(self.nature, Nature::Passing(_) | Nature::No(_) | Nature::Realm | Nature::Expired);
            return possible.then_some(Harmless);
        }
        Some(match self.nature {
            // An answer without a body has no place for these.
            Nature::Passing(_) if self.name == "body reset at its beginning" && !at.has_body() => return None,
            // Each try may take five minutes, and two are enough.
            Nature::Passing(kind) if self.name == "no answer" && at.commits() => Once(kind),
            // Whether a blob is there is asked when the answer was lost that would have said so.
            Nature::Passing(_) if self.name == "answer lost" && at.commits() => Harmless,
            Nature::Passing(kind) => Passes(kind),
            // What comes in the end is a whole: each try brings some more of it, or it is small and comes at once.
            Nature::Broken(_) | Nature::Restarted if at == Op::Layer => Harmless,
            Nature::Broken(_) | Nature::Restarted => return None,
            Nature::Damaged if matches!(at, Op::Manifest | Op::Config | Op::Layer) => Once(Kind::Integrity),
            Nature::Damaged => return None,
            Nature::Cut if at == Op::Whole => Passes(Kind::Unavailable),
            // What came of it counts, and each try brings some more.
            Nature::Cut if at == Op::Piece => Harmless,
            Nature::Cut => return None,
            Nature::TooLong => Refused(Kind::Unavailable),
            Nature::No(status) => return at.refusal(status),
            // A body that was under way is sent again by the copy, not by the request.
            Nature::Expired if at == Op::Whole => Passes(Kind::Unauthorized),
            Nature::Expired => Once(Kind::Unauthorized),
            Nature::Realm => Refused(Kind::Unauthorized),
            Nature::Moved if at.reads() => Harmless,
            Nature::Moved => return None,
            Nature::Forbidden => Refused(Kind::Internal),
            Nature::Page if at == Op::Referrers => Harmless,
            Nature::Page if matches!(at, Op::Manifest | Op::Tags) => Refused(Kind::Usage),
            Nature::Page if matches!(at, Op::Config | Op::Layer) => Once(Kind::Integrity),
            Nature::Page => return None,
            Nature::WrongDigest if at == Op::Manifest => Harmless,
            Nature::WrongDigest if at == Op::PutManifest => Refused(Kind::Integrity),
            Nature::WrongDigest => return None,
            Nature::WrongType if at == Op::Manifest => Refused(Kind::Integrity),
            Nature::WrongType => return None,
            // The blob goes up from its beginning.
            Nature::Gone if matches!(at, Op::Whole | Op::Piece | Op::Close) => Passes(Kind::NotFound),
            Nature::Gone => return None,
            // How many bytes it has is asked, and the upload goes on there.
            Nature::Behind if at == Op::Piece => Passes(Kind::Internal),
            Nature::Behind => return None,
        })
    }
}
