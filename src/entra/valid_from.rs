//! The moment from which on a user's tokens are valid, which a refusal may name.

use crate::time::UnixTime;

/// What the date stands behind, in every wording that was seen since 2017:
/// "…and the TokensValidFrom date (before which tokens are not valid) for this user is '…'".
const NAME: &str = "tokensvalidfrom";
/// The date stands within so many characters of its name, or it is not the one meant.
const NEAR: usize = 120;

/// Reads the date out of a refusal's text. A text without one, or with one in a form that could be
/// read in two ways, has none: then nothing is known but that this very token is dead.
pub(crate) fn valid_from(description: &str) -> Option<UnixTime> {
    let text = description.to_ascii_lowercase();
    let (_, after) = text.split_once(NAME)?;
    let near: String = after.chars().take(NEAR).collect();
    let starts = near.char_indices().filter(|(_, c)| c.is_ascii_digit());
    starts.into_iter().find_map(|(at, _)| moment(&near[at..]))
}

/// `2026-09-07T13:14:19.0000000Z` at the beginning of the text: `T` or a space, any fraction or
/// none, `Z`, an offset, or nothing, which means UTC in Entra's texts.
fn moment(text: &str) -> Option<UnixTime> {
    let (year, text) = number(text, 4)?;
    let (month, text) = number(text.strip_prefix('-')?, 2)?;
    let (day, text) = number(text.strip_prefix('-')?, 2)?;
    let (hour, text) = number(text.strip_prefix(['t', ' '])?, 2)?;
    let (minute, text) = number(text.strip_prefix(':')?, 2)?;
    let (second, text) = number(text.strip_prefix(':')?, 2)?;
    let is_sound = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !is_sound {
        return None;
    }
    let fraction = text.strip_prefix('.').map(|text| text.trim_start_matches(|c: char| c.is_ascii_digit()));
    let offset = offset(fraction.unwrap_or(text))?;
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(UnixTime::from_seconds(seconds - offset))
}

/// Seconds east of UTC.
fn offset(text: &str) -> Option<i64> {
    let (sign, text) = match text.chars().next() {
        Some('+') => (1, &text[1..]),
        Some('-') => (-1, &text[1..]),
        // more digits would be another kind of number
        Some(c) if c.is_ascii_digit() => return None,
        _ => return Some(0),
    };
    let (hours, text) = number(text, 2)?;
    let (minutes, _) = number(text.strip_prefix(':').unwrap_or(text), 2)?;
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Exactly so many digits, and what follows them.
fn number(text: &str, digits: usize) -> Option<(i64, &str)> {
    let (number, rest) = text.split_at_checked(digits)?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse().ok()).flatten().map(|number| (number, rest))
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let years: i64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let months: i64 = (1..month).map(|month| days_in(year, month)).sum();
    years + months + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<i64> {
        valid_from(text).map(UnixTime::seconds)
    }

    #[test]
    fn every_wording_that_was_seen_is_read() {
        let moment = 1_788_786_859;
        for text in [
            "AADSTS50173: The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password. The grant was issued on '2026-07-09T10:12:06.6848427Z' and the TokensValidFrom date (before which tokens are not valid) for this user is '2026-09-07T13:14:19.0000000Z'. Trace ID: t",
            "AADSTS50173: The provided grant has expired due to it being revoked. The grant was issued on '2026-01-26T09:16:07.5290000Z' and the TokensValidFrom date for this user is '2026-09-07T13:14:19.0000000Z' Trace ID:",
            "tokensvalidfrom: 2026-09-07 13:14:19Z",
            "TokensValidFrom 2026-09-07T13:14:19",
            "TokensValidFrom 2026-09-07T15:14:19.5+02:00.",
            "TokensValidFrom 2026-09-07 07:44:19 -0530",
        ] {
            // a space before an offset ends the date
            let expected = if text.ends_with("-0530") { moment - 19_800 } else { moment };
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        assert_eq!(seconds("TokensValidFrom '2024-02-29T00:00:00Z'"), Some(1_709_164_800));
        assert_eq!(seconds("TokensValidFrom '1970-01-01T00:00:00Z'"), Some(0));
        assert_eq!(seconds("TokensValidFrom '9999-12-31T23:59:59Z'"), Some(253_402_300_799));
    }

    #[test]
    fn what_is_no_date_or_could_be_two_is_none() {
        let long = format!("TokensValidFrom {}2026-09-07T13:14:19Z", "x".repeat(200));
        for text in [
            "",
            "TokensValidFrom",
            "The grant was issued on '2026-07-09T10:12:06Z'.",
            "TokensValidFrom '9/7/2026 1:14:19 PM'",
            "TokensValidFrom '2026-02-30T00:00:00Z'",
            "TokensValidFrom '2026-13-01T00:00:00Z'",
            "TokensValidFrom '2026-01-01T24:00:00Z'",
            "TokensValidFrom '1969-12-31T23:59:59Z'",
            "TokensValidFrom '2026-01-01'",
            "TokensValidFrom '2026-01-01T00:00:000Z'",
            "TokensValidFrom '2026-01-01T00:00:00+99:00'",
            "TokensValidFrom '２０２６-01-01T00:00:00Z'",
            "TokensValidFrom 'é2026é'",
            "TokensValidFrom 99999999999999999999-99-99T99:99:99Z",
            &long,
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
