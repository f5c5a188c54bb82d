//! Everything that can be found, in one table. An id, once given, means the same for ever.

use std::fmt;

use crate::document::DefectKind;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something does not work, or logins can be lost or read by others.
    Problem,
    /// It will be trouble, or it keeps something from working well.
    Warning,
    /// Worth knowing; nothing needs to be done.
    Note,
}

impl Severity {
    /// In one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that can be found.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sign {
    /// By which programs and people know it.
    pub id: &'static str,
    /// How much it usually matters.
    pub severity: Severity,
    /// What it means, in one line.
    pub meaning: &'static str,
}

macro_rules! signs {
    ($($name:ident $id:literal $severity:ident $meaning:literal)*) => {
        $(pub(super) static $name: Sign = Sign { id: $id, severity: Severity::$severity, meaning: $meaning };)*

        /// Everything that can be found, by id.
        pub static CATALOGUE: &[&Sign] = &[$(&$name),*];
    };
}

signs! {
    ACCESS_TOKEN_EXPIRED "access-token-expired" Note
        "access tokens that have expired are still kept"
    ACCESS_TOKENS_OVERLAP "access-tokens-overlap" Problem
        "two access tokens could answer one request: .NET fails, and Node deletes both"
    ACCOUNT_DUPLICATE "account-duplicate" Warning
        "one account has several entries: .NET may drop one, and a sign-out elsewhere removes only one"
    ACCOUNT_INCOMPLETE "account-incomplete" Warning
        "an account lacks fields without which Python does not list it, or finds none by name"
    ACCOUNT_WITHOUT_REFRESH_TOKEN "account-without-refresh-token" Note
        "an account has no refresh token, so its tool will ask for a sign-in"
    AGENT_CONFIG_OLDER "agent-config-older" Warning
        "the agent does not go by config.toml as it is now, because that cannot be used"
    AGENT_CONFIG_UNWATCHED "agent-config-unwatched" Warning
        "the agent is not told of changes of config.toml, so they do not hold at once"
    AGENT_LOCKED "agent-locked" Note
        "the agent is locked, so programs get no token until somebody unlocks it"
    AGENT_OTHER_VERSION "agent-other-version" Warning
        "the agent is of another version than this program, and may not understand what it is asked"
    AGENT_SILENT "agent-silent" Problem
        "who listens at the agent's socket does not answer as an agent does, so programs wait in vain"
    AGENT_SOCKET_LEFT "agent-socket-left-behind" Warning
        "an agent was killed: its socket is still there, and nobody listens"
    AGENT_SOCKET_MISSING "agent-socket-missing" Warning
        "TOKENKEEP_SOCK names a socket that is not there, so programs find no agent"
    AGENT_SOCKET_REFUSED "agent-socket-refused" Problem
        "no program of ours uses the agent's socket: it may be somebody else's, or cannot be one"
    APP_TOKEN_AMONG_USERS "app-token-among-users" Note
        "an application's own token rests among the tokens of people"
    AUTHORITY_UNKNOWN "authority-unknown" Problem
        "the authority is no cloud of Microsoft's, so no token is asked of it"
    AUTHORITY_UNREACHABLE "authority-unreachable" Problem
        "the authority does not answer, so no token can be refreshed"
    BYTE_ORDER_MARK "byte-order-mark" Problem
        "the cache begins with a byte order mark: .NET deletes such a cache"
    CACHE_DAMAGED "cache-damaged" Problem
        "the content is no MSAL cache: no tool can read it, and .NET deletes it"
    CACHE_FOREIGN "cache-foreign-owner" Problem
        "the cache, or a link to it, belongs to another user"
    CACHE_KEY_GONE "cache-key-gone" Warning
        "the key of this cache is gone, so its tool starts a new one"
    CACHE_KEY_UNAVAILABLE "cache-key-unavailable" Problem
        "the cache cannot be decrypted here and now"
    CACHE_NEWER_FORMAT "cache-newer-format" Warning
        "the cache was written in a format that this version does not know"
    CACHE_NO_FILE "cache-not-a-file" Problem
        "in the cache's place is something that can be no cache"
    CACHE_UNREADABLE "cache-unreadable" Problem
        "the cache cannot be read"
    CLIENT_DUPLICATE "client-duplicate" Problem
        "one client has several entries: every refresh of Node's fails"
    CLOCK_SKEW "clock-skew" Problem
        "this machine's clock is wrong: tokens look expired, or seem to come from the future"
    CONFIG_FOREIGN "config-foreign-owner" Problem
        "config.toml belongs to another user, so no agent and no front door starts"
    CONFIG_MALFORMED "config-malformed" Problem
        "something in config.toml cannot be understood, so no agent and no front door starts"
    CONFIG_OPEN "config-mode-open" Problem
        "other users may write config.toml, so no agent and no front door starts"
    CONFIG_NO_FILE "config-not-a-file" Problem
        "in config.toml's place is something that cannot be one, so no agent and no front door starts"
    CONFIG_UNKNOWN_WORD "config-unknown-word" Problem
        "config.toml has a word that this version does not know, so no agent and no front door starts"
    CONFIG_UNREADABLE "config-unreadable" Problem
        "config.toml cannot be read, so no agent and no front door starts"
    CREDENTIAL_TYPE_MISSPELLED "credential-type-misspelled" Warning
        "a credential type is missing or misspelled, so libraries pass over the entry"
    CREDENTIAL_TYPE_UNKNOWN "credential-type-unknown" Note
        "an entry has a credential type that is not known; Node removes such entries"
    DAMAGED_COPY "damaged-copy-kept" Note
        "what was set aside in its time is still kept, and may hold tokens"
    DOTNET_LOCKING_OFF "dotnet-locking-off" Warning
        "file locks of .NET are turned off, so its tools may overwrite what others save"
    ENCODING_FOREIGN "encoding-foreign" Warning
        "the cache is encoded as another library does it; those that share its place take it for damaged"
    ENTRY_INCOMPLETE "entry-incomplete" Warning
        "an entry lacks what every library needs, so none can use it, and some fail"
    ENTRY_MALFORMED "entry-malformed" Problem
        "an entry is no object, at which libraries fail"
    EXPIRY_ABSURD "expiry-absurd" Warning
        "an access token says it lasts for more than ten years, so Python will use it when it is long dead"
    FAMILY_MISSING "family-missing" Warning
        "no entry says that a client is of a family, so Go and Node do not find its refresh token"
    FAMILY_MISSTATED "family-misstated" Warning
        "an entry says that a client is of no family, while its refresh token is a family's"
    FIELD_MALFORMED "field-malformed" Problem
        "a field that should be text is something else, at which libraries fail"
    FILE_MODE_OPEN "file-mode-open" Problem
        "other users may read or write the file"
    FOLDER_MODE_OPEN "folder-mode-open" Problem
        "other users may put files into the cache's folder, so the cache is not trusted"
    FROM_THE_FUTURE "from-the-future" Warning
        "a token was written later than now: Node and Go pass over it, and an older one would win"
    ID_TOKEN_DUPLICATE "id-token-duplicate" Problem
        "there are several ID tokens for one tenant: Node deletes them all and forgets the name"
    ITEM_DUPLICATE "item-duplicate" Warning
        "the keyring has several items for one cache; tools may read different ones"
    KEYRING_FORGETS "keyring-forgets" Problem
        "the keyring does not give back what it was given"
    KEYRING_LOCKED "keyring-locked" Problem
        "the keyring is locked, so no cache in it can be read"
    KEYRING_NO_BUS "keyring-no-bus" Problem
        "there is no D-Bus session, so there is no keyring to encrypt with"
    KEYRING_NO_COLLECTION "keyring-no-collection" Problem
        "the Secret Service has no default keyring to keep anything in"
    KEYRING_NO_SERVICE "keyring-no-service" Problem
        "nothing offers a Secret Service, so there is no keyring to encrypt with"
    KEYRING_SILENT "keyring-silent" Problem
        "the keyring does not answer; perhaps it asks something where nobody sees it"
    LOCK_HELD_LONG "lock-held-long" Warning
        "a lock has been held for long; tools wait for seconds and then fail"
    LOCK_NO_FILE "lock-not-a-file" Problem
        "in a lock's place is something that is no file, so nobody can take the lock"
    LOCK_STALE "lock-stale" Warning
        "a lock was left behind by a process that is gone: Node and Python wait for it and fail"
    NULL_VALUE "null-value" Problem
        "there is a null: .NET may fail, and then deletes the whole cache"
    NUMBER_VALUE "number-value" Problem
        "there is a number where text belongs: .NET may fail, and then deletes the whole cache"
    PLAINTEXT_LEFT "plaintext-left-behind" Warning
        "tokens lie in a plaintext file although encryption works"
    PROXY_MALFORMED "proxy-malformed" Warning
        "a proxy setting is no address"
    REFRESH_TOKEN_DEAD "refresh-token-dead" Problem
        "a refresh token is there that the provider called dead: its tool will fail instead of asking for a sign-in"
    REFRESH_TOKEN_DUPLICATE "refresh-token-duplicate" Warning
        "a client has several refresh tokens: Node uses the first, stale or not"
    REFRESH_TOKEN_OLD "refresh-token-old" Note
        "a refresh token was not renewed for 90 days, after which the provider forgets it"
    REFRESH_TOKEN_WITHOUT_ACCOUNT "refresh-token-without-account" Warning
        "a refresh token is left of an account that signed out or that no tool lists"
    REVOCATIONS_UNREADABLE "revocations-unreadable" Warning
        "what was learned of dead refresh tokens cannot be read, so one that comes back is not noticed"
    SECTION_MALFORMED "section-malformed" Problem
        "a section is no object, at which libraries fail"
    TEMPORARY_LEFT "temporary-left-behind" Warning
        "a write that was killed left a file with tokens"
    VAULT_KERNEL_ONLY "vault-only-kernel" Warning
        "only the kernel's keyring opens the vault, and it forgets when the machine starts again"
    VAULT_UNUSABLE "vault-unusable" Problem
        "the vault cannot be used"
}

