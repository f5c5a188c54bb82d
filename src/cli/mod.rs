//! The command line: parse, call the library, print, exit code.

mod account;
mod accounts;
mod arguments;
mod audit;
mod caches;
mod clear;
mod doctor;
mod explain;
mod failure;
mod format;
mod interact;
mod logging;
mod login;
mod logout;
mod man;
mod output;
mod private_file;
mod record;
mod runtime;
mod settings;
mod state;
mod times;
mod token;
mod transfer;
mod unlocking;
mod vault;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use self::arguments::{Arguments, Command};
use self::failure::Failure;
use self::output::Output;
use self::settings::{Settings, variable};
use crate::store::Places;

/// Runs `tokenkeep` with this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let arguments = match Arguments::try_parse_from(&line) {
        Ok(arguments) => arguments,
        Err(error) => {
            let json = line.iter().any(|argument| argument == "--json");
            Output::new(json, false, true).usage(&error);
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let Arguments { global, command } = arguments;
    let output = Output::new(global.json, global.quiet, global.no_input);
    logging::start(global.verbose);
    let settings = || -> Result<Settings, Failure> {
        Ok(Settings::new(&global, variable, Places::of_current_user()?, output)?)
    };
    match run(&command, settings, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure, &global.to_repeat());
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(
    command: &Command,
    settings: impl FnOnce() -> Result<Settings, Failure>,
    output: Output,
) -> Result<(), Failure> {
    match command {
        Command::Accounts(arguments) => accounts::run(arguments, &settings()?, output),
        Command::Audit(arguments) => audit::run(arguments, &settings()?, output),
        Command::Clear(arguments) => clear::run(arguments, &settings()?, output),
        Command::Completions(arguments) => man::completions(arguments, output),
        Command::Doctor(arguments) => doctor::run(arguments, &settings()?, output),
        Command::Explain(arguments) => explain::run(arguments, output),
        Command::Export(arguments) => transfer::export(arguments, &settings()?, output),
        Command::Import(arguments) => transfer::import(arguments, &settings()?, output),
        Command::Login(arguments) => login::run(arguments, &settings()?, output),
        Command::Logout(arguments) => logout::run(arguments, &settings()?, output),
        Command::Man(arguments) => man::man(arguments, output),
        Command::Record(arguments) => record::run(arguments, &settings()?, output),
        Command::Token(arguments) => token::run(arguments, &settings()?, output),
        Command::Vault(arguments) => vault::run(arguments, &settings()?, output),
    }
}
