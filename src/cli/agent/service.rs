//! `tokenkeep agent install` and `uninstall`: the files by which the system's own manager runs the agent.

mod file;
#[cfg(any(target_os = "macos", test))]
#[cfg_attr(not(target_os = "macos"), allow(dead_code, reason = "what it writes is looked at everywhere"))]
mod launchd;
#[cfg(any(not(any(target_os = "macos", windows)), test))]
#[cfg_attr(
    any(target_os = "macos", windows),
    allow(dead_code, reason = "what it writes is looked at everywhere")
)]
pub(super) mod systemd;
#[cfg(any(windows, test))]
#[cfg_attr(not(windows), allow(dead_code, reason = "what it writes is looked at everywhere"))]
mod task;
#[cfg(any(target_os = "macos", windows, test))]
mod xml;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use self::file::{Found, ServiceFile};
#[cfg(target_os = "macos")]
use self::launchd as system;
#[cfg(not(any(target_os = "macos", windows)))]
use self::systemd as system;
#[cfg(windows)]
use self::task as system;
use super::super::arguments::{Install, LockOptions};
use super::super::failure::Failure;
use super::super::output::{FAINT, Output};
use super::super::settings::{Settings, variable};
use super::super::via_agent;
use super::unreachable;

/// What the agent needs of this environment, and what is no secret.
const VARIABLES: [&str; 7] = [
    "SSL_CERT_FILE",
    "TOKENKEEP_CONFIG",
    "TOKENKEEP_PASSPHRASE_FILE",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
];

/// Those of them that name files.
const FILES: [&str; 3] = ["SSL_CERT_FILE", "TOKENKEEP_CONFIG", "TOKENKEEP_PASSPHRASE_FILE"];

/// The files that this environment names, for a process that runs in another folder.
pub(super) fn files_of_environment() -> impl Iterator<Item = (&'static str, PathBuf)> {
    FILES.into_iter().filter_map(|name| Some((name, std::path::absolute(variable(name)?).ok()?)))
}

/// What the service runs.
#[derive(Debug)]
struct Run {
    program: String,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    /// Where it listens, if not where everybody looks.
    socket: Option<String>,
}

impl Run {
    /// The agent as it would run now with these options.
    fn of(lock: &LockOptions, settings: &Settings) -> Result<Self, Failure> {
        let program = program().map_err(Failure::file("finding", "this program"))?;
        let mut arguments = vec!["agent".to_owned()];
        arguments.extend(lock.words());
        arguments.extend(settings.given_anywhere());
        let files: HashMap<_, _> = files_of_environment().collect();
        let value_of = |name| match files.get(name) {
            Some(file) => Some(file.display().to_string()),
            None => variable(name),
        };
        let set = VARIABLES.into_iter().filter_map(|name| Some((name, value_of(name)?)));
        let run = Self {
            program: program.to_str().unwrap_or_default().to_owned(),
            arguments,
            variables: set.collect(),
            socket: variable("TOKENKEEP_SOCK"),
        };
        let variables = run.variables.iter().map(|(_, value)| value);
        let mut texts = run.arguments.iter().chain(variables).chain(&run.socket);
        let strange = texts.find(|text| text.contains(char::is_control));
        let relative = run.socket.as_ref().filter(|socket| !Path::new(socket).is_absolute());
        let strange = strange.or(relative);
        match strange.cloned().or_else(|| run.program.is_empty().then(|| program.display().to_string())) {
            None => Ok(run),
            Some(strange) => Err(Failure::usage(
                format!("{strange:?} cannot be written into a service's file"),
                "take another name for it",
            )),
        }
    }
}

