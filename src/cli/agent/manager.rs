//! The user's own service manager, where the agent is installed as a service of it.

use std::process::{Command, Stdio};

use super::super::arguments::LockOptions;
use super::super::failure::Failure;
use super::super::settings::Settings;
use super::service::systemd::{SERVICE, SOCKET, command_word, folder};

/// Starts the service. `false` if there is none, or nobody to start it.
///
/// # Errors
/// When it does not start, or would without one of these options.
pub(super) fn start(lock: &LockOptions, settings: &Settings) -> Result<bool, Failure> {
    if !is_installed(settings) || !answers() {
        return Ok(false);
    }
    let unit = folder(&settings.places).join(SERVICE);
    let unit = std::fs::read_to_string(&unit).map_err(Failure::file("reading", unit))?;
    let given = lock.words().into_iter().chain(settings.given.clone());
    if let Some(missing) = given.into_iter().find(|word| !is_started_with(&unit, word)) {
        return Err(Failure::usage(
            format!("the agent is a service, which was installed without {missing}"),
            "install it anew, with all of its options: tokenkeep agent install",
        ));
    }
    ask(&["daemon-reload"])?;
    ask(&["start", SERVICE])?;
    Ok(true)
}

/// Stops the service and what would start it again. `false` if it did not run.
///
/// # Errors
/// When the manager refuses.
pub(super) fn stop(settings: &Settings) -> Result<bool, Failure> {
    if !is_installed(settings) || !answers() || !systemctl(&["is-active", SOCKET, SERVICE]).0 {
        return Ok(false);
    }
    ask(&["stop", SOCKET, SERVICE])?;
    Ok(true)
}

fn is_started_with(unit: &str, word: &str) -> bool {
    let word = format!(" {} ", command_word(word));
    unit.lines().any(|line| line.starts_with("ExecStart=") && format!("{line} ").contains(&word))
}

fn is_installed(settings: &Settings) -> bool {
    folder(&settings.places).join(SOCKET).exists()
}

fn answers() -> bool {
    systemctl(&["show", "--property=Version"]).0
}

fn ask(arguments: &[&str]) -> Result<(), Failure> {
    let (is_done, said) = systemctl(arguments);
    if is_done {
        return Ok(());
    }
    Err(Failure::Agent {
        kind: "agent_service",
        problem: format!("systemctl --user {}: {}", arguments.join(" "), said.trim()),
        hint: Some("see why: journalctl --user --unit tokenkeep-agent".to_owned()),
    })
}

/// Whether it was done, and what was said to that.
fn systemctl(arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new("systemctl");
    command.arg("--user").args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    match command.output() {
        Ok(done) => (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned()),
        Err(error) => (false, error.to_string()),
    }
}
