//! Several credentials, of which the first one that can brings the token.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Attempt, ChainFailed, InvalidArgument, Result};
use crate::token::{AccessToken, TokenRequest};

use super::{BoxFuture, TokenCredential};

/// Stands for "none has worked yet".
const NONE: usize = usize::MAX;

/// Asks credentials in order until one brings a token (spec S-B 6.1).
///
/// It goes on to the next after errors that [`Error::moves_chain_on`]: the credential has nothing
/// to try with, or its cache cannot be used, or a person would have to sign in and that credential
/// may not ask. So neither a dead grant in the shared cache nor a shared cache that is damaged or
/// locked ever stops it. Any other error is an answer, and stops it.
///
/// The credential that worked is asked first from then on; once it moves the chain on, the others
/// get their turn again. With [`Self::retry_sources`] every request begins at the head.
///
/// ```no_run
/// use std::sync::Arc;
/// use tokenkeep::credential::{
///     ChainedTokenCredential, CredentialOptions, InteractiveBrowserCredential,
///     SharedTokenCacheCredential, SystemBrowser, TokenCredential,
/// };
/// use tokenkeep::{Scopes, TokenCachePersistenceOptions, TokenRequest};
///
/// # async fn run() -> tokenkeep::Result<()> {
/// let options = CredentialOptions::default()
///     .cache_persistence_options(TokenCachePersistenceOptions::default());
/// let chain = ChainedTokenCredential::new([
///     Arc::new(SharedTokenCacheCredential::new(options.clone())?) as Arc<dyn TokenCredential>,
///     Arc::new(InteractiveBrowserCredential::new(options, Arc::new(SystemBrowser))?),
/// ])?;
/// let scopes = Scopes::new(["https://management.azure.com/.default"])?;
/// let token = chain.get_token(&TokenRequest::new(scopes)).await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
///
/// [`Error::moves_chain_on`]: crate::Error::moves_chain_on
#[derive(Debug)]
pub struct ChainedTokenCredential {
    sources: Vec<Arc<dyn TokenCredential>>,
    retry_sources: bool,
    worked: AtomicUsize,
}

impl ChainedTokenCredential {
    /// A chain of these credentials, to be asked in this order.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] if there is none.
    pub fn new(sources: impl IntoIterator<Item = Arc<dyn TokenCredential>>) -> Result<Self> {
        let sources: Vec<_> = sources.into_iter().collect();
        if sources.is_empty() {
            return Err(InvalidArgument::new(
                "chain of credentials",
                "it is empty",
                "give at least one credential",
            )
            .into());
        }
        Ok(Self { sources, retry_sources: false, worked: AtomicUsize::new(NONE) })
    }

    /// Whether every request begins at the head of the chain, also after one credential has worked.
    #[must_use]
    pub const fn retry_sources(mut self, retry: bool) -> Self {
        self.retry_sources = retry;
        self
    }

