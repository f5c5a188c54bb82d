//! Days of the week and hours of the day.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::time::UnixTime;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY: u16 = 24 * 60;

/// A moment as a clock on the wall shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalTime {
    /// 0 is Monday.
    pub(crate) weekday: u8,
    /// Minutes since midnight.
    pub(crate) minute: u16,
}

impl LocalTime {
    /// What the clocks of this zone show at that moment.
    pub(crate) fn at(moment: UnixTime, zone: &TimeZone) -> Self {
        let time = Timestamp::from_second(moment.seconds()).unwrap_or_default().to_zoned(zone.clone());
        let weekday = u8::try_from(time.weekday().to_monday_zero_offset()).unwrap_or(0);
        let minute = u16::from(time.hour().unsigned_abs()) * 60 + u16::from(time.minute().unsigned_abs());
        Self { weekday, minute }
    }

    fn is_on(self, days: Option<&[Days]>) -> bool {
        days.is_none_or(|days| days.iter().any(|days| days.0 & (1 << self.weekday) != 0))
    }

    /// Whether it is within any of these hours of any of these days. Hours that go over midnight
    /// belong to the day on which they began.
    pub(super) fn is_within(self, days: Option<&[Days]>, hours: Option<&[Hours]>) -> bool {
        let Some(hours) = hours else { return self.is_on(days) };
        let yesterday = Self { weekday: (self.weekday + 6) % 7, ..self };
        hours.iter().any(|Hours { from, to }| {
            let goes_over = to < from;
            let began = self.minute >= *from && (goes_over || self.minute < *to);
            let goes_on = goes_over && self.minute < *to;
            (began && self.is_on(days)) || (goes_on && yesterday.is_on(days))
        })
    }
}

/// `mon`, or `mon-fri`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Days(u8);

impl TryFrom<String> for Days {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (from, to) = text.split_once('-').unwrap_or((&text, &text));
        let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name.trim()));
        let (Some(from), Some(to)) = (day(from), day(to)) else {
            return Err(format!("{text:?} is no day; give {} or such as mon-fri", DAYS.join(", ")));
        };
        let length = (to + 7 - from) % 7;
        Ok(Self((0..=length).fold(0, |days, after| days | 1 << ((from + after) % 7))))
    }
}

/// `08:00-18:00`, the end not included; `22:00-06:00` goes over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Hours {
    from: u16,
    to: u16,
}

impl TryFrom<String> for Hours {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let hours = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        match hours {
            Some((from, to)) if from != to && from < DAY => Ok(Self { from, to }),
            _ => Err(format!("{text:?} are no hours; give them such as 08:00-18:00")),
        }
    }
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str| {
        let is_one = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| is_one)
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let whole = hour * 60 + minute;
    (minute < 60 && whole <= DAY).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_within(weekday: u8, minute: u16, days: Option<&str>, hours: &str) -> bool {
        let days = days.map(|days| [Days::try_from(days.to_owned()).unwrap()]);
        let hours = [Hours::try_from(hours.to_owned()).unwrap()];
        LocalTime { weekday, minute }.is_within(days.as_ref().map(|days| &days[..]), Some(&hours))
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_began() {
        let night = "22:00-06:00";
        for (weekday, minute, expected) in [
            (4, 21 * 60 + 59, false),
            (4, 22 * 60, true),
            (5, 0, true),
            (5, 5 * 60 + 59, true),
            (5, 6 * 60, false),
            (5, 23 * 60, false),
            (4, 60, false),
        ] {
            assert_eq!(is_within(weekday, minute, Some("fri"), night), expected, "{weekday} {minute}");
        }
        assert!(is_within(0, 60, Some("sun"), night), "from Sunday to Monday");
        assert!(is_within(3, 60, None, night));
    }

    #[test]
    fn a_span_of_days_may_go_over_the_week_and_a_day_ends_at_24() {
        for (weekday, expected) in [(4, false), (5, true), (6, true), (0, true), (1, false)] {
            assert_eq!(is_within(weekday, 600, Some("Sat-Mon"), "00:00-24:00"), expected, "{weekday}");
        }
        assert!(is_within(0, DAY - 1, None, "18:00-24:00"));
        assert!(!is_within(0, 17 * 60, None, "18:00-24:00"));
    }

    #[test]
    fn the_wall_shows_the_zones_own_day_and_hour() {
        // 2026-01-01T00:30:00Z was a Thursday.
        let moment = UnixTime::from_seconds(1_767_227_400);
        let zone = |hours| TimeZone::fixed(jiff::tz::offset(hours));
        let shown = |hours| {
            let LocalTime { weekday, minute } = LocalTime::at(moment, &zone(hours));
            (weekday, minute)
        };
        assert_eq!(shown(0), (3, 30));
        assert_eq!(shown(-1), (2, 23 * 60 + 30));
        assert_eq!(shown(9), (3, 9 * 60 + 30));
    }

    #[test]
    fn what_is_no_day_and_no_hour_is_refused() {
        for bad in ["", "monday", "mon-", "mon-fri-sun", "1"] {
            Days::try_from(bad.to_owned()).unwrap_err();
        }
        for bad in
            ["", "8-18", "8:00-18:00", "08:00", "08:60-09:00", "08:00-24:01", "24:00-08:00", "+8:00-09:00"]
        {
            Hours::try_from(bad.to_owned()).unwrap_err();
        }
    }
}
