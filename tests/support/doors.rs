//! A running `tokenkeep serve`, and requests to it that no library would send.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// `tokenkeep serve`, until it is dropped.
pub(crate) struct Served {
    child: Child,
    /// What it announced.
    pub(crate) announced: Value,
}

impl Served {
    /// Starts it and waits until it serves. The command has to say `--json`.
    pub(crate) fn by(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        // it closes its output once it has said everything
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let announced = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Self { child, announced }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn variable(&self, name: &str) -> String {
        self.announced["environment"][name].as_str().unwrap().to_owned()
    }

    pub(crate) fn secret(&self) -> String {
        self.variable("IDENTITY_HEADER")
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        self.variable("AZD_AUTH_ENDPOINT").strip_prefix("http://").unwrap().to_owned()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends these bytes, and takes whatever comes back.
    pub(crate) fn send(&self, request: &[u8]) -> Reply {
        let mut stream = self.connect();
        // it may have hung up on us before the end
        drop(stream.write_all(request));
        Reply::read(&mut stream)
    }

    /// The request with this line and these headers, `Host` first, and the secret in neither.
    pub(crate) fn ask(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut request = format!("{line} HTTP/1.1\r\nHost: {}\r\n", self.address());
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        self.send(format!("{request}\r\n{body}").as_bytes())
    }

    /// Asks the App Service door as an SDK does.
    pub(crate) fn identity(&self, resource: &str, more: &[(&str, &str)]) -> Reply {
        let secret = self.secret();
        let headers = [&[("X-IDENTITY-HEADER", secret.as_str()), ("Metadata", "true")], more].concat();
        self.ask(&format!("GET /msi/token?api-version=2019-08-01&resource={resource}"), &headers, "")
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    /// 0 if it was no answer of HTTP.
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        let mut reader = BufReader::new(stream);
        // a connection that was reset has told what it had to
        drop(reader.read_to_end(&mut bytes));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, headers: head.to_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The first line that a child prints; the rest stays to be read.
pub(crate) fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}
