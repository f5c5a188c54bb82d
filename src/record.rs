//! The pointer to one account in a cache, which a program may keep between runs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::cloud::{Authority, TenantId};
use crate::error::{InvalidArgument, Result};

const VERSION: &str = "1.0";
const MAX_LENGTH: usize = 10 * 1024;

/// Which account a program signed in with: no secret, but it names a person.
///
/// Kept by the program and given to a credential of a later process, which then gets tokens from
/// the persistent cache without asking anybody. Written in the form of azure-identity for Python,
/// which Go and JavaScript read, too; read in the forms of all five languages (spec S-B 1).
///
/// ```
/// use tokenkeep::AuthenticationRecord;
/// # fn main() -> tokenkeep::Result<()> {
/// let text = r#"{"authority": "login.microsoftonline.com",
///     "clientId": "04b07795-8ddb-461a-bbee-02f9e1bf7b46",
///     "homeAccountId": "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa.11111111-1111-4111-8111-111111111111",
///     "tenantId": "11111111-1111-4111-8111-111111111111",
///     "username": "user.one@contoso.example", "version": "1.0"}"#;
/// let record = AuthenticationRecord::deserialize(text)?;
/// assert_eq!(AuthenticationRecord::deserialize(&record.serialize())?, record);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticationRecord {
    authority: Authority,
    client_id: String,
    home_account_id: String,
    tenant_id: TenantId,
    username: String,
}

impl AuthenticationRecord {
    pub(crate) const fn new(
        authority: Authority,
        client_id: String,
        home_account_id: String,
        tenant_id: TenantId,
        username: String,
    ) -> Self {
        Self { authority, client_id, home_account_id, tenant_id, username }
    }

    /// Reads a record of any of the five languages: the version may be missing, the authority may
    /// be a URL, unknown members do not matter.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] naming the member or the version that does not fit.
    pub fn deserialize(text: &str) -> Result<Self> {
        let fields = fields_of(text)?;
        match fields.get("version") {
            None => {}
            Some(Value::String(version)) if version == VERSION => {}
            Some(other) => return Err(unsupported_version(other)),
        }
        let authority = member(&fields, "authority")?;
        Ok(Self {
            authority: Authority::parse(authority)
                .map_err(|error| refuse(format!("its authority cannot be used: {error}")))?,
            client_id: member(&fields, "clientId")?.to_owned(),
            home_account_id: member(&fields, "homeAccountId")?.to_owned(),
            tenant_id: tenant(member(&fields, "tenantId")?)?,
            username: member(&fields, "username")?.to_owned(),
        })
    }

    /// Reads a record only if azure-identity for Python would: version `"1.0"`, all members there.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] naming the member or the version that does not fit.
    pub fn deserialize_strict(text: &str) -> Result<Self> {
        match fields_of(text)?.get("version") {
            None => Err(refuse(format!("it has no version; {VERSION:?} is supported"))),
            Some(_) => Self::deserialize(text),
        }
    }

    /// Writes the record as azure-identity for Python does, ASCII only and without a new line.
    #[must_use]
    pub fn serialize(&self) -> String {
        let members = [
            ("authority", self.authority.to_string().trim_start_matches("https://").to_owned()),
            ("clientId", self.client_id.clone()),
            ("homeAccountId", self.home_account_id.clone()),
            ("tenantId", self.tenant_id.to_string()),
            ("username", self.username.clone()),
            ("version", VERSION.to_owned()),
        ];
        let written = members.map(|(key, value)| format!("\"{key}\": {}", ascii_json(&value)));
        format!("{{{}}}", written.join(", "))
    }

    /// The host that issued the account's tokens.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The client that the account signed in to.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// `uid.utid`: who the account is, whatever name it goes by.
    #[must_use]
    pub fn home_account_id(&self) -> &str {
        &self.home_account_id
    }

    /// The tenant that the account signed in to.
    #[must_use]
    pub const fn tenant_id(&self) -> &TenantId {
        &self.tenant_id
    }

