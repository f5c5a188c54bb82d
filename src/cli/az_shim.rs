//! A stand-in for `az` that answers `account get-access-token` by a grant, and passes every other
//! command on to the real one.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::tz::TimeZone;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::Value;
use tokio::process::Command;
use zeroize::Zeroizing;

use super::doors;
use super::failure::Failure;
use super::output::{Output, json_text, printable};
use super::runtime;
use super::settings::{Settings, variable};
use super::times;
use crate::serve;
use crate::time::UnixTime;

const NAME: &str = "az";
/// Where the stand-in asks: `127.0.0.1:PORT`. Without it we are no stand-in, whatever we are called.
const ADDRESS: &str = "TOKENKEEP_AZ_SHIM";
/// What a command without a scope asks for.
const SCOPE: &str = "TOKENKEEP_AZ_SCOPE";
const SECRET: &str = "IDENTITY_HEADER";
const COMMAND: [&str; 2] = ["account", "get-access-token"];
const MAX_PROFILE: u64 = 4 * 1024 * 1024;

/// What `--resource-type` stands for in the public cloud.
const RESOURCE_TYPES: [(&str, &str); 7] = [
    ("aad-graph", "https://graph.windows.net/"),
    ("arm", "https://management.core.windows.net/"),
    ("batch", "https://batch.core.windows.net/"),
    ("data-lake", "https://datalake.azure.net/"),
    ("media", "https://rest.media.azure.net"),
    ("ms-graph", "https://graph.microsoft.com/"),
    ("oss-rdbms", "https://ossrdbms-aad.database.windows.net"),
];

/// A private folder with an `az` of ours, first in a child's PATH, until it is dropped.
pub(super) struct Shim {
    folder: PathBuf,
}

