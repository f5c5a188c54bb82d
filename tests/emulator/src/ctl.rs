//! `emulator ctl --dir DIR REQUEST [JSON]`: one request to the control of the emulator that runs in
//! DIR, for scripts on machines without curl.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Prints the answer's body. With JSON it is a POST, without a GET.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let arguments: Vec<String> = arguments.collect();
    let (dir, request, body) = match &*arguments {
        [option, dir, request] if option == "--dir" => (dir, request, None),
        [option, dir, request, body] if option == "--dir" => (dir, request, Some(body.as_str())),
        _ => return Err("usage: emulator ctl --dir DIR REQUEST [JSON]".to_owned()),
    };
    let answer = send(Path::new(dir), request, body)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1).is_some_and(|status| status.starts_with('2')) {
        println!("{}", body.trim_end());
        Ok(())
    } else {
        let status = head.lines().next().unwrap_or_default();
        Err(format!("{request}: {status}: {}", body.lines().next().unwrap_or_default()))
    }
}

fn send(dir: &Path, request: &str, body: Option<&str>) -> Result<String, String> {
    let in_file = |name: &str, error: String| format!("{}: {error}", dir.join(name).display());
    let port =
        std::fs::read_to_string(dir.join("port")).map_err(|error| in_file("port", error.to_string()))?;
    let ca = CertificateDer::from_pem_file(dir.join("ca.pem"))
        .map_err(|error| in_file("ca.pem", error.to_string()))?;
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(|error| in_file("ca.pem", error.to_string()))?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();

    let host = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
    let session = ClientConnection::new(Arc::new(config), host).map_err(|error| error.to_string())?;
    let failed = |error: io::Error| format!("{request}: {error}");
    let socket = TcpStream::connect(format!("127.0.0.1:{port}")).map_err(failed)?;
    let mut stream = StreamOwned::new(session, socket);
    let method = if body.is_some() { "POST" } else { "GET" };
    let body = body.unwrap_or_default();
    // HTTP/1.0: the answer ends with the connection, in one piece.
    let text = format!(
        "{method} /_control/{request} HTTP/1.0\r\nHost: localhost:{port}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    String::from_utf8(answer).map_err(|error| format!("{request}: {error}"))
}
