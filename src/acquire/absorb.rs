//! A token reply becomes a change to the cache, and an access token for the caller.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::cloud::TenantId;
use crate::document::{Change, ChangeSet, IssuedAccount, IssuedTokens, Origin};
use crate::entra::{self, TokenReply};
use crate::error::{AuthenticationFailed, Result};
use crate::record::AuthenticationRecord;
use crate::token::{AccessToken, TokenAccount, TokenDetails, TokenSource};

use super::AccountChoice;
use super::caches::Cache;

/// What a token reply came to.
#[derive(Debug)]
pub(crate) struct Absorbed {
    pub(crate) token: AccessToken,
    /// `None` if the reply does not say who signed in.
    pub(crate) record: Option<AuthenticationRecord>,
    /// Whether the cache has it, too. The token is good either way.
    pub(crate) saved: Result<()>,
}

/// `expected` is the account whose refresh token was redeemed.
pub(super) async fn absorb(
    client: &entra::Client,
    cache: &Arc<Cache>,
    reply: TokenReply,
    tenant: &TenantId,
    origin: Origin,
    expected: Option<&AccountChoice>,
) -> Result<Absorbed> {
    let claims = reply.id_claims().unwrap_or_default();
    let home_account_id = home_account_id(&reply, expected)?;
    let username =
        reply.username().or_else(|| expected.map(|account| account.username.clone())).unwrap_or_default();
    let issued = issued(client, reply, tenant, origin, home_account_id, &claims);
    let token = fresh_token(&issued, &username);
    let (host, home_account_id) = (issued.host.clone(), issued.home_account_id.clone());
    let token_tenant = issued.token_tenant.clone();

    let applied = cache.apply(ChangeSet::of(Change::Save(Box::new(issued)))).await;
    let environment = applied.as_ref().ok().and_then(|applied| {
        let accounts = applied.document.accounts();
        let account = accounts.into_iter().find(|account| {
            account.home_account_id == home_account_id
                && crate::cloud::same_cloud(&account.environment, &host)
        });
        Some(account?.environment)
    });
    // The name by which the cache knows the account's cloud, so that other tools find it there.
    let authority = environment.and_then(|environment| client.authority().known_as(&environment));
    let record = AuthenticationRecord::new(
        authority.unwrap_or_else(|| client.authority().clone()),
        client.client_id().to_owned(),
        home_account_id,
        token_tenant.and_then(|tid| TenantId::parse(&tid).ok()).unwrap_or_else(|| tenant.clone()),
        username.clone(),
    );
    Ok(Absorbed { token, record: (!username.is_empty()).then_some(record), saved: applied.map(|_| ()) })
}

/// What a reply brought, ready to be written, by the same rules as [`absorb`].
#[cfg(feature = "cli")]
pub(super) fn tokens_of(
    client: &entra::Client,
    reply: TokenReply,
    tenant: &TenantId,
    origin: Origin,
    expected: Option<&AccountChoice>,
) -> Result<IssuedTokens> {
    let claims = reply.id_claims().unwrap_or_default();
    let home_account_id = home_account_id(&reply, expected)?;
    Ok(issued(client, reply, tenant, origin, home_account_id, &claims))
}

/// Who the reply is about: a refresh may leave that out, but not name somebody else.
fn home_account_id(reply: &TokenReply, expected: Option<&AccountChoice>) -> Result<String> {
    let told = reply.home_account_id();
    match (told, expected) {
        (Some(told), Some(expected)) if told != expected.home_account_id => Err(AuthenticationFailed::new(
            format!("the provider answered for another account than {}", expected.username),
        )
        .into()),
        (_, Some(expected)) => Ok(expected.home_account_id.clone()),
        (Some(told), None) => Ok(told),
        (None, None) => Err(AuthenticationFailed::new(
            "the provider's answer does not say who signed in: it has no usable client_info or ID token",
        )
        .into()),
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name)?.as_str().filter(|text| !text.is_empty())
}

fn issued(
    client: &entra::Client,
    reply: TokenReply,
    tenant: &TenantId,
    origin: Origin,
    home_account_id: String,
    claims: &Map<String, Value>,
) -> IssuedTokens {
    let later = |span: Duration| reply.asked_at.after(span);
    let account = text(claims, "oid").or_else(|| text(claims, "sub")).map(|id| IssuedAccount {
        local_account_id: id.to_owned(),
        username: reply.username(),
        name: text(claims, "name").map(str::to_owned),
        authority_type: if tenant.as_str() == "adfs" { "ADFS" } else { "MSSTS" },
        client_info: reply.client_info.clone(),
    });
    IssuedTokens {
        home_account_id,
        host: client.environment().to_owned(),
        client_id: client.client_id().to_owned(),
        requested_tenant: tenant.as_str().to_owned(),
        token_tenant: text(claims, "tid").map(str::to_owned),
        issued_at: reply.asked_at,
        expires_on: later(reply.expires_in),
        extended_expires_on: later(reply.ext_expires_in.unwrap_or(reply.expires_in)),
        refresh_on: reply.refresh_in.map(later),
        scopes: reply.scopes,
        access_token: reply.access_token,
        token_type: reply.token_type,
        refresh_token: reply.refresh_token,
        family_id: reply.foci,
        id_token: reply.id_token,
        account,
        origin,
    }
}

fn fresh_token(issued: &IssuedTokens, username: &str) -> AccessToken {
    let tenant = issued.token_tenant.as_ref().unwrap_or(&issued.requested_tenant);
    let details = TokenDetails::new(
        issued.token_type.clone(),
        issued.scopes.clone(),
        tenant.clone(),
        issued.client_id.clone(),
        Some(TokenAccount::new(username.to_owned(), issued.home_account_id.clone())),
    );
    AccessToken::new(
        issued.access_token.clone(),
        issued.expires_on,
        issued.refresh_on,
        TokenSource::Refresh,
        Arc::new(details),
    )
}
