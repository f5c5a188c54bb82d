//! What a refused refresh token means: the rules of spec S-B 7.1, from the top down.

use std::time::Duration;

use super::Refusal;
use super::explain::{Class, explain};
use crate::error::ProviderError;

/// What a refused refresh token means (spec S-B 7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The client is not of the token's family: try another token, keep this one.
    ClientMismatch,
    /// Setup is wrong: the token is fine, and trying again is useless.
    Configuration,
    /// The token is dead: remove exactly it.
    Dead,
    /// Dead for this resource only: keep it, ask a person, remove it if it happens again.
    DeadForResource,
    /// A person has to do something: keep the token.
    Interaction,
    /// Nobody's fault: keep the token, come back later.
    Transient { retry_after: Option<Duration> },
    /// `invalid_grant` with nothing else: keep it once, remove it when it fails again after 60 s.
    Unclear,
}

const CONFIGURATION_ERRORS: [&str; 5] =
    ["invalid_client", "invalid_resource", "invalid_scope", "unauthorized_client", "unsupported_grant_type"];
const INTERACTION_ERRORS: [&str; 3] = ["consent_required", "interaction_required", "login_required"];
const INTERACTION_SUBERRORS: [&str; 7] = [
    "additional_action",
    "basic_action",
    "consent_required",
    "device_authentication_failed",
    "message_only",
    "ui_not_allowed",
    "user_password_expired",
];
/// With `token_expired`, these say that the token is dead everywhere.
const EXPIRED_EVERYWHERE: [u32; 4] = [50173, 70008, 700_082, 700_084];
/// "The client is looping": a shorter wait would be more of the same.
const LOOP_DETECTED: u32 = 50196;
const LOOP_WAIT: Duration = Duration::from_secs(60);

/// Says what to do with the refresh token that was refused.
///
/// Only for the refresh grant: the same words after a code or a password say nothing about a token.
pub(crate) fn classify(refusal: &Refusal) -> Verdict {
    match refusal {
        Refusal::Answered { status, retry_after, error } => answered(*status, *retry_after, error),
        // A captive portal, a proxy's page, a gateway in trouble: none of them judged the token.
        Refusal::Unreadable { retry_after, .. } => Verdict::Transient { retry_after: *retry_after },
        Refusal::Unreachable { .. } => Verdict::Transient { retry_after: None },
    }
}

fn answered(status: u16, retry_after: Option<Duration>, error: &ProviderError) -> Verdict {
    let has = |class: Class| classes(error).any(|known| known == class);
    let suberror = error.suberror.as_deref();
    // Answers list several numbers (70002 together with 70008), so one alone must not decide.
    let codes_count = suberror.is_none() && !classes(error).any(Class::is_about_a_grant);
    let is_grant = error.error == "invalid_grant";

    if matches!(status, 408 | 429 | 500..)
        || matches!(error.error.as_str(), "temporarily_unavailable" | "server_error")
        || (codes_count && has(Class::Transient))
    {
        let looping = error.codes.contains(&LOOP_DETECTED);
        let retry_after = if looping { retry_after.max(Some(LOOP_WAIT)) } else { retry_after };
        return Verdict::Transient { retry_after };
    }
    // Comes with `unauthorized_client`, which the next rule would take for a wrong setup.
    if suberror == Some("protection_policy_required") {
        return Verdict::Interaction;
    }
    if CONFIGURATION_ERRORS.contains(&error.error.as_str()) || (codes_count && has(Class::Configuration)) {
        return Verdict::Configuration;
    }
    match suberror {
        Some("client_mismatch") => return Verdict::ClientMismatch,
        Some("bad_token") if is_grant => return Verdict::Dead,
        Some("token_expired") if is_grant => {
            let everywhere = error.codes.iter().any(|code| EXPIRED_EVERYWHERE.contains(code));
            return if everywhere { Verdict::Dead } else { Verdict::DeadForResource };
        }
        _ => {}
    }
    let asks_a_person = error.claims.is_some()
        || INTERACTION_ERRORS.contains(&error.error.as_str())
        || suberror.is_some_and(|suberror| INTERACTION_SUBERRORS.contains(&suberror));
    match (is_grant, suberror) {
        _ if asks_a_person => Verdict::Interaction,
        // A suberror of tomorrow: a person can mend more than we can, and nothing is lost.
        (true, Some(_)) => Verdict::Interaction,
        (true, None) if has(Class::Dead) => Verdict::Dead,
        (true, None) if has(Class::DeadForResource) => Verdict::DeadForResource,
        (true, None) if has(Class::Interaction) => Verdict::Interaction,
        (true, None) => Verdict::Unclear,
        (false, _) if has(Class::Interaction) => Verdict::Interaction,
        (false, _) => Verdict::Configuration,
    }
}

