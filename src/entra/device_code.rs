//! Signing in on another device (RFC 8628).

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::http::Reply;
use super::response::{self, Seconds};
use super::{Client, Endpoint, Refusal, SignInError, TokenReply};
use crate::cloud::TenantId;
use crate::time::Clock;
use crate::token::{Claims, Scopes};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const DEFAULT_EXPIRES_IN: Duration = Duration::from_secs(1800);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
/// A provider that says 0 would otherwise be asked without pause.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// RFC 8628, section 3.5: each `slow_down` adds this for good.
const SLOW_DOWN: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// What a sign-in on another device is to be good for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceCodeRequest<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) scopes: &'a Scopes,
    pub(crate) claims: Option<&'a Claims>,
    pub(crate) enable_cae: bool,
}

/// A sign-in that waits for somebody to enter its code. Its `Debug` shows no code.
pub(crate) struct DeviceCode {
    pub(crate) user_code: String,
    pub(crate) verification_uri: String,
    /// The same page with the code filled in, where the provider offers that.
    pub(crate) verification_uri_complete: Option<String>,
    /// The provider's own words for the person.
    pub(crate) message: String,
    pub(crate) expires_in: Duration,
    interval: Duration,
    device_code: SecretString,
}

impl fmt::Debug for DeviceCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCode")
            .field("verification_uri", &self.verification_uri)
            .field("expires_in", &self.expires_in)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Asks for a code that a person then enters on any device (spec S-B 4.1).
    ///
    /// # Errors
    /// The [`Refusal`].
    pub(crate) async fn start_device_code(
        &self,
        request: &DeviceCodeRequest<'_>,
    ) -> Result<DeviceCode, Refusal> {
        let scope = request.scopes.decorated();
        let claims = Claims::on_the_wire(request.claims, request.enable_cae);
        let mut post = self.post(request.tenant, Endpoint::DeviceCode);
        post.field("scope", &scope);
        post.optional_field("claims", claims.as_deref());
        let reply = self.transport.post(&post, self.retry_budget).await?;
        device_code(&reply)
    }

    /// Waits until somebody has signed in with the code. Dropping the future ends the wait.
    ///
    /// Trouble on the way is waited out for as long as the code lives (RFC 8628, section 3.5).
    ///
    /// # Errors
    /// [`SignInError::Declined`], [`SignInError::Expired`], [`SignInError::TimedOut`] after
    /// `timeout`, or [`SignInError::Refused`].
    pub(crate) async fn poll_device_code(
        &self,
        code: &DeviceCode,
        request: &DeviceCodeRequest<'_>,
        clock: &dyn Clock,
        timeout: Option<Duration>,
    ) -> Result<TokenReply, SignInError> {
        let claims = Claims::on_the_wire(request.claims, request.enable_cae);
        let mut post = self.post(request.tenant, Endpoint::Token);
        post.field("grant_type", GRANT_TYPE);
        post.secret("device_code", code.device_code.expose_secret());
        // The name that older endpoints know it by.
        post.secret("code", code.device_code.expose_secret());
        post.field("client_info", "1");
        post.optional_field("claims", claims.as_deref());

        let whole = timeout.map_or(code.expires_in, |timeout| timeout.min(code.expires_in));
        let started = clock.now();
        let mut rhythm = Rhythm { interval: code.interval, backoff: None };
        loop {
            let asked_at = clock.now();
            let refusal = match self.transport.post_once(&post).await {
                Ok(reply) => match response::tokens(&reply, post.secrets(), request.scopes, asked_at) {
                    Ok(tokens) => return Ok(tokens),
                    Err(refusal) => refusal,
                },
                Err(refusal) => refusal,
            };
            let wait = rhythm.after(refusal)?;
            let left = whole.saturating_sub(started.until(clock.now()));
            self.transport.pause(wait.min(left)).await;
            if wait >= left {
                let is_expiry = whole == code.expires_in;
                return Err(if is_expiry {
                    SignInError::Expired
                } else {
                    SignInError::TimedOut { waited: whole }
                });
            }
        }
    }
}

/// How long to wait between polls.
struct Rhythm {
    interval: Duration,
    /// The last wait, while the provider is in trouble.
    backoff: Option<Duration>,
}

