//! A socket that a service manager listens on is served, and the manager is told when.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;
use std::process::Command;

use emulator::USER_ONE;
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::json;

use crate::support::{Agent, Manager, SCOPE, World, read_reply, run};

/// `tokenkeep agent` with this as its descriptor 3.
fn activated(world: &World, redirection: &str) -> Command {
    let agent = world.command(&["agent"]);
    let mut command = Command::new("bash");
    command.env_clear().envs(agent.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let script = format!(r#"LISTEN_PID=$$ exec "$0" "$@" 3{redirection}"#);
    command.arg("-c").arg(script).arg(agent.get_program()).args(agent.get_args()).env("LISTEN_FDS", "1");
    command
}

#[test]
fn a_socket_that_is_handed_over_is_served_and_the_manager_is_told() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let socket = world.home().join("handed.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    fcntl_setfd(&listener, FdFlags::empty()).unwrap();
    let manager = Manager::of(&world);

    // Asked before anybody serves: the socket keeps what comes early.
    let mut early = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    std::io::Write::write_all(&mut early, b"GET /v1/hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .unwrap();
    let redirection = format!("<&{}", listener.as_raw_fd());
    let agent = Agent::start(manager.runs(&mut activated(&world, &redirection)), &socket);
    assert_eq!(read_reply(&mut early).ok()["pid"], agent.pid());
    assert_eq!(manager.next(), "READY=1");
    let asked = run(world.command(&["token", "--scope", SCOPE, "--json"]).env("TOKENKEEP_SOCK", &socket));
    assert_eq!(asked.ok().json()["source"], "agent");
    assert_eq!(agent.status()["socket"], json!(socket));

    agent.terminate();
    assert_eq!(agent.ended().0, Some(0));
    assert_eq!(manager.next(), "STOPPING=1");
    assert!(socket.exists(), "it belongs to whoever made it");
}

#[test]
fn what_is_handed_over_and_no_socket_is_refused() {
    let world = World::plaintext();
    for redirection in ["</dev/null", ">/dev/null"] {
        let refused = run(&mut activated(&world, redirection)).exits(1);
        assert!(refused.stderr.contains("no Unix socket to listen on"), "{refused:?}");
    }
}
