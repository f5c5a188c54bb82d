//! The command line: parse, call the library, print, exit code.

mod accounts;
mod agent;
mod arguments;
mod audit;
#[cfg(unix)]
mod az_shim;
mod caches;
mod clear;
mod doctor;
mod doors;
mod exec;
mod explain;
mod failure;
mod format;
mod grants;
mod hidden_input;
mod interact;
mod kube;
mod logging;
mod login;
mod logout;
mod man;
mod output;
mod private_file;
mod probe;
mod record;
mod runtime;
mod serve;
mod settings;
mod share;
#[cfg(unix)]
mod signals;
mod state;
mod times;
mod token;
mod tools;
mod transfer;
mod unlocking;
mod vault;
mod via_agent;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use self::arguments::{Arguments, Command};
use self::failure::Failure;
use self::output::Output;
use self::settings::{Settings, variable};
use crate::credential::account;
use crate::store::Places;

/// Runs `tokenkeep` with this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    #[cfg(unix)]
    if az_shim::is_meant(line.first()) {
        return az_shim::main(&line[1..]);
    }
    let arguments = match Arguments::try_parse_from(&line) {
        Ok(arguments) => arguments,
        Err(error) => {
            let json = line.iter().any(|argument| argument == "--json");
            Output::new(json, false, true).usage(&error);
            return match error.use_stderr() {
                true if is_exec(&line) => ExitCode::from(exec::FAILED),
                true => ExitCode::from(2),
                false => ExitCode::SUCCESS,
            };
        }
    };
    let Arguments { global, command } = arguments;
    let output = Output::new(global.json, global.quiet, global.no_input);
    logging::start(global.verbose);
    let settings = || -> Result<Settings, Failure> {
        Ok(Settings::new(&global, variable, Places::of_current_user()?, output)?)
    };
    match run(&command, settings, output) {
        Ok(code) => code,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure, &global.to_repeat());
            ExitCode::from(match command {
                Command::Exec(_) => exec::exit_code(&failure),
                _ => failure.exit_code(),
            })
        }
    }
}

/// Whether this wrong line was meant for `exec`, whose codes are its child's.
fn is_exec(line: &[OsString]) -> bool {
    let parsed = Arguments::command().ignore_errors(true).try_get_matches_from(line);
    parsed.is_ok_and(|parsed| parsed.subcommand_name() == Some("exec"))
}

fn run(
    command: &Command,
    settings: impl FnOnce() -> Result<Settings, Failure>,
    output: Output,
) -> Result<ExitCode, Failure> {
    match command {
        Command::Exec(arguments) => return exec::run(arguments, &settings()?, output),
        Command::Accounts(arguments) => accounts::run(arguments, &settings()?, output),
        Command::Agent(arguments) => agent::run(arguments, &settings()?, output),
        Command::Audit(arguments) => audit::run(arguments, &settings()?, output),
        Command::Clear(arguments) => clear::run(arguments, &settings()?, output),
        Command::Completions(arguments) => man::completions(arguments, output),
        Command::Doctor(arguments) => doctor::run(arguments, &settings()?, output),
        Command::Explain(arguments) => explain::run(arguments, output),
        Command::Grants(arguments) => grants::run(arguments, &settings()?, output),
        Command::Export(arguments) => transfer::export(arguments, &settings()?, output),
        Command::Import(arguments) => transfer::import(arguments, &settings()?, output),
        Command::Login(arguments) => login::run(arguments, &settings()?, output),
        Command::Logout(arguments) => logout::run(arguments, &settings()?, output),
        Command::Man(arguments) => man::man(arguments, output),
        Command::Record(arguments) => record::run(arguments, &settings()?, output),
        Command::Serve(arguments) => serve::run(arguments, &settings()?, output),
        Command::Share(arguments) => share::run(arguments, &settings()?, output),
        Command::Token(arguments) => token::run(arguments, &settings()?, output),
        Command::Vault(arguments) => vault::run(arguments, &settings()?, output),
    }
    .map(|()| ExitCode::SUCCESS)
}
