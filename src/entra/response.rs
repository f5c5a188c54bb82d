//! The provider's answers: tokens, or why there are none.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use super::Refusal;
use super::explain::{Class, explain};
use super::http::Reply;
use super::scrub::scrub;
use super::valid_from::valid_from;
use crate::error::ProviderError;
use crate::record::jwt_claims;
use crate::time::UnixTime;
use crate::token::{Claims, Scopes};

/// What MSAL takes a token's life to be when the answer does not say.
const DEFAULT_EXPIRES_IN: Duration = Duration::from_secs(3599);

/// A reply with tokens in it (RFC 6749, section 5.1). Its `Debug` shows no secret.
pub(crate) struct TokenReply {
    pub(crate) access_token: SecretString,
    pub(crate) token_type: String,
    pub(crate) asked_at: UnixTime,
    pub(crate) expires_in: Duration,
    pub(crate) ext_expires_in: Option<Duration>,
    pub(crate) refresh_in: Option<Duration>,
    pub(crate) refresh_token: Option<SecretString>,
    pub(crate) id_token: Option<SecretString>,
    /// As received: base64url of JSON with `uid` and `utid`.
    pub(crate) client_info: Option<String>,
    /// The scopes granted; the requested ones if the reply names none.
    pub(crate) scopes: Vec<String>,
    pub(crate) foci: Option<String>,
}

impl TokenReply {
    /// `uid.utid` of `client_info`; without one, as with AD FS, the ID token's `sub` (spec S-C 1.5).
    pub(crate) fn home_account_id(&self) -> Option<String> {
        match &self.client_info {
            Some(info) => {
                let bytes = URL_SAFE_NO_PAD.decode(info.trim_end_matches('=')).ok()?;
                let info: Map<String, Value> = serde_json::from_slice(&bytes).ok()?;
                let part = |name| info.get(name)?.as_str().filter(|part| !part.is_empty());
                Some(format!("{}.{}", part("uid")?, part("utid")?))
            }
            None => Some(self.id_claims()?.get("sub")?.as_str()?.to_owned()),
        }
    }

    /// What the ID token says.
    pub(crate) fn id_claims(&self) -> Option<Map<String, Value>> {
        jwt_claims(self.id_token.as_ref()?.expose_secret())
    }

    /// The name the person signed in with (spec S-C 1.3).
    pub(crate) fn username(&self) -> Option<String> {
        self.usernames().into_iter().next()
    }

    /// All names by which the ID token knows the person, the usual one first. Not `email`, which
    /// nobody verified.
    pub(super) fn usernames(&self) -> Vec<String> {
        let claims = self.id_claims().unwrap_or_default();
        ["preferred_username", "upn", "unique_name"]
            .iter()
            .filter_map(|name| claims.get(*name)?.as_str())
            .filter(|name| !name.trim().is_empty())
            .map(str::to_owned)
            .collect()
    }
}

impl fmt::Debug for TokenReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenReply")
            .field("token_type", &self.token_type)
            .field("asked_at", &self.asked_at)
            .field("expires_in", &self.expires_in)
            .field("scopes", &self.scopes)
            .field("foci", &self.foci)
            .finish_non_exhaustive()
    }
}

/// Reads the answer to a token request; `sent` are the secrets that went out with it.
pub(super) fn tokens(
    reply: &Reply,
    sent: &[&str],
    requested: &Scopes,
    asked_at: UnixTime,
) -> Result<TokenReply, Refusal> {
    if !reply.is_success() {
        return Err(refusal(reply, sent));
    }
    // The parser's own message may quote the value that it stumbled over.
    let Ok(wire) = serde_json::from_slice::<WireTokens>(&reply.body) else {
        return Err(refusal(reply, sent));
    };
    let Some(access_token) = wire.access_token.filter(|token| !token.expose_secret().is_empty()) else {
        return Err(refusal(reply, sent));
    };
    let granted: Vec<String> =
        wire.scope.iter().flat_map(|scope| scope.split_whitespace()).map(str::to_owned).collect();
    let filled = |token: &SecretString| !token.expose_secret().is_empty();
    Ok(TokenReply {
        access_token,
        token_type: wire.token_type.unwrap_or_else(|| "Bearer".to_owned()),
        asked_at,
        expires_in: wire.expires_in.map_or(DEFAULT_EXPIRES_IN, |seconds| seconds.0),
        ext_expires_in: wire.ext_expires_in.map(|seconds| seconds.0),
        refresh_in: wire.refresh_in.map(|seconds| seconds.0),
        refresh_token: wire.refresh_token.filter(filled),
        id_token: wire.id_token.filter(filled),
        client_info: wire.client_info.filter(|info| !info.is_empty()),
        scopes: if granted.is_empty() { requested.iter().map(str::to_owned).collect() } else { granted },
        foci: wire.foci.map(|foci| foci.0),
    })
}

