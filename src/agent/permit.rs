//! Whether who asks may have what it wants: the policy is asked, and what came of it is noted.

use std::sync::{Arc, OnceLock};

use jiff::tz::TimeZone;

use crate::agent_client::ErrorAnswer;
use crate::agent_client::protocol::Source;
use crate::cloud::TenantId;
use crate::error::Error;
use crate::policy::{Action, LocalTime, Policy, Request, named_tenant};
use crate::time::Clock;
use crate::token::Scopes;

use super::asker::Asker;
use super::counters::Counters;
use super::journal::{Journal, Note};

/// What decides on requests, and remembers them.
#[derive(Debug)]
pub(super) struct Permit {
    pub(super) policy: Policy,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Arc<Counters>,
    pub(super) journal: Arc<Journal>,
}

/// What is asked for, once that is clear.
#[derive(Clone, Debug)]
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
    wanted: OnceLock<Wanted>,
}

impl Permit {
    pub(super) fn petition(&self, asker: Asker) -> Petition<'_> {
        Petition { permit: self, asker, wanted: OnceLock::new() }
    }
}

impl Petition<'_> {
    /// Whether the request may go on.
    ///
    /// # Errors
    /// [`Error::Denied`].
    pub(super) fn decide(&self, wanted: Wanted) -> Result<(), Error> {
        let Permit { policy, clock, counters, .. } = self.permit;
        let wanted = self.wanted.get_or_init(|| wanted);
        if policy.allows_all() {
            return Ok(());
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
        match verdict.action {
            Action::Allow => Ok(()),
            Action::Deny => {
                counters.denied(&verdict.short());
                tracing::warn!(who = self.asker.in_words(), by = verdict.source(), "a token was denied");
                Err(verdict.denied(&self.asker.executable(), &wanted.scopes.to_string()).into())
            }
        }
    }

    /// Notes what came of it.
    pub(super) fn ended(&self, outcome: Result<Source, &ErrorAnswer>) {
        let (action, reason) = match outcome {
            Ok(Source::Refresh) => ("token_given", "refresh".to_owned()),
            Ok(_) => ("token_given", "cache".to_owned()),
            Err(refused) => ("token_refused", refused.error.kind.clone()),
        };
        let wanted = self.wanted.get();
        self.permit.counters.asked(&self.asker, outcome.is_ok());
        self.permit.journal.note(
            Note {
                program: self.asker.executable(),
                started_by: self.asker.started_by(),
                claimed_name: self.asker.claimed_name.clone(),
                grant: self.asker.grant.clone(),
                action,
                reason,
                cache: wanted.map(|wanted| wanted.cache.clone()),
                account: wanted.map(|wanted| wanted.home_account_id.clone()),
                subject: wanted.map(Wanted::subject),
            },
            self.asker.pid,
        );
    }
}

impl Wanted {
    fn tenant_in_words(&self) -> &str {
        named_tenant(&self.tenant, &self.home_account_id)
    }

    fn subject(&self) -> String {
        format!("{} in tenant {} for client {}", self.scopes, self.tenant_in_words(), self.client_id)
    }
}
