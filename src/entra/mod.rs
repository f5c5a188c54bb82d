//! The provider's protocol over HTTP.

mod authorize;
mod browser;
mod classify;
mod device_code;
mod explain;
mod http;
pub(crate) mod launch;
mod loopback;
mod pages;
mod reach;
mod response;
mod scrub;
mod sign_in;
mod sockets;
mod valid_from;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

pub(crate) use self::browser::BrowserRequest;
pub(crate) use self::classify::{Verdict, classify};
pub(crate) use self::device_code::DeviceCodeRequest;
pub(crate) use self::explain::explain_answer;
#[cfg(feature = "cli")]
pub(crate) use self::explain::{Class, Explanation, Findings, Sign, code_named, explain, find_in};
use self::http::{Post, TimerPause, Transport};
pub(crate) use self::reach::{Reached, reach};
pub(crate) use self::response::TokenReply;
pub(crate) use self::sign_in::{ExpectedAccount, SignInError};
pub(crate) use self::sockets::RedirectUri;
#[cfg(feature = "cli")]
pub(crate) use self::valid_from::valid_from;
use crate::cloud::{Authority, TenantId};
use crate::error::{InvalidArgument, ProviderError, Result};
use crate::time::UnixTime;
use crate::token::{Claims, Scopes};

/// How to talk to the provider.
#[derive(Clone, Debug)]
pub(crate) struct ClientOptions {
    pub(crate) authority: Authority,
    pub(crate) client_id: String,
    /// Takes an authority that is no cloud of Microsoft's as it is (spec S-B 2.6).
    pub(crate) disable_instance_discovery: bool,
    /// How long retries may wait in all.
    pub(crate) retry_budget: Duration,
    /// Certificates, in PEM, to trust besides the platform's.
    pub(crate) root_certificates: Option<Arc<[u8]>>,
}

/// One app's line to one authority. Nothing is connected, or even loaded, before the first request.
#[derive(Debug)]
pub(crate) struct Client {
    authority: Authority,
    base: Url,
    client_id: String,
    retry_budget: Duration,
    transport: Arc<Transport>,
}

impl Client {
    /// Knows the endpoints of Microsoft's clouds, so that nothing has to be discovered.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] for any other authority, unless the options trust it.
    pub(crate) fn new(options: ClientOptions) -> Result<Self> {
        let ClientOptions {
            authority,
            client_id,
            disable_instance_discovery,
            retry_budget,
            root_certificates,
        } = options;
        if !authority.is_known() && !disable_instance_discovery {
            return Err(InvalidArgument::new(
                "authority",
                format!("{authority} is not one of Microsoft's clouds"),
                "if you trust it with your sign-in, say so: --disable-instance-discovery",
            )
            .into());
        }
        let base = Url::parse(&authority.to_string()).map_err(|error| {
            InvalidArgument::new(
                "authority",
                format!("{authority} cannot be asked: {error}"),
                "give a host such as login.microsoftonline.com",
            )
        })?;
        let transport = Arc::new(Transport::new(Arc::new(TimerPause), root_certificates));
        Ok(Self { authority, base, client_id, retry_budget, transport })
    }

    /// A line for another app or authority that shares this one's connections and roots.
    ///
    /// # Errors
    /// As [`Self::new`].
    #[cfg(feature = "cli")]
    pub(crate) fn beside(&self, options: ClientOptions) -> Result<Self> {
        Ok(Self { transport: Arc::clone(&self.transport), ..Self::new(options)? })
    }

    /// Whom it asks.
    pub(crate) const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What a cache calls the authority's cloud; any alias of it means the same.
    pub(crate) fn environment(&self) -> &str {
        self.authority.host()
    }

    /// On whose behalf it asks.
    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Redeems a refresh token, with retries that stay within the budget.
    ///
    /// # Errors
    /// The [`Refusal`], for [`classify`] to judge.
    pub(crate) async fn refresh(&self, grant: &RefreshGrant<'_>) -> Result<TokenReply, Refusal> {
        self.refresh_within(self.retry_budget, grant).await
    }

