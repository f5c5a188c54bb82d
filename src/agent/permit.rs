//! Whether who asks may have what it wants: the policy is asked, and what came of it is noted.

use std::sync::{Arc, OnceLock};

use jiff::tz::TimeZone;

use crate::agent_client::ErrorAnswer;
use crate::agent_client::protocol::Source;
use crate::cloud::TenantId;
use crate::error::{Denied, Error};
use crate::policy::{Action, LocalTime, Request, named_tenant};
use crate::time::Clock;
use crate::token::Scopes;

use super::asker::Asker;
use super::chosen::Chosen;
use super::consent::{NoConsent, Questions};
use super::counters::Counters;
use super::journal::{Journal, Note};

/// What decides on requests, and remembers them.
#[derive(Debug)]
pub(super) struct Permit {
    pub(super) chosen: Arc<Chosen>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Arc<Counters>,
    pub(super) journal: Arc<Journal>,
    pub(super) questions: Arc<Questions>,
}

/// What is asked for, once that is clear.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) cache: String,
    pub(super) client_id: String,
    pub(super) home_account_id: String,
    pub(super) scopes: Scopes,
    pub(super) tenant: TenantId,
    pub(super) username: String,
}

/// One request for a token on its way.
#[derive(Debug)]
pub(super) struct Petition<'a> {
    permit: &'a Permit,
    asker: Asker,
    wanted: OnceLock<Arc<Wanted>>,
}

impl Permit {
    pub(super) fn petition(&self, asker: Asker) -> Petition<'_> {
        Petition { permit: self, asker, wanted: OnceLock::new() }
    }
}

impl Petition<'_> {
    /// Whether the request may go on. May wait for a person, and then holds up nobody else.
    ///
    /// # Errors
    /// [`Error::Denied`].
    pub(super) async fn decide(&self, wanted: Wanted) -> Result<(), Error> {
        let wanted = self.wanted.get_or_init(|| Arc::new(wanted));
        if self.verdict_now(wanted)? == Action::Allow {
            return Ok(());
        }
        if let Err(no) = self.permit.questions.ask(&self.asker, wanted).await {
            self.permit.counters.denied(no.short());
            return Err(no.told(&self.asker.seen.executable, &wanted.scopes.to_string()).into());
        }
        // A person takes a while, and no yes beats a rule that denies by then.
        self.verdict_now(wanted).map(drop)
    }

    /// What the policy says as it is at this moment.
    ///
    /// # Errors
    /// [`Error::Denied`].
    fn verdict_now(&self, wanted: &Wanted) -> Result<Action, Error> {
        let Permit { chosen, clock, counters, .. } = self.permit;
        let policy = &chosen.now().policy;
        if policy.allows_all() {
            return Ok(Action::Allow);
        }
        let scopes: Vec<&str> = wanted.scopes.iter().collect();
        let request = Request {
            executable: self.asker.subject(),
            parent: self.asker.parent(),
            scopes: &scopes,
            tenant: wanted.tenant_in_words(),
            account: [&wanted.username, &wanted.home_account_id],
            client_id: &wanted.client_id,
        };
        let now = || LocalTime::at(clock.now(), &TimeZone::system());
        let verdict = policy.verdict(&request, now);
        if verdict.action != Action::Deny {
            return Ok(verdict.action);
        }
        counters.denied(&verdict.short());
        tracing::warn!(who = self.asker.in_words(), by = verdict.source(), "a token was denied");
        Err(verdict.denied(&self.asker.seen.executable, &wanted.scopes.to_string()).into())
    }

    /// Notes what came of it.
    pub(super) fn ended(&self, outcome: Result<Source, &ErrorAnswer>) {
        let (action, reason) = match outcome {
            Ok(Source::Refresh) => ("token_given", "refresh".into()),
            Ok(_) => ("token_given", "cache".into()),
            Err(refused) => ("token_refused", refused.error.kind.clone().into()),
        };
        self.permit.counters.asked(&self.asker, outcome.is_ok());
        let note = Note::of(&self.asker, self.wanted.get(), action, reason);
        self.permit.journal.note(note, self.asker.pid);
    }
}

impl Wanted {
    pub(super) fn tenant_in_words(&self) -> &str {
        named_tenant(&self.tenant, &self.home_account_id)
    }

    pub(super) fn subject(&self) -> String {
        format!("{} in tenant {} for client {}", self.scopes, self.tenant_in_words(), self.client_id)
    }
}

impl NoConsent {
    /// A word for counters.
    const fn short(self) -> &'static str {
        match self {
            Self::Declined => "declined",
            Self::Nobody => "nobody answered",
            Self::TooMany => "too many questions",
        }
    }

    fn told(self, program: &str, scopes: &str) -> Denied {
        let what = format!("{program} a token for {scopes}");
        let (message, hint) = match self {
            Self::Declined => (
                format!("you did not allow {what}"),
                "see what was said, and take it back: tokenkeep agent consent",
            ),
            Self::Nobody => (
                format!("nobody said whether to give {what}"),
                "be asked at a terminal: tokenkeep agent consent --follow",
            ),
            Self::TooMany => (
                format!("too many questions are open to ask whether to give {what}"),
                "answer them: tokenkeep agent consent --follow",
            ),
        };
        Denied::new(message, Some(hint.to_owned()))
    }
}
