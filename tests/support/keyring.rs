//! A keyring of one's own, for tests of tools that have one item for all their caches.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::clients::repository;
use super::run::{Run, run};

/// A real Secret Service that nobody else uses, unlocked, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct OwnKeyring {
    service: Child,
    /// What `DBUS_SESSION_BUS_ADDRESS` has to be.
    pub(crate) bus: String,
}

impl OwnKeyring {
    pub(crate) fn start() -> Self {
        let mut service = Command::new(repository().join("tests/support/with-secret-service"))
            .args(["--", "sh", "-c", "echo \"$DBUS_SESSION_BUS_ADDRESS\"; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut bus = String::new();
        BufReader::new(service.stdout.take().unwrap()).read_line(&mut bus).unwrap();
        let bus = bus.trim().to_owned();
        assert!(bus.starts_with("unix:"), "no keyring came up: {bus}");
        Self { service, bus }
    }

    /// `keyring-ctl.py`, which looks into it.
    pub(crate) fn ctl(&self, args: &[&str]) -> Run {
        let mut command = Command::new(repository().join("tests/support/keyring-ctl.py"));
        run(command.args(args).env("DBUS_SESSION_BUS_ADDRESS", &self.bus))
    }
}

impl Drop for OwnKeyring {
    fn drop(&mut self) {
        // the end of its input is the end of all of it
        drop(self.service.stdin.take());
        drop(self.service.wait());
    }
}
