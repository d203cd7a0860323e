//! Small texts of the command line: `KEY=VALUE`, sizes, durations.

use std::time::Duration;

use crate::reference::Reference;

/// `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// `KEY=REFERENCE`: a place and the secret that is put there.
pub(crate) fn placed(text: &str) -> Result<(String, Reference), String> {
    let (place, reference) = pair(text).map_err(|_| "expected PLACE=NAME".to_owned())?;
    Ok((place, reference.parse()?))
}

/// `16GiB`, `500MB`, `1024`: bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return Err("expected a size such as 16GiB or 500MB".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "expected a size such as 16GiB or 500MB".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "that is more bytes than there are".to_owned())
}

/// `90s`, `15m`, `2h`, `7d`, `90`: a duration; without a unit, seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a duration such as 90s, 15m, 2h or 7d".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).map(Duration::from_secs).ok_or_else(wrong)
}

/// 1536 as `1.5 KiB`.
pub(crate) fn human(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{size:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_mean_what_they_say() {
        assert_eq!(bytes("16GiB"), Ok(16 << 30));
        assert_eq!(bytes("5 MB"), Ok(5_000_000));
        assert!(bytes("many").is_err() && bytes("1XB").is_err() && bytes("99999999999TiB").is_err());
        assert_eq!(duration("2h"), Ok(Duration::from_hours(2)));
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert!(duration("h").is_err() && duration("1w").is_err());
        assert_eq!((human(10).as_str(), human(1536).as_str()), ("10 B", "1.5 KiB"));
        assert_eq!(pair("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(pair("=x").is_err() && pair("x").is_err());
    }
}
