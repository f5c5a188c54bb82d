//! A service manager, as far as it is told what a service does (sd_notify(3)).

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::World;

pub(crate) struct Manager {
    socket: PathBuf,
    told: UnixDatagram,
}

impl Manager {
    pub(crate) fn of(world: &World) -> Self {
        let socket = world.home().join("notify");
        let told = UnixDatagram::bind(&socket).unwrap();
        // Only a test that fails waits for it.
        told.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { socket, told }
    }

    /// The command as a service of this manager's.
    pub(crate) fn runs<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("NOTIFY_SOCKET", &self.socket)
    }

    /// What it is told next.
    pub(crate) fn next(&self) -> String {
        let mut text = [0; 64];
        let length = self.told.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).trim().to_owned()
    }
}
