//! Reads times and sizes as the configuration writes them: a whole number and its unit, without a blank.

use std::time::Duration;

/// The longest time that is taken, in seconds: ten years. Later additions to an instant cannot overflow with it.
const LONGEST_SECONDS: u64 = 3650 * 24 * 60 * 60;
/// The largest size that is taken, in bytes: what a file offset can express.
const LARGEST_BYTES: u64 = i64::MAX.unsigned_abs();

/// Units of time, in milliseconds.
const TIME_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Units of size, in bytes.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// A time such as `10s`; none when it has no unit, is zero, or is above ten years.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let milliseconds = scaled(text, TIME_UNITS)?;
    let duration = Duration::from_millis(milliseconds);
    (!duration.is_zero() && duration <= Duration::from_secs(LONGEST_SECONDS)).then_some(duration)
}

/// A size such as `64KiB` in bytes; none when it has no unit, is zero, or is more than a file can have.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let bytes = scaled(text, SIZE_UNITS)?;
    (bytes > 0 && bytes <= LARGEST_BYTES).then_some(bytes)
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_its_unit() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(parse_duration("1h"), Some(Duration::from_secs(3600)));
        assert_eq!(parse_duration("3650d"), Some(Duration::from_secs(LONGEST_SECONDS)));
        for wrong in ["", "10", "s", "0s", "-1s", "+1s", "1.5s", "10 s", "10S", "3651d", "1w", "1s ", "１s"]
        {
            assert_eq!(parse_duration(wrong), None, "{wrong:?}");
        }
        assert_eq!(parse_duration("18446744073709551615d"), None);
        assert_eq!(parse_duration("99999999999999999999s"), None);
    }

    #[test]
    fn a_size_is_a_number_and_its_unit() {
        assert_eq!(parse_size("1B"), Some(1));
        assert_eq!(parse_size("64KiB"), Some(65_536));
        assert_eq!(parse_size("1MB"), Some(1_000_000));
        assert_eq!(parse_size("1GiB"), Some(1 << 30));
        for wrong in ["", "1", "0B", "KiB", "1kib", "1K", "1.5MiB", "1 MiB", "-1B", "9999999TiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong:?}");
        }
    }
}
