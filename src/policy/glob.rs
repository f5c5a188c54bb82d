//! Patterns of paths and scopes: `*` and `?` stay within what stands between two slashes, `**` does not.

use serde::Deserialize;

/// Longer ones are none: a path has at most so many bytes.
const MAX_LENGTH: usize = 4096;

/// One pattern.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Glob(String);

impl TryFrom<String> for Glob {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.len() {
            0 => Err("a pattern is not empty".to_owned()),
            1..=MAX_LENGTH => Ok(Self(text)),
            _ => Err(format!("a pattern has at most {MAX_LENGTH} bytes")),
        }
    }
}

impl Glob {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `text` is meant, byte for byte.
    pub(super) fn is(&self, text: &[u8]) -> bool {
        matches(self.0.as_bytes(), text, |one, other| one == other)
    }

    /// The same for names in which case does not count.
    pub(super) fn is_in_any_case(&self, text: &str) -> bool {
        matches(self.0.as_bytes(), text.as_bytes(), |one, other| one.eq_ignore_ascii_case(&other))
    }
}

/// Takes time in proportion to both lengths, whatever the pattern.
fn matches(pattern: &[u8], text: &[u8], same: impl Fn(u8, u8) -> bool) -> bool {
    if !pattern.iter().any(|byte| b"*?".contains(byte)) {
        return pattern.len() == text.len()
            && pattern.iter().zip(text).all(|(one, other)| same(*one, *other));
    }
    // which beginnings of the text the pattern so far can be
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    let mut rest = pattern;
    while let [first, others @ ..] = rest {
        rest = others;
        match first {
            b'*' => {
                let crosses = rest.first() == Some(&b'*');
                if crosses {
                    rest = &rest[1..];
                }
                for at in 0..text.len() {
                    reached[at + 1] |= reached[at] && (crosses || text[at] != b'/');
                }
            }
            one => {
                for at in (0..text.len()).rev() {
                    let fits = if *one == b'?' { text[at] != b'/' } else { same(*one, text[at]) };
                    reached[at + 1] = reached[at] && fits;
                }
                reached[0] = false;
            }
        }
    }
    reached[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> Glob {
        Glob::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_star_stays_in_its_folder_and_two_do_not() {
        for (pattern, text, fits) in [
            ("/usr/bin/az", "/usr/bin/az", true),
            ("/usr/bin/az", "/usr/bin/az2", false),
            ("/usr/bin/az", "/usr/bin/a", false),
            ("/usr/bin/*", "/usr/bin/az", true),
            ("/usr/bin/*", "/usr/bin/", true),
            ("/usr/bin/*", "/usr/bin/x/az", false),
            ("/usr/**", "/usr/bin/x/az", true),
            ("/usr/**/az", "/usr/bin/x/az", true),
            ("/usr/**/az", "/usr/az", false),
            ("/usr/bin/python3*", "/usr/bin/python3.11", true),
            ("/usr/bin/?z", "/usr/bin/az", true),
            ("/usr/bin?az", "/usr/bin/az", false),
            ("*", "", true),
            ("?", "", false),
            ("/opt/[a]", "/opt/[a]", true),
            ("/opt/*-*-x", "/opt/a-b-c-x", true),
        ] {
            assert_eq!(glob(pattern).is(text.as_bytes()), fits, "{pattern} {text}");
        }
        assert!(glob("A*").is_in_any_case("abc") && !glob("A*").is(b"abc"));
    }

    #[test]
    fn many_stars_take_no_longer_than_they_must() {
        let pattern = glob(&"*a".repeat(1_000));
        assert!(!pattern.is("a".repeat(4_000).as_bytes()[..999].as_ref()));
        assert!(pattern.is("a".repeat(4_000).as_bytes()));
    }

    #[test]
    fn an_empty_and_an_endless_pattern_are_none() {
        Glob::try_from(String::new()).unwrap_err();
        Glob::try_from("x".repeat(4_097)).unwrap_err();
    }
}