impl Rhythm {
    /// The wait before the next poll, or why there must not be one.
    fn after(&mut self, refusal: Refusal) -> Result<Duration, SignInError> {
        if let Refusal::Answered { error, .. } = &refusal {
            match error.error.as_str() {
                "authorization_pending" => {
                    self.backoff = None;
                    return Ok(self.interval);
                }
                "slow_down" => {
                    self.backoff = None;
                    self.interval += SLOW_DOWN;
                    return Ok(self.interval);
                }
                "authorization_declined" | "access_denied" => {
                    return Err(SignInError::Declined(error.clone()));
                }
                "expired_token" | "code_expired" => return Err(SignInError::Expired),
                _ => {}
            }
        }
        if !refusal.is_transient() {
            return Err(refusal.into());
        }
        let doubled =
            self.backoff.map_or(self.interval, |last| (last * 2).min(MAX_BACKOFF.max(self.interval)));
        self.backoff = Some(doubled);
        Ok(doubled.max(refusal.retry_after().unwrap_or_default()))
    }
}

#[derive(Deserialize)]
struct WireDeviceCode {
    device_code: SecretString,
    user_code: String,
    #[serde(alias = "verification_url")] // AD FS
    verification_uri: String,
    verification_uri_complete: Option<String>,
    message: Option<String>,
    expires_in: Option<Seconds>,
    interval: Option<Seconds>,
}

fn device_code(reply: &Reply) -> Result<DeviceCode, Refusal> {
    let wire = match serde_json::from_slice::<WireDeviceCode>(&reply.body) {
        Ok(wire) if reply.is_success() && !wire.user_code.is_empty() => wire,
        _ => return Err(response::refusal(reply, &[])),
    };
    let message = wire.message.unwrap_or_else(|| {
        format!("To sign in, open {} and enter the code {}", wire.verification_uri, wire.user_code)
    });
    Ok(DeviceCode {
        user_code: printable(&wire.user_code),
        verification_uri: printable(&wire.verification_uri),
        verification_uri_complete: wire.verification_uri_complete.as_deref().map(printable),
        message: printable(&message),
        expires_in: wire.expires_in.map_or(DEFAULT_EXPIRES_IN, |seconds| seconds.0),
        interval: wire.interval.map_or(DEFAULT_INTERVAL, |seconds| seconds.0).max(MIN_INTERVAL),
        device_code: wire.device_code,
    })
}