impl Shim {
    pub(super) fn put_before(
        command: &mut Command,
        address: &str,
        grant: &str,
        settings: &Settings,
    ) -> Result<Self, Failure> {
        let all = settings.places.running().join("shims");
        sweep(&all, settings);
        let folder = all.join(grant);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(Failure::file("making the folder", &folder))?;
        let shim = Self { folder };
        let link = shim.folder.join(NAME);
        let us = env::current_exe().map_err(Failure::file("looking for", "tokenkeep itself"))?;
        symlink(us, &link).map_err(Failure::file("making the link", &link))?;
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([shim.folder.clone()].into_iter().chain(env::split_paths(&path)))
            .map_err(|error| Failure::file("using", &shim.folder)(io::Error::other(error)))?;
        command.env("PATH", path).env(ADDRESS, address);
        if let Some(scope) = settings.authority.default_scope() {
            command.env(SCOPE, scope);
        }
        Ok(shim)
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// Removes the folders that kills left behind: those without a grant on the list.
fn sweep(all: &Path, settings: &Settings) {
    let (Ok(folders), Ok(listed)) = (fs::read_dir(all), doors::registry(settings).list()) else { return };
    for folder in folders.flatten() {
        let name = folder.file_name();
        if !listed.iter().any(|listed| name == *listed.entry.id) {
            fs::remove_dir_all(folder.path()).ok();
        }
    }
}

/// Whether this process was started as the stand-in.
pub(super) fn is_meant(program: Option<&OsString>) -> bool {
    let name = program.and_then(|program| Path::new(program).file_name());
    name == Some(OsStr::new(NAME)) && env::var_os(ADDRESS).is_some()
}

/// Answers, or becomes the real `az`.
pub(super) fn main(arguments: &[OsString]) -> ExitCode {
    let output = Output::new(false, false, true);
    let of_ours = arguments.get(..2).is_some_and(|words| words == COMMAND);
    let asks_for_help = arguments.iter().any(|word| word == "--help" || word == "-h");
    if !of_ours || asks_for_help {
        let (problem, code) = become_the_real_one(arguments);
        output.say(&problem).ok();
        return ExitCode::from(code);
    }
    let answered = Query::parse(&arguments[2..], variable).and_then(|query| answer(&query));
    match answered {
        Ok(text) => output.raw(&text).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        Err((problem, code)) => {
            output.say(&format!("ERROR: {}", printable(&problem))).ok();
            ExitCode::from(code)
        }
    }
}

/// Replaces this process; what comes back is why that did not work, and a shell's code for it.
fn become_the_real_one(arguments: &[OsString]) -> (String, u8) {
    let us = env::current_exe().and_then(fs::canonicalize).ok();
    let path = env::var_os("PATH").unwrap_or_default();
    let is_other = |candidate: &PathBuf| {
        // any stand-in is a link to us, so that two of them do not call each other for ever
        let target = fs::canonicalize(candidate).ok();
        target.is_some() && target != us && rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok()
    };
    let mut candidates = env::split_paths(&path).map(|folder| folder.join(NAME));
    let Some(real) = candidates.find(is_other) else {
        return (
            "az: not found; the stand-in of tokenkeep knows only account get-access-token".to_owned(),
            127,
        );
    };
    let error = std::process::Command::new(&real).arg0(NAME).args(arguments).exec();
    (format!("az: {}: {error}", real.display()), 126)
}

type Problem = (String, u8);

fn wrong(problem: impl Into<String>) -> Problem {
    (problem.into(), 2)
}

fn failed(problem: impl Into<String>) -> Problem {
    (problem.into(), 1)
}

/// What `az account get-access-token` was asked.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    scopes: Vec<String>,
    tenant: Option<String>,
    subscription: Option<String>,
    form: Form,
    /// The one member to print.
    member: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Json,
    Nothing,
    Tsv,
}

impl Form {
    fn parse(name: &str) -> Result<Self, Problem> {
        match name {
            "json" | "jsonc" => Ok(Self::Json),
            "none" => Ok(Self::Nothing),
            "tsv" => Ok(Self::Tsv),
            other => {
                Err(wrong(format!("the stand-in of tokenkeep has no output {other:?}, only json, tsv, none")))
            }
        }
    }
}

impl Query {
    fn parse(words: &[OsString], variable: impl Fn(&str) -> Option<String>) -> Result<Self, Problem> {
        let mut query = Self::default();
        let mut resource: Option<String> = None;
        let mut form = variable("AZURE_CORE_OUTPUT");
        let mut words = words.iter().map(|word| word.to_string_lossy().into_owned()).peekable();
        while let Some(word) = words.next() {
            let (name, attached) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
                _ => (word, None),
            };
            let mut value = || {
                attached
                    .clone()
                    .or_else(|| words.next_if(|word| !word.starts_with('-')))
                    .ok_or_else(|| wrong(format!("argument {name}: expected one argument")))
            };
            match name.as_str() {
                "--scope" => {
                    query.scopes.push(value()?);
                    while let Some(more) = words.next_if(|word| !word.starts_with('-')) {
                        query.scopes.push(more);
                    }
                }
                "--resource" => resource = Some(value()?),
                "--resource-type" => {
                    let kind = value()?;
                    let known = RESOURCE_TYPES.iter().find(|(name, _)| *name == kind);
                    let (_, meant) = known.ok_or_else(|| {
                        wrong(format!("argument --resource-type: invalid choice: {kind:?}"))
                    })?;
                    resource = Some((*meant).to_owned());
                }
                "--tenant" | "-t" => query.tenant = Some(value()?),
                "--subscription" | "-s" | "--name" | "-n" => query.subscription = Some(value()?),
                "--output" | "-o" => form = Some(value()?),
                "--query" => query.member = Some(member(&value()?)?),
                "--only-show-errors" | "--debug" | "--verbose" => {}
                other => return Err(wrong(format!("the stand-in of tokenkeep does not know {other}"))),
            }
        }
        if let Some(form) = form {
            query.form = Form::parse(&form)?;
        }
        match (resource, query.scopes.is_empty()) {
            (Some(_), false) => return Err(wrong("--resource and --scope exclude each other")),
            (Some(resource), true) => query.scopes.push(format!("{resource}/.default")),
            (None, true) => query.scopes.extend(variable(SCOPE)),
            (None, false) => {}
        }
        if query.tenant.is_some() && query.subscription.is_some() {
            return Err(wrong("--tenant and --subscription exclude each other"));
        }
        Ok(query)
    }
}

/// Of JMESPath only a member's name: scripts ask for `accessToken`.
fn member(query: &str) -> Result<String, Problem> {
    let name = query.trim_matches('"');
    if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(name.to_owned());
    }
    Err(wrong(format!(
        "the stand-in of tokenkeep knows no --query {query:?}, only a member such as accessToken"
    )))
}

/// In the order of the real one, which sorts.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(rename = "accessToken")]
    access_token: &'a str,
    #[serde(rename = "expiresOn")]
    expires_on_local: String,
    expires_on: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<&'a str>,
    tenant: &'a str,
    #[serde(rename = "tokenType")]
    token_type: &'a str,
}

