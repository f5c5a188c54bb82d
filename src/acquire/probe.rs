//! Asking the provider whether a refresh token still lives, by one request.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use crate::cloud::TenantId;
use crate::document::{Change, ChangeSet, Origin};
use crate::entra::{self, RefreshGrant, Refusal, Verdict};
use crate::error::{CacheError, Error};
use crate::store::Store;
use crate::time::{Clock, Deadline};
use crate::token::Scopes;

use super::{AccountChoice, DeadGrant, absorb, refused};

/// How long a renewed token may wait for other programs to let go of a cache.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// A refresh token to ask about.
pub(crate) struct ProbedToken<'a> {
    pub(crate) account: &'a AccountChoice,
    pub(crate) tenant: &'a TenantId,
    pub(crate) scopes: &'a Scopes,
    pub(crate) enable_cae: bool,
    pub(crate) secret: &'a SecretString,
}

/// What the provider said.
#[derive(Debug)]
pub(crate) enum Probed {
    /// It lives. What came instead of it was put into each of its caches, or could not be.
    Alive { unsaved: Vec<CacheError> },
    /// It is dead.
    Dead(Box<DeadGrant>),
    /// The provider wants something of a person, or the answer says nothing about the token.
    Kept(Error),
    /// Nobody said anything about it; asking about others is no use either just now.
    Unanswered(Error),
}

/// Asks once, without retries. A token that came in its place is saved in `stores`, all of which
/// held the old one; nothing else is changed.
pub(crate) async fn probe(
    client: &entra::Client,
    token: &ProbedToken<'_>,
    stores: &[Arc<dyn Store>],
    clock: &dyn Clock,
) -> Probed {
    let ProbedToken { account, tenant, scopes, enable_cae, secret } = *token;
    let asked_at = clock.now();
    let grant = RefreshGrant {
        tenant,
        refresh_token: secret.expose_secret(),
        home_account_id: &account.home_account_id,
        scopes,
        claims: None,
        enable_cae,
        asked_at,
    };
    let refusal = match client.refresh_once(&grant).await {
        Ok(reply) if reply.refresh_token.is_none() => return Probed::Alive { unsaved: Vec::new() },
        Ok(reply) => {
            return match absorb::tokens_of(client, reply, tenant, Origin::Refresh, Some(account)) {
                Ok(issued) => {
                    let changes = ChangeSet::of(Change::Save(Box::new(issued)));
                    Probed::Alive { unsaved: save(stores, changes).await }
                }
                Err(error) => Probed::Kept(error),
            };
        }
        Err(refusal) => refusal,
    };
    match (entra::classify(&refusal), &refusal) {
        (Verdict::Dead, Refusal::Answered { error: answer, .. }) => Probed::Dead(Box::new(DeadGrant {
            home_account_id: account.home_account_id.clone(),
            username: account.username.clone(),
            environment: client.environment().to_owned(),
            client_id: client.client_id().to_owned(),
            secret: secret.clone(),
            code: answer.code(),
            valid_from: answer.valid_from.map(|moment| moment.min(asked_at)),
            at: asked_at,
        })),
        (Verdict::Transient { .. }, _) => Probed::Unanswered(refused::error_of(refusal)),
        _ => Probed::Kept(refused::error_of(refusal)),
    }
}

/// Puts what was issued into every cache that held the old token, off the async threads.
async fn save(stores: &[Arc<dyn Store>], changes: ChangeSet) -> Vec<CacheError> {
    let stores = stores.to_vec();
    let saving = tokio::task::spawn_blocking(move || {
        let saved = stores.iter().map(|store| store.apply(&changes, Deadline::within(LOCK_WAIT)));
        saved.filter_map(Result::err).collect()
    });
    saving.await.unwrap_or_default()
}
