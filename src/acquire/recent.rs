//! The latest answers that the cache gave: as long as its document is the same, so are they.

use std::sync::{Arc, Mutex, PoisonError};

use crate::cloud::TenantId;
use crate::document::TokenCacheDocument;
use crate::time::UnixTime;
use crate::token::{AccessToken, TokenRequest};

use super::AccountChoice;

/// A program asks for a few scopes again and again.
const KEPT: usize = 16;

/// Spares a second look-up, which costs more the larger the document is.
#[derive(Debug, Default)]
pub(super) struct RecentAnswers(Mutex<Vec<Answer>>);

#[derive(Debug)]
struct Answer {
    // held, so that no other document can come to stand at the same address
    document: Arc<TokenCacheDocument>,
    account: AccountChoice,
    tenant: TenantId,
    request: TokenRequest,
    token: AccessToken,
    found_at: UnixTime,
}

impl RecentAnswers {
    /// What a look-up in the document would find, if the same was asked before.
    pub(super) fn find(
        &self,
        document: &Arc<TokenCacheDocument>,
        account: &AccountChoice,
        tenant: &TenantId,
        request: &TokenRequest,
        now: UnixTime,
    ) -> Option<AccessToken> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers.iter().find(|answer| {
            Arc::ptr_eq(&answer.document, document)
                && answer.request == *request
                && answer.account == *account
                && answer.tenant == *tenant
        })?;
        answer.still_stands(now).then(|| answer.token.clone())
    }

    pub(super) fn remember(
        &self,
        document: &Arc<TokenCacheDocument>,
        account: &AccountChoice,
        tenant: &TenantId,
        request: &TokenRequest,
        token: &AccessToken,
        now: UnixTime,
    ) {
        let answer = Answer {
            document: Arc::clone(document),
            account: account.clone(),
            tenant: tenant.clone(),
            request: request.clone(),
            token: token.clone(),
            found_at: now,
        };
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // of each of the two caches only the current document is of use
        answers.retain(|old| {
            let is_of_other_cache = old.request.enable_cae != request.enable_cae;
            (is_of_other_cache || Arc::ptr_eq(&old.document, document)) && old.still_stands(now)
        });
        if answers.len() >= KEPT {
            answers.remove(0);
        }
        answers.push(answer);
    }
}

impl Answer {
    /// Whether a look-up at this moment would come to the same, and not to an early renewal either.
    fn still_stands(&self, now: UnixTime) -> bool {
        self.found_at <= now
            && now < self.token.expires_on
            && now.until(self.token.expires_on) >= self.request.min_validity
            && self.token.refresh_on.is_none_or(|moment| now < moment)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::token::{Scopes, TokenDetails, TokenSource};

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    fn token(refresh_on: Option<UnixTime>) -> AccessToken {
        let details = TokenDetails::new(String::new(), vec![], String::new(), String::new(), None);
        AccessToken::new("secret".into(), at(5_000), refresh_on, TokenSource::Cache, Arc::new(details))
    }

    struct Asked {
        answers: RecentAnswers,
        document: Arc<TokenCacheDocument>,
        account: AccountChoice,
        tenant: TenantId,
        request: TokenRequest,
    }

    impl Asked {
        fn at_1000(refresh_on: Option<UnixTime>) -> Self {
            let choice = |name: &str| AccountChoice {
                home_account_id: name.to_owned(),
                username: name.to_owned(),
                any_family_client: false,
            };
            let asked = Self {
                answers: RecentAnswers::default(),
                document: Arc::default(),
                account: choice("one"),
                tenant: TenantId::organizations(),
                request: TokenRequest::new(Scopes::new(["a"]).unwrap()),
            };
            asked.remember(&asked.document, &asked.request, refresh_on);
            asked
        }

        fn remember(
            &self,
            document: &Arc<TokenCacheDocument>,
            request: &TokenRequest,
            refresh_on: Option<UnixTime>,
        ) {
            let token = token(refresh_on);
            self.answers.remember(document, &self.account, &self.tenant, request, &token, at(1_000));
        }

        fn is_known(&self, document: &Arc<TokenCacheDocument>, request: &TokenRequest, now: i64) -> bool {
            self.answers.find(document, &self.account, &self.tenant, request, at(now)).is_some()
        }
    }

    #[test]
    fn the_same_question_to_the_same_document_has_the_same_answer_while_the_token_is_good() {
        let asked = Asked::at_1000(None);
        for (now, known) in [(999, false), (1_000, true), (4_700, true), (4_701, false), (5_000, false)] {
            assert_eq!(asked.is_known(&asked.document, &asked.request, now), known, "{now}");
        }
        let due = Asked::at_1000(Some(at(2_000)));
        assert!(due.is_known(&due.document, &due.request, 1_999));
        assert!(!due.is_known(&due.document, &due.request, 2_000), "it is to be renewed now");
    }

    #[test]
    fn another_question_or_another_document_has_none() {
        let asked = Asked::at_1000(None);
        assert!(!asked.is_known(&Arc::default(), &asked.request, 1_000));
        let scopes = Scopes::new(["b"]).unwrap();
        let others = [
            TokenRequest::new(scopes),
            asked.request.clone().force_refresh(true),
            asked.request.clone().min_validity(Duration::ZERO),
            asked.request.clone().enable_cae(true),
        ];
        for other in others {
            assert!(!asked.is_known(&asked.document, &other, 1_000), "{other:?}");
        }
        let stranger = AccountChoice { home_account_id: "two".to_owned(), ..asked.account.clone() };
        let answers = &asked.answers;
        let found = answers.find(&asked.document, &stranger, &asked.tenant, &asked.request, at(1_000));
        assert!(found.is_none());
    }

    #[test]
    fn an_old_document_is_not_kept_and_neither_are_too_many_answers() {
        let asked = Asked::at_1000(None);
        let newer = Arc::default();
        asked.remember(&newer, &asked.request, None);
        assert_eq!(Arc::strong_count(&asked.document), 1);
        for number in 0..2 * KEPT {
            let scopes = Scopes::new([format!("scope-{number}")]).unwrap();
            asked.remember(&newer, &TokenRequest::new(scopes), None);
        }
        assert_eq!(asked.answers.0.lock().unwrap().len(), KEPT);
    }
}
