//! Which account of the cache is meant.

use crate::cloud::{self, Authority, TenantId};
use crate::document::{CachedAccount, CachedClient, TokenCacheDocument};
use crate::error::Candidate;
use crate::record::AuthenticationRecord;

use super::DEVELOPER_SIGN_ON_CLIENT_ID;

/// Why it is not clear which account is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AccountError {
    /// The cache holds nobody.
    #[error("{cache} has no account")]
    NoAccounts { cache: String },
    /// Nobody fits the hint.
    #[error("no account in {cache} matches {hint:?}; it has:{}", listed(candidates))]
    NoMatchingAccount { cache: String, hint: String, candidates: Vec<Candidate> },
    /// No hint was given, and there are several.
    #[error("{cache} has several accounts:{}", listed(candidates))]
    SeveralAccounts { cache: String, candidates: Vec<Candidate> },
    /// The hint fits several.
    #[error("several accounts in {cache} match {hint:?}:{}", listed(candidates))]
    SeveralMatchingAccounts { cache: String, hint: String, candidates: Vec<Candidate> },
}

impl AccountError {
    pub(crate) const fn is_ambiguous(&self) -> bool {
        match self {
            Self::NoAccounts { .. } | Self::NoMatchingAccount { .. } => false,
            Self::SeveralAccounts { .. } | Self::SeveralMatchingAccounts { .. } => true,
        }
    }

    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::NoAccounts { .. } => "no_accounts",
            Self::NoMatchingAccount { .. } => "no_matching_account",
            Self::SeveralAccounts { .. } => "several_accounts",
            Self::SeveralMatchingAccounts { .. } => "several_matching_accounts",
        }
    }

    pub(crate) fn candidates(&self) -> &[Candidate] {
        match self {
            Self::NoAccounts { .. } => &[],
            Self::NoMatchingAccount { candidates, .. }
            | Self::SeveralAccounts { candidates, .. }
            | Self::SeveralMatchingAccounts { candidates, .. } => candidates,
        }
    }

    pub(crate) fn hint(&self) -> String {
        match self {
            // The two caches hold different logins (spec S-C 2.1).
            Self::NoAccounts { cache } if cache.ends_with(".cae") => {
                "sign in: tokenkeep login --enable-cae".to_owned()
            }
            Self::NoAccounts { .. } => "sign in: tokenkeep login".to_owned(),
            Self::NoMatchingAccount { .. } => {
                "name one of them: --account HINT, or sign in: tokenkeep login".to_owned()
            }
            Self::SeveralAccounts { .. } => {
                "name one: --account HINT, or set a default: tokenkeep accounts default HINT".to_owned()
            }
            Self::SeveralMatchingAccounts { .. } => {
                "give more of the name, or the home account id".to_owned()
            }
        }
    }
}

/// The account that a hint means: a username or a home account id, or the beginning of either
/// that only one account has. Case does not count, and a whole name beats a beginning.
///
/// Without a hint it is the only account, else the default one, else the only one that `client_id`
/// can get tokens for.
pub(crate) fn choose<'a>(
    accounts: &'a [CachedAccount],
    hint: Option<&str>,
    default: Option<&str>,
    client_id: &str,
    cache: &str,
) -> Result<&'a CachedAccount, AccountError> {
    let cache = cache.to_owned();
    if accounts.is_empty() {
        return Err(AccountError::NoAccounts { cache });
    }
    let Some(hint) = hint else {
        return without_hint(accounts, default, client_id)
            .ok_or_else(|| AccountError::SeveralAccounts { cache, candidates: candidates(accounts) });
    };
    let wanted = hint.trim().to_lowercase();
    let names =
        |account: &CachedAccount| [account.username.to_lowercase(), account.home_account_id.to_lowercase()];
    let mut fitting: Vec<&CachedAccount> =
        accounts.iter().filter(|account| names(account).contains(&wanted)).collect();
    if fitting.is_empty() && !wanted.is_empty() {
        let begins = |account: &&CachedAccount| names(account).iter().any(|name| name.starts_with(&wanted));
        fitting = accounts.iter().filter(begins).collect();
    }
    let hint = hint.to_owned();
    match fitting[..] {
        [] => {
            let candidates = candidates(accounts);
            Err(AccountError::NoMatchingAccount { cache, hint, candidates })
        }
        [only] => Ok(only),
        _ => {
            let candidates = candidates(fitting);
            Err(AccountError::SeveralMatchingAccounts { cache, hint, candidates })
        }
    }
}