pub(super) fn install(options: &Install, settings: &Settings, output: Output) -> Result<(), Failure> {
    super::check(&options.lock, settings)?;
    let files = system::files(&Run::of(&options.lock, settings)?, &settings.places);
    let enable = system::enable(&files);
    if options.print {
        return print(&files, &enable, output);
    }
    let found = files.iter().map(ServiceFile::look).collect::<Result<Vec<_>, _>>()?;
    if !options.force {
        for (file, found) in files.iter().zip(&found) {
            let (now, is_ours) = match found {
                Found::Edited { now } => (now, true),
                Found::Foreign { now } => (now, false),
                Found::Absent | Found::Same | Found::Ours => continue,
            };
            let hint = "write it all the same, with --force, or see it with --print".to_owned();
            return Err(file::refused(&file.path, is_ours, &file::differences(now, &file.content), hint));
        }
    }
    let mut told = Vec::new();
    for (file, found) in files.iter().zip(&found) {
        let state = if *found == Found::Same { "unchanged" } else { "written" };
        if *found != Found::Same {
            file.write()?;
        }
        told.push((&*file.path, state));
    }
    report(&told, "enable", &enable, output)?;
    let client = via_agent::of_user(settings);
    if !output.is_json() && client.is_there().map_err(|error| unreachable(&error))? {
        output.remark("An agent runs already: end it first with tokenkeep agent stop")?;
    }
    Ok(())
}

pub(super) fn uninstall(force: bool, settings: &Settings, output: Output) -> Result<(), Failure> {
    // What is ours can be told without knowing for which options it was written.
    let files = system::files(&Run::of(&LockOptions::default(), settings)?, &settings.places);
    let found = files.iter().map(ServiceFile::look).collect::<Result<Vec<_>, _>>()?;
    for (file, found) in files.iter().zip(&found) {
        let is_ours = match found {
            Found::Edited { .. } if !force => true,
            Found::Foreign { .. } => false,
            Found::Absent | Found::Same | Found::Ours | Found::Edited { .. } => continue,
        };
        let hint = if is_ours { "remove it all the same, with --force" } else { "remove it by hand" };
        return Err(file::refused(&file.path, is_ours, &[], hint.to_owned()));
    }
    let mut told = Vec::new();
    for (file, found) in files.iter().zip(&found) {
        if *found != Found::Absent {
            file.remove()?;
        }
        told.push((&*file.path, if *found == Found::Absent { "absent" } else { "removed" }));
    }
    report(&told, "disable", system::DISABLE, output)
}

fn report(files: &[(&Path, &str)], name: &str, command: &str, output: Output) -> Result<(), Failure> {
    if output.is_json() {
        let files: Vec<Value> =
            files.iter().map(|(path, state)| json!({"path": path, "state": state})).collect();
        return output.json(&json!({"version": 1, "files": files, name: command}));
    }
    for (path, state) in files {
        output.remark(&format!("{FAINT}{state}{FAINT:#} {}", path.display()))?;
    }
    output.remark(&format!("{FAINT}next:{FAINT:#} {command}"))
}

fn print(files: &[ServiceFile], enable: &str, output: Output) -> Result<(), Failure> {
    if output.is_json() {
        let file = |file: &ServiceFile| json!({"path": file.path, "state": "shown", "content": file.content});
        let files: Vec<Value> = files.iter().map(file).collect();
        return output.json(&json!({"version": 1, "files": files, "enable": enable}));
    }
    let shown = files.iter().map(|file| format!("==> {} <==\n{}", file.path.display(), file.content));
    output.raw(shown.collect::<Vec<_>>().join("\n").as_bytes())
}

/// This program by the name that it was called by, if that is a path that stays when another version takes its place.
fn program() -> std::io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let is_own = |path: &PathBuf| {
        let found = std::fs::canonicalize(path);
        found.is_ok_and(|found| std::fs::canonicalize(&own).is_ok_and(|own| own == found))
    };
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if called.components().count() > 1 {
        let called = std::path::absolute(called)?;
        return Ok(if is_own(&called) { called } else { own });
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(&called)).find(is_own);
    Ok(found.filter(|found| found.is_absolute()).unwrap_or(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One with everything that a format could stumble over.
    pub(super) fn run() -> Run {
        Run {
            program: "/opt/my <tools> & \"more\"/tokenkeep".to_owned(),
            arguments: vec!["agent".to_owned(), "--cache=a \"b\" <c> & d".to_owned()],
            variables: vec![("SSL_CERT_FILE", "/a&b.pem".to_owned())],
            socket: None,
        }
    }

    /// What a program of a line makes of the text.
    pub(super) fn python(program: &str, text: &str) -> String {
        let told = std::process::Command::new("python3").args(["-c", program, text]).output().unwrap();
        assert!(told.status.success(), "{told:?}");
        String::from_utf8(told.stdout).unwrap()
    }
}
