//! Why a command failed, and how that is told: exit code, text, JSON.

use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::config::ConfigError;
use crate::credential::account::AccountError;
use crate::error::{
    CacheError, Candidate, DENIED, Error, InvalidArgument, ProviderError, RemovedGrant, Unavailable,
    VaultError, with_causes,
};
use crate::token::Claims;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It is not clear whose account was meant.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The agent could not be started, or is not there to be asked.
    #[error("{problem}")]
    Agent { kind: &'static str, problem: String, hint: Option<String> },
    /// The person said no, or pressed Ctrl-C.
    #[error("cancelled")]
    Cancelled,
    /// The file of the user's choices is not used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file that is no cache could not be used.
    #[error("{action} {path}: {source}", path = path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// The library said so.
    #[error(transparent)]
    Library(#[from] Error),
    /// Everything was told already; only the exit code is left to say that there was something.
    #[error("something needs attention")]
    NeedsAttention,
    /// Nothing is known about what was to be explained.
    #[error("{problem}")]
    Unexplained { problem: String, hint: String },
    /// The standard output or error cannot be written to.
    #[error("writing the output: {0}")]
    Output(io::Error),
    /// The program that `exec` was to run could not be started.
    #[error("{program} cannot be run: {source}", program = program.display())]
    Start { program: PathBuf, source: io::Error },
    /// A login cannot be shared as was asked for.
    #[error("{}", .0.problem)]
    Refused(Box<Refused>),
    /// Something that the parser cannot see is wrong with the command line.
    #[error("{problem}")]
    Usage { problem: String, hint: String },
}

/// Why a login cannot be shared.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) problem: String,
    pub(super) hint: String,
    /// Whether there is just no login to share.
    pub(super) needs_sign_in: bool,
}

impl Failure {
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(super) fn usage(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { problem: problem.into(), hint: hint.into() }
    }

    /// Whether the reader of our output went away, which is no failure of ours.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit code, as `docs/cli.md` lists them.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Agent { .. }
            | Self::Cancelled
            | Self::File { .. }
            | Self::NeedsAttention
            | Self::Output(_)
            | Self::Start { .. }
            | Self::Unexplained { .. } => 1,
            Self::Config(ConfigError::Invalid { .. }) => 2,
            Self::Config(_) => 1,
            Self::Usage { .. } => 2,
            Self::Refused(refused) => {
                if refused.needs_sign_in {
                    3
                } else {
                    2
                }
            }
            Self::Account(error) => {
                if error.is_ambiguous() {
                    5
                } else {
                    4
                }
            }
            Self::Library(error) => exit_code_of(error),
        }
    }

    /// What programs tell failures apart by.
    fn kind(&self) -> &str {
        match self {
            Self::Account(error) => error.kind(),
            Self::Agent { kind, .. } => kind,
            Self::Cancelled => "cancelled",
            Self::Config(error) => error.kind(),
            Self::File { .. } => "file",
            Self::NeedsAttention => "needs_attention",
            Self::Output(_) => "output",
            Self::Start { .. } => "start",
            Self::Unexplained { .. } => "unexplained",
            Self::Refused(_) => "not_shareable",
            Self::Usage { .. } => "usage",
            Self::Library(error) => error.kind(),
        }
    }

    /// What happened, with every cause that the text does not name already.
    pub(super) fn message(&self) -> String {
        with_causes(self)
    }

    /// The next step, for a call that was given the options `to_repeat`.
    pub(super) fn hint(&self, to_repeat: &[String]) -> Option<String> {
        let hint = match self {
            Self::Account(error) => Some(error.hint()),
            Self::Agent { hint, .. } => hint.clone(),
            Self::Config(error) => Some(error.hint()),
            Self::Library(error) => error.hint(),
            Self::Refused(refused) => Some(refused.hint.clone()),
            Self::Unexplained { hint, .. } | Self::Usage { hint, .. } => Some(hint.clone()),
            Self::Cancelled
            | Self::File { .. }
            | Self::NeedsAttention
            | Self::Output(_)
            | Self::Start { .. } => None,
        };
        hint.map(|hint| repeat_options(&hint, to_repeat))
    }

    /// What was removed on the way here, as lines for a person.
    pub(super) fn removed(&self) -> Vec<String> {
        let Self::Library(error) = self else { return Vec::new() };
        let lines = error.removed().iter().map(|grant| {
            let RemovedGrant { username, client_id, cache, code, .. } = grant;
            format!("the refresh token of {username} for client {client_id} in {cache} ({code})")
        });
        lines.collect()
    }

    /// The failure as `--json` prints it: all members are there, `null` where there is nothing.
    pub(super) fn to_json(&self, to_repeat: &[String]) -> Value {
        let error = match self {
            Self::Library(error) => Some(decisive(error)),
            _ => None,
        };
        let required = match error {
            Some(Error::InteractionRequired(required)) => Some(required),
            _ => None,
        };
        let provider = error.and_then(Error::provider);
        let removed = match self {
            Self::Library(error) => error.removed(),
            _ => &[],
        };
        let removed = removed.iter().map(|grant| {
            json!({
                "username": grant.username,
                "home_account_id": grant.home_account_id,
                "client_id": grant.client_id,
                "cache": grant.cache,
                "code": grant.code,
            })
        });
        json!({"error": {
            "kind": self.kind(),
            "code": provider.map(ProviderError::code),
            "message": self.message(),
            "hint": self.hint(to_repeat),
            "claims": required.and_then(|required| required.next_claims()).map(Claims::as_str),
            "tenant": required.map(|required| required.tenant.as_str()),
            "scopes": required.map(|required| required.scopes.iter().collect::<Vec<_>>()),
            "removed": removed.collect::<Vec<_>>(),
            "candidates": self.candidates().iter().map(candidate).collect::<Vec<_>>(),
            "correlation_id": provider.and_then(|provider| provider.correlation_id.as_deref()),
        }})
    }

    fn candidates(&self) -> &[Candidate] {
        match self {
            Self::Account(error) => error.candidates(),
            Self::Library(error) => match decisive(error) {
                Error::Relayed(error) => &error.candidates,
                Error::Unavailable(unavailable) => unavailable.candidates(),
                _ => &[],
            },
            _ => &[],
        }
    }
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        Self::Library(error.into())
    }
}