    /// Redeems a refresh token in one attempt, for a caller whose old token is still good.
    ///
    /// # Errors
    /// The [`Refusal`], for [`classify`] to judge.
    pub(crate) async fn refresh_once(&self, grant: &RefreshGrant<'_>) -> Result<TokenReply, Refusal> {
        self.refresh_within(Duration::ZERO, grant).await
    }

    async fn refresh_within(
        &self,
        budget: Duration,
        grant: &RefreshGrant<'_>,
    ) -> Result<TokenReply, Refusal> {
        let scope = grant.scopes.decorated();
        let claims = Claims::on_the_wire(grant.claims, grant.enable_cae);
        let mut post = self.post(grant.tenant, Endpoint::Token);
        post.field("grant_type", "refresh_token");
        post.secret("refresh_token", grant.refresh_token);
        post.field("scope", &scope);
        post.field("client_info", "1");
        post.optional_field("claims", claims.as_deref());
        // Without client_info the id is no `uid.utid`, and the provider has no use for it.
        if let Some((uid, utid)) = grant.home_account_id.split_once('.') {
            post.anchor = Some(format!("Oid:{uid}@{utid}"));
        }
        let reply = self.transport.post(&post, budget).await?;
        response::tokens(&reply, post.secrets(), grant.scopes, grant.asked_at)
    }

    fn post<'a>(&'a self, tenant: &TenantId, endpoint: Endpoint) -> Post<'a> {
        let mut post = Post::new(self.url(tenant, endpoint));
        post.field("client_id", &self.client_id);
        post
    }

    fn url(&self, tenant: &TenantId, endpoint: Endpoint) -> Url {
        let (mut url, endpoint) = (self.base.clone(), endpoint.as_str());
        if tenant.as_str().eq_ignore_ascii_case("adfs") {
            url.set_path(&format!("adfs/oauth2/{endpoint}"));
        } else {
            url.set_path(&format!("{tenant}/oauth2/v2.0/{endpoint}"));
        }
        url
    }

    /// A client of a plain-HTTP server on loopback, which no [`Authority`] can name.
    #[cfg(test)]
    fn of_test_server(base: &str, pause: Arc<dyn http::Pause>) -> Self {
        Self {
            authority: Authority::public(),
            base: Url::parse(base).unwrap(),
            client_id: "client".to_owned(),
            retry_budget: Duration::from_secs(10),
            transport: Arc::new(Transport::new(pause, None)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Endpoint {
    Authorize,
    DeviceCode,
    Token,
}

impl Endpoint {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::DeviceCode => "devicecode",
            Self::Token => "token",
        }
    }
}

/// A refresh token and what to ask for with it (RFC 6749, section 6).
pub(crate) struct RefreshGrant<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) refresh_token: &'a str,
    pub(crate) home_account_id: &'a str,
    pub(crate) scopes: &'a Scopes,
    pub(crate) claims: Option<&'a Claims>,
    pub(crate) enable_cae: bool,
    pub(crate) asked_at: UnixTime,
}

impl fmt::Debug for RefreshGrant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshGrant")
            .field("tenant", &self.tenant)
            .field("scopes", &self.scopes)
            .field("enable_cae", &self.enable_cae)
            .field("asked_at", &self.asked_at)
            .finish_non_exhaustive()
    }
}

/// Why there is no token reply. Its text is safe to show.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The provider said no, in OAuth's form.
    #[error("{error}")]
    Answered { status: u16, retry_after: Option<Duration>, error: Box<ProviderError> },
    /// Something answered, but not in OAuth's form.
    #[error("the answer cannot be read (status {status}): {detail}")]
    Unreadable { status: u16, retry_after: Option<Duration>, detail: String },
    /// Nothing answered.
    #[error("the provider cannot be reached: {detail}")]
    Unreachable { detail: String },
}

