//! Who and what exists: tenants, users, applications.

use std::collections::BTreeSet;

use serde_json::Value;

/// The tenant `contoso.example`, T1 in the golden files.
pub const TENANT_ONE: &str = "11111111-1111-4111-8111-111111111111";
/// The tenant `fabrikam.example`, T2 in the golden files.
pub const TENANT_TWO: &str = "22222222-2222-4222-8222-222222222222";
/// At home in T1, guest in T2.
pub const USER_ONE: &str = "user.one@contoso.example";
/// At home in T2.
pub const USER_TWO: &str = "user.two@fabrikam.example";
/// Object id of user one at home; with the tenant it makes the home account id.
pub const USER_ONE_OID: &str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";
/// Object id of user two at home.
pub const USER_TWO_OID: &str = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb";
/// Object id of user one as a guest in T2.
pub const USER_ONE_GUEST_OID: &str = "cccccccc-cccc-4ccc-8ccc-cccccccccccc";
/// The password of both users until it is changed.
pub const PASSWORD: &str = "correct horse";

/// Azure CLI, a member of the family "1".
pub const CLIENT_AZURE_CLI: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
/// Visual Studio, another member of that family.
pub const CLIENT_VISUAL_STUDIO: &str = "872cd9fa-d31f-45e0-9eab-6e460a02d1f1";
/// A public client outside any family.
pub const CLIENT_APP: &str = "33333333-3333-4333-8333-333333333333";
/// A confidential client, for `client_credentials`.
pub const CLIENT_SERVICE: &str = "44444444-4444-4444-8444-444444444444";
/// The secret of [`CLIENT_SERVICE`].
pub const CLIENT_SERVICE_SECRET: &str = "service secret";

/// A tenant.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its GUID.
    pub id: String,
    /// Its verified domain, which works in every place where the GUID does.
    pub domain: String,
    /// What pages and messages call it.
    pub name: String,
}

/// A user's place in one tenant.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The tenant's GUID.
    pub tenant: String,
    /// The user's object id in that tenant.
    pub oid: String,
}

/// A person who can sign in.
#[derive(Clone, Debug)]
pub struct User {
    /// The user principal name.
    pub username: String,
    /// The name on the pages and in the ID token.
    pub name: String,
    /// What the sign-in page asks for.
    pub password: String,
    /// Where the account lives; this makes the home account id.
    pub home: Membership,
    /// Tenants that invited the user.
    pub guest_in: Vec<Membership>,
}

impl User {
    pub(crate) fn membership(&self, tenant: &str) -> Option<&Membership> {
        std::iter::once(&self.home).chain(&self.guest_in).find(|membership| membership.tenant == tenant)
    }
}

/// A registered application.
#[derive(Clone, Debug)]
pub struct Application {
    /// The client id.
    pub client_id: String,
    /// The name on the pages.
    pub name: String,
    /// The family it belongs to; only "1" exists.
    pub family: Option<String>,
    /// Registered redirect addresses. The port of a `http://localhost` one does not count.
    pub redirect_uris: Vec<String>,
    /// The secret of a confidential client.
    pub secret: Option<String>,
}

impl Application {
    pub(crate) fn may_redirect_to(&self, wanted: &str) -> bool {
        self.redirect_uris
            .iter()
            .any(|registered| registered == wanted || same_but_for_port(registered, wanted))
    }
}

/// Everything that is registered.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The tenants.
    pub tenants: Vec<Tenant>,
    /// The users.
    pub users: Vec<User>,
    /// The applications, known in every tenant.
    pub applications: Vec<Application>,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            tenants: vec![
                tenant(TENANT_ONE, "contoso.example", "Contoso"),
                tenant(TENANT_TWO, "fabrikam.example", "Fabrikam"),
            ],
            users: vec![
                User {
                    username: USER_ONE.into(),
                    name: "User One".into(),
                    password: PASSWORD.into(),
                    home: membership(TENANT_ONE, USER_ONE_OID),
                    guest_in: vec![membership(TENANT_TWO, USER_ONE_GUEST_OID)],
                },
                User {
                    username: USER_TWO.into(),
                    name: "User Two".into(),
                    password: PASSWORD.into(),
                    home: membership(TENANT_TWO, USER_TWO_OID),
                    guest_in: Vec::new(),
                },
            ],
            applications: vec![
                public_client(CLIENT_AZURE_CLI, "Microsoft Azure CLI", Some("1")),
                public_client(CLIENT_VISUAL_STUDIO, "Visual Studio", Some("1")),
                public_client(CLIENT_APP, "Contoso Sample App", None),
                Application {
                    client_id: CLIENT_SERVICE.into(),
                    name: "Contoso Service".into(),
                    family: None,
                    redirect_uris: Vec::new(),
                    secret: Some(CLIENT_SERVICE_SECRET.into()),
                },
            ],
        }
    }
}

/// What the first path segment of a request asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TenantChoice<'a> {
    /// `organizations` or `common`: the user's own.
    Home,
    Exactly(&'a Tenant),
}

