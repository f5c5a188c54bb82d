//! Whose token a question means, and in which cache.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::acquire::AccountChoice;
use crate::agent_client::protocol::{StoreName, Whereabouts};
use crate::cloud::{Authority, TenantId};
use crate::credential::{CredentialOptions, DEVELOPER_SIGN_ON_CLIENT_ID};
use crate::document::TokenCacheDocument;
use crate::error::{InvalidArgument, Result};
use crate::options::{CacheName, Storage, TokenCachePersistenceOptions};
use crate::record::AuthenticationRecord;
use crate::token::Scopes;

/// Choices of an account that need not be made again.
const MAX_CHOICES: usize = 64;

/// Whose token, of which tenant, for which application.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) account: AccountChoice,
    pub(super) authority: Authority,
    pub(super) client_id: String,
    pub(super) tenant: TenantId,
}

/// What an account is chosen by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) cache: TokenCachePersistenceOptions,
    pub(super) authority: Authority,
    pub(super) hint: Option<String>,
    pub(super) tenant: Option<TenantId>,
    pub(super) client_id: Option<String>,
}

/// Which account a question meant, as long as the document is the same.
#[derive(Debug, Default)]
pub(super) struct Choices(Mutex<Vec<Choice>>);

#[derive(Debug)]
struct Choice {
    document: Weak<TokenCacheDocument>,
    question: Question,
    target: Target,
}

impl Choices {
    pub(super) fn find(&self, question: &Question, document: &Arc<TokenCacheDocument>) -> Option<Target> {
        let choices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &&Choice| {
            std::ptr::eq(known.document.as_ptr(), Arc::as_ptr(document)) && known.question == *question
        };
        choices.iter().find(same).map(|known| known.target.clone())
    }

    pub(super) fn remember(&self, question: Question, document: &Arc<TokenCacheDocument>, target: &Target) {
        let mut choices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        choices.retain(|known| known.document.strong_count() > 0);
        if choices.len() >= MAX_CHOICES {
            choices.remove(0);
        }
        choices.push(Choice { document: Arc::downgrade(document), question, target: target.clone() });
    }
}

impl Target {
    /// What a record of ours says.
    pub(super) fn recorded(record: &AuthenticationRecord) -> Self {
        Self {
            account: AccountChoice {
                home_account_id: record.home_account_id().to_owned(),
                username: record.username().to_owned(),
                any_family_client: record.client_id() == DEVELOPER_SIGN_ON_CLIENT_ID,
            },
            authority: record.authority().clone(),
            client_id: record.client_id().to_owned(),
            tenant: record.tenant_id().clone(),
        }
    }

    /// The account that a client's record names, and nothing else.
    pub(super) fn of_record(
        record: &AuthenticationRecord,
        tenant: Option<TenantId>,
        client_id: Option<String>,
    ) -> Result<Self> {
        let mut options = CredentialOptions::default().authentication_record(record.clone());
        if let Some(client_id) = client_id {
            options = options.client_id(client_id);
        }
        Ok(Self {
            account: AccountChoice {
                home_account_id: record.home_account_id().to_owned(),
                username: record.username().to_owned(),
                any_family_client: false,
            },
            authority: record.authority().for_network(),
            client_id: options.resolved_client_id()?,
            tenant: tenant.unwrap_or_else(|| record.tenant_id().clone()),
        })
    }
}

pub(super) fn cache_of(from: &Whereabouts) -> Result<TokenCachePersistenceOptions> {
    let storage = match from.store {
        StoreName::Auto => Storage::Auto,
        StoreName::Plaintext => Storage::Plaintext,
        StoreName::Platform => Storage::Platform,
        StoreName::Vault => Storage::Vault,
        StoreName::Unknown => {
            return Err(InvalidArgument::new(
                "store",
                "it is none that this agent knows",
                "choose one of auto, platform, vault, plaintext",
            )
            .into());
        }
    };
    let name = from.cache.as_deref().map_or_else(|| Ok(CacheName::default()), CacheName::new)?;
    Ok(TokenCachePersistenceOptions::default()
        .name(name)
        .storage(storage)
        .allow_unencrypted_storage(from.allow_unencrypted_storage))
}

pub(super) fn authority_of(from: &Whereabouts) -> Result<Authority> {
    from.authority.as_deref().map_or_else(|| Ok(Authority::public()), Authority::parse)
}

pub(super) fn scopes_for(given: Vec<String>, authority: &Authority) -> Result<Scopes> {
    match authority.default_scope() {
        Some(default) if given.is_empty() => Scopes::new([default]),
        _ => Scopes::new(given),
    }
}
