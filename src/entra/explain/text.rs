//! Finds what the table explains in error texts of any origin.

use super::table::TABLE;
use super::{Explanation, Sign, explain};

/// The number that the text is, with or without `AADSTS` before it.
pub(crate) fn code_named(text: &str) -> Option<u32> {
    let text = text.trim();
    let digits = match text.get(..PREFIX.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => &text[PREFIX.len()..],
        _ => text,
    };
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// What an error text turned out to hold.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// In the order in which they stand there, each once.
    pub(crate) known: Vec<&'static Explanation>,
    /// Numbers of Entra's that are not in the table.
    pub(crate) unknown: Vec<u32>,
}

/// Finds every number and every known message in a text of any origin.
pub(crate) fn find_in(text: &str) -> Findings {
    let text = flattened(text);
    let mut found: Vec<(usize, &'static Explanation)> = Vec::new();
    let mut findings = Findings::default();
    for (at, code) in numbers(&text) {
        match explain(code) {
            Some(explanation) => found.push((at, explanation)),
            None if findings.unknown.len() >= MOST_UNKNOWN || findings.unknown.contains(&code) => {}
            None => findings.unknown.push(code),
        }
    }
    for known in TABLE {
        let Sign::Message { phrases, .. } = known.sign else { continue };
        let first = phrases.iter().filter_map(|phrase| text.find(phrase)).min();
        found.extend(first.map(|at| (at, known)));
    }
    found.sort_by_key(|(at, _)| *at);
    for (_, explanation) in found {
        if !findings.known.iter().any(|known| std::ptr::eq(*known, explanation)) {
            findings.known.push(explanation);
        }
    }
    findings
}

const PREFIX: &str = "AADSTS";
/// Whoever has more wants to keep us busy.
const MOST_UNKNOWN: usize = 100;
/// A list of numbers is no longer.
const LONGEST_LIST: usize = 256;

/// Small letters, one kind of white space, and negations written out: as the table has its phrases.
fn flattened(text: &str) -> String {
    let text = text.to_lowercase().replace('\u{2019}', "'").replace("n't ", " not ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The numbers of a flattened text, and where they stand: after `aadsts`, and in the lists that
/// programs print when they show an answer whole.
fn numbers(text: &str) -> Vec<(usize, u32)> {
    let mut found = Vec::new();
    for (at, prefix) in text.match_indices("aadsts") {
        let rest = &text[at + prefix.len()..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        found.extend(rest[..end].parse().ok().map(|code| (at, code)));
    }
    for (at, name) in text.match_indices("error_codes") {
        let rest = &text[at + name.len()..];
        let list = rest.trim_start_matches(|c: char| " '\":=".contains(c));
        let Some(list) = list.strip_prefix('[') else { continue };
        let list = &list[..list.floor_char_boundary(LONGEST_LIST)];
        let Some((list, _)) = list.split_once(']') else { continue };
        found.extend(list.split(',').filter_map(|code| Some((at, code.trim().parse().ok()?))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let name = |known: &&Explanation| match known.sign {
            Sign::Message { name, .. } => name.to_owned(),
            Sign::Number(number) => number.to_string(),
        };
        find_in(text).known.iter().map(name).collect()
    }

    #[test]
    fn a_number_is_known_with_and_without_its_letters() {
        for text in ["AADSTS50173", "aadsts50173", " 50173\n"] {
            assert_eq!(code_named(text), Some(50173), "{text}");
        }
        for text in ["", "AADSTS", "50173x", "-1", "+1", "AADSTS99999999999", "ünïcödé", "az login"] {
            assert_eq!(code_named(text), None, "{text}");
        }
    }

    #[test]
    fn the_texts_of_real_programs_are_understood() {
        let cases: &[(&str, &[&str])] = &[
            (
                "DefaultAzureCredential failed to retrieve a token from the included credentials.\nAttempted credentials:\n\t\
                 EnvironmentCredential: EnvironmentCredential authentication unavailable. Environment variables are not fully configured.\n\t\
                 ManagedIdentityCredential: ManagedIdentityCredential authentication unavailable, no response from the IMDS endpoint.\n\t\
                 SharedTokenCacheCredential: Azure Active Directory error '(invalid_grant) AADSTS50173: The provided grant has expired'\n\t\
                 AzureCliCredential: Please run 'az login' to set up an account\n\t\
                 AzurePowerShellCredential: PowerShell isn\u{2019}t installed\n\t\
                 AzureDeveloperCliCredential: Azure Developer CLI could not be found.",
                &[
                    "every credential of the chain failed",
                    "EnvironmentCredential: not configured",
                    "ManagedIdentityCredential: unavailable",
                    "ManagedIdentityCredential: no response",
                    "50173",
                    "AzureCliCredential: nobody signed in",
                    "AzurePowerShellCredential: not installed",
                    "AzureDeveloperCliCredential: not installed",
                ],
            ),
            (
                r#"{"error":"invalid_grant","error_codes":[70002, 70008],"suberror":"token_expired"}"#,
                &["70002", "70008"],
            ),
            (
                "invalid_client: 7000222 - AADSTS7000222: The provided client secret keys are expired. AADSTS7000222",
                &["7000222"],
            ),
            (
                "The requested identity hasn't been assigned to this resource.",
                &["ManagedIdentityCredential: not assigned"],
            ),
            (
                "Operation returned an invalid status: (403) AuthorizationFailed",
                &["401 or 403 from the service"],
            ),
            ("The current credential is not configured to acquire tokens for tenant t", &["another tenant"]),
            ("error_codes error_codes: [ error_codes=[x,-1] AADSTS AADSTSx", &[]),
            ("all is well", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(names(text), *expected, "{text}");
        }
        assert_eq!(find_in("AADSTS424242 and AADSTS424242 and AADSTS99999999999").unknown, [424_242]);
    }

    #[test]
    fn a_text_that_wants_to_keep_us_busy_does_not() {
        let lists = "error_codes:[é".repeat(80_000);
        assert!(find_in(&lists).known.is_empty());
        let numbers: String = (0..60_000).map(|number| format!("AADSTS{}", 10_000_000 + number)).collect();
        assert_eq!(find_in(&numbers).unknown.len(), MOST_UNKNOWN);
        assert_eq!(find_in(&"aadsts50173".repeat(90_000)).known.len(), 1);
    }

    #[test]
    fn the_phrases_are_written_as_a_text_is_looked_at() {
        for known in TABLE {
            let Sign::Message { phrases, .. } = known.sign else { continue };
            for phrase in phrases {
                assert_eq!(flattened(phrase), *phrase, "it would never be found");
            }
        }
    }
}
