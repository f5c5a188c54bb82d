//! The redirect that ends a browser's sign-in: a server on this machine, for one answer only
//! (RFC 8252, section 7.3; spec S-B 4.2).

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use tokio::sync::{mpsc, oneshot};
use url::{Url, form_urlencoded};

use super::pages::{Page, content_security_policy};
use super::response::provider_error;
use super::sockets::Sockets;
use crate::error::ProviderError;

const MAX_BODY: usize = 64 * 1024;

/// Serves until the returned stop is dropped; answers whose state is ours come out of the
/// receiver, one at most.
pub(super) fn serve(
    sockets: Sockets,
    question: Question,
) -> (mpsc::Receiver<Delivery>, oneshot::Sender<()>, impl Future<Output = io::Result<()>>) {
    let (answers, deliveries) = mpsc::channel(1);
    let (stop, stopped) = oneshot::channel::<()>();
    let desk = Desk {
        port: sockets.redirect_uri().port(),
        start: Mutex::new(Some(question.authorize_url)),
        start_token: question.start_token,
        state: question.state,
        answers: Mutex::new(Some(answers)),
    };
    let app = Router::new().fallback(handle).with_state(Arc::new(desk));
    let server = axum::serve(sockets, app).with_graceful_shutdown(async move {
        // Dropped or used, either means stop.
        let _ = stopped.await;
    });
    (deliveries, stop, server.into_future())
}

/// What the browser is sent out with, and what it has to bring back.
pub(super) struct Question {
    pub(super) authorize_url: Url,
    /// The last part of the one-time address that leads to `authorize_url`.
    pub(super) start_token: SecretString,
    pub(super) state: SecretString,
}

/// What the provider made the browser say.
pub(super) enum Answer {
    Code(SecretString),
    Error(Box<ProviderError>),
}

/// An answer whose browser is still waiting for its page.
pub(super) struct Delivery {
    pub(super) answer: Answer,
    /// What to show it in the end.
    pub(super) page: oneshot::Sender<Page>,
}

struct Desk {
    port: u16,
    /// Taken by the first visit.
    start: Mutex<Option<Url>>,
    start_token: SecretString,
    state: SecretString,
    /// Taken by the one answer that counts.
    answers: Mutex<Option<mpsc::Sender<Delivery>>>,
}

