//! Slow, half-sent, oversized, flooding and never-reading clients hold up nobody but themselves.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use emulator::USER_ONE;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::support::{Agent, SCOPE, World, post, talk};

/// This process holds both ends' worth of descriptors.
fn many_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

#[test]
fn live_clients_are_served_beside_a_thousand_that_only_sit_there() {
    many_descriptors();
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let agent = Agent::of(&world);
    let mut ask = world.agent_question();
    ask["scopes"] = json!([SCOPE]);
    let request = post("/v1/token", &ask);
    let half = |text: &str| {
        let mut stream = agent.connect();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let halves = [
        half("POST /v1/tok"),
        half("POST /v1/token HTTP/1.1\r\nhost: tokenkeep\r\n"),
        half(&request[..request.len() - 1]),
        half("POST /v1/token HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nff\r\n"),
    ];
    let flood = never_reading(&agent);
    let idle: Vec<UnixStream> = (0..1_000).map(|_| agent.connect()).collect();
    let served = std::thread::scope(|scope| {
        let live = |_| {
            scope.spawn(|| {
                for _ in 0..10 {
                    assert_eq!(talk(agent.connect(), &request).ok()["found"], "cache");
                }
                10
            })
        };
        let clients: Vec<_> = (0..64).map(live).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>()
    });
    assert_eq!(served, 640);
    let status = agent.status();
    assert!(status["counters"]["evictions"].as_u64().unwrap() >= 800, "{status}");
    assert!(status["connections"].as_u64().unwrap() <= 384, "{status}");
    assert_eq!(status["counters"]["panics"], 0);
    drop((halves, flood, idle));
}

/// A client that asks as fast as it can and reads nothing, until nobody takes more of it.
fn never_reading(agent: &Agent) -> UnixStream {
    let mut stream = agent.connect();
    stream.set_nonblocking(true).unwrap();
    let request = b"GET /v1/status HTTP/1.1\r\nhost: tokenkeep\r\n\r\n";
    let mut full = 0;
    while full < 3 {
        match stream.write(request) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                full += 1;
                // The agent gets to answer what it has of them.
                agent.get("/v1/hello").ok();
            }
            Err(error) => panic!("{error}"),
        }
    }
    stream
}

#[test]
fn hostile_requests_get_an_answer_or_none_and_the_agent_goes_on() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let agent = Agent::of(&world);
    let long = "x".repeat(70_000);
    let deep = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    let body = |text: &str| {
        format!(
            "POST /v1/token HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        )
    };
    let asked = |members: serde_json::Value| post("/v1/token", &members);
    // 0: the connection is closed without an answer
    let cases: &[(&str, String, u16)] = &[
        ("a body of nonsense", body("\0\u{1}{"), 400),
        ("a deep body", body(&format!("{{\"scopes\": {deep}}}")), 400),
        ("a body that is too long", body(&long), 413),
        (
            "a length that is a lie",
            "POST /v1/token HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n".into(),
            400,
        ),
        (
            "two lengths",
            "POST /v1/token HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx".into(),
            400,
        ),
        ("a line that is too long", format!("GET /{long} HTTP/1.1\r\n\r\n"), 431),
        ("a header that is too long", format!("GET /v1/hello HTTP/1.1\r\na: {long}\r\n\r\n"), 431),
        ("too many headers", format!("GET /v1/hello HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65)), 431),
        ("another protocol", "\u{16}\u{3}\u{1}\0\0nonsense\r\n\r\n".into(), 400),
        ("another version of HTTP", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 0),
        ("no path of ours", "GET /v2/token HTTP/1.1\r\nconnection: close\r\n\r\n".into(), 404),
        ("a path that climbs", "GET /v1/../../etc/passwd HTTP/1.1\r\nconnection: close\r\n\r\n".into(), 404),
        ("another method", "DELETE /v1/token HTTP/1.1\r\nconnection: close\r\n\r\n".into(), 404),
        ("scopes of a wrong kind", asked(json!({"scopes": 7})), 400),
        ("a scope that is none", asked(json!({"scopes": ["a b\r\n"]})), 400),
        ("a tenant that climbs", asked(json!({"scopes": ["a"], "tenant": "../x"})), 400),
        ("a cache that climbs", asked(json!({"scopes": ["a"], "cache": "../x"})), 400),
        ("an authority without TLS", asked(json!({"scopes": ["a"], "authority": "http://a.example"})), 400),
        ("a client id with a line break", asked(json!({"scopes": ["a"], "client_id": "a\r\nb"})), 400),
        ("claims that are none", asked(json!({"scopes": ["a"], "claims": "[]"})), 400),
        ("a store of tomorrow", asked(json!({"scopes": ["a"], "store": "cloud"})), 400),
        ("a record that is none", asked(json!({"scopes": ["a"], "record": {"version": "9"}})), 400),
    ];
    for (name, request, status) in cases {
        let mut stream = agent.connect();
        // The agent may stop reading in the middle.
        stream.write_all(request.as_bytes()).ok();
        let mut answer = Vec::new();
        let _ended_early = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let told = answer.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        assert_eq!(told.unwrap_or(0), *status, "{name}: {answer}");
        assert!(!answer.contains("eyJ"), "{name}: {answer}");
    }
    let reply = agent.token(&world, &json!({"scopes": [SCOPE]}));
    assert_eq!(reply.ok()["found"], "cache");
    assert_eq!(agent.status()["counters"]["panics"], 0);
}
