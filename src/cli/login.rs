//! `tokenkeep login`: a person signs in, and the cache has the tokens afterwards.

use std::sync::Arc;

use serde_json::json;

use super::arguments::Login;
use super::caches::deadline;
use super::failure::Failure;
use super::interact::Terminal;
use super::output::{FAINT, Output, STRONG, printable};
use super::settings::{Settings, shell_word};
use super::state::DefaultAccounts;
use super::{account, record, runtime};
use crate::credential::{CredentialOptions, DeviceCodeCredential, InteractiveBrowserCredential};
use crate::document::ChangeSet;
use crate::entra::launch::Surroundings;
use crate::error::InvalidArgument;
use crate::record::AuthenticationRecord;
use crate::store::{Store, StoreDescription};
use crate::token::{Claims, TokenRequest};

pub(super) fn run(arguments: &Login, settings: &Settings, output: Output) -> Result<(), Failure> {
    let claims = arguments.claims.as_deref().map(Claims::from_challenge).transpose()?;
    let request = TokenRequest::new(Settings::scopes(&arguments.scopes, &settings.authority)?)
        .claims(claims)
        .enable_cae(arguments.enable_cae);
    let headless = Surroundings::of_this_process().headless();
    let way = Way::choose(arguments, settings.no_input, headless)?;
    check_record_out(arguments, settings, output)?;

    // What cannot be kept is told before a person is asked for anything.
    let store = settings.open_store(arguments.enable_cae)?;
    store.apply(&ChangeSet::default(), deadline())?;

    let cache = store.describe();
    let record = sign_in(way, &settings.credential(Arc::clone(&store)), &request, output)?;
    if let Some(file) = &arguments.record_out {
        record::write(file, &record, settings, output)?;
    }
    let needs_name = !is_meant_without_a_hint(&record, store.as_ref(), settings);
    report(arguments, settings, &record, &cache, needs_name, output)
}

/// Whether `tokenkeep token` would take this account by itself. A cache that cannot be read again
/// is no reason to fail now.
fn is_meant_without_a_hint(record: &AuthenticationRecord, store: &dyn Store, settings: &Settings) -> bool {
    let Ok(snapshot) = store.load() else { return true };
    let host = settings.authority.host();
    let accounts = account::of_cloud(snapshot.document.accounts(), host);
    let default = DefaultAccounts::of(settings).and_then(|defaults| defaults.get(host)).ok().flatten();
    account::choose(&accounts, None, default.as_deref(), settings.client_id(), "")
        .is_ok_and(|meant| meant.home_account_id.eq_ignore_ascii_case(record.home_account_id()))
}

/// How a person signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Browser {
        /// Whether it was asked for, so that nothing else may stand in for it.
        insisted: bool,
    },
    DeviceCode {
        /// Why it was chosen for the person, if it was.
        because: Option<&'static str>,
    },
}

impl Way {
    fn choose(arguments: &Login, no_input: bool, headless: Option<&'static str>) -> Result<Self, Failure> {
        match (arguments.browser, headless) {
            (true, _) if no_input => Err(InvalidArgument::new(
                "use of --browser",
                "--no-input opens no browser",
                "use --device-code, or leave --no-input out",
            )
            .into()),
            (true, _) => Ok(Self::Browser { insisted: true }),
            _ if arguments.device_code || no_input => Ok(Self::DeviceCode { because: None }),
            (false, None) => Ok(Self::Browser { insisted: false }),
            (false, because) => Ok(Self::DeviceCode { because }),
        }
    }
}

fn sign_in(
    way: Way,
    options: &CredentialOptions,
    request: &TokenRequest,
    output: Output,
) -> Result<AuthenticationRecord, Failure> {
    let insisted = match way {
        Way::DeviceCode { because } => {
            if let Some(because) = because {
                output.remark(&format!(
                    "Signing in with a code, because {because} (--browser insists on a browser)"
                ))?;
            }
            return by_device_code(options, request, output);
        }
        Way::Browser { insisted } => insisted,
    };
    let terminal = Terminal::new(output);
    let terminal = Arc::new(if insisted { terminal.waiting_without_browser() } else { terminal });
    let credential = InteractiveBrowserCredential::new(options.clone(), Arc::clone(&terminal) as _)?;
    let signed_in = runtime::wait_for(credential.authenticate(request));
    match (signed_in, terminal.no_browser()) {
        (Err(failure), Some(problem)) if !matches!(failure, Failure::Cancelled) => {
            output
                .say(&format!("No browser could be started: {}", printable(&problem)))
                .map_err(Failure::Output)?;
            let agreed = !output.has_person() || output.ask("Sign in with a code instead?", true)?;
            if agreed { by_device_code(options, request, output) } else { Err(Failure::Cancelled) }
        }
        (signed_in, _) => signed_in,
    }
}

