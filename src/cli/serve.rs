//! `tokenkeep serve`: the doors without a child, for a container or a program that runs already.

use std::io;
#[cfg(unix)]
use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::arguments::{GrantOptions, Serve};
use super::doors::{self, Behind, Doors, Purpose};
use super::failure::Failure;
use super::output::{self, Output};
use super::private_file;
use super::runtime;
use super::settings::Settings;
use crate::serve::{self, AllowedScopes, Grant, Listening};

/// What a grant lives if nothing else was said: nobody's end ends it.
const DEFAULT_LIFE: &str = "12h";
/// Where a relay listens if nothing else was said.
#[cfg(unix)]
const RELAY_PORT: u16 = 4141;
/// How soon a grant that was revoked or has expired ends its server.
const LOOK: Duration = Duration::from_secs(2);

pub(super) fn run(arguments: &Serve, settings: &Settings, output: Output) -> Result<(), Failure> {
    #[cfg(unix)]
    if let Some(socket) = &arguments.connect {
        return relay(socket, arguments.port.unwrap_or(RELAY_PORT), output);
    }
    #[cfg(not(unix))]
    if arguments.connect.is_some() || arguments.socket.is_some() {
        return Err(Failure::usage("there are no Unix sockets here", "leave --socket and --connect out"));
    }
    let options = GrantOptions {
        expires: Some(arguments.grant.expires.clone().unwrap_or_else(|| DEFAULT_LIFE.to_owned())),
        ..arguments.grant.clone()
    };
    doors::check(&options)?;
    if options.scopes.is_empty() {
        return Err(Failure::usage(
            "this grant outlives the command that uses it, so its scopes have to be named",
            "say which: --scope-allow https://management.azure.com, or --scope-allow '*' for all",
        ));
    }
    if let Some(file) = &arguments.env_file {
        private_file::check(file)?;
    }
    #[cfg(unix)]
    crate::process::keep_out_of_cores();
    let behind = Behind::open(&options, settings, output)?;
    let runtime = runtime::start()?;
    let served = runtime.block_on(async {
        let (listening, address) = listen(arguments).await?;
        let purpose = Purpose { way: "serve", command: None, socket: arguments.socket.as_deref() };
        let doors = Doors::open(&options, behind, listening, &purpose, settings)?;
        doors.are_for(None);
        announce(arguments, &address, &doors.grant, output)?;
        until_the_end(doors, output).await
    });
    runtime.shutdown_background();
    served
}

/// The listener, and the address that the child is told.
async fn listen(arguments: &Serve) -> Result<(Listening, String), Failure> {
    #[cfg(unix)]
    if let Some(path) = &arguments.socket {
        let listening = Listening::on_socket(path).map_err(Failure::file("listening on", path))?;
        return Ok((listening, format!("127.0.0.1:{}", arguments.port.unwrap_or(RELAY_PORT))));
    }
    let port = arguments.port.unwrap_or(0);
    let place = format!("127.0.0.1:{port}");
    let listening = Listening::on_loopback(port).await.map_err(Failure::file("listening on", place))?;
    let address = listening.address().unwrap_or_default().to_owned();
    Ok((listening, address))
}

/// Tells the variables, once: whoever has them may ask.
fn announce(arguments: &Serve, address: &str, grant: &Grant, output: Output) -> Result<(), Failure> {
    let secret = grant.secret().expose_secret();
    let variables = serve::variables(address, secret);
    let lines = |before: &str| {
        let mut text = Zeroizing::new(String::with_capacity(1024));
        for (name, value) in &variables {
            for part in [before, name, "=", value, "\n"] {
                text.push_str(part);
            }
        }
        text
    };
    if let Some(file) = &arguments.env_file {
        private_file::write(file, lines("").as_bytes())?;
    }
    if output.is_json() {
        let environment: Map<String, Value> = match &arguments.env_file {
            Some(_) => Map::new(),
            None => {
                variables.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect()
            }
        };
        output.json(&json!({
            "version": 1,
            "grant": grant.id(),
            "expires_on": grant.terms().expires_on.map(crate::time::UnixTime::seconds),
            "environment": environment,
        }))?;
    } else if arguments.env_file.is_none() {
        output.raw(lines("export ").as_bytes())?;
    }
    let scopes = said(&grant.terms().scopes);
    output.remark(&format!("Serving {scopes}; revoke it: tokenkeep grants revoke {}", grant.id()))?;
    // so that `eval "$(tokenkeep serve ... &)"` goes on
    output::close_stdout().map_err(Failure::Output)
}

fn said(scopes: &AllowedScopes) -> String {
    if scopes.is_any() { "all scopes".to_owned() } else { scopes.to_string() }
}

async fn until_the_end(doors: Doors, output: Output) -> Result<(), Failure> {
    let Doors { desk, server, .. } = doors;
    let grant_ends = async {
        while !desk.has_ended() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        never = server.run() => match never {},
        () = grant_ends => output.remark("The grant was revoked or has expired"),
        told = told_to_end() => told.map_err(Failure::file("waiting for", "signals")),
    }
}

#[cfg(unix)]
async fn told_to_end() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut ends =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
    tokio::select! {
        _ = ends.0.recv() => {}
        _ = ends.1.recv() => {}
        _ = ends.2.recv() => {}
    }
    Ok(())
}

#[cfg(not(unix))]
async fn told_to_end() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// Inside a container: its loopback leads to the socket that it was given.
#[cfg(unix)]
fn relay(socket: &Path, port: u16, output: Output) -> Result<(), Failure> {
    let runtime = runtime::start()?;
    runtime.block_on(async {
        let listening = |error| Failure::file("listening on", format!("127.0.0.1:{port}"))(error);
        let listener =
            tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).await.map_err(listening)?;
        // a socket that is not there is told now, and not to the first program that asks
        std::os::unix::net::UnixStream::connect(socket).map_err(Failure::file("connecting to", socket))?;
        output.remark(&format!("127.0.0.1:{port} leads to {}", socket.display()))?;
        // so that `ready=$(tokenkeep serve --connect ... &)` waits until here
        output::close_stdout().map_err(Failure::Output)?;
        tokio::select! {
            never = serve::relay(listener, socket.to_owned()) => match never {},
            told = told_to_end() => told.map_err(Failure::file("waiting for", "signals")),
        }
    })
}