/// Reads an answer that holds none of what was asked for.
pub(super) fn refusal(reply: &Reply, sent: &[&str]) -> Refusal {
    let (status, retry_after) = (reply.status, reply.retry_after);
    let fields: Map<String, Value> = serde_json::from_slice(&reply.body).unwrap_or_default();
    if let Some(error) = provider_error(&fields, sent) {
        // What Microsoft's support asks for.
        tracing::debug!(
            status,
            error = error.error,
            suberror = error.suberror,
            codes = ?error.codes,
            correlation_id = error.correlation_id,
            trace_id = error.trace_id,
            timestamp = error.timestamp,
            "the provider refused"
        );
        return Refusal::Answered { status, retry_after, error: Box::new(error) };
    }
    let detail = match (status, fields.is_empty()) {
        (300..400, _) => "it redirects, which a token endpoint never does".to_owned(),
        (200..300, false) => "its JSON is not a token reply".to_owned(),
        (_, false) => "its JSON names no error".to_owned(),
        (_, true) => format!("its {} bytes are not a JSON object", reply.body.len()),
    };
    Refusal::Unreadable { status, retry_after, detail }
}

/// The provider's error, if the fields are one; `sent` are the secrets that must not come back.
pub(super) fn provider_error(fields: &Map<String, Value>, sent: &[&str]) -> Option<ProviderError> {
    let text = |name: &str| {
        let text = fields.get(name)?.as_str()?;
        Some(scrub(text, sent)).filter(|text| !text.is_empty())
    };
    let error = text("error")?;
    let description = text("error_description").unwrap_or_default();
    let mut codes: Vec<u32> = match fields.get("error_codes") {
        Some(Value::Array(codes)) => codes.iter().filter_map(code).collect(),
        Some(one) => code(one).into_iter().collect(),
        None => Vec::new(),
    };
    if codes.is_empty() {
        codes = codes_of(&description);
    }
    // Only what says that a grant is dead says since when.
    let is_dead = codes.iter().filter_map(|code| explain(*code)).any(|known| known.class == Class::Dead);
    Some(ProviderError {
        error,
        valid_from: if is_dead { valid_from(&description) } else { None },
        codes,
        suberror: text("suberror"),
        claims: claims(fields.get("claims"), sent),
        correlation_id: text("correlation_id"),
        trace_id: text("trace_id"),
        timestamp: text("timestamp"),
        description,
    })
}

fn code(value: &Value) -> Option<u32> {
    match value {
        Value::Number(number) => u32::try_from(number.as_u64()?).ok(),
        Value::String(text) => text.trim().trim_start_matches("AADSTS").parse().ok(),
        _ => None,
    }
}

/// The numbers after each `AADSTS` of a description.
fn codes_of(description: &str) -> Vec<u32> {
    let after = description.split("AADSTS").skip(1);
    after
        .filter_map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse().ok()
        })
        .collect()
}

/// A claims challenge goes back to the provider as it is, so it is taken whole or not at all.
fn claims(value: Option<&Value>, sent: &[&str]) -> Option<Claims> {
    let text = match value? {
        Value::String(text) => text.clone(),
        object @ Value::Object(_) => object.to_string(),
        _ => return None,
    };
    let echoes = sent.iter().any(|secret| !secret.is_empty() && text.contains(secret));
    Claims::parse(&text).ok().filter(|_| !echoes)
}

#[derive(Deserialize)]
struct WireTokens {
    access_token: Option<SecretString>,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
    ext_expires_in: Option<Seconds>,
    refresh_in: Option<Seconds>,
    refresh_token: Option<SecretString>,
    id_token: Option<SecretString>,
    client_info: Option<String>,
    scope: Option<String>,
    foci: Option<Text>,
}

/// Seconds as a number or, as AD FS and older endpoints write them, as a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        let whole = text.trim().split('.').next().unwrap_or_default();
        match whole.parse() {
            // A year is beyond every life of a token; more would only overflow somewhere.
            Ok(seconds) => Ok(Self(Duration::from_secs(u64::min(seconds, 366 * 86_400)))),
            Err(_) => Err(de::Error::custom("not a number of seconds")),
        }
    }
}