impl Refusal {
    /// Whether asking again later, with the same words, may be answered differently.
    fn is_transient(&self) -> bool {
        match self {
            Self::Answered { status, error, .. } => {
                http::is_transient(*status)
                    || matches!(error.error.as_str(), "temporarily_unavailable" | "server_error")
            }
            Self::Unreadable { status, .. } => http::is_transient(*status),
            Self::Unreachable { .. } => true,
        }
    }

    const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answered { retry_after, .. } | Self::Unreadable { retry_after, .. } => *retry_after,
            Self::Unreachable { .. } => None,
        }
    }
}

#[cfg(test)]
mod test_support;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::test_support::{CountingPause, Server, answer};
    use super::*;

    fn options(authority: &str, disable_instance_discovery: bool) -> ClientOptions {
        ClientOptions {
            authority: Authority::parse(authority).unwrap(),
            client_id: "client".to_owned(),
            disable_instance_discovery,
            retry_budget: Duration::from_secs(10),
            root_certificates: None,
        }
    }

    async fn refresh(client: &Client) -> Result<TokenReply, Refusal> {
        let grant = RefreshGrant {
            tenant: &TenantId::organizations(),
            refresh_token: "0.Arefresh-token",
            home_account_id: "u.t",
            scopes: &Scopes::new(["s/.default"]).unwrap(),
            claims: None,
            enable_cae: true,
            asked_at: UnixTime::from_seconds(1),
        };
        assert!(!format!("{grant:?}").contains("0.A"));
        client.refresh(&grant).await
    }

    #[test]
    fn every_call_can_move_between_threads() {
        fn is_send<T: Send>(_: T) {}
        let client = Client::of_test_server("http://127.0.0.1:1", CountingPause::new());
        let (tenant, scopes) = (TenantId::organizations(), Scopes::new(["s"]).unwrap());
        let clock = crate::time::ManualClock::default();
        let by_code = DeviceCodeRequest { tenant: &tenant, scopes: &scopes, claims: None, enable_cae: false };
        let by_browser = BrowserRequest {
            tenant: &tenant,
            scopes: &scopes,
            claims: None,
            enable_cae: false,
            login_hint: None,
            prompt: None,
            redirect_uri: None,
            expected: None,
            timeout: Duration::ZERO,
        };
        is_send(refresh(&client));
        is_send(async {
            let code = client.start_device_code(&by_code).await.unwrap();
            client.poll_device_code(&code, &by_code, &clock, None).await
        });
        is_send(client.sign_in_with_browser(&by_browser, &clock, |_| Ok(())));
    }

    #[test]
    fn a_stranger_gets_no_request_unless_it_is_trusted() {
        let error = Client::new(options("login.contoso.example", false)).unwrap_err();
        assert!(error.hint().unwrap().contains("--disable-instance-discovery"));
        Client::new(options("login.contoso.example", true)).unwrap();
        Client::new(options("login.microsoftonline.us", false)).unwrap();
    }

    #[test]
    fn endpoints_follow_from_authority_and_tenant() {
        let client = Client::new(options("https://adfs.contoso.example:8443", true)).unwrap();
        let url = |tenant: &str, endpoint| {
            let tenant = TenantId::parse(tenant).unwrap();
            client.url(&tenant, endpoint).to_string()
        };
        assert_eq!(
            url("organizations", Endpoint::Token),
            "https://adfs.contoso.example:8443/organizations/oauth2/v2.0/token"
        );
        assert_eq!(
            url("ADFS", Endpoint::Authorize),
            "https://adfs.contoso.example:8443/adfs/oauth2/authorize"
        );
        assert!(
            url("contoso.example", Endpoint::DeviceCode).ends_with("/contoso.example/oauth2/v2.0/devicecode")
        );
    }

    #[tokio::test]
    async fn a_refresh_carries_what_msal_carries() {
        let server = Server::start([answer(200, json!({"access_token": "at", "expires_in": 60}))]).await;
        let client = Client::of_test_server(&server.url(), CountingPause::new());
        refresh(&client).await.unwrap();

        let request = server.only_request();
        assert_eq!(request.path, "/organizations/oauth2/v2.0/token");
        for (name, value) in [
            ("client_id", "client"),
            ("grant_type", "refresh_token"),
            ("refresh_token", "0.Arefresh-token"),
            ("scope", "offline_access openid profile s/.default"),
            ("client_info", "1"),
            ("claims", r#"{"access_token":{"xms_cc":{"values":["CP1"]}}}"#),
        ] {
            assert_eq!(request.field(name), Some(value), "{name}");
        }
        for (name, value) in [
            ("accept", "application/json"),
            ("x-client-sku", "tokenkeep"),
            ("x-client-ver", env!("CARGO_PKG_VERSION")),
            ("x-ms-lib-capability", "retry-after, h429"),
            ("x-anchormailbox", "Oid:u@t"),
        ] {
            assert_eq!(request.header(name), Some(value), "{name}");
        }
        assert_eq!(request.header("client-request-id").unwrap().len(), 36);
    }

    #[tokio::test]
    async fn trouble_is_retried_and_a_refusal_is_not() {
        let pause = CountingPause::new();
        let server = Server::start([
            answer(503, json!({})),
            answer(429, json!({"error": "x"})).header("retry-after", "2"),
            answer(
                400,
                json!({"error": "invalid_grant", "error_description": "AADSTS50173: 0.Arefresh-token"}),
            ),
        ])
        .await;
        let client = Client::of_test_server(&server.url(), pause.clone());
        let refusal = refresh(&client).await.unwrap_err();
        assert_eq!(classify(&refusal), Verdict::Dead);
        assert!(!format!("{refusal:?} {refusal}").contains("refresh-token"));
        assert_eq!((server.requests().len(), pause.pauses().len()), (3, 2));
        assert_eq!(pause.pauses()[1], Duration::from_secs(2));
        let ids: Vec<_> =
            server.requests().iter().map(|r| r.header("client-request-id").unwrap().to_owned()).collect();
        assert_ne!(ids[0], ids[1]);
    }

    #[tokio::test]
    async fn a_wait_beyond_the_budget_comes_back_at_once() {
        let pause = CountingPause::new();
        let server = Server::start([answer(429, json!({"error": "x"})).header("retry-after", "11")]).await;
        let client = Client::of_test_server(&server.url(), pause.clone());
        let refusal = refresh(&client).await.unwrap_err();
        assert_eq!(classify(&refusal), Verdict::Transient { retry_after: Some(Duration::from_secs(11)) });
        assert!(pause.pauses().is_empty());
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed_with_the_token_in_hand() {
        let target = Server::start([]).await;
        let server = Server::start([answer(307, json!({})).header("location", &target.url())]).await;
        let refusal =
            refresh(&Client::of_test_server(&server.url(), CountingPause::new())).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Unreadable { status: 307, .. }), "{refusal:?}");
        assert!(target.requests().is_empty());
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut_short() {
        let server = Server::start([answer(200, json!({"access_token": "a".repeat(2 << 20)}))]).await;
        let refusal =
            refresh(&Client::of_test_server(&server.url(), CountingPause::new())).await.unwrap_err();
        assert!(refusal.to_string().contains("longer than"), "{refusal}");
    }

    #[tokio::test]
    async fn nobody_there_is_tried_again_and_then_said_without_the_url() {
        let pause = CountingPause::new();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let refusal = refresh(&Client::of_test_server(&base, pause.clone())).await.unwrap_err();
        assert!(
            matches!(&refusal, Refusal::Unreachable { detail } if !detail.contains("oauth2")),
            "{refusal:?}"
        );
        assert_eq!(pause.pauses().len(), 3);
        assert!(pause.pauses().iter().sum::<Duration>() < Duration::from_secs(10));
    }
}