impl Directory {
    /// GUID, domain, `organizations` and `common`; `consumers` has nobody here.
    pub(crate) fn tenant(&self, segment: &str) -> Option<TenantChoice<'_>> {
        if segment.eq_ignore_ascii_case("organizations") || segment.eq_ignore_ascii_case("common") {
            return Some(TenantChoice::Home);
        }
        self.tenants
            .iter()
            .find(|tenant| {
                tenant.id.eq_ignore_ascii_case(segment) || tenant.domain.eq_ignore_ascii_case(segment)
            })
            .map(TenantChoice::Exactly)
    }

    pub(crate) fn user(&self, username: &str) -> Option<&User> {
        self.users.iter().find(|user| user.username.eq_ignore_ascii_case(username.trim()))
    }

    pub(crate) fn user_mut(&mut self, username: &str) -> Option<&mut User> {
        self.users.iter_mut().find(|user| user.username.eq_ignore_ascii_case(username.trim()))
    }

    pub(crate) fn application(&self, client_id: &str) -> Option<&Application> {
        self.applications.iter().find(|application| application.client_id.eq_ignore_ascii_case(client_id))
    }
}

/// The scopes that Entra grants for the ones a client asked for.
///
/// `X/.default` becomes `X/user_impersonation X/.default`; the OpenID scopes belong to Microsoft
/// Graph and are named in the answer only beside Graph's; `offline_access` never is.
pub(crate) fn granted_scopes(requested: &str, openid_always: bool) -> String {
    let mut openid: BTreeSet<&str> = BTreeSet::new();
    let mut granted: Vec<String> = Vec::new();
    for scope in requested.split_whitespace() {
        match scope {
            "offline_access" => {}
            "openid" | "profile" | "email" => {
                openid.insert(scope);
            }
            _ => match scope.strip_suffix("/.default") {
                Some(resource) if is_graph(scope) => {
                    granted.extend([format!("{resource}/User.Read"), scope.to_owned()]);
                }
                Some(resource) => {
                    granted.extend([format!("{resource}/user_impersonation"), scope.to_owned()]);
                }
                None => granted.push(scope.to_owned()),
            },
        }
    }
    let for_graph = granted.is_empty() || granted.iter().all(|scope| is_graph(scope));
    if (for_graph || openid_always) && !openid.is_empty() {
        openid.insert("email");
        openid.insert("profile");
        let first = ["openid", "profile", "email"].into_iter();
        return first
            .filter(|scope| openid.contains(scope))
            .map(str::to_owned)
            .chain(granted)
            .collect::<Vec<_>>()
            .join(" ");
    }
    granted.join(" ")
}

/// The audience of the access token: what stands before the last slash of a scope.
pub(crate) fn resources(requested: &str) -> BTreeSet<&str> {
    requested
        .split_whitespace()
        .filter(|scope| !matches!(*scope, "openid" | "profile" | "email" | "offline_access"))
        .map(|scope| match scope.rsplit_once('/') {
            Some((resource, _)) => resource,
            None => GRAPH,
        })
        .collect()
}

/// `claims` asks for continuous access evaluation.
pub(crate) fn asks_cp1(claims: &str) -> bool {
    serde_json::from_str::<Value>(claims).is_ok_and(|claims| {
        claims["access_token"]["xms_cc"]["values"].as_array().is_some_and(|values| {
            values.iter().any(|value| value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("cp1")))
        })
    })
}

const GRAPH: &str = "https://graph.microsoft.com";

fn is_graph(scope: &str) -> bool {
    scope.starts_with(GRAPH) || !scope.contains('/')
}

fn same_but_for_port(registered: &str, wanted: &str) -> bool {
    let (Ok(registered), Ok(wanted)) = (url::Url::parse(registered), url::Url::parse(wanted)) else {
        return false;
    };
    registered.scheme() == "http"
        && registered.host_str() == Some("localhost")
        && wanted.scheme() == "http"
        && wanted.host_str() == Some("localhost")
        && registered.path() == wanted.path()
        && wanted.query().is_none()
}

fn tenant(id: &str, domain: &str, name: &str) -> Tenant {
    Tenant { id: id.into(), domain: domain.into(), name: name.into() }
}

fn membership(tenant: &str, oid: &str) -> Membership {
    Membership { tenant: tenant.into(), oid: oid.into() }
}

fn public_client(client_id: &str, name: &str, family: Option<&str>) -> Application {
    Application {
        client_id: client_id.into(),
        name: name.into(),
        family: family.map(str::to_owned),
        redirect_uris: vec![
            "http://localhost".into(),
            "https://login.microsoftonline.com/common/oauth2/nativeclient".into(),
        ],
        secret: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_scope_is_answered_with_user_impersonation_and_no_openid_scopes() {
        assert_eq!(
            granted_scopes(
                "https://management.core.windows.net//.default offline_access openid profile",
                false
            ),
            "https://management.core.windows.net//user_impersonation https://management.core.windows.net//.default"
        );
    }

    #[test]
    fn openid_scopes_stand_beside_graph() {
        assert_eq!(
            granted_scopes("User.Read openid offline_access", false),
            "openid profile email User.Read"
        );
    }

    #[test]
    fn only_the_port_of_localhost_is_free() {
        let application = public_client(CLIENT_APP, "x", None);
        assert!(application.may_redirect_to("http://localhost:8400"));
        assert!(application.may_redirect_to("http://localhost:8400/"));
        assert!(!application.may_redirect_to("http://127.0.0.1:8400"));
        assert!(!application.may_redirect_to("http://localhost:8400/other"));
        assert!(!application.may_redirect_to("https://evil.example"));
    }
}
