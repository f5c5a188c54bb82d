//! The process that somebody starts, sees and ends. It keeps the pipe's name and no secret, and has
//! another one serve: a lock ends that one with all its memory, and the next one begins.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::signal::windows;

use super::super::failure::Failure;
use super::super::output::{self, Output};
use super::super::runtime;
use crate::agent::KeptName;
use crate::process;

/// The option by which a process learns that it is kept.
const KEPT: &str = "--kept";

pub(super) fn keep(path: &Path, detached: bool, output: Output) -> Result<(), Failure> {
    // The one that serves has no end of the pipe that tells when it is ready.
    process::keep_standard_handles();
    runtime::start()?.block_on(async {
        let _name = KeptName::take(path)?;
        // They come to the one that serves as well, and it ends in order.
        let _ignored = (windows::ctrl_c(), windows::ctrl_break(), windows::ctrl_close());
        let mut arguments: Vec<OsString> = std::env::args_os().skip(1).chain([KEPT.into()]).collect();
        while let Some(next) = serve(&arguments, detached, output).await? {
            arguments = next;
        }
        Ok(())
    })
}

/// Has a process serve to its end. With what the next one is to be started, if there is to be one.
async fn serve(
    arguments: &[OsString],
    detached: bool,
    output: Output,
) -> Result<Option<Vec<OsString>>, Failure> {
    let program = std::env::current_exe().map_err(Failure::file("finding", "this program"))?;
    let mut command = Command::new(&program);
    if detached {
        // It would get a console of its own otherwise.
        command.creation_flags(process::DETACHED);
    }
    let mut child = command
        .args(arguments)
        // Its end tells that this process has ended.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Failure::file("starting", program))?;
    let _until_the_end = child.stdin.take();
    let lost = || Failure::file("waiting for", "the agent");
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await.map_err(lost())? {
            if line == process::READY {
                // The one who waits for the agent sees the end of the pipe.
                output::close_stdout().map_err(Failure::Output)?;
            } else {
                said.push_str(&line);
                said.push('\n');
            }
        }
    }
    let ended = child.wait().await.map_err(lost())?;
    match ended.code() {
        Some(0) => Ok(None),
        Some(process::ANEW) => {
            let next: Vec<String> = serde_json::from_str(&said).map_err(|error| lost()(error.into()))?;
            Ok(Some(next.into_iter().map(OsString::from).collect()))
        }
        _ => {
            output.raw(said.as_bytes())?;
            Err(Failure::NeedsAttention)
        }
    }
}
