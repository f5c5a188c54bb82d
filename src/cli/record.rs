//! `tokenkeep record`: authentication records in and out.

use std::path::Path;

use serde_json::{Value, json};

use super::account;
use super::arguments::{Record, RecordCommand};
use super::caches::{self, OpenCache, deadline};
use super::failure::Failure;
use super::output::{FAINT, Output, printable};
use super::private_file;
use super::settings::Settings;
use super::state::DefaultAccounts;
use crate::document::CachedAccount;
use crate::error::{CacheError, InvalidArgument};
use crate::record::AuthenticationRecord;

/// A record is at most this long (spec S-B 1.3); the reader of records tells of longer ones.
const MAX_LENGTH: u64 = 10 * 1024;

pub(super) fn run(arguments: &Record, settings: &Settings, output: Output) -> Result<(), Failure> {
    match &arguments.command {
        RecordCommand::Export { file, account } => export(file, account.as_deref(), settings, output),
        RecordCommand::List => list(settings, output),
        RecordCommand::Show { file } => {
            let record = read(file, settings)?;
            if output.is_json() { output.json(&to_json(&record)) } else { output.text(&in_words(&record)) }
        }
    }
}

fn export(file: &Path, hint: Option<&str>, settings: &Settings, output: Output) -> Result<(), Failure> {
    let caches = OpenCache::both(settings)?;
    let listed = caches::accounts(&caches).into_iter().map(|listed| listed.account).collect();
    let accounts = account::of_cloud(listed, settings.authority.host());
    let default = DefaultAccounts::of(settings)?.get(settings.authority.host())?;
    let account = account::choose(
        &accounts,
        hint,
        default.as_deref(),
        settings.client_id(),
        settings.cache.name.as_str(),
    )?;
    let record = of_account(account, settings);
    write(file, &record, settings, output)?;
    if is_standard(file) {
        return Ok(());
    }
    if output.is_json() {
        return output.json(&json!({ "record_out": file, "record": to_json(&record) }));
    }
    output.remark(&format!(
        "Wrote the record of {} to {}",
        printable(account::display_name(account)),
        file.display()
    ))
}

fn list(settings: &Settings, output: Output) -> Result<(), Failure> {
    let names = settings.vault()?.record_names().map_err(CacheError::from)?;
    if output.is_json() {
        return output.json(&json!({ "version": 1, "records": names }));
    }
    names.iter().try_for_each(|name| output.text(&printable(name)))
}

/// The record by which the account of a cache is found again.
pub(super) fn of_account(account: &CachedAccount, settings: &Settings) -> AuthenticationRecord {
    account::record(account, &settings.authority, settings.tenant.as_ref(), settings.client_id.as_deref())
}

/// The record, at the authority of this call if that is another name of the same cloud.
///
/// # Errors
/// When another cloud was asked for by option.
pub(super) fn at_authority(
    record: AuthenticationRecord,
    settings: &Settings,
) -> Result<AuthenticationRecord, Failure> {
    let its_own = record.authority();
    match settings.authority.known_as(its_own.host()) {
        // A port is no part of a cache, and not every language keeps it in a record.
        Some(authority) => Ok(AuthenticationRecord::new(
            authority,
            record.client_id().to_owned(),
            record.home_account_id().to_owned(),
            record.tenant_id().clone(),
            record.username().to_owned(),
        )),
        None if settings.authority_is_explicit => Err(InvalidArgument::new(
            "authority",
            format!("{} was given, but the record is for {its_own}", settings.authority),
            "leave --authority out, or sign in anew: tokenkeep login --record-out FILE",
        )
        .into()),
        None => Ok(record),
    }
}

/// Reads a record from a file, from the standard input if the file is `-`, from the vault if it is
/// `vault:NAME`.
pub(super) fn read(file: &Path, settings: &Settings) -> Result<AuthenticationRecord, Failure> {
    if let Some(name) = name_in_vault(file) {
        return settings.vault()?.record(name)?.ok_or_else(|| {
            Failure::usage(
                format!("the vault has no record {name:?}"),
                "see which there are: tokenkeep record list",
            )
        });
    }
    let bytes = if !is_standard(file) {
        private_file::read(file, MAX_LENGTH)?
    } else if settings.no_input {
        return Err(Failure::usage(
            "the record is on the standard input, which --no-input does not read",
            "give the record's file by its name",
        ));
    } else {
        private_file::read_stdin(MAX_LENGTH)?
    };
    if std::str::from_utf8(&bytes).is_err() && bytes.len() as u64 <= MAX_LENGTH {
        return Err(InvalidArgument::new(
            "authentication record",
            "it is not UTF-8 text",
            "write a new one: tokenkeep login --record-out FILE, or tokenkeep record export FILE",
        )
        .into());
    }
    // Of a longer one the last character may be cut in two; that it is too long is what counts.
    Ok(AuthenticationRecord::deserialize(&String::from_utf8_lossy(&bytes))?)
}

