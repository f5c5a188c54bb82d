//! The way to the provider: proxies, the hosts that do without them, and who is trusted for TLS.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use emulator::USER_ONE;

use crate::support::{Run, SCOPE, World, run};

/// A proxy on this machine that carries TLS (RFC 9110, section 9.3.6), or refuses to.
struct Proxy {
    port: u16,
    /// The head of each request.
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn answering(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&heads);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let seen = Arc::clone(&seen);
                thread::spawn(move || serve(client, status, &seen));
            }
        });
        Self { port, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(client: TcpStream, status: &str, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    seen.lock().unwrap().push(head.clone());
    let mut client = client;
    write!(client, "HTTP/1.1 {status}\r\n\r\n").ok()?;
    if !status.starts_with("200") {
        return None;
    }
    let target = TcpStream::connect(head.split(' ').nth(1)?).ok()?;
    let (mut from_target, mut to_client) = (target.try_clone().ok()?, client.try_clone().ok()?);
    thread::spawn(move || {
        drop(std::io::copy(&mut from_target, &mut to_client));
        drop(to_client.shutdown(Shutdown::Both));
    });
    let mut target = target;
    drop(std::io::copy(&mut reader, &mut target));
    drop(target.shutdown(Shutdown::Both));
    Some(())
}

fn refresh(world: &World, environment: &[(&str, &str)]) -> Run {
    let mut command = world.command(&["token", "--scope", SCOPE, "--force-refresh"]);
    run(command.envs(environment.iter().copied()))
}

#[test]
fn a_proxy_is_used_and_sees_nothing_but_the_providers_name() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let proxy = Proxy::answering("200 Connection established");
    let url = format!("http://127.0.0.1:{}", proxy.port);
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        refresh(&world, &[(name, &url)]).ok();
    }
    let heads = proxy.heads();
    assert_eq!(heads.len(), 3, "{heads:?}");
    let target = format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n", world.emulator.port());
    assert!(heads.iter().all(|head| head.starts_with(&target)), "{heads:?}");

    let mut login = world.command(&["login", "--device-code", "--scope", SCOPE]);
    world.emulator.approve(USER_ONE);
    run(login.env("HTTPS_PROXY", &url)).ok();
    assert!(proxy.heads().len() > 3);
}

#[test]
fn hosts_that_need_no_proxy_are_asked_without_one() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let proxy = Proxy::answering("200 Connection established");
    let url = format!("http://127.0.0.1:{}", proxy.port);
    for hosts in ["127.0.0.1", "example.com, 127.0.0.1", "127.0.0.0/8"] {
        refresh(&world, &[("HTTPS_PROXY", &url), ("NO_PROXY", hosts)]).ok();
    }
    assert_eq!(proxy.heads(), Vec::<String>::new());
    refresh(&world, &[("HTTPS_PROXY", &url), ("NO_PROXY", "example.com")]).ok();
    assert_eq!(proxy.heads().len(), 1);
}

#[test]
fn the_proxys_password_goes_to_the_proxy_and_nowhere_else() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let proxy = Proxy::answering("407 Proxy Authentication Required");
    let url = format!("http://somebody:canary-word@127.0.0.1:{}", proxy.port);
    let run = refresh(&world, &[("HTTPS_PROXY", &url), ("RUST_LOG", "trace")]).exits(8);
    assert!(proxy.heads()[0].to_lowercase().contains("proxy-authorization: basic "), "{:?}", proxy.heads());
    assert!(!run.output().contains("canary-word"), "{}", run.output());
    assert!(!run.output().contains("Y2FuYXJ5LXdvcmQ"), "{}", run.output());
    assert!(run.stderr.contains("HTTPS_PROXY"), "{}", run.stderr);
}

#[test]
fn a_proxy_that_is_not_there_is_told_as_such() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let before = world.document();
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let run = refresh(&world, &[("HTTPS_PROXY", &format!("http://127.0.0.1:{port}"))]).exits(8);
    assert!(run.stderr.starts_with("error: the provider cannot be reached: "), "{}", run.stderr);
    assert!(run.stderr.contains("hint: check the network, HTTPS_PROXY"), "{}", run.stderr);
    assert_eq!(world.document(), before);
}

#[test]
fn a_private_authority_is_trusted_by_ssl_cert_file_and_by_nothing_less() {
    let world = World::plaintext();
    // Every other test signs in by SSL_CERT_FILE; here are the ways in which it does not work.
    world.login(USER_ONE, &[]);
    let without = |change: &dyn Fn(&mut std::process::Command)| {
        let mut command = world.command(&["token", "--scope", SCOPE, "--force-refresh", "--json"]);
        change(command.env_remove("SSL_CERT_FILE"));
        let error = run(&mut command).exits(8).json()["error"].clone();
        assert_eq!(error["kind"], "network");
        assert!(error["hint"].as_str().unwrap().contains("SSL_CERT_FILE"), "{error}");
        error["message"].as_str().unwrap().to_owned()
    };
    world.emulator.reset_log();
    let message = without(&|_| {});
    assert!(message.contains("certificate"), "{message}");
    let missing = without(&|command| {
        command.env("SSL_CERT_FILE", "/nonexistent/ca.pem");
    });
    assert!(missing.contains("/nonexistent/ca.pem"), "{missing}");
    let other = World::plaintext();
    let foreign = without(&|command| {
        command.env("SSL_CERT_FILE", other.emulator.ca_path());
    });
    assert!(foreign.contains("certificate"), "{foreign}");
    let junk = world.home().join("junk.pem");
    std::fs::write(&junk, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    without(&|command| {
        command.env("SSL_CERT_FILE", &junk);
    });
    assert_eq!(world.emulator.count(""), 0, "nothing was said to somebody who could not be trusted");
}
