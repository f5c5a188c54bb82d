//! Starting an agent. A file of its own because the tests for Windows, which are another program, do it alike.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

/// Starts the command, and waits until it says that it listens. What it says is read to its end, so
/// that the agent never writes into a closed pipe.
pub(crate) fn listening(command: &mut Command) -> (Child, JoinHandle<String>) {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("listening at") {
        assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "the agent ended: {said}");
    }
    let stderr = std::thread::spawn(move || {
        stderr.read_to_string(&mut said).ok();
        said
    });
    (child, stderr)
}
