//! Sends what comes on its standard input to the agent and prints the answer, so that tests can have
//! it asked by a program of their choosing.
//!
//! `ask-agent SOCKET` asks at once. `ask-agent SOCKET PROGRAM...` connects, then becomes that program,
//! which has the connection as its standard input and output.

use std::error::Error;
use std::io::{self, Read as _, Write as _};
#[cfg(unix)]
use std::os::unix::{net::UnixStream, process::CommandExt as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(unix)]
fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, program @ ..] = arguments.as_slice() else {
        return Err("usage: ask-agent SOCKET [PROGRAM...]".into());
    };
    let mut stream = UnixStream::connect(socket)?;
    if let [program, arguments @ ..] = program {
        let connection = std::os::fd::OwnedFd::from(stream);
        let mut command = std::process::Command::new(program);
        return Err(command.args(arguments).stdin(connection.try_clone()?).stdout(connection).exec().into());
    }
    io::copy(&mut io::stdin().lock(), &mut stream)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    io::stdout().write_all(&answer)?;
    Ok(())
}

#[cfg(not(unix))]
fn run() -> Result<(), Box<dyn Error>> {
    Err("the agent's socket is a Unix socket".into())
}
