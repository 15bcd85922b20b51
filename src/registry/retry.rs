//! When and how often a request is tried again.

use std::time::{Duration, SystemTime};

use rand::Rng;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// How often a request is tried again, and how long apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How many times at most after the first.
    pub retries: u32,
    /// The longest wait before the first retry; it doubles with each further one.
    pub base: Duration,
    /// The longest wait before any retry.
    pub cap: Duration,
    /// The longest Retry-After that is waited for.
    pub patience: Duration,
    /// How long after the first try another one may begin.
    pub total: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retries: 7,
            base: Duration::from_millis(500),
            cap: Duration::from_secs(30),
            patience: Duration::from_secs(300),
            total: Duration::from_secs(600),
        }
    }
}

impl Policy {
    /// Returns the longest wait before a retry, counted from 0.
    #[must_use]
    pub fn ceiling(&self, retry: u32) -> Duration {
        self.base.saturating_mul(2u32.saturating_pow(retry)).min(self.cap)
    }

    /// Returns how long to wait before a retry, counted from 0, so long after the first try; `None` when it was enough.
    ///
    /// The wait is drawn from nought to the ceiling ("full jitter"), so that many clients do not come back at once.
    #[must_use]
    pub fn delay(&self, retry: u32, since: Duration) -> Option<Duration> {
        (retry < self.retries && since < self.total).then(|| self.ceiling(retry).mul_f64(rand::rng().random::<f64>()))
    }
}

/// Returns whether the same request may succeed a moment later.
#[must_use]
pub(super) fn temporary(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504 | 522)
}

/// Reads how long the other side asks to be left alone: seconds or an HTTP-date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    Some(SystemTime::from(date).duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_doubles_up_to_the_cap_and_ends() {
        let policy = Policy::default();
        let ceilings: Vec<_> = (0..8).map(|n| policy.ceiling(n).as_millis()).collect();
        assert_eq!(ceilings, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        for retry in 0..policy.retries {
            assert!(policy.delay(retry, Duration::from_secs(599)).unwrap() <= policy.ceiling(retry));
        }
        assert_eq!(policy.delay(policy.retries, Duration::ZERO), None);
        assert_eq!(policy.delay(0, policy.total), None);
        assert_eq!(policy.ceiling(u32::MAX), policy.cap);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let headers = |value: &str| HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after(&headers("7"), now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&headers("Sun, 06 Nov 1994 08:50:07 GMT"), now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after(&headers("Sun, 06 Nov 1994 08:00:00 GMT"), now), Some(Duration::ZERO));
        assert_eq!(retry_after(&headers("soon"), now), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for status in [408u16, 429, 500, 502, 503, 504, 522] {
            assert!(temporary(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [400u16, 401, 403, 404, 405, 416, 501, 507] {
            assert!(!temporary(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }
}