fn by_device_code(
    options: &CredentialOptions,
    request: &TokenRequest,
    output: Output,
) -> Result<AuthenticationRecord, Failure> {
    let terminal = Arc::new(Terminal::new(output));
    let credential = DeviceCodeCredential::new(options.clone(), Arc::clone(&terminal) as _)?;
    let signed_in = runtime::wait_for(credential.authenticate(request));
    terminal.finish();
    signed_in
}

fn check_record_out(arguments: &Login, settings: &Settings, output: Output) -> Result<(), Failure> {
    match &arguments.record_out {
        Some(file) if !record::is_standard(file) => record::check(file, settings),
        Some(_) if output.is_json() => Err(Failure::usage(
            "--json and --record-out - both want the standard output",
            "write the record to a file, or leave --json out",
        )),
        _ => Ok(()),
    }
}

fn report(
    arguments: &Login,
    settings: &Settings,
    record: &AuthenticationRecord,
    cache: &StoreDescription,
    needs_name: bool,
    output: Output,
) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&json!({
            "account": {
                "username": record.username(),
                "home_account_id": record.home_account_id(),
            },
            "tenant": record.tenant_id().as_str(),
            "client_id": record.client_id(),
            "cache": { "name": cache.cache, "place": cache.place, "encrypted": cache.encrypted },
            "record_out": arguments.record_out,
        }));
    }
    let username = printable(record.username());
    let encrypted = if cache.encrypted { "encrypted" } else { "NOT encrypted" };
    let mut lines = vec![
        format!("Signed in as {STRONG}{username}{STRONG:#}"),
        format!("  {FAINT}tenant{FAINT:#}  {}", record.tenant_id()),
        format!("  {FAINT}cache{FAINT:#}   {}, {encrypted}: {}", cache.cache, cache.place),
    ];
    match &arguments.record_out {
        Some(file) if !record::is_standard(file) => {
            lines.push(format!("  {FAINT}record{FAINT:#}  {}", file.display()));
        }
        _ => {}
    }
    let mut to_repeat = settings.to_repeat.clone();
    to_repeat.extend(needs_name.then(|| format!("--account {}", shell_word(&username))));
    lines.push(format!("{FAINT}next:{FAINT:#} {}", next_command(arguments, &to_repeat)));
    output.remark(&lines.join("\n"))
}

fn next_command(arguments: &Login, to_repeat: &[String]) -> String {
    let scopes = arguments.scopes.iter().map(|scope| format!("--scope {}", shell_word(scope)));
    let cae = arguments.enable_cae.then(|| "--enable-cae".to_owned());
    let options = to_repeat.iter().cloned().chain(scopes).chain(cae);
    options.fold("tokenkeep token".to_owned(), |command, option| command + " " + &option)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(browser: bool, device_code: bool, no_input: bool, headless: bool) -> Result<Way, u8> {
        let arguments = Login { browser, device_code, ..Login::default() };
        let headless = headless.then_some("there is no display");
        Way::choose(&arguments, no_input, headless).map_err(|failure| failure.exit_code())
    }

    #[test]
    fn the_way_to_sign_in_is_what_was_asked_for_or_what_can_work() {
        let by_code = |because| Ok(Way::DeviceCode { because });
        assert_eq!(way(false, false, false, false), Ok(Way::Browser { insisted: false }));
        assert_eq!(way(false, false, false, true), by_code(Some("there is no display")));
        assert_eq!(way(true, false, false, true), Ok(Way::Browser { insisted: true }));
        assert_eq!(way(false, true, false, false), by_code(None));
        assert_eq!(way(false, false, true, false), by_code(None));
        assert_eq!(way(true, false, true, false), Err(2));
    }

    #[test]
    fn the_next_command_asks_for_what_was_signed_in_for() {
        let arguments = Login {
            scopes: vec!["https://graph.microsoft.com/.default".to_owned()],
            enable_cae: true,
            ..Login::default()
        };
        assert_eq!(
            next_command(&arguments, &["--store plaintext".to_owned()]),
            "tokenkeep token --store plaintext --scope https://graph.microsoft.com/.default --enable-cae"
        );
    }
}
