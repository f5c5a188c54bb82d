//! Times as people and other programs read them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::time::UnixTime;

/// `2026-07-01 12:34:56.000000` in this zone, as the Azure CLI writes `expiresOn`.
pub(super) fn azure_cli(time: UnixTime, zone: TimeZone) -> String {
    let zoned = timestamp(time).to_zoned(zone);
    zoned.strftime("%Y-%m-%d %H:%M:%S.000000").to_string()
}

/// `2026-07-01 12:34`, as a person of this zone reads it.
pub(super) fn local(time: UnixTime, zone: TimeZone) -> String {
    timestamp(time).to_zoned(zone).strftime("%Y-%m-%d %H:%M").to_string()
}

/// `2026-07-01T12:34:56Z` (RFC 3339).
pub(super) fn rfc_3339(time: UnixTime) -> String {
    timestamp(time).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `14:32`, as a clock that runs down shows it.
pub(super) fn countdown(left: Duration) -> String {
    let seconds = left.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

fn timestamp(time: UnixTime) -> Timestamp {
    let nearest = if time.seconds() < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(time.seconds()).unwrap_or(nearest)
}

#[cfg(test)]
mod tests {
    use jiff::tz;

    use super::*;

    #[test]
    fn each_reader_gets_its_own_form() {
        let time = UnixTime::from_seconds(1_767_225_600);
        assert_eq!(rfc_3339(time), "2026-01-01T00:00:00Z");
        assert_eq!(azure_cli(time, TimeZone::UTC), "2026-01-01 00:00:00.000000");
        let east = TimeZone::fixed(tz::offset(2));
        assert_eq!(azure_cli(time, east), "2026-01-01 02:00:00.000000");
        assert_eq!(local(time, TimeZone::UTC), "2026-01-01 00:00");
        assert_eq!(countdown(Duration::from_secs(872)), "14:32");
        assert_eq!(countdown(Duration::ZERO), "0:00");
    }

    #[test]
    fn a_time_out_of_range_is_the_nearest_in_it() {
        assert!(rfc_3339(UnixTime::from_seconds(i64::MAX)).starts_with("9999-12-3"));
        assert!(rfc_3339(UnixTime::from_seconds(i64::MIN)).starts_with("-9999-01-0"));
    }
}
