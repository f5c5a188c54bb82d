//! A running agent, and a plain way to talk to it.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::World;
use super::listening::listening;

/// `tokenkeep agent` in the foreground; killed when dropped.
pub(crate) struct Agent {
    pub(crate) child: Child,
    pub(crate) socket: PathBuf,
    /// Read to its end, so that the agent never writes into a closed pipe.
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Agent {
    /// Starts one where this world's commands look for it.
    pub(crate) fn of(world: &World) -> Self {
        let socket = world.agent_socket();
        Self::start(&mut world.command(&["agent"]), &socket)
    }

    /// Starts the command, and waits until it says that it listens.
    pub(crate) fn start(command: &mut Command, socket: &Path) -> Self {
        let (child, stderr) = listening(command);
        Self { child, socket: socket.to_owned(), stderr: Some(stderr) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks for what a person gets with these members besides the world's own.
    pub(crate) fn token(&self, world: &World, members: &Value) -> Reply {
        let mut ask = world.agent_question();
        for (name, value) in members.as_object().unwrap() {
            ask[name] = value.clone();
        }
        self.post("/v1/token", &ask)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        talk(self.connect(), &post(path, body))
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        talk(self.connect(), &format!("GET {path} HTTP/1.1\r\nhost: tokenkeep\r\nconnection: close\r\n\r\n"))
    }

    /// The same of one that may break off, as an agent does when it is locked.
    pub(crate) fn try_get(&self, path: &str) -> io::Result<Reply> {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: tokenkeep\r\nconnection: close\r\n\r\n")?;
        try_read_reply(&mut stream)
    }

    pub(crate) fn status(&self) -> Value {
        self.get("/v1/status").ok()
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        // Only a test that fails waits for it.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// What the agent said until it ended.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        (code, self.stderr.take().unwrap().join().unwrap())
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The request as it goes over the socket; the connection ends with its answer.
pub(crate) fn post(path: &str, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: tokenkeep\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// Sends the request and reads the answer to its end.
pub(crate) fn talk(mut stream: UnixStream, request: &str) -> Reply {
    stream.write_all(request.as_bytes()).unwrap();
    read_reply(&mut stream)
}

pub(crate) fn read_reply(stream: &mut UnixStream) -> Reply {
    try_read_reply(stream).unwrap()
}

fn try_read_reply(stream: &mut UnixStream) -> io::Result<Reply> {
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    Ok(parse_reply(&text))
}

pub(crate) fn parse_reply(text: &[u8]) -> Reply {
    let text = String::from_utf8_lossy(text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Reply { status, body: serde_json::from_str(body).unwrap_or(Value::Null) }
}

/// An answer; its status is 0 if the connection was closed without one.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Reply {
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    #[track_caller]
    pub(crate) fn kind(&self) -> &str {
        self.body["error"]["kind"].as_str().unwrap_or_else(|| panic!("{self:?}"))
    }
}

impl World {
    /// Where this world's agent listens.
    pub(crate) fn agent_socket(&self) -> PathBuf {
        self.places().state.join("tokenkeep").join("run").join("agent.sock")
    }

    /// What every question of this world's clients says.
    pub(crate) fn agent_question(&self) -> Value {
        json!({
            "cache": self.cache,
            "store": self.store,
            "authority": self.emulator.authority(),
            "disable_instance_discovery": true,
        })
    }
}
