//! Answers that a test orders in advance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::errors::Refusal;
use crate::log::LogEntry;

/// Which request, how often, and what it is answered.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Which requests it applies to; nothing named means any.
    #[serde(rename = "match")]
    pub matching: Match,
    /// How often; `None` (JSON null) is for good, the default is once.
    pub times: Option<u32>,
    /// So many matching requests are let through first.
    pub skip: u32,
    /// The answer is kept back until `release` is called.
    pub hold: bool,
    /// The answer is kept back for so long.
    pub delay_ms: u64,
    /// The answer.
    pub answer: Answer,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            matching: Match::default(),
            times: Some(1),
            skip: 0,
            hold: false,
            delay_ms: 0,
            answer: Answer::Normal,
        }
    }
}

impl Script {
    /// The next request is answered so.
    pub fn once(answer: Answer) -> Self {
        Self { answer, ..Self::default() }
    }

    /// Every request is answered so, until the scripts are cleared.
    pub fn sticky(answer: Answer) -> Self {
        Self { times: None, ..Self::once(answer) }
    }

    /// Only for requests of a kind, for example `token` or `token.refresh_token`.
    pub fn kind(mut self, kind: &str) -> Self {
        self.matching.kind = Some(kind.into());
        self
    }

    /// Kept back until `release` is called.
    pub fn held(mut self) -> Self {
        self.hold = true;
        self
    }
}

/// Conditions; all that are named must hold.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// A kind of the log: `token.refresh_token`, or only its first part, `token`.
    pub kind: Option<String>,
    /// The client id.
    pub client_id: Option<String>,
    /// A part of the scope parameter.
    pub scope: Option<String>,
    /// The tenant segment of the path.
    pub tenant: Option<String>,
    /// The user, where the request's grant tells who it is.
    pub user: Option<String>,
    /// The serial of the refresh token sent.
    pub refresh_token: Option<u64>,
}

impl Match {
    fn holds(&self, entry: &LogEntry) -> bool {
        fn is(wanted: Option<&String>, found: Option<&String>) -> bool {
            wanted.is_none_or(|wanted| found.is_some_and(|found| found.eq_ignore_ascii_case(wanted)))
        }
        self.kind.as_ref().is_none_or(|kind| entry.is_kind(kind))
            && is(self.client_id.as_ref(), entry.client_id.as_ref())
            && is(self.tenant.as_ref(), entry.tenant.as_ref())
            && is(self.user.as_ref(), entry.user.as_ref())
            && self
                .scope
                .as_ref()
                .is_none_or(|part| entry.scope.as_ref().is_some_and(|scope| scope.contains(part.as_str())))
            && self.refresh_token.is_none_or(|serial| entry.refresh_token == Some(serial))
    }
}

/// What is answered.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// 502 with a gateway's HTML page.
    BadGateway,
    /// The request is processed; then the connection breaks in the middle of the answer.
    Dropped,
    /// The true answer with members taken out or put in.
    Edited {
        /// Members to leave out.
        #[serde(default)]
        without: Vec<String>,
        /// Members to set.
        #[serde(default)]
        with: Map<String, Value>,
    },
    /// 200 without a body.
    Empty,
    /// A refusal in Entra's shape.
    Error(ErrorAnswer),
    /// 200 with the first half of the true answer.
    Malformed,
    /// The true answer; with `hold` or `delay_ms` it is a slow one.
    #[default]
    Normal,
    /// Exactly this.
    Raw {
        /// The HTTP status.
        status: u16,
        /// Header fields.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The body.
        #[serde(default)]
        body: String,
    },
}

/// A refusal. With a `code`, what is left out is filled in as Entra usually sends it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorAnswer {
    /// The AADSTS number.
    pub code: Option<u32>,
    /// All numbers, when there are several; the first one stands in the text.
    pub codes: Option<Vec<u32>>,
    /// The HTTP status.
    pub status: Option<u16>,
    /// The OAuth error.
    pub error: Option<String>,
    /// The suberror; an empty string takes the usual one away.
    pub suberror: Option<String>,
    /// The claims to satisfy, as JSON text; an empty string takes the usual ones away.
    pub claims: Option<String>,
    /// The text between the number and the trace id.
    pub description: Option<String>,
    /// Header fields, for example `Retry-After`.
    pub headers: BTreeMap<String, String>,
}

