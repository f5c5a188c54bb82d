//! A person's word: what the agent asks, and what is said to that.

use serde::{Deserialize, Serialize};

use super::Who;

/// `GET`: who waits for a person's word, and what was said before.
pub const CONSENTS: &str = "/v1/consents";
/// `POST` [`AskAnswer`]: a person's word.
pub const ANSWER: &str = "/v1/consents/answer";
/// `POST` [`AskForget`]: takes a word back.
pub const FORGET: &str = "/v1/consents/forget";

/// A person's word on an open question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct AskAnswer {
    /// Which question.
    pub id: String,
    /// Whether the token may be given.
    pub allow: bool,
    /// For how long that holds; zero for this once. Left out, as `config.toml` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds_seconds: Option<u64>,
}

/// Takes back what was said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct AskForget {
    /// Which word; without it, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// How many that was about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct DoneAnswer {
    /// The version of this form.
    pub version: u32,
    /// How many questions or answers.
    pub count: usize,
}

#[cfg(feature = "cli")]
impl DoneAnswer {
    pub(crate) const fn of(count: usize) -> Self {
        Self { version: 1, count }
    }
}

/// What a person is asked, and what they said before.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Consents {
    /// The version of this form.
    pub version: u32,
    /// Questions that wait, the oldest first.
    pub open: Vec<Question>,
    /// Answers that hold.
    pub remembered: Vec<Consent>,
}

/// Whether a program may have a token. Its texts are harmless to show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Question {
    /// What it is answered by.
    pub id: String,
    /// The process that asked first.
    pub pid: Option<i32>,
    /// Its program's file, and what is odd about that.
    pub program: String,
    /// The program that started it.
    pub started_by: Option<String>,
    /// What it calls itself, which proves nothing.
    pub claimed_name: Option<String>,
    /// The grant through which it asks at a front door.
    pub grant: Option<String>,
    /// Whose token.
    pub account: Who,
    /// What it is to be good for.
    pub scopes: Vec<String>,
    /// Of which tenant.
    pub tenant: String,
    /// For which application.
    pub client_id: String,
    /// Whether the answer can be remembered; not if it is not certain which file asks.
    pub is_kept: bool,
    /// How many requests wait for the answer.
    pub waiting: usize,
    /// When nobody waits for it any more, in seconds since 1970.
    pub ends_at: i64,
}

#[cfg(feature = "cli")]
impl Question {
    /// The question as a person reads it. With `holds`, for how long a yes is good.
    pub(crate) fn in_words(&self, holds: std::time::Duration) -> String {
        let mut text = self.program.clone();
        if let Some(pid) = self.pid {
            text.push_str(&format!(" (process {pid})"));
        }
        if let Some(parent) = &self.started_by {
            text.push_str(&format!(", started by {parent},"));
        }
        text.push_str(&format!(
            " wants a token of {}\nfor {}\nin tenant {}, application {}",
            self.account.username,
            self.scopes.join(" "),
            self.tenant,
            self.client_id
        ));
        if let Some(grant) = &self.grant {
            text.push_str(&format!("\nIt asks through {grant}"));
        }
        if let Some(name) = &self.claimed_name {
            text.push_str(&format!("\nIt calls itself \"{name}\", which proves nothing"));
        }
        if !self.is_kept {
            text.push_str("\nWhich file asks is not certain, so the answer is for this once");
        } else if !holds.is_zero() {
            text.push_str(&format!("\nA yes holds for {}", crate::time::in_words(holds)));
        }
        text
    }
}

/// A person's word that holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Consent {
    /// What it is taken back by.
    pub id: String,
    /// The program's file; of `tokenkeep token` also the one that started it.
    pub programs: Vec<String>,
    /// Whose tokens.
    pub account: Who,
    /// What they are good for.
    pub scopes: Vec<String>,
    /// Of which tenant.
    pub tenant: String,
    /// For which application.
    pub client_id: String,
    /// Yes or no.
    pub allowed: bool,
    /// Until when, in seconds since 1970.
    pub until: i64,
}
