//! A program of the user's choosing that asks the person, as `ssh-askpass` does: the question is its one
//! argument, and its exit code the answer.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use tokio::process::Command;
use tokio::sync::{Semaphore, watch};

/// One that asks about one question. Those that share a turn are on the screen one at a time.
#[derive(Clone, Debug)]
pub(super) struct AskProgram {
    program: PathBuf,
    turn: Arc<Semaphore>,
}

impl AskProgram {
    /// Asks when it is its `turn`.
    pub(super) const fn new(program: PathBuf, turn: Arc<Semaphore>) -> Self {
        Self { program, turn }
    }

    /// The answer; `None` if there is none from this one. Ends when the question is closed.
    pub(super) async fn ask(&self, text: &str, mut closed: watch::Receiver<Option<bool>>) -> Option<bool> {
        tokio::select! {
            biased;
            _ = closed.wait_for(Option::is_some) => None,
            answer = self.run(text) => answer,
        }
    }

    async fn run(&self, text: &str) -> Option<bool> {
        let _turn = self.turn.acquire().await.ok()?;
        let mut child = Command::new(&self.program)
            .arg(text)
            // what ssh-askpass wants to hear if the question is one of yes and no
            .env("SSH_ASKPASS_PROMPT", "confirm")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .inspect_err(|error| self.failed(error))
            .ok()?;
        match child.wait().await {
            Ok(status) => match status.code() {
                Some(0) => Some(true),
                Some(1) => Some(false),
                _ => {
                    self.failed(&status);
                    None
                }
            },
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    /// The question stays open for who answers at a terminal.
    fn failed(&self, why: &dyn std::fmt::Display) {
        tracing::warn!(program = %self.program.display(), %why, "nobody was asked");
    }
}
