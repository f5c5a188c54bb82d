//! Authorities, the clouds they belong to, and tenants.

use std::fmt;

use url::{Host, Url};

use crate::error::{Error, InvalidArgument, Result};

/// Each cloud's hosts, the one that .NET and Node write into caches first (spec S-C 1.5).
const ALIAS_GROUPS: &[&[&str]] = &[
    &["login.windows.net", "login.microsoftonline.com", "login.microsoft.com", "sts.windows.net"],
    &["login.partner.microsoftonline.cn", "login.chinacloudapi.cn"],
    &["login.microsoftonline.us", "login.usgovcloudapi.net"],
    &["login-us.microsoftonline.com"],
    &["login.microsoftonline.de"],
    &["login.windows-ppe.net", "sts.windows-ppe.net", "login.microsoft-ppe.com"],
    &["login.sovcloud-identity.fr"],
    &["login.sovcloud-identity.de"],
    &["login.sovcloud-identity.sg"],
];

fn alias_group(host: &str) -> Option<&'static [&'static str]> {
    ALIAS_GROUPS.iter().copied().find(|group| group.iter().any(|alias| alias.eq_ignore_ascii_case(host)))
}

/// Whether two hosts are names of one cloud. An unknown host is only ever itself.
#[must_use]
pub fn same_cloud(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
        || alias_group(one).is_some_and(|group| group.iter().any(|alias| alias.eq_ignore_ascii_case(other)))
}

/// The name that a cache entry of this host's cloud gets when nothing in the cache says otherwise.
#[must_use]
pub fn preferred_cache(host: &str) -> String {
    alias_group(host).map_or_else(|| host.to_ascii_lowercase(), |group| group[0].to_owned())
}

/// The host that this host's cloud wants to be asked at.
fn preferred_network(host: &str) -> Option<&'static str> {
    match alias_group(host)?[0] {
        "login.windows.net" => Some("login.microsoftonline.com"),
        first => Some(first),
    }
}

/// The name that tools which keep a cloud's host as configured write for this host's cloud.
pub(crate) fn sign_in_host(host: &str) -> String {
    preferred_network(host).map_or_else(|| host.to_ascii_lowercase(), str::to_owned)
}

/// Whether the host belongs to a cloud of Microsoft, so that its endpoints need no discovery.
#[must_use]
pub fn is_known(host: &str) -> bool {
    alias_group(host).is_some()
}

/// The host to which tokens are asked from, such as `https://login.microsoftonline.com`.
///
/// Always `https`; a port is kept for the connection but never part of a cache's `environment`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    host: String,
    port: Option<u16>,
}

impl Authority {
    /// The public cloud.
    #[must_use]
    pub fn public() -> Self {
        Self { host: "login.microsoftonline.com".to_owned(), port: None }
    }

    /// The one that `AZURE_AUTHORITY_HOST` names, as every Azure SDK reads it; else the public
    /// cloud.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the variable is set to something that is no authority.
    pub fn of_environment() -> Result<Self> {
        match std::env::var("AZURE_AUTHORITY_HOST") {
            Ok(host) if !host.trim().is_empty() => Self::parse(&host),
            _ => Ok(Self::public()),
        }
    }