fn classes(error: &ProviderError) -> impl Iterator<Item = Class> {
    error.codes.iter().filter_map(|code| explain(*code)).map(|known| known.class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Claims;

    const TRANSIENT: Verdict = Verdict::Transient { retry_after: None };

    fn error(error: &str, suberror: Option<&str>, codes: &[u32]) -> Box<ProviderError> {
        Box::new(ProviderError {
            error: error.to_owned(),
            suberror: suberror.map(str::to_owned),
            codes: codes.to_vec(),
            ..ProviderError::default()
        })
    }

    fn verdict(error: Box<ProviderError>) -> Verdict {
        classify(&Refusal::Answered { status: 400, retry_after: None, error })
    }

    #[test]
    fn whatever_nobody_judged_is_transient() {
        let retry_after = Some(Duration::from_secs(7));
        assert_eq!(classify(&Refusal::Unreachable { detail: String::new() }), TRANSIENT);
        let page = Refusal::Unreadable { status: 200, retry_after, detail: String::new() };
        assert_eq!(classify(&page), Verdict::Transient { retry_after });
        for status in [408, 429, 500, 501, 502, 503, 504, 505] {
            let error = error("invalid_grant", Some("bad_token"), &[50173]);
            let refusal = Refusal::Answered { status, retry_after, error };
            assert_eq!(classify(&refusal), Verdict::Transient { retry_after }, "{status}");
        }
        for name in ["temporarily_unavailable", "server_error"] {
            assert_eq!(verdict(error(name, None, &[])), TRANSIENT);
        }
    }

    #[test]
    fn each_rule_has_its_verdict() {
        use Verdict::{ClientMismatch, Configuration, Dead, DeadForResource, Interaction, Unclear};
        let cases: &[(&str, Option<&str>, &[u32], Verdict)] = &[
            // 1
            ("invalid_grant", None, &[90033], TRANSIENT),
            ("invalid_grant", None, &[50196], Verdict::Transient { retry_after: Some(LOOP_WAIT) }),
            // 1 and 2: numbers count only without a suberror and without a number of class A
            ("invalid_grant", Some("bad_token"), &[90033], Dead),
            ("invalid_grant", None, &[90033, 70008], Dead),
            ("invalid_grant", None, &[70002, 70008], Dead),
            ("invalid_grant", Some("basic_action"), &[70002], Interaction),
            // 2
            ("invalid_client", None, &[7000218], Configuration),
            ("invalid_client", None, &[70002, 50173], Configuration),
            ("invalid_resource", None, &[], Configuration),
            ("invalid_scope", None, &[70011], Configuration),
            ("unauthorized_client", None, &[700016], Configuration),
            ("unsupported_grant_type", None, &[], Configuration),
            ("invalid_grant", None, &[65002], Configuration),
            ("invalid_request", None, &[900144], Configuration),
            // 3
            ("invalid_grant", Some("client_mismatch"), &[70000], ClientMismatch),
            // 4
            ("unauthorized_client", Some("protection_policy_required"), &[53005], Interaction),
            ("invalid_grant", Some("protection_policy_required"), &[], Interaction),
            // 5
            ("invalid_grant", Some("bad_token"), &[50173], Dead),
            ("invalid_grant", Some("bad_token"), &[], Dead),
            ("interaction_required", Some("bad_token"), &[], Interaction),
            // 6
            ("invalid_grant", Some("token_expired"), &[700082], Dead),
            ("invalid_grant", Some("token_expired"), &[700084], Dead),
            ("invalid_grant", Some("token_expired"), &[70043], DeadForResource),
            ("invalid_grant", Some("token_expired"), &[], DeadForResource),
            // 7
            ("interaction_required", None, &[50076], Interaction),
            ("interaction_required", None, &[50173], Interaction),
            ("login_required", None, &[50058], Interaction),
            ("invalid_grant", Some("message_only"), &[53000], Interaction),
            ("invalid_grant", Some("user_password_expired"), &[50055], Interaction),
            // 8
            ("invalid_grant", None, &[50173], Dead),
            ("invalid_grant", None, &[70044], DeadForResource),
            ("invalid_grant", None, &[50076], Interaction),
            ("invalid_grant", None, &[], Unclear),
            ("invalid_grant", None, &[424242], Unclear),
            ("invalid_grant", None, &[9002313], Unclear),
            ("invalid_grant", None, &[54005], Unclear),
            // what no rule names keeps the token
            ("invalid_grant", Some("of_tomorrow"), &[50173], Interaction),
            ("access_denied", None, &[53003], Interaction),
            ("invalid_request", None, &[], Configuration),
        ];
        for (name, suberror, codes, expected) in cases {
            assert_eq!(verdict(error(name, *suberror, codes)), *expected, "{name} {suberror:?} {codes:?}");
        }
        for suberror in INTERACTION_SUBERRORS {
            assert_eq!(verdict(error("invalid_grant", Some(suberror), &[])), Interaction, "{suberror}");
        }
    }

    #[test]
    fn claims_ask_a_person_but_never_revive_a_dead_token() {
        let with_claims = |mut error: Box<ProviderError>| {
            error.claims = Claims::parse(r#"{"access_token":{}}"#).ok();
            verdict(error)
        };
        assert_eq!(with_claims(error("invalid_grant", None, &[50173])), Verdict::Interaction);
        assert_eq!(with_claims(error("invalid_grant", None, &[])), Verdict::Interaction);
        assert_eq!(with_claims(error("invalid_grant", Some("bad_token"), &[])), Verdict::Dead);
        assert_eq!(with_claims(error("invalid_client", None, &[])), Verdict::Configuration);
    }

    #[test]
    fn a_longer_wait_than_the_loops_own_is_kept() {
        let long = Some(Duration::from_secs(300));
        let refusal = Refusal::Answered {
            status: 400,
            retry_after: long,
            error: error("invalid_grant", None, &[50196]),
        };
        assert_eq!(classify(&refusal), Verdict::Transient { retry_after: long });
    }

    #[test]
    fn every_number_alone_with_invalid_grant_follows_its_class() {
        let long = [500_011, 530_032, 650_057, 700_016, 700_020, 700_082, 700_084, 7_000_215, 9_002_313];
        for code in (0..100_000).chain(long) {
            let expected = match explain(code).map(|known| known.class) {
                Some(Class::Configuration) => Verdict::Configuration,
                Some(Class::Dead) => Verdict::Dead,
                Some(Class::DeadForResource) => Verdict::DeadForResource,
                Some(Class::Interaction) => Verdict::Interaction,
                Some(Class::Transient) => continue,
                Some(Class::DeviceCode | Class::Other | Class::Permission | Class::Unavailable) | None => {
                    Verdict::Unclear
                }
            };
            assert_eq!(verdict(error("invalid_grant", None, &[code])), expected, "{code}");
        }
    }
}
