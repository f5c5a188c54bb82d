//! What Entra's AADSTS numbers mean, and what to do about each (spec S-B 7.2).

use self::Class::{Configuration, Dead, DeadForResource, DeviceCode, Interaction, Other, Transient};

/// One of Entra's numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Explanation {
    pub(crate) code: u32,
    pub(crate) class: Class,
    pub(crate) meaning: &'static str,
    /// The next step, as one line for a person.
    pub(crate) next_step: &'static str,
}

/// What a number says about the refresh token that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Something is set up wrongly (class D).
    Configuration,
    /// The token is dead (class A).
    Dead,
    /// The token is dead for one resource (class A, soft).
    DeadForResource,
    /// A person's device-code sign-in did not succeed; says nothing about any token.
    DeviceCode,
    /// A person has to do something (class B).
    Interaction,
    /// Stands among the dead (class A) but is about the request or its code, not the token.
    Other,
    /// Nobody's fault (class C).
    Transient,
}

impl Class {
    /// Whether the number is of class A: then no other number of the same answer counts.
    pub(crate) const fn is_about_a_grant(self) -> bool {
        matches!(self, Dead | DeadForResource | Other)
    }
}

/// What is known about a number.
pub(crate) fn explain(code: u32) -> Option<&'static Explanation> {
    let at = TABLE.binary_search_by_key(&code, |known| known.code).ok()?;
    Some(&TABLE[at])
}

const ADMIN: &str = "ask an administrator of the tenant";
const ASSERTION: &str =
    "check the assertion's audience, issuer, times and signature against the app's credentials";
const CLIENT: &str = "check --client-id and --tenant against the app's registration";
const CODE: &str = "start a new sign-in: tokenkeep login --device-code";
const CONSENT: &str = "sign in and consent, or ask an administrator to: tokenkeep login";
const DEVICE: &str = "sign in from a device that the organisation manages, or ask an administrator";
const LATER: &str = "try again in a few minutes";
const LOGIN: &str = "sign in again: tokenkeep login";
const REPORT: &str = "check the scope and claims that were asked for";
const RESOURCE: &str = "check --scope: the resource has to exist in this tenant";
const SCOPE: &str = "check --scope";
const SECRET: &str = "give the app a new secret or certificate and use that";
const TENANT: &str = "check --tenant: it has to be an existing tenant's id or domain";

const fn row(code: u32, class: Class, meaning: &'static str, next_step: &'static str) -> Explanation {
    Explanation { code, class, meaning, next_step }
}