    async fn token(&self, request: &TokenRequest) -> Result<AccessToken> {
        let mut attempts = Vec::new();
        for place in self.order() {
            let source = &self.sources[place];
            match source.get_token(request).await {
                Ok(token) => {
                    if !self.retry_sources && self.worked.swap(place, Ordering::Relaxed) != place {
                        tracing::info!(credential = source.name(), "this credential of the chain works");
                    }
                    return Ok(token);
                }
                Err(error) => {
                    let goes_on = error.moves_chain_on();
                    if error.is_of_cache() {
                        // the next one may bring a token, and nobody would hear of it
                        tracing::warn!(credential = source.name(), %error, "a cache of the chain cannot be used");
                    }
                    tracing::debug!(credential = source.name(), %error, goes_on, "no token from a credential");
                    attempts.push(Attempt::new(source.name(), error));
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        Err(ChainFailed::new(self.name(), attempts).into())
    }

    /// Places of the sources, the one that worked before the others.
    fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let worked = Some(self.worked.load(Ordering::Relaxed)).filter(|place| *place != NONE);
        let others = (0..self.sources.len()).filter(move |place| Some(*place) != worked);
        worked.into_iter().chain(others)
    }
}

impl TokenCredential for ChainedTokenCredential {
    fn get_token<'a>(&'a self, request: &'a TokenRequest) -> BoxFuture<'a, Result<AccessToken>> {
        Box::pin(self.token(request))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::error::{AuthenticationFailed, CacheError, Error, NetworkError, Unavailable};
    use crate::time::UnixTime;
    use crate::token::{Scopes, TokenDetails, TokenSource};

    /// Answers as it is told, and counts how often it was asked.
    #[derive(Debug)]
    struct Scripted {
        error: Mutex<Option<Error>>,
        asked: AtomicUsize,
    }

    impl Scripted {
        fn that(error: impl Into<Option<Error>>) -> Arc<Self> {
            Arc::new(Self { error: Mutex::new(error.into()), asked: AtomicUsize::new(0) })
        }

        fn now(&self, error: impl Into<Option<Error>>) {
            *self.error.lock().unwrap() = error.into();
        }

        fn asked(&self) -> usize {
            self.asked.swap(0, Ordering::Relaxed)
        }
    }

    impl TokenCredential for Scripted {
        fn get_token<'a>(&'a self, _: &'a TokenRequest) -> BoxFuture<'a, Result<AccessToken>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let answer = self.error.lock().unwrap().clone().map_or_else(|| Ok(token()), Err);
            Box::pin(async move { answer })
        }
    }

    fn token() -> AccessToken {
        let details = TokenDetails::new(String::new(), vec![], String::new(), String::new(), None);
        let expires_on = UnixTime::from_seconds(1);
        AccessToken::new("secret".into(), expires_on, None, TokenSource::Cache, Arc::new(details))
    }

    fn unavailable(problem: &str) -> Error {
        let (problem, hint) = (problem.to_owned(), "mend it".to_owned());
        Unavailable::Other { credential: "Scripted", problem, hint }.into()
    }

    fn chain<const N: usize>(sources: [&Arc<Scripted>; N]) -> ChainedTokenCredential {
        ChainedTokenCredential::new(sources.map(|source| Arc::clone(source) as Arc<dyn TokenCredential>))
            .unwrap()
    }

    fn request() -> TokenRequest {
        TokenRequest::new(Scopes::new(["a"]).unwrap())
    }

    #[test]
    fn an_empty_chain_is_none() {
        assert!(matches!(ChainedTokenCredential::new([]), Err(Error::InvalidArgument(_))));
    }

    #[tokio::test]
    async fn the_one_that_worked_is_asked_first_until_it_has_nothing_more() {
        let (first, second, third) =
            (Scripted::that(unavailable("a")), Scripted::that(None), Scripted::that(None));
        let chain = chain([&first, &second, &third]);
        for (first_asked, second_asked) in [(1, 1), (0, 1), (0, 1)] {
            chain.get_token(&request()).await.unwrap();
            assert_eq!((first.asked(), second.asked(), third.asked()), (first_asked, second_asked, 0));
        }
        second.now(unavailable("b"));
        chain.get_token(&request()).await.unwrap();
        assert_eq!((first.asked(), second.asked(), third.asked()), (1, 1, 1));
        chain.get_token(&request()).await.unwrap();
        assert_eq!((first.asked(), second.asked(), third.asked()), (0, 0, 1));
    }

    #[tokio::test]
    async fn told_so_every_request_begins_at_the_head() {
        let (first, second) = (Scripted::that(unavailable("a")), Scripted::that(None));
        let chain = chain([&first, &second]).retry_sources(true);
        for _ in 0..2 {
            chain.get_token(&request()).await.unwrap();
            assert_eq!((first.asked(), second.asked()), (1, 1));
        }
        first.now(None);
        chain.get_token(&request()).await.unwrap();
        assert_eq!((first.asked(), second.asked()), (1, 0));
    }

    #[tokio::test]
    async fn an_answer_stops_it_and_the_error_tells_each_attempt() {
        let unreachable = NetworkError {
            message: "unreachable".to_owned(),
            status: None,
            retry_after: None,
            provider: None,
        };
        for stop in [AuthenticationFailed::new("refused").into(), Error::Network(unreachable)] {
            let (first, second, third) =
                (Scripted::that(unavailable("nothing here")), Scripted::that(stop), Scripted::that(None));
            let error = chain([&first, &second, &third]).get_token(&request()).await.unwrap_err();
            assert_eq!(third.asked(), 0);
            assert!(!error.moves_chain_on(), "nor does it let a chain around it go on");
            let Error::Chain(failed) = &error else { panic!("{error:?}") };
            let names: Vec<&str> =
                failed.attempts.iter().map(|attempt| attempt.credential.as_str()).collect();
            assert_eq!(names, ["Scripted", "Scripted"]);
            let text = error.to_string();
            assert!(text.starts_with("ChainedTokenCredential failed to retrieve a token"), "{text}");
            assert!(text.contains("\n  Scripted: Scripted is unavailable: nothing here\n"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_cache_that_cannot_be_used_is_gone_past_and_told_first_if_nothing_else_helps() {
        let locked = || Error::from(CacheError::Locked { place: "the cache".to_owned() });
        let (broken, next) = (Scripted::that(locked()), Scripted::that(None));
        chain([&broken, &next]).get_token(&request()).await.unwrap();
        next.now(unavailable("nothing here"));
        let error = chain([&next, &broken, &next]).get_token(&request()).await.unwrap_err();
        assert_eq!((error.kind(), next.asked()), ("cache_locked", 3));
        assert!(error.moves_chain_on());
    }

    #[tokio::test]
    async fn an_exhausted_chain_lets_the_chain_around_it_go_on() {
        let (nothing, last) = (Scripted::that(unavailable("a")), Scripted::that(None));
        let inner = Arc::new(chain([&nothing])) as Arc<dyn TokenCredential>;
        let outer = ChainedTokenCredential::new([inner, last as Arc<dyn TokenCredential>]).unwrap();
        outer.get_token(&request()).await.unwrap();
    }
}