/// Writes a record to a file, to the standard output if the file is `-`, into the vault if it is
/// `vault:NAME`.
pub(super) fn write(
    file: &Path,
    record: &AuthenticationRecord,
    settings: &Settings,
    output: Output,
) -> Result<(), Failure> {
    if let Some(name) = name_in_vault(file) {
        let kept = settings.vault()?.set_record(name, Some(record), deadline());
        return Ok(kept.map_err(CacheError::from)?);
    }
    let text = record.serialize();
    if is_standard(file) {
        output.raw(format!("{text}\n").as_bytes())
    } else {
        private_file::write(file, text.as_bytes())
    }
}

/// Whether a record could be written there, so that nobody is asked to sign in for nothing.
pub(super) fn check(file: &Path, settings: &Settings) -> Result<(), Failure> {
    match name_in_vault(file) {
        Some("") => Err(Failure::usage("a record in the vault needs a name", "write vault:NAME")),
        Some(_) => Ok(settings.vault().map(drop)?),
        None => private_file::check(file),
    }
}

fn name_in_vault(file: &Path) -> Option<&str> {
    file.to_str()?.strip_prefix("vault:")
}

/// Whether the file stands for the standard input or output.
pub(super) fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn to_json(record: &AuthenticationRecord) -> Value {
    json!({
        "username": record.username(),
        "home_account_id": record.home_account_id(),
        "tenant": record.tenant_id().as_str(),
        "client_id": record.client_id(),
        "authority": record.authority().to_string(),
    })
}

fn in_words(record: &AuthenticationRecord) -> String {
    let authority = record.authority().to_string();
    let lines = [
        ("account  ", record.username()),
        ("id       ", record.home_account_id()),
        ("tenant   ", record.tenant_id().as_str()),
        ("client   ", record.client_id()),
        ("authority", &authority),
    ];
    let lines = lines.map(|(name, value)| format!("{FAINT}{name}{FAINT:#}  {}", printable(value)));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::arguments::GlobalOptions;
    use super::*;
    use crate::credential::DEVELOPER_SIGN_ON_CLIENT_ID;
    use crate::credential::account::tests::account;
    use crate::document::CachedClient;
    use crate::store::Places;

    fn settings(given: &GlobalOptions) -> Settings {
        let output = Output::new(false, true, true);
        Settings::new(given, |_| None, Places::below("/none"), output).unwrap()
    }

    fn record(authority: &str) -> AuthenticationRecord {
        let text = format!(
            r#"{{"authority":"{authority}","clientId":"c","homeAccountId":"u.t","tenantId":"t","username":"n"}}"#
        );
        AuthenticationRecord::deserialize(&text).unwrap()
    }

    #[test]
    fn an_accounts_record_is_for_its_home_tenant_unless_another_is_asked_for() {
        let account = account("user.one@contoso.example", "u.home");
        let record = of_account(&account, &settings(&GlobalOptions::default()));
        assert_eq!(record.tenant_id().as_str(), "home");
        assert_eq!(record.home_account_id(), "u.home");
        assert_eq!(record.authority().host(), "login.microsoftonline.com");
        let given = GlobalOptions {
            tenant: Some("guest".into()),
            client_id: Some("client".into()),
            authority: Some("sts.windows.net".into()),
            ..GlobalOptions::default()
        };
        let record = of_account(&account, &settings(&given));
        assert_eq!(record.tenant_id().as_str(), "guest");
        assert_eq!(record.client_id(), "client");
        assert_eq!(record.authority().host(), "login.microsoftonline.com");
    }

    #[test]
    fn an_accounts_only_client_stands_in_for_the_default_one() {
        let client = |client_id: &str, family_id: Option<&str>| CachedClient {
            client_id: client_id.to_owned(),
            family_id: family_id.map(ToOwned::to_owned),
        };
        let by_default = settings(&GlobalOptions::default());
        let given = GlobalOptions { client_id: Some("given".into()), ..GlobalOptions::default() };
        let mut account = account("a", "a.1");
        account.clients = vec![client("own", None)];
        assert_eq!(of_account(&account, &by_default).client_id(), "own");
        assert_eq!(of_account(&account, &settings(&given)).client_id(), "given");
        for clients in [vec![client("own", Some("1"))], vec![client("own", None), client("b", None)]] {
            account.clients = clients;
            assert_eq!(of_account(&account, &by_default).client_id(), DEVELOPER_SIGN_ON_CLIENT_ID);
        }
    }

    #[test]
    fn a_record_keeps_to_its_cloud() {
        let at = |given: Option<&str>, own: &str| {
            let authority = given.map(ToOwned::to_owned);
            let given = GlobalOptions { authority, ..GlobalOptions::default() };
            at_authority(record(own), &settings(&given)).map(|record| record.authority().to_string())
        };
        assert_eq!(at(None, "login.microsoftonline.us").unwrap(), "https://login.microsoftonline.us");
        assert_eq!(at(Some("localhost:8443"), "localhost").unwrap(), "https://localhost:8443");
        assert_eq!(at(None, "localhost:8443").unwrap(), "https://localhost:8443");
        let error = at(Some("login.microsoftonline.us"), "login.microsoftonline.com").unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn the_standard_input_is_not_read_against_the_users_will() {
        let given = GlobalOptions { no_input: true, ..GlobalOptions::default() };
        assert_eq!(read(Path::new("-"), &settings(&given)).unwrap_err().exit_code(), 2);
    }
}