/// Sorted by number.
#[rustfmt::skip] // one number, one line
const TABLE: &[Explanation] = &[
    row(16000, Interaction, "several accounts are signed in, and one has to be chosen", LOGIN),
    row(28002, Configuration, "a scope is not valid for this resource", SCOPE),
    row(28003, Configuration, "the scope is empty", SCOPE),
    row(50001, Configuration, "the resource does not exist in this tenant", RESOURCE),
    row(50011, Configuration, "the redirect URI is not one of the app's", "register http://localhost as a redirect URI of the app, for mobile and desktop applications"),
    row(50012, Configuration, "the assertion's signature could not be verified", ASSERTION),
    row(50013, Configuration, "the assertion is not valid", ASSERTION),
    row(50020, Dead, "the account is not a member or guest of this tenant", "sign in with an account of this tenant, or have yours invited: tokenkeep login --tenant TENANT"),
    row(50027, Configuration, "the assertion is not a well-formed JWT", ASSERTION),
    row(50033, Transient, "the provider had a passing failure", LATER),
    row(50034, Dead, "the account does not exist in this tenant any more", "remove it: tokenkeep logout --account USERNAME; then sign in with another"),
    row(50049, Configuration, "the tenant or its instance is unknown", TENANT),
    row(50053, Configuration, "the account is locked after too many attempts, or the address is blocked", "wait, or ask an administrator to unlock the account"),
    row(50055, Interaction, "the password has expired", "sign in and choose a new password: tokenkeep login"),
    row(50057, Dead, "the account is disabled", "ask an administrator to enable the account; signing in fails until then"),
    row(50058, Interaction, "nobody is signed in who could be used silently", LOGIN),
    row(50059, Configuration, "the request names no tenant", TENANT),
    row(50072, Interaction, "the account has to enrol for a second factor", "sign in and enrol: tokenkeep login"),
    row(50074, Interaction, "a second factor is required", LOGIN),
    row(50076, Interaction, "a second factor is required by policy or because of a new place", LOGIN),
    row(50078, Interaction, "the second factor has expired", LOGIN),
    row(50079, Interaction, "the account has to enrol for a second factor", "sign in and enrol: tokenkeep login"),
    row(50085, Dead, "the token needs a sign-in with its social identity provider", LOGIN),
    row(50087, Transient, "the provider had a passing failure", LATER),
    row(50088, Transient, "the provider's calls and messages for second factors are limited just now", LATER),
    row(50089, Dead, "what the sign-in left behind has expired", LOGIN),
    row(50097, Interaction, "the device has to authenticate itself", DEVICE),
    row(50105, Interaction, "the account is not assigned to a role of the app", "ask an administrator to assign the account to the app"),
    row(50126, Configuration, "the user name or the password is wrong", "check both"),
    row(50128, Configuration, "the domain belongs to no tenant", TENANT),
    row(50131, Interaction, "policy blocked the request: device, place or risk", DEVICE),
    row(50132, Dead, "the session ended with a password change or expired", LOGIN),
    row(50133, Dead, "the session ended with a password change or expired", LOGIN),
    row(50144, Interaction, "the password in the organisation's directory has expired", "sign in and choose a new password: tokenkeep login"),
    row(50155, Interaction, "the device could not be authenticated for this account", DEVICE),
    row(50158, Interaction, "an external provider asks for a second factor", LOGIN),
    row(50173, Dead, "a fresh sign-in is needed: the password was changed or the sessions were revoked", LOGIN),
    row(50194, Configuration, "the app is for one tenant only", "name the app's own tenant: --tenant TENANT"),
    row(50196, Transient, "the provider saw the same request in a loop", "stop whatever repeats the request, and wait a minute"),
    row(53000, Interaction, "the device does not comply with the organisation's rules", DEVICE),
    row(53001, Interaction, "the device is not joined to the organisation", DEVICE),
    row(53002, Interaction, "the app is not one that the organisation approved", ADMIN),
    row(53003, Interaction, "a Conditional Access policy blocks the request", ADMIN),
    row(53004, Interaction, "the account has to complete its registration for second factors", "sign in and register: tokenkeep login"),
    row(54005, Other, "the authorization code was already used", "start a new sign-in: tokenkeep login"),
    row(65001, Interaction, "the app has no consent for what it asks", CONSENT),
    row(65002, Configuration, "the app is not preauthorised by the resource", "ask the resource's owner to preauthorise the app, or use another --client-id"),
    row(65004, Interaction, "consent was declined", CONSENT),
    row(65005, Configuration, "the app did not list the resource among its permissions", "add the resource to the app's required permissions"),
    row(70000, Dead, "the token is malformed, revoked, or another client's", LOGIN),
    row(70001, Configuration, "the app is not known in this tenant", CLIENT),
    row(70002, Configuration, "the app's credentials could not be verified", CLIENT),
    row(70003, Configuration, "the app used a kind of grant that is not supported", CLIENT),
    row(70008, Dead, "the token or code has expired by inactivity, or was revoked", LOGIN),
    row(70011, Configuration, "the scope is not valid", SCOPE),
    row(70016, DeviceCode, "nobody has entered the code yet", "enter the code on the page that was shown"),
    row(70018, DeviceCode, "the code is not valid", CODE),
    row(70019, DeviceCode, "the code has expired", CODE),
    row(70043, DeadForResource, "the sign-in is older than policy allows for this resource", LOGIN),
    row(70044, DeadForResource, "the session is older than policy allows for this resource", LOGIN),
    row(80002, Transient, "the organisation's own sign-in agent did not answer in time", LATER),
    row(80005, Transient, "the organisation's own sign-in agent gave an unexpected answer", LATER),
    row(90002, Configuration, "the tenant was not found", TENANT),
    row(90006, Transient, "the provider had a passing failure", LATER),
    row(90012, Transient, "the request took too long", LATER),
    row(90023, Configuration, "the request is not valid", REPORT),
    row(90024, Transient, "the provider was busy", LATER),
    row(90033, Transient, "the provider had a passing failure", LATER),
    row(90055, Transient, "the tenant gets too many requests just now", LATER),
    row(90090, Transient, "the provider could not check the permissions just now", LATER),
    row(90094, Interaction, "an administrator has to consent", "ask an administrator of the tenant to consent to the app"),
    row(90120, DeviceCode, "the code was already used", CODE),
    row(500011, Configuration, "the resource does not exist in this tenant", RESOURCE),
    row(500133, Configuration, "the assertion is outside its validity", "check this machine's clock, and get a new assertion"),
    row(500208, Configuration, "the domain cannot sign in to this kind of account", "use an account of the kind that the app is for"),
    row(530032, Interaction, "a risk policy of the tenant blocks the request", ADMIN),
    row(530035, Interaction, "the tenant's security defaults block the request", ADMIN),
    row(650057, Configuration, "the resource is not among the app's permissions", "add the resource to the app's required permissions"),
    row(700016, Configuration, "the app was not found in this tenant", CLIENT),
    row(700020, Interaction, "a person has to be asked", LOGIN),
    row(700021, Configuration, "the assertion does not name this app", ASSERTION),
    row(700023, Configuration, "the assertion's audience is wrong", ASSERTION),
    row(700024, Configuration, "the assertion is outside its validity", "check this machine's clock, and get a new assertion"),
    row(700025, Configuration, "the app is public, so it may not send a secret", "leave the secret out, or use a confidential app"),
    row(700027, Configuration, "the assertion's signature or certificate is not the app's", ASSERTION),
    row(700082, Dead, "the token has expired by inactivity", LOGIN),
    row(700084, Dead, "the token was a single-page app's, which lives for 24 hours", LOGIN),
    row(900023, Configuration, "the tenant is neither an id nor a domain", TENANT),
    row(900144, Configuration, "the request lacks a parameter", REPORT),
    row(7000112, Configuration, "the app is disabled", "ask an administrator to enable the app, or use another --client-id"),
    row(7000215, Configuration, "the app's secret is wrong", SECRET),
    row(7000218, Configuration, "the app has to prove itself by a secret or assertion", "allow public client flows in the app's registration"),
    row(7000222, Configuration, "the app's secret has expired", SECRET),
    row(9001023, Configuration, "this kind of grant does not work with this endpoint", "name a tenant: --tenant TENANT"),
    row(9002313, Other, "the request or what it carried was malformed", LOGIN),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec S-B 7.2, copied class by class.
    const SPEC: &[(Class, &[u32])] = &[
        (Dead, &[50173, 700082, 70008, 700084, 50132, 50133, 50089, 70000, 50057, 50085, 50034, 50020]),
        (DeadForResource, &[70043, 70044]),
        (Other, &[9002313, 54005]),
        (
            Interaction,
            &[
                50076, 50078, 50079, 50072, 50074, 50158, 50097, 53000, 53001, 53002, 53003, 53004, 530032,
                530035, 50131, 50055, 50144, 50058, 16000, 65001, 65004, 90094, 700020, 50105, 50155,
            ],
        ),
        (Transient, &[90033, 90006, 90024, 90012, 90055, 90090, 50033, 50087, 50088, 80002, 80005, 50196]),
        (
            Configuration,
            &[
                700016, 70001, 7000112, 70002, 7000215, 7000222, 7000218, 700025, 700027, 50012, 700021,
                700023, 700024, 50013, 500133, 50027, 500011, 50001, 50011, 50126, 50053, 50128, 50059,
                50049, 90002, 900023, 90023, 900144, 70011, 28002, 28003, 70003, 9001023, 65002, 65005,
                650057, 50194, 500208,
            ],
        ),
        (DeviceCode, &[70016, 70018, 70019, 90120]),
    ];

    #[test]
    fn every_number_of_the_spec_has_its_class_and_its_words() {
        for (class, codes) in SPEC {
            for code in *codes {
                let known = explain(*code).unwrap_or_else(|| panic!("{code} is missing"));
                assert_eq!(known.class, *class, "{code}");
                assert!(known.meaning.len() > 15 && known.next_step.len() > 5, "{code}");
            }
        }
        let in_spec: usize = SPEC.iter().map(|(_, codes)| codes.len()).sum();
        assert_eq!(TABLE.len(), in_spec);
        assert!(explain(1).is_none());
    }

    #[test]
    fn the_table_is_sorted_because_it_is_searched_by_halves() {
        assert!(TABLE.is_sorted_by(|one, next| one.code < next.code));
    }
}
