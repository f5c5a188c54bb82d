//! What Entra's AADSTS numbers and the messages of credentials mean, and what to do about each
//! (spec S-B 7.2, and the troubleshooting guides of azure-identity).
//!
//! The one place: errors take their words from it, and so does `tokenkeep explain`.

mod table;
#[cfg(feature = "cli")]
mod text;

use self::table::TABLE;
#[cfg(feature = "cli")]
pub(crate) use self::text::{Findings, code_named, find_in};

/// What is known about one of Entra's numbers, or about a message without one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Explanation {
    pub(crate) sign: Sign,
    pub(crate) class: Class,
    pub(crate) meaning: &'static str,
    /// The next step, as one line for a person.
    pub(crate) next_step: &'static str,
}

/// By what it is known again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sign {
    /// A message of a credential that was never at the provider.
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only the command line explains messages"))]
    Message { name: &'static str, phrases: &'static [&'static str] },
    /// `AADSTS` and this.
    Number(u32),
}

/// What a number says about the refresh token that was sent, or a message about the credential.
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
    /// There was a token, and the service did not accept it for what was wanted.
    Permission,
    /// Nobody's fault (class C).
    Transient,
    /// The credential had nothing to try with.
    Unavailable,
}

impl Class {
    /// Whether the number is of class A: then no other number of the same answer counts.
    pub(crate) const fn is_about_a_grant(self) -> bool {
        matches!(self, Self::Dead | Self::DeadForResource | Self::Other)
    }

    /// One word for programs.
    #[cfg(feature = "cli")]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Dead => "dead_grant",
            Self::DeadForResource => "dead_grant_for_resource",
            Self::DeviceCode => "device_code",
            Self::Interaction => "interaction",
            Self::Other => "other",
            Self::Permission => "permission",
            Self::Transient => "transient",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What is known about a number.
pub(crate) fn explain(code: u32) -> Option<&'static Explanation> {
    TABLE.iter().find(|known| matches!(known.sign, Sign::Number(number) if number == code))
}

/// What is known about an answer with these numbers. One about the grant beats the others, which
/// Entra only puts around it (spec S-B 7.1).
pub(crate) fn explain_answer(codes: &[u32]) -> Option<&'static Explanation> {
    let known = || codes.iter().filter_map(|code| explain(*code));
    known().find(|explanation| explanation.class.is_about_a_grant()).or_else(|| known().next())
}

#[cfg(test)]
mod tests {
    use super::Class::{Configuration, Dead, DeadForResource, DeviceCode, Interaction, Other, Transient};
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
            }
        }
        let in_spec: usize = SPEC.iter().map(|(_, codes)| codes.len()).sum();
        let in_table = TABLE.iter().filter(|known| matches!(known.sign, Sign::Number(_))).count();
        assert_eq!(in_table, in_spec);
        assert!(explain(1).is_none());
    }

    #[test]
    fn every_line_says_what_it_means_and_what_to_do_and_none_stands_twice() {
        for (place, known) in TABLE.iter().enumerate() {
            assert!(known.meaning.len() > 15 && known.next_step.len() > 5, "{known:?}");
            assert!(!known.meaning.ends_with('.') && !known.next_step.ends_with('.'), "{known:?}");
            match known.sign {
                Sign::Number(number) => assert!(std::ptr::eq(explain(number).unwrap(), known), "{known:?}"),
                Sign::Message { phrases, .. } => {
                    for phrase in phrases {
                        let alike = TABLE.iter().enumerate().filter(|(other, row)| {
                            let Sign::Message { phrases, .. } = row.sign else { return false };
                            *other != place && phrases.contains(phrase)
                        });
                        assert_eq!(alike.count(), 0, "{phrase}");
                    }
                }
            }
        }
        let numbers = TABLE.iter().map_while(|known| match known.sign {
            Sign::Number(number) => Some(number),
            Sign::Message { .. } => None,
        });
        assert!(numbers.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn what_is_about_the_grant_beats_what_stands_around_it() {
        assert!(matches!(explain_answer(&[70002, 70008]).unwrap().sign, Sign::Number(70008)));
        assert!(matches!(explain_answer(&[1, 90033]).unwrap().sign, Sign::Number(90033)));
        assert!(explain_answer(&[1]).is_none());
    }
}
