//! One way out: forms go to the provider by POST, answers come back bounded.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use reqwest::header::{ACCEPT, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use url::Url;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Refusal;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_BODY: usize = 1 << 20;
const MAX_RETRIES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(800);
/// What MSAL honours at most (spec S-B 2.7).
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// How waits between attempts pass. Tests put in one that does not wait.
pub(super) trait Pause: fmt::Debug + Send + Sync {
    fn pause(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The runtime's own timer.
#[derive(Debug)]
pub(super) struct TimerPause;

impl Pause for TimerPause {
    fn pause(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A form on its way out. It has no `Debug`, because it holds secrets.
pub(super) struct Post<'a> {
    url: Url,
    form: Vec<(&'static str, &'a str)>,
    secrets: Vec<&'a str>,
    /// Routes the request to the account's own region (spec S-B 2.7).
    pub(super) anchor: Option<String>,
}

impl<'a> Post<'a> {
    pub(super) const fn new(url: Url) -> Self {
        Self { url, form: Vec::new(), secrets: Vec::new(), anchor: None }
    }

    pub(super) fn field(&mut self, name: &'static str, value: &'a str) {
        self.form.push((name, value));
    }

    pub(super) fn optional_field(&mut self, name: &'static str, value: Option<&'a str>) {
        self.form.extend(value.map(|value| (name, value)));
    }

    /// A field whose value must not come back in anything that is shown.
    pub(super) fn secret(&mut self, name: &'static str, value: &'a str) {
        self.field(name, value);
        self.secrets.push(value);
    }

    pub(super) fn secrets(&self) -> &[&'a str] {
        &self.secrets
    }
}

/// An answer, whatever it says.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Reply {
    #[cfg(test)]
    pub(super) fn new(status: u16, retry_after: Option<Duration>, body: Vec<u8>) -> Self {
        Self { status, retry_after, body: Zeroizing::new(body) }
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Whether a status says "later" rather than "no" (spec S-B 2.7).
pub(super) const fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599) && !matches!(status, 501 | 505)
}

/// The connection to the provider, made when it is first needed.
#[derive(Debug)]
pub(super) struct Transport {
    client: OnceLock<reqwest::Client>,
    pause: Arc<dyn Pause>,
    root_certificates: Option<Arc<[u8]>>,
}

impl Transport {
    pub(super) const fn new(pause: Arc<dyn Pause>, root_certificates: Option<Arc<[u8]>>) -> Self {
        Self { client: OnceLock::new(), pause, root_certificates }
    }

    /// Posts a form that may be posted again, as long as all waits together stay within `budget`.
    pub(super) async fn post(&self, post: &Post<'_>, budget: Duration) -> Result<Reply, Refusal> {
        let mut waits = Waits { attempt: 0, left: budget };
        loop {
            let outcome = self.attempt(post).await;
            let (again, retry_after) = match &outcome {
                Ok(reply) => (is_transient(reply.status), reply.retry_after),
                Err(failure) => (failure.repeatable, None),
            };
            let wait = if again { waits.next(retry_after, random_byte()) } else { None };
            let Some(wait) = wait else {
                return outcome.map_err(|failure| failure.refusal);
            };
            tracing::debug!(?wait, "the provider is in trouble; trying again");
            self.pause.pause(wait).await;
        }
    }

    /// Posts a form that is good for one time only, such as an authorization code.
    pub(super) async fn post_once(&self, post: &Post<'_>) -> Result<Reply, Refusal> {
        self.attempt(post).await.map_err(|failure| failure.refusal)
    }

    /// Looks at a page of the provider's, once. Any answer will do; its status and its clock count.
    pub(super) async fn look(&self, url: Url) -> Result<(u16, Option<SystemTime>), Refusal> {
        let client = self.client().map_err(|failure| failure.refusal)?;
        let sent = client.get(url).header(ACCEPT, "application/json").send().await;
        let response = sent.map_err(|error| Failure::from(error).refusal)?;
        let date =
            response.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        Ok((response.status().as_u16(), date))
    }

    pub(super) async fn pause(&self, duration: Duration) {
        self.pause.pause(duration).await;
    }

    async fn attempt(&self, post: &Post<'_>) -> Result<Reply, Failure> {
        let request_id = Uuid::new_v4().to_string();
        let mut request = self
            .client()?
            .post(post.url.clone())
            .header(ACCEPT, "application/json")
            .header("x-client-sku", "tokenkeep")
            .header("x-client-ver", env!("CARGO_PKG_VERSION"))
            .header("x-client-os", std::env::consts::OS)
            .header("x-ms-lib-capability", "retry-after, h429")
            .header("client-request-id", &request_id)
            .form(&post.form);
        if let Some(anchor) = post.anchor.as_deref().and_then(|anchor| HeaderValue::from_str(anchor).ok()) {
            request = request.header("x-anchormailbox", anchor);
        }
        let mut response = request.send().await.map_err(Failure::from)?;
        let status = response.status().as_u16();
        tracing::debug!(status, request_id, "the provider answered");
        let retry_after = retry_after(response.headers(), SystemTime::now());
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(Failure::from)? {
            if body.len() + chunk.len() > MAX_BODY {
                let detail = format!("it is longer than {MAX_BODY} bytes");
                let refusal = Refusal::Unreadable { status, retry_after, detail };
                return Err(Failure { refusal, repeatable: false });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, retry_after, body })
    }

    fn client(&self) -> Result<&reqwest::Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = build_client(self.root_certificates.as_deref())
            .map_err(|detail| Failure { refusal: Refusal::Unreachable { detail }, repeatable: false })?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// Loads the root certificates, which costs 3 ms: never before there is something to ask.
fn build_client(root_certificates: Option<&[u8]>) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("tokenkeep/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .http1_only()
        // A kept connection belongs to one runtime; requests are rare, and callers have several.
        .pool_max_idle_per_host(0);
    if let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
        let named = |problem: &dyn fmt::Display| format!("SSL_CERT_FILE ({}): {problem}", path.display());
        let pem = std::fs::read(&path).map_err(|error| named(&error))?;
        // Elsewhere the platform's loader honours the variable by itself, in place of its own roots.
        if cfg!(any(windows, target_vendor = "apple")) {
            let roots = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| named(&chain(error)))?;
            builder = builder.tls_certs_merge(roots);
        }
    }
    if let Some(pem) = root_certificates {
        let roots = reqwest::Certificate::from_pem_bundle(pem).map_err(|error| error.to_string())?;
        builder = builder.tls_certs_merge(roots);
    }
    // The test's server is on this machine, whatever proxy the machine names.
    if cfg!(test) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(chain)
}

/// Why an attempt brought no answer, and whether another may.
struct Failure {
    refusal: Refusal,
    repeatable: bool,
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let distrust = causes(&error).any(is_distrust);
        // A timeout has already cost the person more than the whole budget.
        let repeatable = !(error.is_timeout() || error.is_builder() || distrust);
        Self { refusal: Refusal::Unreachable { detail: chain(error) }, repeatable }
    }
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}

