//! The pages. Every value is escaped; the element ids are fixed, for tests that drive a browser.

/// A form that asks for account and password.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignInForm<'a> {
    pub(crate) action: &'a str,
    pub(crate) hidden: &'a [(&'a str, &'a str)],
    pub(crate) application: &'a str,
    pub(crate) username: &'a str,
    pub(crate) problem: Option<&'a str>,
}

impl<'a> SignInForm<'a> {
    pub(crate) fn with_problem(self, problem: &'a str) -> Self {
        Self { problem: Some(problem), ..self }
    }
}

/// Ids: `login`, `password`, `submit`, `cancel`, `problem`. The first button is what Enter presses.
pub(crate) fn sign_in(form: &SignInForm<'_>) -> String {
    let hidden: String = form.hidden.iter().map(|(name, value)| field(name, value)).collect();
    let (focus_login, focus_password) =
        if form.username.is_empty() { (" autofocus", "") } else { ("", " autofocus") };
    card(
        "Sign in to your account",
        &format!(
            r#"<h1>Sign in</h1>
<p class="quiet">to continue to <b>{application}</b></p>
{problem}
<form method="post" action="{action}">{hidden}
<label>Account <input id="login" type="email" name="loginfmt" value="{username}" placeholder="someone@example.com" autocomplete="username"{focus_login}></label>
<label>Password <input id="password" type="password" name="passwd" autocomplete="current-password"{focus_password}></label>
<div class="buttons"><button id="submit" class="primary" name="action" value="signin">Sign in</button>
<button id="cancel" name="action" value="cancel" formnovalidate>Cancel</button></div>
</form>"#,
            application = escape(form.application),
            problem = problem(form.problem),
            action = escape(form.action),
            username = escape(form.username),
        ),
    )
}

/// Ids: `account`, `other`.
pub(crate) fn pick_account(action: &str, context: &str, application: &str, username: &str) -> String {
    card(
        "Sign in to your account",
        &format!(
            r#"<h1>Pick an account</h1>
<p class="quiet">to continue to <b>{}</b></p>
<form method="post" action="{}">{}
<button id="account" class="row" name="action" value="continue"><b>{}</b><br>Signed in</button>
<button id="other" class="row" name="action" value="other">Use another account</button>
</form>"#,
            escape(application),
            escape(action),
            field("ctx", context),
            escape(username),
        ),
    )
}

/// Ids: `code`, `submit`, `problem`.
pub(crate) fn device_code(typed: &str, trouble: Option<&str>) -> String {
    card(
        "Enter code",
        &format!(
            r#"<h1>Enter code to allow access</h1>
<p>Once you enter the code displayed on your app or device, it will have access to your account.</p>
<p class="quiet">Do not enter codes from sources you don't trust.</p>
{}
<form method="post" action="/devicelogin">
<label>Code <input id="code" name="otc" value="{}" maxlength="9" autocomplete="off" autocapitalize="characters" autofocus></label>
<div class="buttons"><button id="submit" class="primary">Next</button></div>
</form>"#,
            problem(trouble),
            escape(typed),
        ),
    )
}

/// Id: `done`.
pub(crate) fn device_done(application: &str) -> String {
    card(
        "Signed in",
        &format!(
            r#"<h1 id="done">{0}</h1><p>You have signed in to the {0} application on your device. You may now close this window.</p>"#,
            escape(application)
        ),
    )
}

/// Id: `declined`.
pub(crate) fn device_declined(application: &str) -> String {
    card(
        "Sign-in cancelled",
        &format!(
            r#"<h1 id="declined">{0}</h1><p>You did not sign in to the {0} application on your device. You may now close this window.</p>"#,
            escape(application)
        ),
    )
}

/// Posts itself to the redirect address; without scripts a button does.
pub(crate) fn form_post(action: &str, members: &[(&str, String)]) -> String {
    let fields: String = members.iter().map(|(name, value)| field(name, value)).collect();
    format!(
        r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Working...</title></head>
<body><form method="POST" name="hiddenform" action="{}">{fields}
<noscript><p>Script is disabled. Click Submit to continue.</p><button type="submit">Submit</button></noscript>
</form><script>document.forms[0].submit();</script></body></html>
"#,
        escape(action)
    )
}

/// Id: `problem`.
pub(crate) fn error(description: &str) -> String {
    card(
        "Sign in to your account",
        &format!("<h1>Sorry, but we're having trouble signing you in.</h1>{}", problem(Some(description))),
    )
}

pub(crate) fn not_found() -> String {
    card("Not found", "<h1>404 - File or directory not found.</h1>")
}

/// What a gateway in between says while the service is away.
pub(crate) const BAD_GATEWAY: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>Microsoft-Azure-Application-Gateway/v2</center>\r\n</body>\r\n</html>\r\n";

fn card(title: &str, content: &str) -> String {
    format!(
        r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{STYLE}</style></head>
<body><main><p class="brand">Entra ID emulator</p>
{content}
</main><footer>A local emulator for tests: no real account, no real token.</footer></body></html>
"#
    )
}

const STYLE: &str = "\
*{box-sizing:border-box}\
body{margin:0;min-height:100vh;display:flex;flex-direction:column;align-items:center;justify-content:center;\
background:linear-gradient(160deg,#e8eef5,#f7f4ef);color:#1b1b1b;font:15px/1.45 'Segoe UI',system-ui,sans-serif}\
main{width:440px;max-width:94vw;padding:40px 44px;background:#fff;box-shadow:0 2px 8px rgba(0,0,0,.18)}\
.brand{margin:0 0 18px;color:#5e5e5e;font-weight:600;letter-spacing:.02em}\
h1{margin:0 0 6px;font-size:24px;font-weight:600}.quiet{margin:0 0 16px;color:#5e5e5e}\
label{display:block;margin:14px 0 0;color:#5e5e5e;font-size:13px}\
input{display:block;width:100%;padding:7px 2px;border:0;border-bottom:1px solid #666;font:inherit;font-size:15px;color:#1b1b1b}\
input:focus{outline:0;border-bottom:2px solid #0067b8}\
.buttons{display:flex;flex-direction:row-reverse;gap:8px;margin-top:28px}\
button{min-width:108px;padding:7px 12px;border:0;background:#e6e6e6;font:inherit;cursor:pointer}\
button.primary{background:#0067b8;color:#fff}\
button.row{display:block;width:100%;margin-top:8px;padding:12px;text-align:left;background:#f5f5f5}\
.problem{margin:12px 0 0;color:#c50f1f}\
footer{margin-top:18px;color:#6b6b6b;font-size:12px}";

fn problem(text: Option<&str>) -> String {
    text.map_or(String::new(), |text| {
        format!(r#"<p id="problem" class="problem" role="alert">{}</p>"#, escape(text))
    })
}

fn field(name: &str, value: &str) -> String {
    format!(r#"<input type="hidden" name="{}" value="{}">"#, escape(name), escape(value))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_cannot_become_markup() {
        let page = device_code("\"><script>", Some("<b>'"));
        assert!(!page.contains("<script>") && !page.contains("<b>'"));
        assert!(page.contains("&quot;&gt;&lt;script&gt;"));
    }
}
