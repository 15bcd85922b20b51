//! Durations and sizes as scripts write them.

use std::time::Duration;

pub use crate::ops::progress::show_size;

/// Reads `"10s"`, `"1m30s"`, `"250ms"`, or a bare number of seconds.
///
/// # Errors
/// What is wrong with the text, as the rest of a sentence that begins with it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| "is not a duration".to_owned());
    }
    humantime::parse_duration(text).map_err(|_| "is not a duration; write it like 250ms, 10s, 1m30s or 2h".to_owned())
}

/// Reads `"64MiB"`, `"1.5G"`, `"500kB"`, or a bare number of bytes.
///
/// `KiB`, `MiB`, … and the bare letters `K`, `M`, `G`, `T` are powers of 1024, `kB`, `MB`, … powers of 1000, as IEC 80000-13
/// has it and as `docker run --memory` reads the letters.
///
/// # Errors
/// What is wrong with the text, as the rest of a sentence that begins with it.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let wrong = || "is not a size; write it like 512, 64MiB, 1.5GiB or 500MB".to_owned();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim() {
        "" | "B" | "b" => 1,
        "k" | "K" | "Ki" | "KiB" => 1 << 10,
        "m" | "M" | "Mi" | "MiB" => 1 << 20,
        "g" | "G" | "Gi" | "GiB" => 1 << 30,
        "t" | "T" | "Ti" | "TiB" => 1 << 40,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(|| "is larger than 2^64 bytes".to_owned());
    }
    let number: f64 = number.parse().map_err(|_| wrong())?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a size with a fraction is approximate anyway, and the range was checked"
    )]
    if number.is_finite() && number >= 0.0 && number * (factor as f64) < 1.8e19 {
        Ok((number * factor as f64).round() as u64)
    } else {
        Err(wrong())
    }
}

/// Writes a duration with at most two units, or milliseconds below a second.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.as_millis() == 0 => format!("{} µs", duration.as_micros()),
        0 => format!("{} ms", duration.as_millis()),
        1..=59 => format!("{:.1} s", duration.as_secs_f64()),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [
            ("512", 512),
            ("64MiB", 64 << 20),
            ("64M", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("500MB", 500_000_000),
            ("0", 0),
            ("1 KiB", 1024),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "-1", "10 apples", "99999999999999999999", "1e3"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(show_size(1023), "1023 B");
        assert_eq!(show_size(3 << 29), "1.5 GiB");
    }

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2.5"), Ok(Duration::from_millis(2500)));
        assert!(duration("-3s").is_err());
        assert!(duration("soon").is_err());
    }
}