fn without_hint<'a>(
    accounts: &'a [CachedAccount],
    default: Option<&str>,
    client_id: &str,
) -> Option<&'a CachedAccount> {
    if let [only] = accounts {
        return Some(only);
    }
    let is_default = |account: &&CachedAccount| default == Some(&*account.home_account_id);
    let serves_client = |account: &&CachedAccount| {
        let of_client = |cached: &CachedClient| cached.client_id.eq_ignore_ascii_case(client_id);
        account.has_family_token() || account.clients.iter().any(of_client)
    };
    accounts.iter().find(is_default).or_else(|| {
        let mut serving = accounts.iter().filter(serves_client);
        serving.next().filter(|_| serving.next().is_none())
    })
}

/// The accounts of the authority's cloud; others have nothing to give there.
pub(crate) fn of_cloud(accounts: Vec<CachedAccount>, host: &str) -> Vec<CachedAccount> {
    let same = |account: &CachedAccount| cloud::same_cloud(&account.environment, host);
    accounts.into_iter().filter(same).collect()
}

/// The record by which the account of a cache is found again, for the tenant and the client that were
/// asked for, if any were.
pub(crate) fn record(
    account: &CachedAccount,
    authority: &Authority,
    tenant: Option<&TenantId>,
    client_id: Option<&str>,
) -> AuthenticationRecord {
    let home = account.home_tenant.as_deref().and_then(|tenant| TenantId::parse(tenant).ok());
    AuthenticationRecord::new(
        authority.for_network(),
        client_of(account, client_id).to_owned(),
        account.home_account_id.clone(),
        tenant.cloned().or(home).unwrap_or_else(TenantId::organizations),
        account.username.clone(),
    )
}

/// The client whose tokens are asked for; the account's only one if nothing else was asked for and
/// the default client could not use what it has.
fn client_of<'a>(account: &'a CachedAccount, client_id: Option<&'a str>) -> &'a str {
    match (client_id, &*account.clients) {
        (None, [only]) if only.family_id.is_none() => &only.client_id,
        _ => client_id.unwrap_or(DEVELOPER_SIGN_ON_CLIENT_ID),
    }
}

/// An account, and the names of the caches that know it.
#[derive(Clone, Debug)]
pub(crate) struct ListedAccount {
    pub(crate) account: CachedAccount,
    pub(crate) caches: Vec<String>,
}

/// The accounts of several caches, each once.
pub(crate) fn list<'a>(
    caches: impl IntoIterator<Item = (&'a str, &'a TokenCacheDocument)>,
) -> Vec<ListedAccount> {
    let mut listed: Vec<ListedAccount> = Vec::new();
    for (name, document) in caches {
        for account in document.accounts() {
            let same = |known: &&mut ListedAccount| is_same(&known.account, &account);
            match listed.iter_mut().find(same) {
                Some(known) => {
                    known.caches.push(name.to_owned());
                    merge(&mut known.account, account);
                }
                None => listed.push(ListedAccount { account, caches: vec![name.to_owned()] }),
            }
        }
    }
    listed
}

fn is_same(one: &CachedAccount, other: &CachedAccount) -> bool {
    one.home_account_id == other.home_account_id && cloud::same_cloud(&one.environment, &other.environment)
}

fn merge(known: &mut CachedAccount, other: CachedAccount) {
    if known.username.is_empty() {
        known.username = other.username;
    }
    for realm in other.realms {
        if !known.realms.contains(&realm) {
            known.realms.push(realm);
        }
    }
    for client in other.clients {
        let same = |known: &&mut CachedClient| known.client_id == client.client_id;
        match known.clients.iter_mut().find(same) {
            Some(known) => known.family_id = known.family_id.take().or(client.family_id),
            None => known.clients.push(client),
        }
    }
}

/// How to call an account that may not know its name.
pub(crate) fn display_name(account: &CachedAccount) -> &str {
    if account.username.is_empty() { &account.home_account_id } else { &account.username }
}

fn candidates<'a>(accounts: impl IntoIterator<Item = &'a CachedAccount>) -> Vec<Candidate> {
    let candidate = |account: &CachedAccount| {
        Candidate::new(
            account.username.clone(),
            account.home_account_id.clone(),
            account.home_tenant.clone().unwrap_or_default(),
        )
    };
    accounts.into_iter().map(candidate).collect()
}