impl From<InvalidArgument> for Failure {
    fn from(argument: InvalidArgument) -> Self {
        Self::Library(argument.into())
    }
}

/// A chain failed as the attempt did that a caller can do most about.
fn decisive(error: &Error) -> &Error {
    match error {
        Error::Chain(failed) => failed.decisive().map_or(error, decisive),
        error => error,
    }
}

fn exit_code_of(error: &Error) -> u8 {
    match decisive(error) {
        Error::AuthenticationFailed(_) => 1,
        Error::InvalidArgument(_) => 2,
        Error::InteractionRequired(_) => 3,
        Error::Unavailable(unavailable) => match **unavailable {
            Unavailable::Other { .. } => 1,
            Unavailable::NoAccounts { .. } | Unavailable::NoMatchingAccount { .. } => 4,
            Unavailable::SeveralAccounts { .. } | Unavailable::SeveralMatchingAccounts { .. } => 5,
        },
        Error::Cache(error) => match error {
            CacheError::Conflict { .. }
            | CacheError::Io { .. }
            | CacheError::ReadOnly { .. }
            | CacheError::Unsafe { .. } => 1,
            CacheError::Damaged { .. } | CacheError::NewerFormat { .. } | CacheError::TooLarge { .. } => 6,
            CacheError::Vault(error) => of_vault(error),
            CacheError::EncryptionUnavailable { .. }
            | CacheError::KeyGone { .. }
            | CacheError::KeyUnavailable { .. }
            | CacheError::Locked { .. }
            | CacheError::LockTimeout { .. }
            | CacheError::Timeout { .. } => 7,
        },
        Error::Chain(_) => 1,
        Error::Denied(_) => 9,
        Error::Network(_) => 8,
        Error::Relayed(error) => of_kind(&error.kind),
    }
}

fn of_vault(error: &VaultError) -> u8 {
    match error {
        error if error.is_damage() => 6,
        VaultError::AlreadyExists { .. }
        | VaultError::LastProtector { .. }
        | VaultError::NoSuchProtector { .. } => 2,
        VaultError::DiskFull { .. }
        | VaultError::Io { .. }
        | VaultError::ReadOnly { .. }
        | VaultError::StaleHandle { .. }
        | VaultError::Unsafe { .. } => 1,
        _ => 7,
    }
}

/// The exit code of a failure that is known by its kind only, because the agent told it.
fn of_kind(kind: &str) -> u8 {
    match kind {
        "invalid_argument" | "usage" => 2,
        "interaction_required" => 3,
        "no_accounts" | "no_matching_account" => 4,
        "several_accounts" | "several_matching_accounts" => 5,
        "cache_damaged"
        | "cache_newer_format"
        | "cache_too_large"
        | "vault_damaged"
        | "vault_empty"
        | "vault_newer_format"
        | "vault_protector_damaged" => 6,
        "locked"
        | "unlock_too_soon"
        | "cache_encryption_unavailable"
        | "cache_key_gone"
        | "cache_key_unavailable"
        | "cache_lock_timeout"
        | "cache_locked"
        | "cache_timeout" => 7,
        "vault_already_exists" | "vault_last_protector" | "vault_no_such_protector" => 2,
        "vault_disk_full" | "vault_io" | "vault_read_only" | "vault_stale_handle" | "vault_unsafe" => 1,
        kind if kind.starts_with("vault_") => 7,
        "network" => 8,
        DENIED => 9,
        _ => 1,
    }
}

