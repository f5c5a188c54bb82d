//! Signing in with a browser on this machine (RFC 8252).

use std::future::pending;
use std::io;
use std::pin::pin;
use std::thread;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::sync::{mpsc, oneshot};

use super::authorize::Attempt;
use super::loopback::{Answer, Delivery, Question, serve};
use super::pages::Page;
use super::sockets::{RedirectUri, Sockets};
use super::{Client, Endpoint, ExpectedAccount, SignInError, TokenReply, response};
use crate::cloud::TenantId;
use crate::time::Clock;
use crate::token::{Claims, Scopes};

/// How long a browser that takes its time may hold up the end; the page itself is out long before.
const CLOSING: Duration = Duration::from_secs(2);

/// What a sign-in with a browser is to be good for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrowserRequest<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) scopes: &'a Scopes,
    pub(crate) claims: Option<&'a Claims>,
    pub(crate) enable_cae: bool,
    /// Fills in the name; without one, the page lets the person choose an account.
    pub(crate) login_hint: Option<&'a str>,
    /// OpenID Connect's `prompt`, where the usual one does not fit.
    pub(crate) prompt: Option<&'a str>,
    /// Where to listen, if the app registered a port of its own.
    pub(crate) redirect_uri: Option<&'a RedirectUri>,
    /// Who has to sign in; tokens of anybody else are thrown away.
    pub(crate) expected: Option<&'a ExpectedAccount>,
    pub(crate) timeout: Duration,
}

impl Client {
    /// Sends a browser to the provider's page and waits until it comes back (spec S-B 4.2).
    ///
    /// `open` runs on a thread of its own and gets a local address that works once and leads to the
    /// page, so that nothing worth stealing stands in a command line. If it fails, so does the
    /// sign-in; a caller that would rather show the address to a person returns `Ok`.
    /// Dropping the future ends the wait and closes the port.
    ///
    /// # Errors
    /// Every [`SignInError`] but `Expired`.
    pub(crate) async fn sign_in_with_browser(
        &self,
        request: &BrowserRequest<'_>,
        clock: &dyn Clock,
        open: impl FnOnce(&str) -> io::Result<()> + Send + 'static,
    ) -> Result<TokenReply, SignInError> {
        let sockets = Sockets::bind(request.redirect_uri).await?;
        let attempt = Attempt::new(sockets.redirect_uri())?;
        let start_token = attempt.start_token.expose_secret();
        let start_url = format!("{}/start/{start_token}", attempt.redirect_uri);
        let question = Question {
            authorize_url: self.authorize_url(request, &attempt),
            start_token: attempt.start_token.clone(),
            state: attempt.state.clone(),
        };
        let (mut deliveries, stop, server) = serve(sockets, question);
        let mut server = pin!(server);

        let (launched, launch) = oneshot::channel();
        // Not on the runtime's pool: a runtime does not end before its last blocking call.
        thread::spawn(move || launched.send(open(&start_url)));
        let signing_in = async {
            let waiting = wait_for_answer(&mut deliveries, launch);
            let Ok(delivery) = tokio::time::timeout(request.timeout, waiting).await else {
                return Err(SignInError::TimedOut { waited: request.timeout });
            };
            let Delivery { answer, page } = delivery?;
            let outcome = self.finish(answer, request, &attempt, clock).await;
            let shown = match &outcome {
                Ok(reply) => Page::success(reply.username().as_deref()),
                Err(error) => Page::failure(&error.to_string()),
            };
            // A closed browser window does not undo a sign-in.
            drop(page.send(shown));
            outcome
        };
        let outcome = tokio::select! {
            outcome = signing_in => outcome,
            Err(source) = &mut server => {
                return Err(SignInError::CannotListen { address: attempt.redirect_uri.clone(), source });
            }
        };
        drop(stop);
        // The page is still on its way; its browser is the last to be served.
        drop(tokio::time::timeout(CLOSING, server).await);
        outcome
    }

