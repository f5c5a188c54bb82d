//! The keys of entries we add (spec S-C 1.4). Nothing is looked up by them.
//!
//! In our own caches: what Python computes, so that it can change and delete them, and what every
//! other language accepts. In another tool's cache: that tool's own, or it would leave ours beside
//! its next one.

pub(super) fn access_token(
    home_account_id: &str,
    environment: &str,
    client_id: &str,
    realm: &str,
    target: &str,
) -> String {
    format!("{home_account_id}-{environment}-accesstoken-{client_id}-{realm}-{target}").to_lowercase()
}

/// By client also for a family's token, and with an empty target: the one form all five accept.
pub(super) fn refresh_token(home_account_id: &str, environment: &str, client_id: &str) -> String {
    format!("{home_account_id}-{environment}-refreshtoken-{client_id}--").to_lowercase()
}

pub(super) fn id_token(home_account_id: &str, environment: &str, client_id: &str, realm: &str) -> String {
    format!("{home_account_id}-{environment}-idtoken-{client_id}-{realm}-").to_lowercase()
}

pub(super) fn account(home_account_id: &str, environment: &str, realm: &str) -> String {
    format!("{home_account_id}-{environment}-{realm}").to_lowercase()
}

/// Not lowercased, as Python's is not.
pub(super) fn app_metadata(environment: &str, client_id: &str) -> String {
    format!("appmetadata-{environment}-{client_id}")
}

/// How the tools behind a cache spell what they add to it (spec S-C 1.4 and 1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// .NET's, and Java's.
    DotNet,
    /// Go's.
    Go,
    /// Node's.
    Node,
    /// Ours, for caches that tools of several languages share.
    Own,
    /// Python's, where nobody but Python is expected.
    Python,
}

impl Dialect {
    /// Whether the cloud is written as the tool was configured, not by its preferred name.
    pub(super) const fn has_cloud_as_configured(self) -> bool {
        matches!(self, Self::Go | Self::Python)
    }

    /// Whether all clients of a family have one refresh token between them, the last one saved.
    pub(super) const fn has_one_per_family(self) -> bool {
        matches!(self, Self::DotNet | Self::Go)
    }

    pub(super) fn refresh_token(
        self,
        home_account_id: &str,
        environment: &str,
        client_id: &str,
        family_id: Option<&str>,
    ) -> String {
        let end = match self {
            Self::Own | Self::Python => return refresh_token(home_account_id, environment, client_id),
            Self::DotNet => "--",
            Self::Node => "---",
            Self::Go => "",
        };
        let whose = family_id.unwrap_or(client_id);
        format!("{home_account_id}-{environment}-refreshtoken-{whose}{end}").to_lowercase()
    }

    pub(super) fn id_token(
        self,
        home_account_id: &str,
        environment: &str,
        client_id: &str,
        realm: &str,
    ) -> String {
        let mut key = id_token(home_account_id, environment, client_id, realm);
        match self {
            Self::DotNet | Self::Own | Self::Python => {}
            Self::Node => key.push('-'),
            Self::Go => _ = key.pop(),
        }
        key
    }

    pub(super) fn account(self, home_account_id: &str, environment: &str, realm: &str) -> String {
        match self {
            Self::DotNet => format!("{home_account_id}-{environment}-{realm}"),
            Self::Go | Self::Node | Self::Own | Self::Python => account(home_account_id, environment, realm),
        }
    }
}
