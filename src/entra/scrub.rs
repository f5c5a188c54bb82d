//! Cuts what looks like a secret out of text that came from outside.

/// What stands where something was cut out.
const REMOVED: &str = "[removed]";
/// Text from outside is for a person to read; nobody reads more than this.
const MAX_LENGTH: usize = 4096;

/// Makes the provider's text safe to show and to log (spec S-B 9).
///
/// Cuts out the secrets that we `sent`, and whatever is shaped like a token; control characters
/// become spaces, so that no text from outside can steer a terminal.
pub(super) fn scrub(text: &str, sent: &[&str]) -> String {
    let mut text: String = text.chars().take(MAX_LENGTH).collect();
    // What is shorter than this is a word, and cutting it would only garble the text.
    for secret in sent.iter().filter(|secret| secret.len() >= 8) {
        // The end of a secret may have been cut off, by us just now or by whoever quoted it.
        while let Some((start, length)) = quoted(&text, secret) {
            text.replace_range(start..start + length, REMOVED);
        }
    }
    let mut scrubbed = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let run = rest.find(|c| !is_token_character(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(run);
        scrubbed.push_str(if looks_like_a_token(word) { REMOVED } else { word });
        let mut characters = after.chars();
        if let Some(c) = characters.next() {
            scrubbed.push(if c.is_control() { ' ' } else { c });
        }
        rest = characters.as_str();
    }
    scrubbed.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Where `text` quotes the secret, or at least its first 16 characters.
fn quoted(text: &str, secret: &str) -> Option<(usize, usize)> {
    if let Some(start) = text.find(secret) {
        return Some((start, secret.len()));
    }
    let head: String = secret.chars().take(16).collect();
    let start = text.find(&head).filter(|_| head.len() < secret.len())?;
    let same = text[start..].chars().zip(secret.chars()).take_while(|(one, other)| one == other);
    Some((start, same.map(|(c, _)| c.len_utf8()).sum()))
}

const fn is_token_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '!' | '*' | '$' | '+')
}

/// A JWT or its parts, Entra's refresh tokens and codes (`0.A…`, `1.A…`, `M.C…`), and anything
/// else that is long and mixed as only random text is. A GUID or a host name is not.
fn looks_like_a_token(word: &str) -> bool {
    let bare = word.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let has = |test: fn(&char) -> bool| word.chars().any(|c| test(&c));
    let mixed = has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) && has(char::is_ascii_digit);
    let entra = bare.starts_with("M.C")
        || bare.starts_with("M.R")
        || bare.strip_prefix(|c: char| c.is_ascii_digit()).is_some_and(|rest| rest.starts_with(".A"));
    word.len() >= 20 && (word.contains("eyJ") || entra) || word.len() >= 40 && mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJvbmUifQ.c2lnbmF0dXJl";

    #[test]
    fn entras_own_text_stays_readable() {
        let text = "AADSTS50173: The provided grant has expired due to it being revoked, a fresh auth token is needed. \
             The user might have changed or reset their password. The grant was issued on '2026-01-01T00:00:00.0000000Z' \
             and the TokensValidFrom date (before which tokens are not valid) for this user is '2026-01-02T00:00:00.0000000Z'. \
             See https://login.microsoftonline.com/11111111-1111-4111-8111-111111111111/oauth2/v2.0/authorize\
             ?client_id=04b07795-8ddb-461a-bbee-02f9e1bf7b46";
        assert_eq!(scrub(text, &[]), text);
        let lines = "AADSTS70016: pending.\r\nTrace ID: 7c1f1c1e\r\nTimestamp: 2026-01-01 00:00:00Z";
        assert_eq!(
            scrub(lines, &[]),
            "AADSTS70016: pending. Trace ID: 7c1f1c1e Timestamp: 2026-01-01 00:00:00Z"
        );
    }

    #[test]
    fn what_is_shaped_like_a_token_is_cut_out() {
        let mixed = "abcDEF123".repeat(5);
        for secret in [
            JWT,
            &JWT[..20],
            "0.AXkAq0000000000000000000000000000",
            "1.AXkAq0000000000000000000000000000",
            "M.C500_BAY.0.U.-Cgk*!abcdefgh$",
            &mixed,
        ] {
            for text in [
                format!("was {secret} here"),
                format!("token={secret}&x"),
                format!("\"{secret}\","),
                secret.to_owned(),
            ] {
                let scrubbed = scrub(&text, &[]);
                assert!(!scrubbed.contains(&secret[..12]), "{scrubbed}");
                assert!(scrubbed.contains(REMOVED), "{scrubbed}");
            }
        }
    }

    #[test]
    fn what_we_sent_is_cut_out_whole_or_in_part() {
        let secret = "plain words as a secret, however odd";
        assert_eq!(scrub(&format!("you sent {secret}!"), &[secret]), "you sent [removed]!");
        assert_eq!(scrub("you sent plain words as a s...", &[secret]), "you sent [removed]...");
        assert_eq!(scrub("a short one", &["short"]), "a short one");
    }

    #[test]
    fn a_terminal_cannot_be_steered() {
        assert_eq!(scrub("a\u{1b}[2Jb\u{7}\u{9b}c\0", &[]), "a [2Jb c");
        assert_eq!(scrub(&"é ".repeat(5000), &[]).chars().count(), MAX_LENGTH - 1);
    }
}