/// Text, or a number where text was meant.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) => Ok(Self(number.to_string())),
            _ => Err(de::Error::custom("neither text nor a number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ASKED_AT: UnixTime = UnixTime::from_seconds(1_767_225_600);

    fn reply(status: u16, body: &Value) -> Reply {
        Reply::new(status, None, body.to_string().into_bytes())
    }

    fn read(reply: &Reply) -> Result<TokenReply, Refusal> {
        tokens(reply, &["sent-secret"], &Scopes::new(["s/.default"]).unwrap(), ASKED_AT)
    }

    fn refused(body: &Value) -> ProviderError {
        match read(&reply(400, body)) {
            Err(Refusal::Answered { status: 400, error, .. }) => *error,
            other => panic!("{other:?}"),
        }
    }

    fn id_token(claims: &Value) -> String {
        format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn numbers_may_be_strings_and_fields_may_be_null() {
        let body = json!({
            "access_token": "at", "token_type": "Bearer", "expires_in": "3599", "ext_expires_in": 7200,
            "refresh_in": "1800.0", "scope": "b a", "foci": 1, "id_token": null, "refresh_token": "", "more": {}
        });
        let tokens = read(&reply(200, &body)).unwrap();
        assert_eq!(tokens.expires_in, Duration::from_secs(3599));
        assert_eq!(tokens.ext_expires_in, Some(Duration::from_secs(7200)));
        assert_eq!(tokens.refresh_in, Some(Duration::from_secs(1800)));
        assert_eq!(
            (tokens.scopes, tokens.foci.as_deref()),
            (vec!["b".to_owned(), "a".to_owned()], Some("1"))
        );
        assert!(tokens.refresh_token.is_none() && tokens.id_token.is_none());
    }

    #[test]
    fn what_the_reply_leaves_out_is_filled_in() {
        let tokens = read(&reply(200, &json!({"access_token": "at"}))).unwrap();
        assert_eq!(tokens.scopes, ["s/.default"]);
        assert_eq!((tokens.token_type.as_str(), tokens.expires_in), ("Bearer", DEFAULT_EXPIRES_IN));
        assert_eq!(tokens.asked_at, ASKED_AT);
    }

    #[test]
    fn a_reply_without_tokens_is_unreadable_and_quotes_nothing() {
        let canary = "canary-secret";
        let cases = [
            (200, json!({"token_type": canary}).to_string(), "not a token reply"),
            (200, json!({"access_token": ""}).to_string(), "not a token reply"),
            (200, json!({"access_token": "a", "expires_in": canary}).to_string(), "not a token reply"),
            (200, json!({"access_token": [canary]}).to_string(), "not a token reply"),
            (302, String::new(), "redirects"),
            (200, format!("<html>{canary}"), "not a JSON object"),
            (400, json!([canary]).to_string(), "not a JSON object"),
            (400, json!({"error": {"code": canary}}).to_string(), "names no error"),
        ];
        for (status, body, expected) in cases {
            let error = read(&Reply::new(status, None, body.into_bytes())).unwrap_err();
            let Refusal::Unreadable { status: seen, detail, .. } = &error else { panic!("{error:?}") };
            assert!(*seen == status && detail.contains(expected), "{error:?}");
            assert!(!format!("{error:?} {error}").contains(canary));
        }
    }

    #[test]
    fn an_error_is_read_with_all_that_entra_adds() {
        let error = refused(&json!({
            "error": "invalid_grant", "error_description": "AADSTS50076: more.\r\nTrace ID: t", "error_codes": [50076, "50079", "x", -1],
            "suberror": "basic_action", "claims": "{\"access_token\":{\"capolids\":{\"values\":[\"p\"]}}}",
            "timestamp": "2026-01-01 00:00:00Z", "trace_id": "t", "correlation_id": "c", "error_uri": "https://x"
        }));
        assert_eq!(
            (error.error.as_str(), error.codes.as_slice()),
            ("invalid_grant", [50076, 50079].as_slice())
        );
        assert_eq!((error.suberror.as_deref(), error.trace_id.as_deref()), (Some("basic_action"), Some("t")));
        assert!(error.claims.unwrap().as_str().contains("capolids"));
        assert_eq!(error.description, "AADSTS50076: more. Trace ID: t");
    }

    #[test]
    fn numbers_come_from_the_description_when_nothing_else_has_them() {
        let error = refused(
            &json!({"error": "e", "error_description": "AADSTS70002: Error. AADSTS70008: Expired. AADSTS"}),
        );
        assert_eq!(error.codes, [70002, 70008]);
        assert!(refused(&json!({"error": "e", "claims": "no json"})).claims.is_none());
    }

    #[test]
    fn what_was_sent_does_not_come_back_in_any_field() {
        let echo = "the sent-secret again";
        let error = refused(&json!({
            "error": echo, "error_description": echo, "suberror": echo, "trace_id": echo,
            "correlation_id": echo, "timestamp": echo, "claims": "{\"a\":\"sent-secret\"}"
        }));
        assert!(!format!("{error:?}").contains("sent-secret"), "{error:?}");
    }

    #[test]
    fn who_signed_in_is_read_from_client_info_and_the_id_token() {
        let claims = json!({"sub": "s", "preferred_username": " ", "upn": "user.one@contoso.example"});
        let info = URL_SAFE_NO_PAD.encode(r#"{"uid":"u","utid":"t"}"#);
        let mut body = json!({"access_token": "at", "id_token": id_token(&claims), "client_info": info});
        let tokens = read(&reply(200, &body)).unwrap();
        assert_eq!(tokens.home_account_id().as_deref(), Some("u.t"));
        assert_eq!(tokens.username().as_deref(), Some("user.one@contoso.example"));

        body["client_info"] = json!(URL_SAFE_NO_PAD.encode(r#"{"uid":"u"}"#));
        assert_eq!(read(&reply(200, &body)).unwrap().home_account_id(), None);
        body["client_info"] = Value::Null;
        assert_eq!(read(&reply(200, &body)).unwrap().home_account_id().as_deref(), Some("s"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let secrets = ["at-secret", "rt-secret", "id-secret", "info-secret"];
        let body = json!({"access_token": secrets[0], "refresh_token": secrets[1], "id_token": secrets[2], "client_info": secrets[3]});
        let shown = format!("{:?}", read(&reply(200, &body)).unwrap());
        assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
    }
}
