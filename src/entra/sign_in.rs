//! How a person's sign-in can end without tokens, and whose sign-in it has to be.

use std::io;
use std::time::Duration;

use super::{Refusal, TokenReply};
use crate::error::ProviderError;

/// Why a person's sign-in brought no tokens. Its text is safe to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignInError {
    /// No port on this machine could take the browser's answer.
    #[error("cannot listen on {address} for the browser's answer")]
    CannotListen { address: String, source: io::Error },
    /// Nothing could be started that would show the page.
    #[error("cannot open a browser")]
    CannotOpenBrowser(#[source] io::Error),
    /// There is nowhere to show a device code.
    #[error("the device code cannot be shown")]
    CannotShowCode(#[source] io::Error),
    /// The person said no.
    #[error("the sign-in was declined")]
    Declined(Box<ProviderError>),
    /// The device code ran out before anybody used it.
    #[error("the code expired before anybody signed in with it")]
    Expired,
    /// The provider's page sent the browser back with an error.
    #[error("{0}")]
    Failed(Box<ProviderError>),
    /// Nothing can be kept secret without random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness(#[source] getrandom::Error),
    /// The provider did not give tokens.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody signed in for as long as the caller would wait.
    #[error("nobody signed in within {} s", waited.as_secs())]
    TimedOut { waited: Duration },
    /// The answer is not to our question.
    #[error("the answer does not belong to this sign-in: {0}")]
    Unverified(&'static str),
    /// Somebody signed in, but not who was meant.
    #[error("{found} signed in, but {expected} was expected; nothing was kept")]
    WrongAccount { expected: String, found: String },
}

/// Whose sign-in is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExpectedAccount {
    /// Whoever has this `uid.utid`; the name is only for people to read.
    HomeAccountId { id: String, username: String },
    /// Whoever goes by this name.
    Username(String),
}

impl ExpectedAccount {
    /// Says whether it is the expected account that signed in.
    ///
    /// # Errors
    /// [`SignInError::WrongAccount`] if it is another, or if the reply does not say who it is.
    pub(crate) fn check(&self, reply: &TokenReply) -> Result<(), SignInError> {
        let (fits, expected) = match self {
            Self::HomeAccountId { id, username } => {
                let fits = reply.home_account_id().is_some_and(|found| found.eq_ignore_ascii_case(id));
                (fits, username)
            }
            Self::Username(name) => {
                let fits = reply.usernames().iter().any(|found| found.to_lowercase() == name.to_lowercase());
                (fits, name)
            }
        };
        if fits {
            return Ok(());
        }
        let found = reply.username().unwrap_or_else(|| "an account without a name".to_owned());
        Err(SignInError::WrongAccount { expected: expected.clone(), found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entra::http::Reply;
    use crate::entra::response;
    use crate::entra::test_support::tokens_for_user_one;
    use crate::time::UnixTime;
    use crate::token::Scopes;

    #[test]
    fn only_the_expected_account_passes() {
        let body = tokens_for_user_one("n").to_string().into_bytes();
        let scopes = Scopes::new(["s"]).unwrap();
        let reply =
            response::tokens(&Reply::new(200, None, body), &[], &scopes, UnixTime::default()).unwrap();
        let by_id =
            |id: &str| ExpectedAccount::HomeAccountId { id: id.to_owned(), username: "who@x".to_owned() };
        by_id("u1.t1").check(&reply).unwrap();
        ExpectedAccount::Username("user.one@CONTOSO.example".to_owned()).check(&reply).unwrap();

        let error = by_id("u2.t1").check(&reply).unwrap_err().to_string();
        assert_eq!(error, "User.One@contoso.example signed in, but who@x was expected; nothing was kept");
        ExpectedAccount::Username("user.two@contoso.example".to_owned()).check(&reply).unwrap_err();
    }
}