impl ErrorAnswer {
    /// As Entra usually sends this number.
    pub fn aadsts(code: u32) -> Self {
        Self { code: Some(code), ..Self::default() }
    }

    /// An OAuth error and nothing else, for example a bare `invalid_grant` or `slow_down`.
    pub fn bare(error: &str) -> Self {
        Self { error: Some(error.into()), ..Self::default() }
    }

    /// AADSTS50076 with these claims.
    pub fn mfa(claims: &str) -> Self {
        Self { claims: Some(claims.into()), ..Self::aadsts(50076) }
    }

    /// 429 with `Retry-After`.
    pub fn throttled(retry_after: &str) -> Self {
        Self {
            status: Some(429),
            headers: [("Retry-After".to_owned(), retry_after.to_owned())].into(),
            ..Self::aadsts(90033)
        }
    }

    pub(crate) fn to_refusal(&self) -> Refusal {
        let mut refusal = match (self.code, self.codes.as_deref()) {
            (Some(code), _) | (None, Some(&[code, ..])) => Refusal::aadsts(code),
            (None, _) => Refusal::bare(self.error.as_deref().unwrap_or("invalid_grant")),
        };
        if let Some(codes) = &self.codes {
            refusal.codes.clone_from(codes);
        }
        if let Some(error) = &self.error {
            refusal.error.clone_from(error);
        }
        if let Some(status) = self.status {
            refusal.status = status;
        }
        if let Some(suberror) = &self.suberror {
            refusal.suberror = Some(suberror.clone()).filter(|text| !text.is_empty());
        }
        if let Some(claims) = &self.claims {
            refusal.claims = Some(claims.clone()).filter(|text| !text.is_empty());
        }
        if let Some(description) = &self.description {
            refusal.description = Some(description.clone());
        }
        refusal.headers.extend(self.headers.clone());
        refusal
    }
}

/// The queue of ordered answers; the first one that matches counts.
#[derive(Debug, Default)]
pub(crate) struct Scripts(Vec<Script>);

impl Scripts {
    pub(crate) fn push(&mut self, script: Script) {
        self.0.push(script);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn list(&self) -> &[Script] {
        &self.0
    }

    pub(crate) fn take(&mut self, entry: &LogEntry) -> Option<Script> {
        let index = self.0.iter_mut().position(|script| {
            if !script.matching.holds(entry) || script.times == Some(0) {
                return false;
            }
            if script.skip > 0 {
                script.skip -= 1;
                return false;
            }
            true
        })?;
        let script = self.0[index].clone();
        if let Some(times) = &mut self.0[index].times {
            *times -= 1;
            if *times == 0 {
                self.0.remove(index);
            }
        }
        Some(script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str) -> LogEntry {
        LogEntry { kind: kind.into(), ..LogEntry::default() }
    }

    #[test]
    fn scripts_are_taken_in_order_and_only_by_what_they_match() {
        let mut scripts = Scripts::default();
        scripts.push(Script::once(Answer::Empty).kind("token.refresh_token"));
        scripts.push(Script::once(Answer::Malformed).kind("token"));
        assert!(scripts.take(&entry("devicecode")).is_none());
        let first = scripts.take(&entry("token.refresh_token")).unwrap();
        assert!(matches!(first.answer, Answer::Empty));
        let second = scripts.take(&entry("token.refresh_token")).unwrap();
        assert!(matches!(second.answer, Answer::Malformed));
        assert!(scripts.take(&entry("token.refresh_token")).is_none());
    }

    #[test]
    fn json_without_times_is_once_and_null_is_for_good() {
        let once: Script = serde_json::from_str(r#"{"answer":"empty"}"#).unwrap();
        assert_eq!(once.times, Some(1));
        let sticky: Script =
            serde_json::from_str(r#"{"times":null,"answer":{"error":{"code":50076}}}"#).unwrap();
        assert_eq!(sticky.times, None);
    }

    #[test]
    fn a_number_brings_its_usual_error_and_every_part_can_be_changed() {
        let usual = ErrorAnswer::aadsts(50173).to_refusal();
        assert_eq!(usual.error, "invalid_grant");
        assert_eq!(usual.suberror.as_deref(), Some("bad_token"));
        let bare: ErrorAnswer =
            serde_json::from_str(r#"{"code":50076,"suberror":"","claims":"","status":401}"#).unwrap();
        let bare = bare.to_refusal();
        assert_eq!((bare.status, bare.suberror, bare.claims), (401, None, None));
    }
}
