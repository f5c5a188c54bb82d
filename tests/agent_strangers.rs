//! Another user of the machine gets nothing from an agent, and cannot pass for one.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use emulator::USER_ONE;
use tempfile::TempDir;

use crate::support::{Agent, SCOPE, World, run};

/// A user who owns nothing here.
const STRANGER: &str = "54321";

/// A folder that everybody may look into, with a socket's name in it.
fn public_folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = folder.path().join("agent.sock");
    (folder, socket)
}

/// A program of the stranger's.
fn as_stranger(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", STRANGER, "--regid", STRANGER, "--clear-groups", program]);
    command
}

/// Asks, and says what it receives.
const VISITOR: &str = r#"
import socket, sys
visitor = socket.socket(socket.AF_UNIX)
visitor.connect(sys.argv[1])
print("connected")
try:
    visitor.sendall(b"GET /v1/" + sys.argv[2].encode() + b" HTTP/1.1\r\nhost: a\r\n\r\n")
    print("received", visitor.recv(4096))
except (BrokenPipeError, ConnectionResetError):
    print("received", b"")
"#;

#[test]
fn a_stranger_is_refused_even_where_the_socket_lets_everybody_in() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let (_folder, socket) = public_folder();
    let agent = Agent::start(world.command(&["agent"]).env("TOKENKEEP_SOCK", &socket), &socket);
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).unwrap();
    for path in ["hello", "status", "token"] {
        let asked = run(as_stranger("/usr/bin/python3").args(["-c", VISITOR]).arg(&socket).arg(path)).ok();
        assert_eq!(asked.stdout, "connected\nreceived b''\n", "{asked:?}");
    }
    assert_eq!(agent.status()["counters"]["strangers"], 3);
}

/// Listens as the stranger on a socket that the file's owner made, and says what it receives.
const SQUATTER: &str = r#"
import os, socket, sys
path, owner = sys.argv[1], int(sys.argv[2])
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
os.chown(path, owner, owner)
os.setresuid(54321, 54321, 54321)
listener.listen()
print("listening", flush=True)
listener.settimeout(30)
connection, _ = listener.accept()
connection.settimeout(30)
print("received", connection.recv(4096), flush=True)
"#;

struct Squatter(Child, BufReader<std::process::ChildStdout>);

impl Squatter {
    fn at(socket: &Path, owner: &str) -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", SQUATTER])
            .arg(socket)
            .arg(owner)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "listening\n");
        Self(child, output)
    }

    fn received(&mut self) -> String {
        let mut text = String::new();
        self.1.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Squatter {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_stranger_who_listens_is_told_nothing() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let (_folder, socket) = public_folder();
    // The file is ours, who listens on it is not: only the kernel can tell.
    let mut squatter = Squatter::at(&socket, "0");
    let done = run(world.command(&["token", "--scope", SCOPE]).env("TOKENKEEP_SOCK", &socket)).ok();
    assert!(done.stderr.contains("user 54321 listens there"), "{done:?}");
    assert!(!done.token().is_empty(), "it goes on without the agent");
    assert_eq!(squatter.received(), "received b''\n");
}

#[test]
fn the_doctor_says_who_listens() {
    let world = World::plaintext();
    let (_folder, socket) = public_folder();
    let mut squatter = Squatter::at(&socket, "0");
    let mut doctor = world.command(&["doctor", "--offline", "--json"]);
    let report = run(doctor.env("TOKENKEEP_SOCK", &socket)).exits(1).json();
    let findings = report["findings"].as_array().unwrap();
    let refused = findings.iter().find(|finding| finding["id"] == "agent-socket-refused").unwrap();
    assert!(refused["detail"].as_str().unwrap().contains("user 54321 listens there"), "{report:#}");
    assert_eq!(report["agent"]["state"], "refused");
    assert_eq!(squatter.received(), "received b''\n");
}

#[test]
fn a_strangers_socket_and_folder_are_not_even_connected_to() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let (folder, socket) = public_folder();
    let _squatter = Squatter::at(&socket, STRANGER);
    let ask = || run(world.command(&["token", "--scope", SCOPE]).env("TOKENKEEP_SOCK", &socket)).ok();
    let done = ask();
    assert!(done.stderr.contains("it belongs to user 54321"), "{done:?}");
    std::os::unix::fs::chown(folder.path(), Some(54321), Some(54321)).unwrap();
    let done = ask();
    assert!(done.stderr.contains("its folder belongs to user 54321"), "{done:?}");
    let agent = run(world.command(&["agent"]).env("TOKENKEEP_SOCK", &socket)).exits(1);
    assert!(agent.stderr.contains("its folder belongs to user 54321"), "{agent:?}");
}
