//! A provider that answers by a script, and waits that do not wait.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::http::Pause;
use crate::time::ManualClock;

/// What a scripted server answers once.
pub(super) struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

#[expect(clippy::needless_pass_by_value, reason = "a script reads better without ampersands")]
pub(super) fn answer(status: u16, body: Value) -> Answer {
    Answer { status, headers: HeaderMap::new(), body: body.to_string() }
}

impl Answer {
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }
}

/// Tokens for `user.one`, as the provider answers them.
pub(super) fn tokens_for_user_one(nonce: &str) -> Value {
    let encoded = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let claims = json!({"preferred_username": "User.One@contoso.example", "nonce": nonce});
    json!({
        "access_token": "at-secret", "refresh_token": "0.Art-secret", "expires_in": 3599,
        "id_token": format!("h.{}.s", encoded(claims)),
        "client_info": encoded(json!({"uid": "u1", "utid": "t1"})),
    })
}

/// What a scripted server was asked.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) path: String,
    headers: HeaderMap,
    form: Vec<(String, String)>,
}

impl Request {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Gives its answers in order, then says 418.
pub(super) struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(super) async fn start(script: impl IntoIterator<Item = Answer>) -> Self {
        let mut script: VecDeque<Answer> = script.into_iter().collect();
        Self::answering(move |_| script.pop_front()).await
    }

    /// Answers as the function says, which sees each request.
    pub(super) async fn answering(respond: impl FnMut(&Request) -> Option<Answer> + Send + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, respond) = (Arc::clone(&requests), Arc::new(Mutex::new(respond)));
        let app = Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let form = url::form_urlencoded::parse(&body).into_owned().collect();
            let request = Request { path: uri.path().to_owned(), headers, form };
            let answer = (respond.lock().unwrap())(&request);
            log.lock().unwrap().push(request);
            async move {
                answer.map_or((StatusCode::IM_A_TEAPOT, HeaderMap::new(), String::new()), |answer| {
                    (StatusCode::from_u16(answer.status).unwrap(), answer.headers, answer.body)
                })
            }
        });
        tokio::spawn(axum::serve(listener, app).into_future());
        Self { url, requests }
    }

    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn only_request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1);
        requests[0].clone()
    }
}

/// Notes each wait instead of waiting, and moves a clock on by it.
#[derive(Debug)]
pub(super) struct CountingPause {
    pub(super) clock: ManualClock,
    pauses: Mutex<Vec<Duration>>,
}

impl CountingPause {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { clock: ManualClock::default(), pauses: Mutex::default() })
    }

    pub(super) fn pauses(&self) -> Vec<Duration> {
        self.pauses.lock().unwrap().clone()
    }
}

impl Pause for CountingPause {
    fn pause(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.clock.advance(duration);
        self.pauses.lock().unwrap().push(duration);
        Box::pin(async {})
    }
}