fn answer(query: &Query) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let (Some(address), Some(secret)) = (variable(ADDRESS), variable(SECRET).map(SecretString::from)) else {
        return Err(failed(format!("{SECRET} is gone from the environment; tokenkeep exec had set it")));
    };
    let subscription = query.subscription.as_deref().map(subscription_of_profile).transpose()?;
    let tenant = subscription.as_ref().map_or(query.tenant.as_deref(), |found| found.tenant.as_deref());
    let runtime = runtime::start().map_err(|failure| failed(failure.to_string()))?;
    let token =
        runtime.block_on(serve::az_token(&address, &secret, &query.scopes, tenant)).map_err(failed)?;
    let expires_on = UnixTime::from_seconds(token.expires_on);
    let answer = Answer {
        access_token: token.access_token.expose_secret(),
        expires_on_local: times::azure_cli(expires_on, TimeZone::system()),
        expires_on: token.expires_on,
        subscription: subscription.as_ref().map(|found| found.id.as_str()),
        tenant: &token.tenant,
        token_type: &token.token_type,
    };
    let told = |failure: Failure| failed(failure.to_string());
    match (query.form, &query.member) {
        (Form::Nothing, _) => Ok(Zeroizing::default()),
        (Form::Json, None) => json_text(&answer).map_err(told),
        (form, member) => {
            let all = serde_json::to_value(&answer).map_err(|error| failed(error.to_string()))?;
            match (form, member) {
                (Form::Json, Some(member)) => json_text(&all[member]).map_err(told),
                (_, Some(member)) => Ok(line(&[&all[member]])),
                (_, None) => Ok(line(
                    &all.as_object().into_iter().flat_map(serde_json::Map::values).collect::<Vec<_>>(),
                )),
            }
        }
    }
}

/// Values without quotes, with tabs between them.
fn line(values: &[&Value]) -> Zeroizing<Vec<u8>> {
    let texts: Vec<String> = values
        .iter()
        .map(|value| match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        })
        .collect();
    let mut line = Zeroizing::new(texts.join("\t").into_bytes());
    line.push(b'\n');
    line
}

struct Subscription {
    id: String,
    tenant: Option<String>,
}

/// Whose tenant a subscription is in: the real `az` notes that in its profile.
fn subscription_of_profile(wanted: &str) -> Result<Subscription, Problem> {
    let folder =
        variable("AZURE_CONFIG_DIR").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".azure")));
    let profile = folder.map(|folder| folder.join("azureProfile.json"));
    let text =
        profile.and_then(|path| super::private_file::read(&path, MAX_PROFILE).ok()).unwrap_or_default();
    // the real one begins it with a byte order mark
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let profile: Value = serde_json::from_slice(text).unwrap_or_default();
    find_subscription(&profile, wanted).ok_or_else(|| {
        failed(format!(
            "subscription {wanted:?} is in no profile of the real az, so its tenant is not known; give --tenant"
        ))
    })
}

fn find_subscription(profile: &Value, wanted: &str) -> Option<Subscription> {
    let known = profile["subscriptions"].as_array().into_iter().flatten().find(|known| {
        ["id", "name"]
            .iter()
            .any(|member| known[member].as_str().is_some_and(|name| name.eq_ignore_ascii_case(wanted)))
    })?;
    Some(Subscription {
        id: known["id"].as_str()?.to_owned(),
        tenant: known["tenantId"].as_str().map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(line: &str) -> Result<Query, Problem> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let variable = |name: &str| (name == SCOPE).then(|| "https://default//.default".to_owned());
        Query::parse(&words, variable)
    }

    #[test]
    fn what_the_sdks_ask_is_understood() {
        let of = |scope: &str| Query { scopes: vec![scope.to_owned()], ..Query::default() };
        for (line, expected) in [
            ("", of("https://default//.default")),
            ("--output json --resource https://vault.azure.net", of("https://vault.azure.net/.default")),
            ("--output json --resource https://a/", of("https://a//.default")),
            (
                "-o json --scope https://a/.default --tenant t",
                Query { tenant: Some("t".into()), ..of("https://a/.default") },
            ),
            (
                "--scope=https://a/x --subscription s",
                Query { subscription: Some("s".into()), ..of("https://a/x") },
            ),
            (
                "--scope a b -o tsv",
                Query { scopes: vec!["a".into(), "b".into()], form: Form::Tsv, ..Query::default() },
            ),
            ("--resource-type ms-graph", of("https://graph.microsoft.com//.default")),
            (
                "--query accessToken -o tsv",
                Query {
                    member: Some("accessToken".into()),
                    form: Form::Tsv,
                    ..of("https://default//.default")
                },
            ),
        ] {
            assert_eq!(parse(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_no_reason_to_ask_somebody_else() {
        for line in [
            "--resource",
            "--resource --tenant t",
            "--resource a --scope b",
            "--tenant t --subscription s",
            "--output yaml",
            "--query [].a",
            "--resource-type nonsense",
            "--nonsense",
            "word",
        ] {
            assert_eq!(parse(line).unwrap_err().1, 2, "{line}");
        }
    }

    #[test]
    fn a_subscription_is_found_by_its_id_or_name() {
        let profile = json!({"subscriptions": [
            {"id": "aaaa", "name": "One", "tenantId": "t1"}, {"id": "bbbb", "name": "Two", "tenantId": "t2"},
        ]});
        for (wanted, expected) in [("AAAA", "t1"), ("two", "t2")] {
            let found = find_subscription(&profile, wanted).unwrap();
            assert_eq!(found.tenant.as_deref(), Some(expected));
        }
        assert!(find_subscription(&profile, "three").is_none());
        assert!(find_subscription(&Value::Null, "aaaa").is_none());
    }
}