    /// The name the account signed in with, for people to read.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }
}

fn refuse(problem: impl Into<String>) -> crate::Error {
    InvalidArgument::new(
        "authentication record",
        problem,
        "write a new one: tokenkeep login --record-out FILE, or tokenkeep record export FILE",
    )
    .into()
}

fn unsupported_version(found: &Value) -> crate::Error {
    refuse(format!("its version is {found}; {VERSION:?} is supported"))
}

fn tenant(text: &str) -> Result<TenantId> {
    TenantId::parse(text).map_err(|_| refuse("its tenantId is not a tenant id or a domain"))
}

fn fields_of(text: &str) -> Result<Map<String, Value>> {
    if text.len() > MAX_LENGTH {
        return Err(refuse(format!("it is longer than {MAX_LENGTH} bytes")));
    }
    match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(refuse("it is JSON, but not an object")),
        Err(error) => Err(refuse(format!("it is not JSON ({error})"))),
    }
}

fn member<'a>(fields: &'a Map<String, Value>, key: &str) -> Result<&'a str> {
    match fields.get(key) {
        None => Err(refuse(format!("it has no {key}"))),
        Some(Value::String(text)) if text.trim().is_empty() => Err(refuse(format!("its {key} is empty"))),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(refuse(format!("its {key} is not a string"))),
    }
}

/// JSON text in which everything outside ASCII is escaped, as Python writes it.
fn ascii_json(text: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::new();
    for c in Value::from(text).to_string().chars() {
        if c.is_ascii() && c != '\u{7f}' {
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}

/// The claims of a JWT. They are only read, never trusted: the token came over TLS from the
/// provider itself (spec S-B 1.4).
pub(crate) fn jwt_claims(token: &str) -> Option<Map<String, Value>> {
    let payload = token.split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PYTHON: &str = r#"{"authority": "login.microsoftonline.com", "clientId": "c", "homeAccountId": "u.t", "tenantId": "t", "username": "\u00fcser@contoso.example", "version": "1.0"}"#;

    #[test]
    fn pythons_form_is_written_byte_for_byte() {
        assert_eq!(AuthenticationRecord::deserialize(PYTHON).unwrap().serialize(), PYTHON);
        assert_eq!(ascii_json("😀\"\n"), r#""\ud83d\ude00\"\n""#);
    }

    #[test]
    fn all_languages_forms_are_read() {
        let python = AuthenticationRecord::deserialize(PYTHON).unwrap();
        let dotnet = r#"{"username":"üser@contoso.example","authority":"login.microsoftonline.com","homeAccountId":"u.t","tenantId":"t","clientId":"c"}"#;
        let go = r#"{"authority":"https://login.microsoftonline.com/","clientId":"c","homeAccountId":"u.t","tenantId":"t","username":"üser@contoso.example","version":"1.0","extra":1}"#;
        for text in [dotnet, go] {
            assert_eq!(AuthenticationRecord::deserialize(text).unwrap(), python);
        }
        assert!(AuthenticationRecord::deserialize_strict(dotnet).is_err());
        assert_eq!(AuthenticationRecord::deserialize_strict(go).unwrap(), python);
    }

    #[test]
    fn each_bad_input_is_named() {
        let cases = [
            ("", "not JSON"),
            ("[]", "not an object"),
            ("{}", "no authority"),
            (&PYTHON.replace("\"c\"", "\"\""), "clientId is empty"),
            (&PYTHON.replace("\"c\"", "7"), "clientId is not a string"),
            (&PYTHON.replace("1.0", "42"), "version is \"42\""),
            (&PYTHON.replace("\"1.0\"", "1.0"), "version is 1.0"),
            (&PYTHON.replace("\"t\"", "\"a/b\""), "tenantId"),
            (&PYTHON.replace("login.microsoftonline.com", "http://x"), "https"),
            (&format!("{PYTHON}{}", " ".repeat(MAX_LENGTH)), "longer"),
        ];
        for (text, expected) in cases {
            let error = AuthenticationRecord::deserialize(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
