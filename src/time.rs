//! Points in time, and the one seam through which they come in.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[cfg(feature = "cli")]
use crate::error::InvalidArgument;

/// Whole seconds since 1970-01-01T00:00:00Z, as every field of an MSAL cache counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(i64);

impl UnixTime {
    /// The moment `seconds` after (or before, when negative) the epoch.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since the epoch.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0
    }

    /// The moment `duration` later, in whole seconds.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(seconds))
    }

    /// How long it is from `self` to `later`; zero when `later` has passed.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        let seconds = later.0.saturating_sub(self.0);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Says what time it is. Every rule about expiry asks it, so that a test can be at any moment.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The current wall-clock time.
    fn now(&self) -> UnixTime;
}

/// The machine's own wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixTime {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since_epoch.map_or(0, |elapsed| elapsed.as_secs());
        UnixTime(i64::try_from(seconds).unwrap_or(i64::MAX))
    }
}

/// A clock that stands still until it is told otherwise.
#[derive(Debug, Default)]
pub struct ManualClock(std::sync::atomic::AtomicI64);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub const fn at(now: UnixTime) -> Self {
        Self(std::sync::atomic::AtomicI64::new(now.0))
    }

    /// Moves the clock on by `duration`, in whole seconds.
    pub fn advance(&self, duration: Duration) {
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        self.0.fetch_add(seconds, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

/// The moment at which a wait gives up, on a clock that nobody sets.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant, Duration);

impl Deadline {
    /// Gives up `duration` from now.
    #[must_use]
    pub fn within(duration: Duration) -> Self {
        Self(Instant::now() + duration, duration)
    }

    /// What is left of it; zero once it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    #[must_use]
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// The whole wait, as an error message wants to name it.
    #[must_use]
    pub const fn whole(self) -> Duration {
        self.1
    }
}

/// A length of time that a person gave, in hours, minutes and seconds, such as `8h` or `1h30m`.
///
/// # Errors
/// [`InvalidArgument`] for what is no such length, or too short to be one.
#[cfg(feature = "cli")]
pub(crate) fn length(text: &str) -> Result<Duration, InvalidArgument> {
    let refuse = || {
        InvalidArgument::new(
            "duration",
            format!("{text:?} is not a time to come"),
            "give hours, minutes or seconds, such as 8h, 30m or 1h30m",
        )
    };
    let length: jiff::SignedDuration = text.parse().map_err(|_| refuse())?;
    let length = Duration::try_from(length).map_err(|_| refuse())?;
    if length < Duration::from_secs(1) { Err(refuse()) } else { Ok(length) }
}

/// The same where it stands in a file.
#[cfg(feature = "cli")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Length(pub(crate) Duration);

#[cfg(feature = "cli")]
impl TryFrom<String> for Length {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        length(&text).map(Self).map_err(|error| format!("{}; {}", error.problem, error.hint))
    }
}

/// A length of time as a person would say it, in its largest unit.
pub(crate) fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_in_hours_minutes_and_seconds() {
        for (text, seconds) in
            [("90s", 90), ("30m", 1_800), ("8h", 28_800), ("1h30m", 5_400), ("PT1H", 3_600)]
        {
            assert_eq!(length(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for bad in ["", "0s", "-1h", "1h ago", "8", "soon"] {
            length(bad).unwrap_err();
        }
    }
}
