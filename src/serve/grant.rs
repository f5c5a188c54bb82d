//! A grant: which tokens one child, or one container, may ask for, and until when.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::cloud::TenantId;
use crate::error::{InvalidArgument, Result};
use crate::policy::names_of;
use crate::time::UnixTime;
use crate::token::Scopes;

/// What stands for every scope, or every tenant.
const ANY: &str = "*";

/// What a grant is good for.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) scopes: AllowedScopes,
    pub(crate) tenants: AllowedTenants,
    /// From then on nothing is given out; `None` means as long as the server lives.
    pub(crate) expires_on: Option<UnixTime>,
}

/// One secret, what it is good for, and how often it was used. Its `Debug` shows no secret.
#[derive(Debug)]
pub(crate) struct Grant {
    id: String,
    secret: SecretString,
    terms: Terms,
    uses: Uses,
}

impl Grant {
    /// Makes a grant with a fresh secret of 256 bits.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(crate) fn new(terms: Terms) -> Result<Self, getrandom::Error> {
        let mut id = [0_u8; 4];
        getrandom::fill(&mut id)?;
        let mut bytes = Zeroizing::new([0_u8; 32]);
        getrandom::fill(bytes.as_mut_slice())?;
        Ok(Self {
            id: format!("{:08x}", u32::from_be_bytes(id)),
            secret: URL_SAFE_NO_PAD.encode(bytes.as_slice()).into(),
            terms,
            uses: Uses::default(),
        })
    }

    /// What the grant is called; no secret.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// What its child is told, and nobody else.
    pub(crate) const fn secret(&self) -> &SecretString {
        &self.secret
    }

    pub(crate) const fn terms(&self) -> &Terms {
        &self.terms
    }

    pub(crate) const fn uses(&self) -> &Uses {
        &self.uses
    }

    /// Whether this is the secret; how long that takes says nothing about it.
    pub(super) fn is_secret(&self, given: &[u8]) -> bool {
        self.secret.expose_secret().as_bytes().ct_eq(given).into()
    }
}

/// How often a grant was used.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    served: AtomicU64,
    denied: AtomicU64,
}

impl Uses {
    pub(super) fn count(&self, served: bool) {
        let counter = if served { &self.served } else { &self.denied };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Tokens given out, and requests that got none.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.served.load(Ordering::Relaxed), self.denied.load(Ordering::Relaxed))
    }
}

/// The scopes that a grant is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowedScopes(Vec<String>);

impl AllowedScopes {
    /// Takes scopes and resources; `*` allows all, and so does an empty list.
    ///
    /// # Errors
    /// [`InvalidArgument`] for what cannot be a scope.
    pub(crate) fn parse(given: &[String]) -> Result<Self> {
        for scope in given.iter().filter(|scope| *scope != ANY) {
            Scopes::new([scope])?;
            if resource(scope).is_empty() {
                return Err(InvalidArgument::new(
                    "scope",
                    format!("{scope:?} names no resource"),
                    "give a resource or a scope of one, such as https://graph.microsoft.com, or * for all",
                )
                .into());
            }
        }
        let all = given.is_empty() || given.iter().any(|scope| scope == ANY);
        Ok(Self(if all { vec![ANY.to_owned()] } else { given.to_vec() }))
    }

    /// Whether a token for this scope may be given out: it is on the list itself, or its resource is.
    pub(super) fn allows(&self, scope: &str) -> bool {
        self.0.iter().any(|allowed| {
            let allowed = resource(allowed);
            allowed == ANY || names_of(scope).any(|name| name.eq_ignore_ascii_case(allowed))
        })
    }

    /// Whether every scope is allowed.
    pub(crate) fn is_any(&self) -> bool {
        self.0 == [ANY]
    }

    pub(crate) fn as_slice(&self) -> &[String] {
        &self.0
    }
}

/// `https://management.azure.com//.default` and `https://management.azure.com` are one resource, told
/// apart only by a token's audience.
fn resource(scope: &str) -> &str {
    names_of(scope).next().unwrap_or(scope)
}

/// The tenants that a grant is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowedTenants(Vec<String>);

