//! The emulator as a program of its own: `emulator --port P --dir DIR [--listen ADDRESS]…`, and
//! `emulator ctl --dir DIR REQUEST [JSON]` to control one.

mod ctl;

use std::path::PathBuf;
use std::process::ExitCode;

use emulator::{Config, Emulator};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    let done = match arguments.next_if(|first| first == "ctl") {
        Some(_) => ctl::run(arguments),
        None => run(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("emulator: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let (config, dir) = parse(arguments)?;
    std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        // Before the ready line, so that a signal sent right after it is not lost.
        let terminated = terminated().map_err(|error| error.to_string())?;
        let emulator = Emulator::bind(config).map_err(|error| error.to_string())?;
        let port = dir.join("port");
        std::fs::write(&port, emulator.port().to_string())
            .map_err(|error| format!("{}: {error}", port.display()))?;
        println!("ready {} ca={}", emulator.authority(), emulator.ca_path().display());
        terminated.await;
        Ok(())
    })
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<(Config, PathBuf), String> {
    let mut config = Config::default();
    let mut dir = None;
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let bad = || format!("{name}: '{value}' cannot be understood");
        match name.as_str() {
            "--dir" => dir = Some(PathBuf::from(value)),
            "--listen" => config.also_listen.push(value.parse().map_err(|_| bad())?),
            "--port" => config.port = value.parse().map_err(|_| bad())?,
            _ => {
                return Err(format!(
                    "unknown option {name}; usage: emulator [--port P] --dir DIR [--listen ADDRESS]..."
                ));
            }
        }
    }
    let dir = dir.ok_or("--dir is missing")?;
    config.dir = Some(dir.clone());
    Ok((config, dir))
}

#[cfg(unix)]
fn terminated() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn terminated() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
