//! `tokenkeep token`: an access token, without ever asking a person.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::account;
use super::arguments::{Token, TokenFormat};
use super::caches::OpenCache;
use super::failure::Failure;
use super::format::format;
use super::interact::Terminal;
use super::kube;
use super::output::Output;
use super::record;
use super::runtime;
use super::settings::Settings;
use super::state::DefaultAccounts;
use super::via_agent;
use crate::credential::{DeviceCodeCredential, SharedTokenCacheCredential, TokenCredential};
use crate::record::AuthenticationRecord;
use crate::token::{AccessToken, Claims, Scopes, TokenRequest};

pub(super) fn run(arguments: &Token, settings: &Settings, output: Output) -> Result<(), Failure> {
    let claims = arguments.claims.as_deref().map(Claims::from_challenge).transpose()?;
    if !arguments.scopes.is_empty() {
        Scopes::new(&arguments.scopes)?;
    }
    let form =
        arguments.format.unwrap_or(if output.is_json() { TokenFormat::Json } else { TokenFormat::Raw });
    let kube_version = match form {
        TokenFormat::Kube => kube::api_version()?,
        _ => "",
    };
    let given = match &arguments.record {
        Some(file) => {
            let record = record::read(file, settings)?;
            Some(record::at_authority(record, settings)?)
        }
        None => None,
    };
    let authority = given.as_ref().map_or(&settings.authority, AuthenticationRecord::authority);
    let request = TokenRequest::new(Settings::scopes(&arguments.scopes, authority)?)
        .claims(claims)
        .enable_cae(arguments.enable_cae)
        .min_validity(Duration::from_secs(arguments.min_validity.into()))
        .force_refresh(arguments.force_refresh);

    if let Some(token) = of_agent(arguments, given.as_ref(), &request, settings, output)? {
        return output.raw(&format(&token, form, TimeZone::system, kube_version)?);
    }
    let cache = OpenCache::open(settings, arguments.enable_cae)?;
    let options = settings.credential(Arc::clone(&cache.store)).disable_automatic_authentication(true);
    let credential: Box<dyn TokenCredential> = match given {
        Some(record) => {
            let options = options.authentication_record(record);
            Box::new(DeviceCodeCredential::new(options, Arc::new(Terminal::new(output)))?)
        }
        None => {
            let record = of_account(arguments.account.as_deref(), &cache, settings)?;
            Box::new(SharedTokenCacheCredential::new(options.authentication_record(record))?)
        }
    };
    let token = runtime::wait_for(credential.get_token(&request))?;
    output.raw(&format(&token, form, TimeZone::system, kube_version)?)
}

/// The agent's token; `None` if this process has to get it by itself.
fn of_agent(
    arguments: &Token,
    record: Option<&AuthenticationRecord>,
    request: &TokenRequest,
    settings: &Settings,
    output: Output,
) -> Result<Option<AccessToken>, Failure> {
    let Some(mut agent) = via_agent::client(settings) else { return Ok(None) };
    if let Some(record) = record {
        agent = agent.authentication_record(record);
    }
    if let Some(hint) = &arguments.account {
        agent = agent.account(hint);
    }
    via_agent::ask(&agent, agent.ask_token(request), output)
}

/// The record of the account that the hint means.
pub(super) fn of_account(
    hint: Option<&str>,
    cache: &OpenCache,
    settings: &Settings,
) -> Result<AuthenticationRecord, Failure> {
    let host = settings.authority.host();
    let accounts = account::of_cloud(cache.document.accounts(), host);
    // Not read where it could not matter: this is the way of a token that is already there.
    let default = match (hint, accounts.len()) {
        (None, 2..) => DefaultAccounts::of(settings)?.get(host)?,
        _ => None,
    };
    let account = account::choose(&accounts, hint, default.as_deref(), settings.client_id(), &cache.name)?;
    Ok(record::of_account(account, settings))
}