/// What the parser of the command line said, in the same form.
pub(super) fn usage_json(error: &clap::Error) -> Value {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let (problem, _) = text.split_once("\n\nUsage:").unwrap_or((text, ""));
    Failure::usage(problem.trim(), "see tokenkeep help").to_json(&[])
}

fn candidate(candidate: &Candidate) -> Value {
    json!({
        "username": candidate.username,
        "home_account_id": candidate.home_account_id,
        "home_tenant": candidate.home_tenant,
    })
}

/// Adds the options of this call to each command that a hint names, so that it can be pasted.
fn repeat_options(hint: &str, options: &[String]) -> String {
    // The hint's own tenant is the one that was asked for, and no option may stand twice.
    let has_tenant = hint.contains(" --tenant ");
    let kept = options.iter().filter(|option| !(has_tenant && option.starts_with("--tenant ")));
    let options: String = kept.map(|option| format!(" {option}")).collect();
    let mut text = hint.to_owned();
    for command in ["login", "accounts default", "clear", "doctor", "record export", "token"] {
        let bare = format!("tokenkeep {command}");
        text = text.replace(&bare, &format!("{bare}{options}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use clap::Parser as _;

    use super::super::arguments::Arguments;
    use super::*;
    use crate::cloud::TenantId;
    use crate::error::{
        AuthenticationFailed, EncryptionLayer, InteractionReason, InteractionRequired, NetworkError,
        ProtectorError, ProviderError, RemovedGrant,
    };
    use crate::token::Scopes;

    fn place() -> String {
        "msal.cache.nocae".to_owned()
    }

    fn unreachable() -> NetworkError {
        NetworkError { message: "unreachable".to_owned(), status: None, retry_after: None, provider: None }
    }

    fn interaction() -> InteractionRequired {
        InteractionRequired {
            message: "the refresh token is dead".to_owned(),
            scopes: Scopes::new(["https://graph.microsoft.com/.default"]).unwrap(),
            claims: None,
            provider_claims: Some(Claims::parse(r#"{"a":1}"#).unwrap()),
            tenant: TenantId::parse("contoso.example").unwrap(),
            enable_cae: false,
            reason: InteractionReason::GrantDead,
            username: Some("user.one@contoso.example".to_owned()),
            provider: Some(Box::new(ProviderError {
                error: "invalid_grant".to_owned(),
                codes: vec![50173],
                correlation_id: Some("c-1".to_owned()),
                ..ProviderError::default()
            })),
            removed: vec![RemovedGrant::new(
                "user.one@contoso.example".to_owned(),
                "u.t".to_owned(),
                "client".to_owned(),
                place(),
                "AADSTS50173".to_owned(),
            )],
        }
    }

    #[test]
    fn every_failure_has_its_exit_code() {
        let cache = |error: CacheError| Failure::from(error);
        let vault = |error: VaultError| Failure::from(CacheError::from(error));
        let refused = |source| vault(VaultError::Protector { path: "x".into(), source });
        let unavailable = |error: Unavailable| Failure::Library(error.into());
        let detail = String::new;
        let (credential, waited) = ("SharedTokenCacheCredential", Duration::from_secs(10));
        let io = || Arc::new(io::Error::from(io::ErrorKind::StorageFull));
        let cases = [
            (Failure::Cancelled, 1),
            (Failure::file("reading", "x")(io::ErrorKind::NotFound.into()), 1),
            (Failure::Library(AuthenticationFailed::new("no").into()), 1),
            (Failure::Library(AuthenticationFailed::new("no").declined().into()), 1),
            (cache(CacheError::Conflict { place: place(), detail: detail() }), 1),
            (cache(CacheError::Io { action: "writing", path: "x".into(), source: io() }), 1),
            (cache(CacheError::ReadOnly { place: place(), why: "x", instead: "y" }), 1),
            (cache(CacheError::Unsafe { path: "x".into(), detail: detail() }), 1),
            (unavailable(Unavailable::Other { credential, problem: detail(), hint: detail() }), 1),
            (Failure::Unexplained { problem: detail(), hint: detail() }, 1),
            (Failure::usage("x", "y"), 2),
            (InvalidArgument::new("scope", "x", "y").into(), 2),
            (Failure::Library(interaction().into()), 3),
            (unavailable(Unavailable::NoAccounts { credential, cache: place() }), 4),
            (
                unavailable(Unavailable::NoMatchingAccount {
                    credential,
                    cache: place(),
                    wanted: detail(),
                    candidates: vec![],
                }),
                4,
            ),
            (unavailable(Unavailable::SeveralAccounts { credential, cache: place(), candidates: vec![] }), 5),
            (
                unavailable(Unavailable::SeveralMatchingAccounts {
                    credential,
                    cache: place(),
                    wanted: detail(),
                    candidates: vec![],
                }),
                5,
            ),
            (cache(CacheError::Damaged { place: place(), detail: detail() }), 6),
            (cache(CacheError::NewerFormat { place: place(), detail: detail() }), 6),
            (vault(VaultError::Damaged { path: "x".into(), detail: detail() }), 6),
            (vault(VaultError::Empty { path: "x".into() }), 6),
            (vault(VaultError::NewerFormat { path: "x".into(), found: 9, known: 2 }), 6),
            (refused(ProtectorError::Damaged { detail: detail() }), 6),
            (vault(VaultError::Absent { path: "x".into() }), 7),
            (vault(VaultError::Locked { path: "x".into() }), 7),
            (refused(ProtectorError::Gone { keeper: "keyring", detail: detail() }), 7),
            (refused(ProtectorError::KeyringLocked), 7),
            (refused(ProtectorError::PromptRefused), 7),
            (refused(ProtectorError::WrongSecret { what: "passphrase" }), 7),
            (vault(VaultError::LastProtector { path: "x".into(), slot: 1 }), 2),
            (vault(VaultError::DiskFull { path: "x".into() }), 1),
            (
                cache(CacheError::EncryptionUnavailable {
                    place: place(),
                    layer: EncryptionLayer::Bus,
                    detail: detail(),
                }),
                7,
            ),
            (cache(CacheError::KeyGone { place: place(), detail: detail() }), 7),
            (cache(CacheError::TooLarge { place: place(), limit: 1 }), 6),
            (cache(CacheError::KeyUnavailable { place: place(), detail: detail() }), 7),
            (cache(CacheError::Locked { place: place() }), 7),
            (cache(CacheError::LockTimeout { path: "x".into(), holder: detail(), waited }), 7),
            (cache(CacheError::Timeout { place: place(), waited }), 7),
            (Failure::Library(unreachable().into()), 8),
        ];
        for (failure, code) in cases {
            assert_eq!(failure.exit_code(), code, "{failure:?}");
            if matches!(failure, Failure::Library(_) | Failure::Account(_)) {
                assert_eq!(of_kind(failure.kind()), code, "{failure:?} told by the agent");
            }
        }
    }

    #[test]
    fn json_names_every_member_even_where_nothing_is_known() {
        let known = Failure::Library(interaction().into()).to_json(&[]);
        assert_eq!(
            known,
            json!({"error": {
                "kind": "interaction_required",
                "code": "AADSTS50173",
                "message": "the refresh token is dead",
                "hint": "sign in again: tokenkeep login --tenant contoso.example --scope https://graph.microsoft.com/.default --claims '{\"a\":1}'",
                "claims": "{\"a\":1}",
                "tenant": "contoso.example",
                "scopes": ["https://graph.microsoft.com/.default"],
                "removed": [{
                    "username": "user.one@contoso.example", "home_account_id": "u.t",
                    "client_id": "client", "cache": "msal.cache.nocae", "code": "AADSTS50173",
                }],
                "candidates": [],
                "correlation_id": "c-1",
            }})
        );
        let unknown = Failure::Cancelled.to_json(&[]);
        let members = |value: &Value| {
            let object = value["error"].as_object().unwrap();
            object.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(members(&unknown), members(&known));
        assert_eq!(unknown["error"]["hint"], Value::Null);
    }

    #[test]
    fn wrong_usage_is_told_in_the_same_form() {
        let error = Arguments::try_parse_from(["tokenkeep", "token", "--nonsense"]).unwrap_err();
        let told = usage_json(&error);
        assert_eq!(told["error"]["kind"], "usage");
        let message = told["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("unexpected argument '--nonsense'"), "{message}");
        assert!(!message.contains("Usage:"), "{message}");
    }

    #[test]
    fn a_cause_is_named_once() {
        let io = io::Error::from(io::ErrorKind::PermissionDenied);
        let text = Failure::file("reading", "record.json")(io).message();
        assert_eq!(text, "reading record.json: permission denied");
    }

    #[test]
    fn the_command_of_a_hint_means_the_same_cache_and_provider() {
        let failure = Failure::Library(interaction().into());
        let options = ["--store plaintext", "--tenant contoso.example", "--client-id c"];
        let hint = failure.hint(&options.map(ToOwned::to_owned)).unwrap();
        assert_eq!(
            hint,
            "sign in again: tokenkeep login --store plaintext --client-id c --tenant contoso.example --scope https://graph.microsoft.com/.default --claims '{\"a\":1}'"
        );
    }
}