/// All of this is shown on a terminal, which text from outside must not steer.
fn printable(text: &str) -> String {
    text.replace(char::is_control, " ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::entra::test_support::{Answer, CountingPause, Request, Server, answer, tokens_for_user_one};

    fn code_reply() -> Value {
        json!({
            "device_code": "device-code-secret", "user_code": "ABCD-EFGH", "expires_in": "900", "interval": 5,
            "verification_uri": "https://login.example/device", "message": "Go\u{1b}[2J there"
        })
    }

    fn error(error: &str) -> Answer {
        answer(400, json!({"error": error, "error_description": "saw device-code-secret"}))
    }

    /// Starts, then polls by the script; also gives the waits and the requests.
    async fn sign_in(
        polls: impl IntoIterator<Item = Answer>,
        timeout: Option<u64>,
    ) -> (Result<TokenReply, SignInError>, Vec<u64>, Vec<Request>) {
        let server = Server::start([answer(200, code_reply())].into_iter().chain(polls)).await;
        let pause = CountingPause::new();
        let client = Client::of_test_server(&server.url(), pause.clone());
        let request = DeviceCodeRequest {
            tenant: &TenantId::organizations(),
            scopes: &Scopes::new(["s/.default"]).unwrap(),
            claims: Some(&Claims::parse(r#"{"a":1}"#).unwrap()),
            enable_cae: false,
        };
        let code = client.start_device_code(&request).await.unwrap();
        assert!(!format!("{code:?}").contains("secret") && !format!("{code:?}").contains("ABCD"));
        assert_eq!((code.user_code.as_str(), code.message.as_str()), ("ABCD-EFGH", "Go [2J there"));
        let timeout = timeout.map(Duration::from_secs);
        let outcome = client.poll_device_code(&code, &request, &pause.clock, timeout).await;
        let shown = format!("{outcome:?}");
        assert!(!shown.contains("-secret"), "{shown}");
        (outcome, pause.pauses().iter().map(Duration::as_secs).collect(), server.requests())
    }

    #[tokio::test]
    async fn it_polls_at_once_then_in_rhythm_and_carries_claims_both_times() {
        let polls = [error("authorization_pending"), error("slow_down"), error("authorization_pending")];
        let (outcome, waits, requests) =
            sign_in(polls.into_iter().chain([answer(200, tokens_for_user_one(""))]), None).await;
        let tokens = outcome.unwrap();
        assert_eq!(tokens.scopes, ["s/.default"]);
        assert_eq!(tokens.asked_at.seconds(), 25);
        assert_eq!(waits, [5, 10, 10]);

        let (start, poll) = (&requests[0], &requests[1]);
        assert_eq!(start.path, "/organizations/oauth2/v2.0/devicecode");
        assert_eq!(start.field("scope"), Some("offline_access openid profile s/.default"));
        assert_eq!(poll.path, "/organizations/oauth2/v2.0/token");
        assert_eq!(poll.field("grant_type"), Some(GRANT_TYPE));
        for name in ["device_code", "code"] {
            assert_eq!(poll.field(name), Some("device-code-secret"));
        }
        assert_eq!((poll.field("client_info"), poll.field("scope")), (Some("1"), None));
        assert!(requests.iter().all(|request| request.field("claims") == Some(r#"{"a":1}"#)));
    }

    #[tokio::test]
    async fn trouble_is_waited_out_with_growing_pauses() {
        let trouble = || answer(503, json!({}));
        let polls = [
            trouble(),
            trouble(),
            answer(429, json!({"error": "x"})).header("retry-after", "50"),
            trouble(),
            trouble(),
            trouble(),
            error("authorization_pending"),
            trouble(),
            answer(200, tokens_for_user_one("")),
        ];
        let (outcome, waits, _) = sign_in(polls, None).await;
        outcome.unwrap();
        assert_eq!(waits, [5, 10, 50, 40, 60, 60, 5, 5]);
    }

    #[tokio::test]
    async fn each_end_is_its_own_error() {
        for name in ["authorization_declined", "access_denied"] {
            assert!(matches!(sign_in([error(name)], None).await.0, Err(SignInError::Declined(_))));
        }
        for name in ["expired_token", "code_expired"] {
            assert!(matches!(sign_in([error(name)], None).await.0, Err(SignInError::Expired)));
        }
        for last in [
            error("bad_verification_code"),
            error("invalid_grant"),
            answer(200, json!({})),
            answer(501, json!({})),
        ] {
            let (outcome, waits, _) = sign_in([last], None).await;
            assert!(matches!(outcome, Err(SignInError::Refused(_))) && waits.is_empty(), "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn the_codes_life_and_the_callers_patience_end_the_wait() {
        let pending = |count: usize| (0..count).map(|_| error("authorization_pending"));
        let (outcome, waits, requests) = sign_in(pending(180), None).await;
        assert!(matches!(outcome, Err(SignInError::Expired)), "{outcome:?}");
        assert_eq!((waits.iter().sum::<u64>(), requests.len()), (900, 181));

        let (outcome, waits, _) = sign_in(pending(9), Some(12)).await;
        assert!(
            matches!(outcome, Err(SignInError::TimedOut { waited }) if waited.as_secs() == 12),
            "{outcome:?}"
        );
        assert_eq!(waits, [5, 5, 2]);

        let slow_last = [error("authorization_pending"), error("slow_down")];
        assert!(matches!(sign_in(slow_last, Some(12)).await.0, Err(SignInError::TimedOut { .. })));
    }

    #[test]
    fn a_start_that_gives_no_code_is_a_refusal() {
        let mut body = code_reply();
        body.as_object_mut().unwrap().remove("user_code");
        for (status, body) in [(200, body), (400, json!({"error": "invalid_client"})), (200, json!([]))] {
            let reply = Reply::new(status, None, body.to_string().into_bytes());
            let refusal = device_code(&reply).unwrap_err();
            assert!(!refusal.to_string().contains("secret"));
        }
        let mut sparse = code_reply();
        sparse["interval"] = json!(0);
        sparse["message"] = Value::Null;
        let code = device_code(&Reply::new(200, None, sparse.to_string().into_bytes())).unwrap();
        assert_eq!(code.interval, MIN_INTERVAL);
        assert!(code.message.contains("ABCD-EFGH"));
    }
}