impl AllowedTenants {
    /// The account's own tenant and those given; `*` allows all.
    ///
    /// # Errors
    /// [`InvalidArgument`] for what cannot be a tenant.
    pub(crate) fn parse(own: &TenantId, given: &[String]) -> Result<Self> {
        for tenant in given.iter().filter(|tenant| *tenant != ANY) {
            TenantId::parse(tenant)?;
        }
        if given.iter().any(|tenant| tenant == ANY) {
            return Ok(Self(vec![ANY.to_owned()]));
        }
        let mut all = vec![own.as_str().to_owned()];
        all.extend(given.iter().filter(|tenant| !tenant.eq_ignore_ascii_case(own.as_str())).cloned());
        Ok(Self(all))
    }

    pub(super) fn allows(&self, tenant: &TenantId) -> bool {
        self.0.iter().any(|allowed| allowed == ANY || allowed.eq_ignore_ascii_case(tenant.as_str()))
    }

    pub(crate) fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for AllowedScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(scopes: &[&str]) -> AllowedScopes {
        let given: Vec<String> = scopes.iter().map(|&scope| scope.to_owned()).collect();
        AllowedScopes::parse(&given).unwrap()
    }

    #[test]
    fn a_resource_allows_all_its_scopes_and_a_scope_itself() {
        let graph = [
            "https://graph.microsoft.com",
            "https://graph.microsoft.com/",
            "https://graph.microsoft.com/.default",
            "https://graph.microsoft.com//.default",
            "HTTPS://Graph.Microsoft.com",
        ];
        for entry in graph {
            let list = allowed(&[entry]);
            for scope in graph.into_iter().chain(["https://graph.microsoft.com/User.Read"]) {
                assert!(list.allows(scope), "{entry}: {scope}");
            }
            for other in [
                "https://graph.microsoft.com.evil.example/.default",
                "https://graph.microsoft.co/.default",
                "https://graph.microsoft.com/a/b/.default",
                "https://management.azure.com/.default",
                "https://evil.example/https://graph.microsoft.com",
                "graph.microsoft.com/.default",
                "https:/.default",
                ".default",
                "*",
                "",
            ] {
                assert!(!list.allows(other), "{entry}: {other}");
            }
        }
        let read = allowed(&["https://graph.microsoft.com/User.Read"]);
        assert!(read.allows("https://graph.microsoft.com/user.read"));
        for other in
            ["https://graph.microsoft.com/.default", "https://graph.microsoft.com/User.ReadWrite.All"]
        {
            assert!(!read.allows(other), "{other}");
        }
        let application = allowed(&["00000003-0000-0000-c000-000000000000"]);
        assert!(application.allows("00000003-0000-0000-c000-000000000000/.default"));
    }

    #[test]
    fn everything_is_allowed_by_a_star_or_by_no_list() {
        for list in [allowed(&[]), allowed(&["*"]), allowed(&["https://a", "*"])] {
            assert!(list.is_any() && list.allows("https://vault.azure.net/.default"));
        }
        for bad in ["", " ", "openid", "/.default", "/", "a b"] {
            AllowedScopes::parse(&[bad.to_owned()]).unwrap_err();
        }
    }

    #[test]
    fn a_tenant_is_the_own_or_one_of_the_list() {
        let tenant = |text| TenantId::parse(text).unwrap();
        let given = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(|&text| text.to_owned()).collect();
            AllowedTenants::parse(&tenant("own"), &list).unwrap()
        };
        assert!(given(&[]).allows(&tenant("OWN")));
        assert!(!given(&[]).allows(&tenant("other")));
        assert!(given(&["other", "own"]).allows(&tenant("Other")));
        assert_eq!(given(&["other", "Own"]).as_slice(), ["own", "other"]);
        assert!(given(&["*"]).allows(&tenant("anything")));
        AllowedTenants::parse(&tenant("own"), &["a/b".to_owned()]).unwrap_err();
    }

    #[test]
    fn two_grants_have_different_secrets_and_show_neither() {
        let terms = || Terms {
            scopes: allowed(&[]),
            tenants: AllowedTenants::parse(&TenantId::organizations(), &[]).unwrap(),
            expires_on: None,
        };
        let (one, other) = (Grant::new(terms()).unwrap(), Grant::new(terms()).unwrap());
        let secret = one.secret().expose_secret().to_owned();
        assert_eq!(secret.len(), 43, "256 bits in base64");
        assert!(one.is_secret(secret.as_bytes()));
        assert!(!other.is_secret(secret.as_bytes()));
        for near in ["", &secret[..42], &secret[1..], &format!("{secret}A"), &secret.to_ascii_lowercase()] {
            assert!(!one.is_secret(near.as_bytes()), "{near}");
        }
        assert!(!format!("{one:?}").contains(&secret[..8]));
    }
}