/// A certificate that is wrong now will be wrong in a second. It surfaces as invalid data, in one
/// I/O error or in two around each other.
fn is_distrust(cause: &(dyn std::error::Error + 'static)) -> bool {
    let Some(error) = cause.downcast_ref::<io::Error>() else {
        return false;
    };
    error.kind() == io::ErrorKind::InvalidData || error.get_ref().is_some_and(|inner| is_distrust(inner))
}

/// The error with its causes as one line, without its URL.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut line = error.to_string();
    for cause in causes(&error).map(ToString::to_string) {
        // Some layers print their cause as well as naming it.
        if !line.ends_with(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line
}

/// What is left of the budget for waiting.
struct Waits {
    attempt: u32,
    left: Duration,
}

impl Waits {
    /// How long to wait before the next attempt; `None` if there should not be one.
    fn next(&mut self, retry_after: Option<Duration>, jitter: u8) -> Option<Duration> {
        let backoff = FIRST_WAIT * 2_u32.pow(self.attempt);
        // Between half and all of it, so that many clients do not come back together.
        let jittered = backoff / 2 + backoff / 2 * u32::from(jitter) / 255;
        let wait = retry_after.unwrap_or(jittered);
        if self.attempt == MAX_RETRIES || self.left.is_zero() || wait > self.left {
            return None;
        }
        self.attempt += 1;
        self.left -= wait;
        Some(wait)
    }
}

fn random_byte() -> u8 {
    let mut byte = [u8::MAX];
    // Without randomness the wait is only not spread.
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

/// `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3), the date by the server's own
/// clock if it shows one.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = httpdate::parse_http_date(text).ok()?;
            let servers_now =
                headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
            at.duration_since(servers_now.unwrap_or(now)).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_more_than_an_hour() {
        let now = httpdate::parse_http_date("Thu, 01 Jan 2026 00:00:00 GMT").unwrap();
        let wait =
            |fields: &[(&'static str, &str)]| retry_after(&headers(fields), now).map(|wait| wait.as_secs());
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        assert_eq!(wait(&[("retry-after", "-1")]), None);
        assert_eq!(wait(&[("retry-after", "0")]), Some(0));
        assert_eq!(wait(&[("retry-after", " 17 ")]), Some(17));
        assert_eq!(wait(&[("retry-after", "86400")]), Some(3600));
        let date = ("retry-after", "Thu, 01 Jan 2026 00:00:30 GMT");
        assert_eq!(wait(&[date]), Some(30));
        assert_eq!(wait(&[date, ("date", "Thu, 01 Jan 2026 00:00:25 GMT")]), Some(5));
        assert_eq!(wait(&[date, ("date", "Thu, 01 Jan 2026 01:00:00 GMT")]), Some(0));
    }

    #[test]
    fn waits_grow_and_together_stay_within_the_budget() {
        let mut waits = Waits { attempt: 0, left: Duration::from_secs(10) };
        let grown: Vec<_> =
            std::iter::from_fn(|| waits.next(None, 255)).map(|wait| wait.as_millis()).collect();
        assert_eq!(grown, [800, 1600, 3200]);

        let mut waits = Waits { attempt: 0, left: Duration::from_secs(2) };
        assert_eq!(waits.next(None, 0), Some(Duration::from_millis(400)));
        assert_eq!(waits.next(Some(Duration::from_millis(1601)), 0), None);
        assert_eq!(waits.next(Some(Duration::from_millis(1600)), 0), Some(Duration::from_millis(1600)));
        assert_eq!(waits.next(None, 0), None);

        let mut nothing = Waits { attempt: 0, left: Duration::ZERO };
        assert_eq!(nothing.next(None, 0), None);
        assert_eq!(nothing.next(Some(Duration::ZERO), 0), None);
    }

    #[test]
    fn only_later_is_repeated() {
        let repeated: Vec<u16> = (200..600).filter(|status| is_transient(*status)).collect();
        let server_errors = (500..600).filter(|status| ![501, 505].contains(status));
        assert_eq!(repeated, [408, 429].into_iter().chain(server_errors).collect::<Vec<_>>());
    }
}
