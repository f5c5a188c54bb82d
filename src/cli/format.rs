//! The forms in which `tokenkeep token` prints a token.

use jiff::tz::TimeZone;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use zeroize::Zeroizing;

use super::arguments::TokenFormat;
use super::failure::Failure;
use super::{output, times};
use crate::token::AccessToken;

/// What `--format env` sets.
const VARIABLE: &str = "AZURE_ACCESS_TOKEN";

/// The token in this form, with a new line at its end.
pub(super) fn format(
    token: &AccessToken,
    format: TokenFormat,
    zone: impl FnOnce() -> TimeZone,
    kube_version: &'static str,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let secret = token.token.expose_secret();
    let details = &*token.details;
    match format {
        TokenFormat::Raw => Ok(line(&[secret])),
        TokenFormat::Header => Ok(line(&["Authorization: ", &details.token_type, " ", secret])),
        TokenFormat::Env => {
            let quoted = Zeroizing::new(secret.replace('\'', r"'\''"));
            Ok(line(&["export ", VARIABLE, "='", &quoted, "'"]))
        }
        TokenFormat::Json => output::json_text(&Json {
            token: secret,
            token_type: &details.token_type,
            expires_on: token.expires_on.seconds(),
            scopes: &details.scopes,
            tenant: &details.tenant,
            account: details.account.as_ref().map(|account| JsonAccount {
                username: &account.username,
                home_account_id: &account.home_account_id,
            }),
            client_id: &details.client_id,
            source: token.source.as_str(),
        }),
        TokenFormat::Az => output::json_text(&Az {
            access_token: secret,
            expires_on_local: times::azure_cli(token.expires_on, zone()),
            expires_on: token.expires_on.seconds(),
            tenant: &details.tenant,
            token_type: &details.token_type,
        }),
        TokenFormat::Kube => output::json_text(&Kube {
            api_version: kube_version,
            kind: "ExecCredential",
            status: KubeStatus { expiration_timestamp: times::rfc_3339(token.expires_on), token: secret },
        }),
    }
}

fn line(parts: &[&str]) -> Zeroizing<Vec<u8>> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>() + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(length));
    for part in parts {
        text.extend_from_slice(part.as_bytes());
    }
    text.push(b'\n');
    text
}

#[derive(Serialize)]
struct Json<'a> {
    token: &'a str,
    token_type: &'a str,
    expires_on: i64,
    scopes: &'a [String],
    tenant: &'a str,
    account: Option<JsonAccount<'a>>,
    client_id: &'a str,
    source: &'static str,
}

#[derive(Serialize)]
struct JsonAccount<'a> {
    username: &'a str,
    home_account_id: &'a str,
}

/// As of Azure CLI 2.54, without the subscription: a login here belongs to none.
#[derive(Serialize)]
struct Az<'a> {
    #[serde(rename = "accessToken")]
    access_token: &'a str,
    #[serde(rename = "expiresOn")]
    expires_on_local: String,
    expires_on: i64,
    tenant: &'a str,
    #[serde(rename = "tokenType")]
    token_type: &'a str,
}

/// What kubectl expects of a credential plugin.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Kube<'a> {
    api_version: &'static str,
    kind: &'static str,
    status: KubeStatus<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KubeStatus<'a> {
    expiration_timestamp: String,
    token: &'a str,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::time::UnixTime;
    use crate::token::{TokenAccount, TokenDetails, TokenSource};

    fn formatted(secret: &str, form: TokenFormat) -> String {
        let account = TokenAccount::new("user.one@contoso.example".to_owned(), "u.t".to_owned());
        let details = TokenDetails::new(
            "Bearer".to_owned(),
            vec!["https://graph.microsoft.com/.default".to_owned()],
            "t".to_owned(),
            "c".to_owned(),
            Some(account),
        );
        let token = AccessToken::new(
            secret.into(),
            UnixTime::from_seconds(1_767_225_600),
            None,
            TokenSource::Cache,
            Arc::new(details),
        );
        let east = || TimeZone::fixed(jiff::tz::offset(2));
        String::from_utf8(format(&token, form, east, "client.authentication.k8s.io/v1").unwrap().to_vec())
            .unwrap()
    }

    #[test]
    fn lines_for_shells_and_headers() {
        assert_eq!(formatted("a.b.c", TokenFormat::Raw), "a.b.c\n");
        assert_eq!(formatted("a.b.c", TokenFormat::Header), "Authorization: Bearer a.b.c\n");
        assert_eq!(formatted("a.b.c", TokenFormat::Env), "export AZURE_ACCESS_TOKEN='a.b.c'\n");
        assert_eq!(
            formatted("a'; rm -rf b", TokenFormat::Env),
            "export AZURE_ACCESS_TOKEN='a'\\''; rm -rf b'\n"
        );
    }

    #[test]
    fn our_own_json() {
        assert_eq!(
            formatted("a.b.c", TokenFormat::Json),
            r#"{
  "token": "a.b.c",
  "token_type": "Bearer",
  "expires_on": 1767225600,
  "scopes": [
    "https://graph.microsoft.com/.default"
  ],
  "tenant": "t",
  "account": {
    "username": "user.one@contoso.example",
    "home_account_id": "u.t"
  },
  "client_id": "c",
  "source": "cache"
}
"#
        );
    }

    #[test]
    fn the_json_of_the_azure_cli() {
        assert_eq!(
            formatted("a.b.c", TokenFormat::Az),
            r#"{
  "accessToken": "a.b.c",
  "expiresOn": "2026-01-01 02:00:00.000000",
  "expires_on": 1767225600,
  "tenant": "t",
  "tokenType": "Bearer"
}
"#
        );
    }

    #[test]
    fn the_json_of_a_kubectl_plugin() {
        assert_eq!(
            formatted("a.b.c", TokenFormat::Kube),
            r#"{
  "apiVersion": "client.authentication.k8s.io/v1",
  "kind": "ExecCredential",
  "status": {
    "expirationTimestamp": "2026-01-01T00:00:00Z",
    "token": "a.b.c"
  }
}
"#
        );
    }
}
