//! Which spellings of a tenant are one realm (spec S-C 1.5).

use crate::cloud::is_placeholder;

use super::IssuedTokens;

/// The tenant of all personal accounts, which `consumers` stands for.
const PERSONAL_ACCOUNTS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// What stands after the dot of `uid.utid`; an AD FS subject has none.
pub(super) fn home_tenant(home_account_id: &str) -> Option<&str> {
    let (_, tenant) = home_account_id.split_once('.')?;
    (!tenant.is_empty() && !tenant.contains('.')).then_some(tenant)
}

/// Whether two realms are one for this account: `organizations`, `common` and its home tenant are.
pub(super) fn same_realm(home_account_id: &str, one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
        || tenant_of(home_account_id, one).eq_ignore_ascii_case(tenant_of(home_account_id, other))
}

/// The realm of a new access token. A domain stays as it was asked for, so that asking for it
/// again finds the token.
pub(super) fn of_access_token(tokens: &IssuedTokens) -> &str {
    let asked = tokens.requested_tenant.as_str();
    let asked_for_any = asked.is_empty() || is_placeholder(asked) || is_consumers(asked);
    match tokens.token_tenant.as_deref() {
        Some(tenant) if asked_for_any || asked.eq_ignore_ascii_case(tenant) => tenant,
        None if asked_for_any => home_tenant(&tokens.home_account_id).unwrap_or(asked),
        _ => asked,
    }
}

/// The realm of a new ID token or account: the tenant that issued the ID token.
pub(super) fn of_sign_in(tokens: &IssuedTokens) -> &str {
    match tokens.token_tenant.as_deref() {
        Some(tenant) if !tokens.requested_tenant.eq_ignore_ascii_case("adfs") => tenant,
        _ => of_access_token(tokens),
    }
}

/// The tenant that a realm stands for, to be written into a cache of another tool's.
pub(super) fn spelled_out<'a>(home_account_id: &'a str, realm: &'a str) -> &'a str {
    if is_placeholder(realm) { home_tenant(home_account_id).unwrap_or(realm) } else { realm }
}

fn tenant_of<'a>(home_account_id: &'a str, realm: &'a str) -> &'a str {
    if is_placeholder(realm) {
        home_tenant(home_account_id).unwrap_or("organizations")
    } else if is_consumers(realm) {
        PERSONAL_ACCOUNTS
    } else {
        realm
    }
}

const fn is_consumers(realm: &str) -> bool {
    realm.eq_ignore_ascii_case("consumers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_and_the_home_tenant_are_one_realm() {
        for (one, other, same) in [
            ("organizations", "T1", true),
            ("common", "Organizations", true),
            ("t1", "T1", true),
            ("organizations", "t2", false),
            ("consumers", "t1", false),
            ("consumers", PERSONAL_ACCOUNTS, true),
            ("contoso.example", "t1", false),
        ] {
            assert_eq!(same_realm("u1.t1", one, other), same, "{one} {other}");
            assert_eq!(same_realm("u1.t1", other, one), same, "{other} {one}");
        }
        assert!(same_realm("subject", "common", "organizations"));
        assert!(!same_realm("subject", "common", "adfs"));
    }

    #[test]
    fn only_two_parts_make_a_home_tenant() {
        assert_eq!(home_tenant("u1.t1"), Some("t1"));
        for other in ["", "subject", "a.b.c", "u1."] {
            assert_eq!(home_tenant(other), None, "{other}");
        }
    }
}
