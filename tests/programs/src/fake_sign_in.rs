//! A sign-in that never was: much like `fake_sign_in` in `tests/clients/common.py`.

use std::time::Duration;

use secrecy::SecretString;
use tokenkeep::document::{Change, ChangeSet, IssuedAccount, IssuedTokens, Origin};
use tokenkeep::time::{Clock as _, SystemClock};

const AZURE_CLI: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
const TENANT: &str = "11111111-1111-4111-8111-111111111111";

/// The scope of a writer's addition.
pub(crate) fn scope_of(writer: &str, index: usize) -> String {
    format!("https://api.example/{writer}/{index}")
}

/// What user `writer` gets by signing in for the scope of that number.
pub(crate) fn fake_sign_in(writer: &str, index: usize) -> ChangeSet {
    let object_id = format!("object-{writer}");
    let scope = scope_of(writer, index);
    let now = SystemClock.now();
    let expires_on = now.after(Duration::from_secs(4899));
    ChangeSet::of(Change::Save(Box::new(IssuedTokens {
        home_account_id: format!("{object_id}.{TENANT}"),
        host: "login.microsoftonline.com".to_owned(),
        client_id: AZURE_CLI.to_owned(),
        requested_tenant: TENANT.to_owned(),
        token_tenant: Some(TENANT.to_owned()),
        access_token: SecretString::from(format!("fake-access-token-{writer}-{scope}")),
        scopes: vec![scope],
        token_type: "Bearer".to_owned(),
        issued_at: now,
        expires_on,
        extended_expires_on: expires_on,
        refresh_on: None,
        refresh_token: Some(SecretString::from(format!("fake-refresh-token-{writer}"))),
        family_id: Some("1".to_owned()),
        id_token: Some(SecretString::from(format!("fake-id-token-{writer}"))),
        account: Some(IssuedAccount {
            local_account_id: object_id,
            username: Some(format!("{writer}@contoso.example")),
            name: Some(writer.to_owned()),
            authority_type: "MSSTS",
            client_info: None,
        }),
        origin: Origin::SignIn { grant_type: "authorization_code" },
    })))
}
