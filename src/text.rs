//! Text from elsewhere, such as a program's name for itself, made harmless to show.

use std::fmt::Write as _;

/// Whether a character could steer a terminal: controls, and what turns the direction of writing.
pub(crate) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The same, and what nobody sees, so that a name could look like another one.
fn is_harmful(c: char) -> bool {
    steers(c)
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// At most `longest` characters of the text, with every harmful one and the backslash spelled out.
pub(crate) fn harmless(text: &str, longest: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(4 * longest));
    let mut characters = text.chars();
    for c in characters.by_ref().take(longest) {
        match c {
            '\\' => shown.push_str("\\\\"),
            c if is_harmful(c) => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_or_hides_is_left_and_two_names_stay_two() {
        assert_eq!(harmless("azsdk-python/1.2 (Linux)", 64), "azsdk-python/1.2 (Linux)");
        assert_eq!(harmless("é 日本 🦀", 64), "é 日本 🦀");
        for (text, shown) in [
            ("a\u{1b}[2J", "a\\u{1b}[2J"),
            ("one\ntwo\r", "one\\u{a}two\\u{d}"),
            ("gpj\u{202e}exe", "gpj\\u{202e}exe"),
            ("a\u{200b}b\u{e0041}", "a\\u{200b}b\\u{e0041}"),
            ("\\u{1b}", "\\\\u{1b}"),
            ("\u{9b}31m", "\\u{9b}31m"),
        ] {
            assert_eq!(harmless(text, 64), shown);
        }
        assert_eq!(harmless("abcdef", 3), "abc…");
        assert_eq!(harmless("abc", 3), "abc");
    }
}
