//! The emulator's clock, which control may put forward, and the forms in which Entra writes a time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) fn now(advanced_seconds: u64) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX) + advanced_seconds * 1000)
    }

    pub(crate) fn seconds(self) -> u64 {
        self.0 / 1000
    }

    pub(crate) fn plus(self, seconds: u64) -> Self {
        Self(self.0 + seconds * 1000)
    }

    /// `2026-01-01 00:00:00Z`, as in `error_description` and `timestamp`.
    pub(crate) fn spaced(self) -> String {
        let (date, time) = self.parts();
        format!("{date} {time}Z")
    }

    /// `2026-01-01T00:00:00.0000000Z`, as inside AADSTS50173.
    pub(crate) fn with_ticks(self) -> String {
        let (date, time) = self.parts();
        format!("{date}T{time}.{:03}0000Z", self.0 % 1000)
    }

    fn parts(self) -> (String, String) {
        let (days, second) = (self.seconds() / 86_400, self.seconds() % 86_400);
        let (year, month, day) = civil_from_days(days);
        (
            format!("{year:04}-{month:02}-{day:02}"),
            format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60),
        )
    }
}

/// Howard Hinnant's `civil_from_days`, for days since 1970 only.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_entra_writes_them() {
        let moment = Moment(1_767_225_600_123);
        assert_eq!(moment.spaced(), "2026-01-01 00:00:00Z");
        assert_eq!(moment.with_ticks(), "2026-01-01T00:00:00.1230000Z");
        assert_eq!(Moment(951_782_400_000).spaced(), "2000-02-29 00:00:00Z");
    }
}