    /// Turns the browser's answer into tokens of the right account, or says why not.
    async fn finish(
        &self,
        answer: Answer,
        request: &BrowserRequest<'_>,
        attempt: &Attempt,
        clock: &dyn Clock,
    ) -> Result<TokenReply, SignInError> {
        let code = match answer {
            Answer::Code(code) => code,
            Answer::Error(error) if error.error == "access_denied" => {
                return Err(SignInError::Declined(error));
            }
            Answer::Error(error) => return Err(SignInError::Failed(error)),
        };
        let scope = request.scopes.decorated();
        let claims = Claims::on_the_wire(request.claims, request.enable_cae);
        let mut post = self.post(request.tenant, Endpoint::Token);
        post.field("grant_type", "authorization_code");
        post.secret("code", code.expose_secret());
        post.field("redirect_uri", &attempt.redirect_uri);
        post.secret("code_verifier", attempt.verifier.expose_secret());
        post.field("scope", &scope);
        post.field("client_info", "1");
        post.optional_field("claims", claims.as_deref());
        let asked_at = clock.now();
        let reply = self.transport.post_once(&post).await?;
        let tokens = response::tokens(&reply, post.secrets(), request.scopes, asked_at)?;

        let claims =
            tokens.id_claims().ok_or(SignInError::Unverified("it has no ID token that can be read"))?;
        let nonce = claims.get("nonce").and_then(|nonce| nonce.as_str());
        if !nonce.is_some_and(|nonce| attempt.has_nonce(nonce)) {
            return Err(SignInError::Unverified("the ID token's nonce is not the one that was sent"));
        }
        if let Some(expected) = request.expected {
            expected.check(&tokens)?;
        }
        Ok(tokens)
    }
}

