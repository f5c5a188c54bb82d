//! `tokenkeep exec`: runs a program, for which every SDK of Azure finds the signed-in user's tokens.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

use secrecy::ExposeSecret as _;
use tokio::process::Command;

use super::arguments::Exec;
#[cfg(unix)]
use super::az_shim::Shim;
use super::doors::{self, Behind, Doors, Purpose};
use super::failure::Failure;
use super::output::Output;
use super::runtime;
use super::settings::Settings;
#[cfg(unix)]
use super::signals;
#[cfg(unix)]
use crate::process;
use crate::serve::{self, Listening};

/// Our own failures have codes that programs seldom use, as `env` and `timeout` have them.
pub(super) const FAILED: u8 = 125;
const NOT_STARTED: u8 = 126;
const NOT_FOUND: u8 = 127;

const PROXIES: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];
const LOOPBACK: &str = "127.0.0.1";

/// What a failure of ours ends with.
pub(super) fn exit_code(failure: &Failure) -> u8 {
    match failure {
        Failure::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => NOT_FOUND,
        Failure::Start { .. } => NOT_STARTED,
        _ => FAILED,
    }
}

pub(super) fn run(arguments: &Exec, settings: &Settings, output: Output) -> Result<ExitCode, Failure> {
    #[cfg(not(unix))]
    if arguments.az_shim {
        return Err(Failure::usage("--az-shim does not work on Windows", "leave it out"));
    }
    doors::check(&arguments.grant)?;
    let Some((program, program_arguments)) = arguments.command.split_first() else {
        return Err(Failure::usage("no command was given", "say what to run: tokenkeep exec -- COMMAND"));
    };
    #[cfg(unix)]
    let before = process::keep_out_of_cores();
    let behind = Behind::open(&arguments.grant, settings, output)?;
    let mut command = Command::new(program);
    #[cfg(unix)]
    process::as_it_was(&mut command, before);
    command.args(program_arguments);

    let runtime = runtime::start()?;
    let ended = runtime.block_on(async {
        let listening = Listening::on_loopback(0).await.map_err(Failure::file("listening on", LOOPBACK))?;
        let address = listening.address().unwrap_or_default().to_owned();
        let purpose = Purpose { way: "exec", command: Some(Path::new(program)), socket: None };
        let doors = Doors::open(&arguments.grant, behind, listening, &purpose, settings)?;
        lead(&mut command, &address, doors.grant.secret().expose_secret());
        #[cfg(unix)]
        let _shim = if arguments.az_shim {
            Some(Shim::put_before(&mut command, &address, doors.grant.id(), settings)?)
        } else {
            None
        };
        wait(command, doors, program).await
    });
    // a call of the keyring that hangs is not waited for
    runtime.shutdown_background();
    ended.map(code_of)
}

/// Runs the child to its end, and serves it until then.
async fn wait(mut command: Command, doors: Doors, program: &OsString) -> Result<ExitStatus, Failure> {
    let not_started = |source| Failure::Start { program: program.into(), source };
    #[cfg(unix)]
    signals::hold().map_err(not_started)?;
    let mut child = command.spawn().map_err(not_started)?;
    #[cfg(unix)]
    child.id().into_iter().for_each(signals::pass_on_to);
    doors.are_for(child.id());
    let Doors { server, .. } = doors;
    let ended = tokio::select! {
        ended = child.wait() => ended,
        never = server.run() => match never {},
        // Ctrl-C reaches the child as well, and what comes of it is its decision
        () = swallow_ctrl_c() => unreachable!("it never ends"),
    };
    #[cfg(unix)]
    signals::child_ended();
    ended.map_err(Failure::file("waiting for", program))
}

#[cfg(unix)]
async fn swallow_ctrl_c() {
    std::future::pending::<()>().await;
}

#[cfg(not(unix))]
async fn swallow_ctrl_c() {
    while tokio::signal::ctrl_c().await.is_ok() {}
    std::future::pending::<()>().await;
}

fn code_of(status: ExitStatus) -> ExitCode {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX));
    }
    // more than a byte, as on Windows, becomes the largest: it must not turn into success
    let code = status.code().unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Leads the child to its doors. Only its own environment holds the secret.
fn lead(command: &mut Command, address: &str, secret: &str) {
    for name in serve::MISLEADING {
        command.env_remove(name);
    }
    command.envs(serve::variables(address, secret));
    for (name, value) in past_proxies(|name| env::var(name).ok().filter(|value| !value.is_empty())) {
        command.env(name, value);
    }
}

/// Where a proxy is set, the secret would go to it, unless it is told that this machine is near.
fn past_proxies(variable: impl Fn(&str) -> Option<String>) -> Vec<(&'static str, String)> {
    if !PROXIES.iter().any(|name| variable(name).is_some()) {
        return Vec::new();
    }
    let set: Vec<_> = NO_PROXY.into_iter().filter_map(|name| Some((name, variable(name)?))).collect();
    if set.is_empty() {
        return NO_PROXY.map(|name| (name, LOOPBACK.to_owned())).to_vec();
    }
    let knows = |value: &str| value.split(',').any(|host| ["*", LOOPBACK].contains(&host.trim()));
    let unaware = set.into_iter().filter(|(_, value)| !knows(value));
    unaware.map(|(name, value)| (name, format!("{value},{LOOPBACK}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_does_not_get_the_secret_and_keeps_its_exceptions() {
        let with = |set: &[(&str, &str)]| {
            past_proxies(|name| {
                set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let proxy = ("http_proxy", "http://proxy.example:3128");
        assert_eq!(with(&[]), []);
        assert_eq!(with(&[("NO_PROXY", "a.example")]), []);
        let both = [("NO_PROXY", "127.0.0.1".to_owned()), ("no_proxy", "127.0.0.1".to_owned())];
        assert_eq!(with(&[proxy]), both);
        let one = [("no_proxy", "a.example,b.example,127.0.0.1".to_owned())];
        assert_eq!(with(&[proxy, ("no_proxy", "a.example,b.example")]), one);
        assert_eq!(with(&[proxy, ("NO_PROXY", "*")]), []);
        assert_eq!(with(&[proxy, ("NO_PROXY", "a, 127.0.0.1")]), []);
    }
}
