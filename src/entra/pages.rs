//! The pages that a browser shows at the end of a sign-in: nothing loaded, nothing run.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:1.05rem/1.55 system-ui,sans-serif;margin:0;min-height:100vh;display:grid;place-items:center;background:#f4f5f7;color:#1d2129}\
main{max-width:32rem;margin:1.5rem;padding:2.25rem 2.5rem;background:#fff;border-radius:.75rem;border-top:.3rem solid #b3261e;box-shadow:0 .5rem 2rem #0002}\
main.good{border-color:#1a7f4b}\
h1{font-size:1.45rem;margin:0 0 .75rem}\
p{margin:.5rem 0;overflow-wrap:anywhere}\
.quiet{color:#5c6470;font-size:.95rem}\
@media(prefers-color-scheme:dark){body{background:#16181d;color:#e7e9ee}main{background:#22252c}.quiet{color:#a2a9b6}}";

/// A finished HTML page.
#[derive(Debug)]
pub(super) struct Page(String);

impl Page {
    /// Says who has signed in.
    pub(super) fn success(username: Option<&str>) -> Self {
        let who = username.map_or_else(String::new, |name| format!(" as <strong>{}</strong>", escape(name)));
        Self::new(
            "good",
            "Signed in",
            &format!(
                "<p>You are signed in{who}.</p><p class=\"quiet\">You can close this window and go back to your terminal.</p>"
            ),
        )
    }

    /// Says what went wrong.
    pub(super) fn failure(problem: &str) -> Self {
        Self::new(
            "bad",
            "Not signed in",
            &format!(
                "<p>{}</p><p class=\"quiet\">You can close this window. Your terminal says what to do next.</p>",
                escape(problem)
            ),
        )
    }

    /// What a request gets that does not belong to the sign-in; it changes nothing.
    pub(super) fn stray(problem: &str) -> Self {
        Self::new(
            "bad",
            "Nothing to see here",
            &format!(
                "<p>{}</p><p class=\"quiet\">A sign-in that is waiting goes on waiting.</p>",
                escape(problem)
            ),
        )
    }

    fn new(class: &str, title: &str, body: &str) -> Self {
        Self(format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} - tokenkeep</title>\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><style>{STYLE}</style></head>\
             <body><main class=\"{class}\"><h1>{title}</h1>{body}</main></body></html>"
        ))
    }

    pub(super) fn into_html(self) -> String {
        self.0
    }
}

/// Forbids everything but our own style sheet, known by its hash.
pub(super) fn content_security_policy() -> String {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '<' | '>' | '"' | '\'' => {
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_stays_text() {
        let hostile = "<script>alert('x')</script>\"&";
        for page in [Page::success(Some(hostile)), Page::failure(hostile), Page::stray(hostile)] {
            let html = page.into_html();
            assert!(!html.contains("<script>") && !html.contains("alert('"), "{html}");
            assert!(html.contains("&#60;script&#62;alert(&#39;x&#39;)&#60;/script&#62;&#34;&#38;"), "{html}");
        }
    }

    #[test]
    fn pages_tell_success_from_failure_and_load_nothing() {
        let success = Page::success(Some("user.one@contoso.example")).into_html();
        assert!(success.contains("You are signed in as <strong>user.one@contoso.example</strong>."));
        assert!(Page::success(None).into_html().contains("You are signed in."));
        let failure = Page::failure("AADSTS50105: no role").into_html();
        assert!(failure.contains("Not signed in") && failure.contains("AADSTS50105: no role"));
        for html in [success, failure] {
            assert!(!html.contains("http") && !html.contains("src=") && !html.contains("url("), "{html}");
        }
    }
}