/// Waits for the answer, or for news that no browser could be opened.
async fn wait_for_answer(
    deliveries: &mut mpsc::Receiver<Delivery>,
    launch: oneshot::Receiver<io::Result<()>>,
) -> Result<Delivery, SignInError> {
    // Some browsers answer before their launcher returns, so neither waits for the other.
    let failed_launch = async {
        match launch.await {
            Ok(Ok(())) => pending().await,
            Ok(Err(error)) => error,
            Err(_) => io::Error::other("opening it ended in a panic"),
        }
    };
    tokio::select! {
        biased;
        Some(delivery) = deliveries.recv() => Ok(delivery),
        error = failed_launch => Err(SignInError::CannotOpenBrowser(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use url::Url;

    use super::*;
    use crate::entra::Refusal;
    use crate::entra::test_support::{
        Answer as Scripted, CountingPause, Server, answer, tokens_for_user_one,
    };
    use crate::time::ManualClock;

    const TIMEOUT: Duration = Duration::from_secs(300);

    /// The provider, our client, and what the browser was last sent out with.
    struct Fixture {
        server: Server,
        client: Arc<Client>,
        question: Arc<Mutex<HashMap<String, String>>>,
    }

    /// What a browser saw at the end of a sign-in.
    struct Ended {
        outcome: Result<TokenReply, SignInError>,
        page: String,
    }

    impl Fixture {
        /// The provider answers the code with what `respond` makes of the nonce.
        async fn new(respond: impl Fn(&str) -> Scripted + Send + 'static) -> Self {
            let question = Arc::new(Mutex::new(HashMap::new()));
            let seen: Arc<Mutex<HashMap<String, String>>> = Arc::clone(&question);
            let server = Server::answering(move |_| Some(respond(&seen.lock().unwrap()["nonce"]))).await;
            let client = Arc::new(Client::of_test_server(&server.url(), CountingPause::new()));
            Self { server, client, question }
        }

        /// Goes all the way: a browser follows the local address and posts `fields` and the state.
        async fn sign_in(&self, expected: Option<ExpectedAccount>, fields: &[(&str, &str)]) -> Ended {
            let (address, opened) = oneshot::channel();
            let browse = async {
                let start: String = opened.await.unwrap();
                let browser =
                    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
                let browser = browser.build().unwrap();
                let sent = browser.get(start).send().await.unwrap();
                let authorize = Url::parse(sent.headers()["location"].to_str().unwrap()).unwrap();
                let question: HashMap<String, String> = authorize.query_pairs().into_owned().collect();
                let (redirect, state) = (question["redirect_uri"].clone(), question["state"].clone());
                *self.question.lock().unwrap() = question;
                let fields: Vec<_> = fields.iter().copied().chain([("state", state.as_str())]).collect();
                browser.post(redirect).form(&fields).send().await.unwrap().text().await.unwrap()
            };
            let (tenant, scopes) = (TenantId::organizations(), Scopes::new(["s/.default"]).unwrap());
            let request = request(&tenant, &scopes, expected.as_ref());
            let clock = ManualClock::default();
            let signing_in = self.client.sign_in_with_browser(&request, &clock, |url| {
                address.send(url.to_owned()).map_err(|_| io::Error::other("nobody browses"))
            });
            let (outcome, page) = tokio::join!(signing_in, browse);
            let shown = format!("{outcome:?} {page}");
            for secret in ["at-secret", "rt-secret", "code-secret"] {
                assert!(!shown.contains(secret), "{shown}");
            }
            Ended { outcome, page }
        }
    }

    fn request<'a>(
        tenant: &'a TenantId,
        scopes: &'a Scopes,
        expected: Option<&'a ExpectedAccount>,
    ) -> BrowserRequest<'a> {
        BrowserRequest {
            tenant,
            scopes,
            claims: None,
            enable_cae: false,
            login_hint: None,
            prompt: None,
            redirect_uri: None,
            expected,
            timeout: TIMEOUT,
        }
    }

    #[tokio::test]
    async fn the_browser_comes_back_and_the_page_says_who_signed_in() {
        let at = Fixture::new(|nonce| answer(200, tokens_for_user_one(nonce))).await;
        let Ended { outcome, page } = at.sign_in(None, &[("code", "code-secret")]).await;
        assert_eq!(outcome.unwrap().home_account_id().as_deref(), Some("u1.t1"));
        assert!(page.contains("<strong>User.One@contoso.example</strong>"), "{page}");

        let question = at.question.lock().unwrap().clone();
        for (name, value) in [
            ("client_id", "client"),
            ("response_type", "code"),
            ("response_mode", "form_post"),
            ("scope", "offline_access openid profile s/.default"),
            ("code_challenge_method", "S256"),
            ("client_info", "1"),
            ("prompt", "select_account"),
        ] {
            assert_eq!(question[name], value, "{name}");
        }
        let redeemed = at.server.only_request();
        assert_eq!(redeemed.path, "/organizations/oauth2/v2.0/token");
        assert_eq!(redeemed.field("code_verifier").unwrap().len(), 43);
        assert_eq!(redeemed.field("redirect_uri"), Some(question["redirect_uri"].as_str()));
        assert_eq!(redeemed.field("code"), Some("code-secret"));
        assert_eq!(redeemed.field("grant_type"), Some("authorization_code"));
    }

    #[tokio::test]
    async fn another_account_is_refused_and_the_page_says_so() {
        let at = Fixture::new(|nonce| answer(200, tokens_for_user_one(nonce))).await;
        let two = ExpectedAccount::Username("user.two@contoso.example".to_owned());
        let Ended { outcome, page } = at.sign_in(Some(two), &[("code", "code-secret")]).await;
        assert!(matches!(outcome, Err(SignInError::WrongAccount { .. })), "{outcome:?}");
        assert!(
            page.contains("Not signed in") && page.contains("but user.two@contoso.example was expected"),
            "{page}"
        );
    }

    #[tokio::test]
    async fn an_answer_to_another_question_is_not_believed() {
        let at = Fixture::new(|_| answer(200, tokens_for_user_one("forged"))).await;
        let Ended { outcome, page } = at.sign_in(None, &[("code", "code-secret")]).await;
        assert!(matches!(outcome, Err(SignInError::Unverified(_))), "{outcome:?}");
        assert!(page.contains("Not signed in"));

        let at = Fixture::new(|_| answer(200, json!({"access_token": "at-secret"}))).await;
        assert!(matches!(
            at.sign_in(None, &[("code", "code-secret")]).await.outcome,
            Err(SignInError::Unverified(_))
        ));
    }

    #[tokio::test]
    async fn a_code_is_never_sent_twice() {
        let at = Fixture::new(|_| {
            answer(
                503,
                json!({"error": "temporarily_unavailable", "error_description": "<b>code-secret</b>"}),
            )
        })
        .await;
        let Ended { outcome, page } = at.sign_in(None, &[("code", "code-secret")]).await;
        assert!(
            matches!(outcome, Err(SignInError::Refused(Refusal::Answered { status: 503, .. }))),
            "{outcome:?}"
        );
        assert!(page.contains("&#60;b&#62;[removed]&#60;/b&#62;"), "{page}");
        at.server.only_request();
    }

    #[tokio::test]
    async fn the_pages_own_errors_are_told_from_a_no() {
        let at = Fixture::new(|_| answer(500, json!({}))).await;
        let no = at
            .sign_in(None, &[("error", "access_denied"), ("error_description", "AADSTS65004: declined")])
            .await;
        assert!(matches!(no.outcome, Err(SignInError::Declined(_))) && no.page.contains("declined"));
        let error =
            at.sign_in(None, &[("error", "server_error"), ("error_description", "AADSTS90033: later")]).await;
        assert!(
            matches!(error.outcome, Err(SignInError::Failed(_))) && error.page.contains("AADSTS90033: later")
        );
        assert!(at.server.requests().is_empty());
    }

    #[tokio::test]
    async fn no_browser_and_no_patience_are_their_own_errors() {
        let at = Fixture::new(|_| answer(500, json!({}))).await;
        let (tenant, scopes) = (TenantId::organizations(), Scopes::new(["s"]).unwrap());
        let usual = request(&tenant, &scopes, None);
        let clock = ManualClock::default();
        let unopened =
            at.client.sign_in_with_browser(&usual, &clock, |_| Err(io::ErrorKind::NotFound.into())).await;
        assert!(matches!(unopened, Err(SignInError::CannotOpenBrowser(_))), "{unopened:?}");

        let hasty = BrowserRequest { timeout: Duration::ZERO, ..usual };
        let late = at.client.sign_in_with_browser(&hasty, &clock, |_| Ok(())).await;
        assert!(matches!(late, Err(SignInError::TimedOut { .. })), "{late:?}");
    }

    #[tokio::test]
    async fn giving_up_frees_the_port() {
        let at = Fixture::new(|_| answer(500, json!({}))).await;
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let redirect_uri = RedirectUri::parse(&format!("http://127.0.0.1:{port}")).unwrap();
        let (tenant, scopes) = (TenantId::organizations(), Scopes::new(["s"]).unwrap());
        let usual = BrowserRequest { redirect_uri: Some(&redirect_uri), ..request(&tenant, &scopes, None) };
        let clock = ManualClock::default();
        let in_the_way = at.client.sign_in_with_browser(&usual, &clock, |_| Ok(())).await;
        assert!(matches!(in_the_way, Err(SignInError::CannotListen { .. })), "{in_the_way:?}");

        drop(taken);
        let (address, opened) = oneshot::channel();
        let signing_in = at.client.sign_in_with_browser(&usual, &clock, |_| {
            address.send(()).map_err(|()| io::Error::other("nobody listens"))
        });
        tokio::select! {
            outcome = signing_in => panic!("{outcome:?}"),
            opened = opened => opened.unwrap(),
        }
        std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    }
}