    /// Reads a host or an `https` URL; the scheme may be left out, trailing slashes do not count
    /// (spec S-B 2.6).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for another scheme, for user info, a path, a query, or no host.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Error::from(InvalidArgument::new(
                "authority",
                format!("{text:?} {why}"),
                "give a host such as login.microsoftonline.com, or its https URL",
            ))
        };
        let trimmed = text.trim().trim_end_matches('/');
        let with_scheme =
            if trimmed.contains("://") { trimmed.to_owned() } else { format!("https://{trimmed}") };
        let url = Url::parse(&with_scheme).map_err(|_| refuse("is not a host"))?;
        if url.scheme() != "https" {
            return Err(refuse("is not https; tokens travel over TLS only"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("carries user info"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("has more than a host; the tenant is given by --tenant"));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_ascii_lowercase(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => format!("[{address}]"),
            None => return Err(refuse("has no host")),
        };
        Ok(Self { host, port: url.port() })
    }

    /// The host without its port: what a cache calls `environment`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The same cloud under the name that it wants to be asked at; a cache may know another.
    #[must_use]
    pub fn for_network(&self) -> Self {
        match preferred_network(&self.host) {
            Some(host) if self.port.is_none() => Self { host: host.to_owned(), port: None },
            _ => self.clone(),
        }
    }

    /// The same authority under the name by which a cache entry knows it, if it is the same cloud.
    #[must_use]
    pub(crate) fn known_as(&self, environment: &str) -> Option<Self> {
        if environment.eq_ignore_ascii_case(&self.host) {
            return Some(self.clone());
        }
        same_cloud(environment, &self.host)
            .then(|| Self { host: environment.to_ascii_lowercase(), port: self.port })
    }

    /// Whether the host belongs to a cloud of Microsoft.
    #[must_use]
    pub fn is_known(&self) -> bool {
        is_known(&self.host)
    }

    /// Scopes that a bare sign-in asks for (spec S-B 2.4); `None` outside the three clouds that
    /// have a well-known management endpoint.
    #[must_use]
    pub fn default_scope(&self) -> Option<&'static str> {
        match preferred_cache(&self.host).as_str() {
            "login.windows.net" => Some("https://management.core.windows.net//.default"),
            "login.partner.microsoftonline.cn" => Some("https://management.core.chinacloudapi.cn//.default"),
            "login.microsoftonline.us" => Some("https://management.core.usgovcloudapi.net//.default"),
            _ => None,
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A tenant's id, its domain, or one of `organizations`, `common`, `consumers`, `adfs`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TenantId(String);

impl TenantId {
    /// Letters, digits, dots and dashes: a tenant becomes part of a URL's path (spec S-B 2.6).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for anything else, or for nothing at all.
    pub fn parse(text: &str) -> Result<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        let dots_only = text.chars().all(|c| c == '.');
        if text.is_empty() || dots_only || !text.chars().all(fits) {
            return Err(InvalidArgument::new(
                "tenant",
                format!("{text:?} is not a tenant id or a domain"),
                "give the tenant's GUID or a domain such as contoso.onmicrosoft.com",
            )
            .into());
        }
        Ok(Self(text.to_owned()))
    }

    /// Any work or school account, the default of a sign-in by a person.
    #[must_use]
    pub fn organizations() -> Self {
        Self("organizations".to_owned())
    }

    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for whichever tenant the account is at home in.
    #[must_use]
    pub fn is_placeholder(&self) -> bool {
        is_placeholder(&self.0)
    }
}

/// Whether a realm names no tenant but "the one the account is at home in".
#[must_use]
pub fn is_placeholder(realm: &str) -> bool {
    ["organizations", "common"].iter().any(|name| realm.eq_ignore_ascii_case(name))
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_one_cloud_and_strangers_are_not() {
        assert!(same_cloud("login.microsoftonline.com", "STS.windows.net"));
        assert!(!same_cloud("login.microsoftonline.com", "login.microsoftonline.us"));
        assert!(same_cloud("adfs.contoso.example", "ADFS.contoso.example"));
        assert_eq!(preferred_cache("login.microsoft.com"), "login.windows.net");
        assert_eq!(preferred_cache("Other.Example"), "other.example");
    }

    #[test]
    fn an_authority_is_a_host_over_tls() {
        for good in ["login.microsoftonline.com", "https://LOGIN.microsoftonline.com// "] {
            assert_eq!(Authority::parse(good).unwrap(), Authority::public());
        }
        let local = Authority::parse("https://127.0.0.1:8443").unwrap();
        assert_eq!((local.host(), local.to_string().as_str()), ("127.0.0.1", "https://127.0.0.1:8443"));
        for bad in
            ["http://login.microsoftonline.com", "", "https://a/b", "https://u:p@a", "https://a?b", "a b"]
        {
            Authority::parse(bad).unwrap_err();
        }
    }

    #[test]
    fn a_tenant_cannot_leave_its_path_segment() {
        for good in ["organizations", "contoso.example", "11111111-1111-4111-8111-111111111111"] {
            assert_eq!(TenantId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "..", "a%2fb", "a b", "a?b"] {
            TenantId::parse(bad).unwrap_err();
        }
    }
}
