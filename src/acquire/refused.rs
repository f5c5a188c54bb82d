//! Turns what the provider refused into what a caller can act on.

use std::io;

use crate::entra::{self, Refusal, SignInError, Verdict};
use crate::error::{
    AuthenticationFailed, Error, InteractionReason, InteractionRequired, NetworkError, ProviderError,
    RemovedGrant,
};
use crate::store::StoreDescription;

use super::Wanted;

/// What was learned from trying an account's refresh tokens without success.
#[derive(Debug, Default)]
pub(super) struct Refused {
    answer: Option<(InteractionReason, Box<ProviderError>)>,
    removed: Vec<RemovedGrant>,
    removed_elsewhere: Vec<RemovedGrant>,
}

impl Refused {
    /// Notes an answer. One that says what a person can do beats one that says only "dead".
    pub(super) fn by_provider(&mut self, verdict: &Verdict, answer: Box<ProviderError>) {
        let reason = match verdict {
            Verdict::Interaction => InteractionReason::ProviderAsks,
            Verdict::ClientMismatch => InteractionReason::NoGrant,
            Verdict::Configuration
            | Verdict::Dead
            | Verdict::DeadForResource
            | Verdict::Transient { .. }
            | Verdict::Unclear => InteractionReason::GrantDead,
        };
        let weight = |reason| match reason {
            InteractionReason::ProviderAsks => 2,
            InteractionReason::GrantDead => 1,
            InteractionReason::NoGrant | InteractionReason::NotSignedIn => 0,
        };
        let beaten = self.answer.as_ref().is_none_or(|(known, _)| weight(*known) < weight(reason));
        if beaten {
            self.answer = Some((reason, answer));
        }
    }

    pub(super) fn removed(
        &mut self,
        wanted: &Wanted,
        client_id: &str,
        cache: &StoreDescription,
        answer: &ProviderError,
    ) {
        self.removed.push(RemovedGrant::new(
            wanted.account.username.clone(),
            wanted.account.home_account_id.clone(),
            client_id.to_owned(),
            cache.to_string(),
            answer.code(),
        ));
    }

    /// Notes what went from other caches.
    pub(super) fn removed_elsewhere(&mut self, removed: Vec<RemovedGrant>) {
        self.removed_elsewhere.extend(removed);
    }

    pub(super) fn into_error(mut self, wanted: &Wanted, cache: &StoreDescription) -> Error {
        let who = &wanted.account.username;
        let (reason, provider) = match self.answer {
            Some((reason, answer)) => (reason, Some(answer)),
            None => (InteractionReason::NoGrant, None),
        };
        let gone = match self.removed.len() {
            0 => String::new(),
            1 => format!("; its refresh token was removed from {cache}"),
            several => format!("; {several} refresh tokens were removed from {cache}"),
        };
        let gone = match self.removed_elsewhere.len() {
            0 => gone,
            several => format!("{gone}; {several} more were removed from this machine's caches"),
        };
        self.removed.append(&mut self.removed_elsewhere);
        let message = match &provider {
            None => {
                format!("{who} has to sign in again: {cache} holds no refresh token that this client may use")
            }
            Some(answer) => {
                let meaning = meaning_of(answer);
                format!("{who} has to sign in again: {meaning}{gone}")
            }
        };
        InteractionRequired {
            message,
            scopes: wanted.request.scopes.clone(),
            claims: wanted.request.claims.clone(),
            provider_claims: provider.as_ref().and_then(|answer| answer.claims.clone()),
            tenant: wanted.tenant.clone(),
            enable_cae: wanted.request.enable_cae,
            reason,
            username: Some(who.clone()),
            provider,
            removed: self.removed,
        }
        .into()
    }
}

fn meaning_of(answer: &ProviderError) -> String {
    match entra::explain_answer(&answer.codes) {
        Some(explanation) => format!("{} ({})", explanation.meaning, answer.code()),
        None => answer.to_string(),
    }
}

/// Why a person did not get signed in.
pub(crate) fn sign_in_error(error: SignInError) -> Error {
    let message = error.to_string();
    let caused = |source: &io::Error| format!("{message}: {source}");
    let failed = match error {
        SignInError::Refused(refusal) => return error_of(refusal),
        SignInError::Failed(answer) => {
            return explained(AuthenticationFailed::new(message), answer).into();
        }
        SignInError::Declined(answer) => AuthenticationFailed::new(message)
            .provider(answer)
            .hint("nothing was changed; start again when you are ready")
            .declined(),
        SignInError::Expired | SignInError::TimedOut { .. } => AuthenticationFailed::new(message)
            .hint("start again, and sign in before the time is up")
            .declined(),
        SignInError::CannotOpenBrowser(source) => AuthenticationFailed::new(caused(&source))
            .hint("sign in on another device instead: tokenkeep login --device-code"),
        SignInError::CannotListen { source, .. } => AuthenticationFailed::new(caused(&source))
            .hint("free the port or leave the redirect URI out; or tokenkeep login --device-code"),
        SignInError::CannotShowCode(source) => AuthenticationFailed::new(caused(&source)),
        SignInError::NoRandomness(source) => AuthenticationFailed::new(format!("{message}: {source}")),
        SignInError::WrongAccount { .. } => AuthenticationFailed::new(message)
            .hint("sign in with the expected account, or leave the account out to change it"),
        SignInError::Unverified(_) => AuthenticationFailed::new(message)
            .hint("start again; if it happens twice, something between you and the provider interferes"),
    };
    failed.into()
}

/// A refusal that a person's sign-in would not mend.
pub(super) fn error_of(refusal: Refusal) -> Error {
    let message = refusal.to_string();
    let verdict = entra::classify(&refusal);
    let (status, retry_after, provider) = match refusal {
        Refusal::Answered { status, retry_after, error } => {
            if !matches!(verdict, Verdict::Transient { .. }) {
                let failed = AuthenticationFailed::new(format!("the provider refused: {message}"));
                return explained(failed, error).into();
            }
            (Some(status), retry_after, Some(error))
        }
        Refusal::Unreadable { status, retry_after, .. } => (Some(status), retry_after, None),
        Refusal::Unreachable { .. } => (None, None, None),
    };
    NetworkError { message, status, retry_after, provider }.into()
}

fn explained(failed: AuthenticationFailed, answer: Box<ProviderError>) -> AuthenticationFailed {
    let explanation = entra::explain_answer(&answer.codes);
    let next_step = explanation.map_or(
        "check the client id, the tenant and the scope, then sign in again: tokenkeep login",
        |explanation| explanation.next_step,
    );
    failed.hint(next_step).provider(answer)
}