/// What a defect of a document is found as.
pub(super) fn of_defect(kind: DefectKind) -> &'static Sign {
    match kind {
        DefectKind::AccessTokenExpired => &ACCESS_TOKEN_EXPIRED,
        DefectKind::AccessTokensOverlap => &ACCESS_TOKENS_OVERLAP,
        DefectKind::AccountDuplicate => &ACCOUNT_DUPLICATE,
        DefectKind::AccountIncomplete => &ACCOUNT_INCOMPLETE,
        DefectKind::AccountWithoutRefreshToken => &ACCOUNT_WITHOUT_REFRESH_TOKEN,
        DefectKind::AppMetadataDuplicate => &CLIENT_DUPLICATE,
        DefectKind::AppTokenAmongUsers => &APP_TOKEN_AMONG_USERS,
        DefectKind::ByteOrderMark => &BYTE_ORDER_MARK,
        DefectKind::CredentialTypeMisspelled => &CREDENTIAL_TYPE_MISSPELLED,
        DefectKind::CredentialTypeUnknown => &CREDENTIAL_TYPE_UNKNOWN,
        DefectKind::EntryIncomplete => &ENTRY_INCOMPLETE,
        DefectKind::EntryMalformed => &ENTRY_MALFORMED,
        DefectKind::ExpiryAbsurd => &EXPIRY_ABSURD,
        DefectKind::FamilyMisstated => &FAMILY_MISSTATED,
        DefectKind::FamilyMissing => &FAMILY_MISSING,
        DefectKind::FieldMalformed => &FIELD_MALFORMED,
        DefectKind::FromTheFuture => &FROM_THE_FUTURE,
        DefectKind::IdTokenDuplicate => &ID_TOKEN_DUPLICATE,
        DefectKind::NullValue => &NULL_VALUE,
        DefectKind::NumberValue => &NUMBER_VALUE,
        DefectKind::RefreshTokenDuplicate => &REFRESH_TOKEN_DUPLICATE,
        DefectKind::RefreshTokenOld => &REFRESH_TOKEN_OLD,
        DefectKind::RefreshTokenWithoutAccount => &REFRESH_TOKEN_WITHOUT_ACCOUNT,
        DefectKind::SectionMalformed => &SECTION_MALFORMED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_in_order_and_meanings_are_one_plain_line() {
        assert!(CATALOGUE.is_sorted_by(|one, other| one.id < other.id), "sort them by id");
        for Sign { id, meaning, .. } in CATALOGUE {
            assert!(id.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{id}");
            assert!(!meaning.ends_with('.') && meaning.len() < 110 && !meaning.contains('\n'), "{id}");
        }
    }

    #[test]
    fn the_reference_explains_every_finding_with_its_severity() {
        let reference = include_str!("../../../docs/doctor.md");
        for Sign { id, severity, .. } in CATALOGUE {
            let row = format!("| `{id}` | {severity} |");
            assert!(reference.contains(&row), "docs/doctor.md has no row that begins with {row}");
        }
    }
}
