//! Whether the authority can be reached at all, and what time it is there.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use url::Url;

use super::Refusal;
use super::http::{TimerPause, Transport};
use crate::cloud::Authority;
use crate::time::UnixTime;

/// Somebody answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The answer's status.
    pub(crate) status: u16,
    /// What the answer's `Date` says (RFC 9110, section 6.6.1).
    pub(crate) date: Option<UnixTime>,
}

/// Asks for the authority's public description, which is nobody's secret, and waits only so long.
///
/// # Errors
/// [`Refusal::Unreachable`], whose text says why.
pub(crate) async fn reach(authority: &Authority, within: Duration) -> Result<Reached, Refusal> {
    let unreachable = |detail: String| Refusal::Unreachable { detail };
    let mut url = Url::parse(&authority.to_string()).map_err(|error| unreachable(error.to_string()))?;
    url.set_path("common/v2.0/.well-known/openid-configuration");
    let transport = Transport::new(Arc::new(TimerPause), None);
    let looked = tokio::time::timeout(within, transport.look(url)).await;
    let (status, date) =
        looked.map_err(|_| unreachable(format!("no answer within {} s", within.as_secs_f32())))??;
    let seconds = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs());
    let date = seconds.and_then(|seconds| i64::try_from(seconds).ok()).map(UnixTime::from_seconds);
    Ok(Reached { status, date })
}
