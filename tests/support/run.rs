//! A finished program, and what to expect of it.

use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Nothing that is run here takes so long: a test that waits for ever says nothing.
const IN_VAIN: Duration = Duration::from_secs(300);

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    shown: String,
}

/// Runs a program without input.
pub(crate) fn run(command: &mut Command) -> Run {
    let shown = format!("{:?}", command.get_args().collect::<Vec<_>>());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (ended, end) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let in_vain = end.recv_timeout(IN_VAIN) == Err(RecvTimeoutError::Timeout);
        if in_vain {
            kill_process(pid, Signal::KILL).ok();
        }
        in_vain
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    assert!(!watch.join().unwrap(), "it did not end: {shown}");
    Run::of(output, shown)
}

impl Run {
    pub(crate) fn of(output: Output, shown: impl Into<String>) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            shown: shown.into(),
        }
    }

    pub(crate) fn shown_on_a_terminal(code: Option<i32>, stdout: String, has_echo: bool) -> Self {
        let stderr = if has_echo { "echo on" } else { "echo off" }.to_owned();
        Self { code, stdout, stderr, shown: "on a terminal".to_owned() }
    }

    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.shown,
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// Stdout as JSON: all of it, the last line, or what follows a question at a terminal.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let from_brace = self.stdout.find('{').map_or("", |at| &self.stdout[at..]);
        serde_json::from_str(&self.stdout)
            .or_else(|_| serde_json::from_str(self.stdout.lines().last().unwrap_or_default()))
            .or_else(|_| serde_json::from_str(from_brace))
            .unwrap_or_else(|error| panic!("{}: {error}\n{}\n{}", self.shown, self.stdout, self.stderr))
    }

    /// Asserts that stderr says something.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{}: no {text:?} in\n{}", self.shown, self.stderr);
        self
    }

    /// Everything the program wrote.
    pub(crate) fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The token that was printed.
    #[track_caller]
    pub(crate) fn token(&self) -> String {
        self.stdout.trim().to_owned()
    }
}