fn listed(candidates: &[Candidate]) -> String {
    let width = candidates.iter().map(|candidate| candidate.username.chars().count()).max().unwrap_or(0);
    let line =
        |candidate: &Candidate| format!("\n  {:width$}  {}", candidate.username, candidate.home_account_id);
    candidates.iter().map(line).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn account(username: &str, home_account_id: &str) -> CachedAccount {
        CachedAccount {
            home_account_id: home_account_id.to_owned(),
            environment: "login.windows.net".to_owned(),
            username: username.to_owned(),
            home_tenant: home_account_id.split_once('.').map(|(_, tenant)| tenant.to_owned()),
            realms: Vec::new(),
            clients: Vec::new(),
        }
    }

    fn chosen<'a>(
        accounts: &'a [CachedAccount],
        hint: Option<&str>,
        default: Option<&str>,
    ) -> Result<&'a str, AccountError> {
        choose(accounts, hint, default, "client", "msal.cache.nocae")
            .map(|account| account.home_account_id.as_str())
    }

    #[test]
    fn a_hint_is_a_name_an_id_or_the_beginning_of_one() {
        let accounts = [
            account("ann@contoso.example", "aaaa.1111"),
            account("ann@contoso.example.org", "bbbb.2222"),
            account("Bob@contoso.example", "aabb.1111"),
            account("", "cccc.1111"),
        ];
        for (hint, expected) in [
            ("ANN@contoso.example", "aaaa.1111"),
            ("ann@contoso.example.", "bbbb.2222"),
            ("bob", "aabb.1111"),
            ("AAAA", "aaaa.1111"),
            ("aabb.1111", "aabb.1111"),
            (" cccc ", "cccc.1111"),
        ] {
            assert_eq!(chosen(&accounts, Some(hint), None), Ok(expected), "{hint}");
        }
    }

    #[test]
    fn what_fits_several_or_nobody_is_told_apart_with_the_candidates() {
        let accounts = [
            account("ann@contoso.example", "aaaa.1111"),
            account("ann@contoso.example", "aaaa.2222"),
            account("bob@contoso.example", "bbbb.1111"),
        ];
        for hint in ["ann@contoso.example", "ann", "aaaa."] {
            let error = chosen(&accounts, Some(hint), Some("aaaa.1111")).unwrap_err();
            assert!(error.is_ambiguous(), "{error}");
            assert_eq!(error.candidates().len(), 2);
        }
        for hint in ["carl", "nn@", "", " "] {
            let error = chosen(&accounts, Some(hint), None).unwrap_err();
            assert_eq!(error.kind(), "no_matching_account", "{hint:?}");
            assert_eq!(error.candidates().len(), 3);
        }
        assert_eq!(chosen(&[], Some("ann"), None).unwrap_err().kind(), "no_accounts");
    }

    #[test]
    fn without_a_hint_it_is_the_only_account_or_the_default() {
        let accounts = [account("a", "a.1"), account("b", "b.1")];
        assert_eq!(chosen(&[], None, Some("a.1")).unwrap_err().kind(), "no_accounts");
        assert_eq!(chosen(&accounts[..1], None, Some("b.1")), Ok("a.1"));
        assert_eq!(chosen(&accounts, None, Some("b.1")), Ok("b.1"));
        for default in [None, Some("c.1")] {
            let error = chosen(&accounts, None, default).unwrap_err();
            assert_eq!(error.kind(), "several_accounts");
        }
    }

    #[test]
    fn without_a_default_it_is_the_only_one_that_the_client_can_use() {
        let client = |client_id: &str, family_id: Option<&str>| CachedClient {
            client_id: client_id.to_owned(),
            family_id: family_id.map(ToOwned::to_owned),
        };
        let mut accounts = [account("a", "a.1"), account("b", "b.1")];
        accounts[0].clients = vec![client("other", None)];
        for usable in [client("CLIENT", None), client("other", Some("1"))] {
            accounts[1].clients = vec![usable];
            assert_eq!(chosen(&accounts, None, None), Ok("b.1"));
        }
        // Signed out or not, the default is who was meant.
        assert_eq!(chosen(&accounts, None, Some("a.1")), Ok("a.1"));
        accounts[0].clients = accounts[1].clients.clone();
        chosen(&accounts, None, None).unwrap_err();
    }

    #[test]
    fn accounts_of_another_cloud_are_not_meant() {
        let mut elsewhere = account("a", "a.1");
        elsewhere.environment = "login.microsoftonline.us".to_owned();
        let accounts = vec![account("b", "b.1"), elsewhere];
        let here = of_cloud(accounts, "login.microsoftonline.com");
        assert_eq!(here.iter().map(display_name).collect::<Vec<_>>(), ["b"]);
    }
}