async fn handle(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let mut response = desk.respond(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONNECTION, "close"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_str(&content_security_policy()) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

impl Desk {
    async fn respond(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        // Another site's name that resolves to this machine is not us.
        if !self.is_our_host(&parts.headers) {
            return stray("This address is for a sign-in on this computer only.");
        }
        match (&parts.method, parts.uri.path()) {
            (&Method::GET, "/favicon.ico") => StatusCode::NO_CONTENT.into_response(),
            (&Method::GET, "/") => {
                let query = parts.uri.query().unwrap_or_default();
                self.take_answer(query.as_bytes()).await
            }
            (&Method::POST, "/") if is_form(&parts.headers) => {
                match to_bytes(Body::new(body), MAX_BODY).await {
                    Ok(form) => self.take_answer(&form).await,
                    Err(_) => stray("This is too long for the answer of a sign-in."),
                }
            }
            (&Method::GET, path) => match path.strip_prefix("/start/") {
                Some(token) if same(token, self.start_token.expose_secret()) => self.start(),
                _ => stray("There is nothing at this address."),
            },
            _ => stray("There is nothing at this address."),
        }
    }

    fn is_our_host(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return false;
        };
        let ours = ["localhost", "127.0.0.1", "[::1]"];
        host.to_str().is_ok_and(|host| {
            host.rsplit_once(':').is_some_and(|(name, port)| {
                port == self.port.to_string() && ours.iter().any(|our| name.eq_ignore_ascii_case(our))
            })
        })
    }

    /// Sends the browser on its way, once: whoever reads the address later learns nothing from it.
    fn start(&self) -> Response {
        let url = self.start.lock().unwrap_or_else(PoisonError::into_inner).take();
        match url.map(|url| HeaderValue::from_str(url.as_str())) {
            Some(Ok(location)) => (StatusCode::FOUND, [(header::LOCATION, location)]).into_response(),
            _ => page(
                StatusCode::GONE,
                Page::stray("This link was already used; it is good for one time only."),
            ),
        }
    }

    async fn take_answer(&self, form: &[u8]) -> Response {
        let Some(fields) = fields_of(form) else {
            return stray("This is not the answer of a sign-in.");
        };
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        if !text("state").is_some_and(|state| same(state, self.state.expose_secret())) {
            return stray("This is not the answer of the sign-in that is waiting here.");
        }
        let answer = match (provider_error(&fields, &[self.state.expose_secret()]), text("code")) {
            (Some(error), _) => Answer::Error(Box::new(error)),
            (None, Some(code)) if !code.is_empty() => Answer::Code(code.into()),
            (None, _) => return stray("This answer holds neither a code nor an error."),
        };
        let sender = self.answers.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (page_sender, page_receiver) = oneshot::channel();
        let Some(sender) = sender else {
            return stray("This sign-in was already answered.");
        };
        if sender.send(Delivery { answer, page: page_sender }).await.is_err() {
            return stray("Nobody is waiting for this sign-in any more.");
        }
        match page_receiver.await {
            Ok(finished) => page(StatusCode::OK, finished),
            Err(_) => page(StatusCode::OK, Page::failure("The sign-in was given up.")),
        }
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|text| {
        let kind = text.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
    })
}

/// The fields of a form, unless one stands twice: then it would be open which of them counts.
fn fields_of(form: &[u8]) -> Option<Map<String, Value>> {
    let mut fields = Map::new();
    for (name, value) in form_urlencoded::parse(form) {
        if fields.insert(name.into_owned(), Value::String(value.into_owned())).is_some() {
            return None;
        }
    }
    Some(fields)
}

fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

fn stray(problem: &str) -> Response {
    tracing::debug!(problem, "a request that is not the sign-in's answer");
    page(StatusCode::BAD_REQUEST, Page::stray(problem))
}

fn page(status: StatusCode, page: Page) -> Response {
    (status, Html(page.into_html())).into_response()
}

#[cfg(test)]
mod tests {
    use reqwest::redirect::Policy;

    use super::*;

    struct Fixture {
        base: String,
        deliveries: mpsc::Receiver<Delivery>,
        browser: reqwest::Client,
        _stop: oneshot::Sender<()>,
    }

    async fn listening() -> Fixture {
        let sockets = Sockets::bind(None).await.unwrap();
        let base = sockets.redirect_uri().to_string();
        let (deliveries, stop, server) = serve(
            sockets,
            Question {
                authorize_url: Url::parse("https://login.example/authorize?state=our-state").unwrap(),
                start_token: "start-token".into(),
                state: "our-state".into(),
            },
        );
        tokio::spawn(server);
        let browser = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
        Fixture { base, deliveries, browser, _stop: stop }
    }

    impl Fixture {
        fn post(&self, fields: &[(&str, &str)]) -> reqwest::RequestBuilder {
            self.browser.post(&self.base).form(fields)
        }

        fn get(&self, path: &str) -> reqwest::RequestBuilder {
            self.browser.get(format!("{}{path}", self.base))
        }
    }

    async fn status(request: reqwest::RequestBuilder) -> u16 {
        request.send().await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn strays_and_forgeries_are_turned_away_and_the_wait_goes_on() {
        let mut at = listening().await;
        let good = [("code", "c"), ("state", "our-state")];
        let strays = [
            at.get("/"),
            at.get("/?code=c&state=forged"),
            at.get("/?code=c"),
            at.get("/other?code=c&state=our-state"),
            at.get("/start/"),
            at.get("/start/guess"),
            at.browser.head(&at.base),
            at.browser.put(&at.base).form(&good),
            at.post(&[("code", "c"), ("state", "forged")]),
            at.post(&[("code", "c"), ("state", "our-stat")]),
            at.post(&[("code", "c"), ("state", "our-stats")]),
            at.post(&[("code", "c"), ("state", "our-state"), ("state", "our-state")]),
            at.post(&[("state", "our-state")]),
            at.post(&[("code", ""), ("state", "our-state")]),
            at.post(&[("code", &"c".repeat(MAX_BODY)), ("state", "our-state")]),
            at.browser.post(&at.base).body("code=c&state=our-state"),
            at.post(&good).header("host", "evil.example"),
            at.post(&good).header("host", "localhost"),
            at.post(&good).header("host", "localhost:1"),
        ];
        for (number, stray) in strays.into_iter().enumerate() {
            tokio::select! {
                status = status(stray) => assert_eq!(status, 400, "stray {number}"),
                _ = at.deliveries.recv() => panic!("stray {number} counted"),
            }
        }
        assert_eq!(status(at.get("/favicon.ico")).await, 204);
        assert!(at.deliveries.try_recv().is_err());

        let answered = tokio::spawn(at.post(&good).send());
        let Delivery { answer, page } = at.deliveries.recv().await.unwrap();
        assert!(matches!(answer, Answer::Code(code) if code.expose_secret() == "c"));
        page.send(Page::success(Some("user.one"))).unwrap();
        let response = answered.await.unwrap().unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["cache-control"]),
            (200, &"no-store".parse().unwrap())
        );
        for name in ["content-security-policy", "x-content-type-options", "referrer-policy"] {
            assert!(response.headers().contains_key(name), "{name}");
        }
        assert!(response.text().await.unwrap().contains("user.one"));
        assert_eq!(status(at.post(&good)).await, 400, "a second answer");
    }

    #[tokio::test]
    async fn the_start_address_is_good_for_one_visit() {
        let at = listening().await;
        let first = at.get("/start/start-token").send().await.unwrap();
        assert_eq!(first.status().as_u16(), 302);
        assert_eq!(first.headers()["location"], "https://login.example/authorize?state=our-state");
        let second = at.get("/start/start-token").send().await.unwrap();
        assert_eq!(second.status().as_u16(), 410);
        assert!(!second.text().await.unwrap().contains("our-state"));
    }

    #[tokio::test]
    async fn an_answer_by_query_counts_too_and_both_families_listen() {
        let mut at = listening().await;
        let port = at.base.rsplit_once(':').unwrap().1.to_owned();
        let has_v6 = std::net::TcpListener::bind("[::1]:0").is_ok();
        let host = if has_v6 { "[::1]" } else { "127.0.0.1" };
        let url = format!(
            "http://{host}:{port}/?error=access_denied&error_description=AADSTS65004%3A+no&state=our-state"
        );
        let answered = tokio::spawn(at.browser.get(url).send());
        let Delivery { answer, page } = at.deliveries.recv().await.unwrap();
        assert!(
            matches!(answer, Answer::Error(error) if error.error == "access_denied" && error.codes == [65004])
        );
        drop(page);
        assert!(answered.await.unwrap().unwrap().text().await.unwrap().contains("given up"));
    }
}
