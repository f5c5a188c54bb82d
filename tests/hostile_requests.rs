//! What a browser, a tricked server or a stranger of this machine sends to a front door gets
//! nothing; only the protocol's own clients get its own errors.

use std::io::Write as _;
use std::time::{Duration, Instant};

use emulator::{TENANT_TWO, USER_ONE};
use serde_json::json;

use crate::support::{Reply, Served, World, node, proofs, report, run};

const ARM: &str = "https://management.azure.com";
const QUERY: &str = "/msi/token?api-version=2019-08-01&resource=https://management.azure.com";

fn signed_in() -> World {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    world
}

fn served(world: &World, options: &[&str]) -> Served {
    Served::by(&mut world.command(&[&["serve", "--json", "--scope-allow", ARM], options].concat()))
}

#[track_caller]
fn assert_nothing(world: &World, what: &str, reply: &Reply) {
    assert_ne!(reply.status, 200, "{what}: {reply:?}");
    assert_eq!(reply.body, "", "{what}");
    let text = format!("{reply:?}");
    assert!(!text.contains("CANARY"), "{what}: {text}");
    for secret in world.emulator.secrets() {
        assert!(!text.contains(&secret.value), "{what}: {text}");
    }
    for name in ["access-control", "set-cookie", "location", "www-authenticate"] {
        assert!(!reply.headers.contains(name), "{what}: {text}");
    }
}

/// Each is right in everything but one thing, and the secret is right in all of them.
#[test]
fn a_request_that_no_client_of_ours_sends_gets_nothing() {
    let world = signed_in();
    let served = served(&world, &[]);
    let (secret, address) = (served.secret(), served.address());
    let with_secret = format!("X-IDENTITY-HEADER: {secret}\r\n");
    let bearer = format!("Authorization: Bearer {secret}\r\n");
    let port = address.rsplit_once(':').unwrap().1;
    let host = |host: &str| format!("GET {QUERY} HTTP/1.1\r\nHost: {host}\r\n{with_secret}\r\n");
    let header =
        |line: &str| format!("GET {QUERY} HTTP/1.1\r\nHost: {address}\r\n{with_secret}{line}\r\n\r\n");
    let line = |line: &str| format!("{line}\r\nHost: {address}\r\n{with_secret}{bearer}\r\n");
    let table = [
        ("a page of another site", header("Origin: https://evil.example")),
        ("a page of no site", header("Origin: null")),
        ("a page of ours, if we had one", header(&format!("Origin: http://{address}"))),
        ("a link on a page", header("Referer: https://evil.example/")),
        ("an image on a page", header("Sec-Fetch-Site: cross-site")),
        ("a tab of a browser", header("Sec-Fetch-Dest: document")),
        ("a service worker", header("Sec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin")),
        ("a browser's hints", header("Sec-CH-UA: \"Chromium\"")),
        ("a cookie", header("Cookie: a=b")),
        ("a web socket", header("Connection: Upgrade\r\nUpgrade: websocket")),
        ("a proxy", header("Via: 1.1 proxy.example")),
        ("a proxy's new header", header("Forwarded: for=192.0.2.1")),
        ("a proxy's old header", header("X-Forwarded-For: 192.0.2.1")),
        ("a balancer", header("X-Forwarded-Host: evil.example")),
        ("another balancer", header("X-Real-IP: 192.0.2.1")),
        ("a delivery network", header("CF-Connecting-IP: 192.0.2.1")),
        ("a client of a proxy", header("Proxy-Connection: keep-alive")),
        ("a path for somebody else", header("X-Original-URL: /msi/token")),
        ("a method for somebody else", header("X-HTTP-Method-Override: GET")),
        ("a rebound name", host(&format!("evil.example:{port}"))),
        ("a rebound name without a port", host("evil.example")),
        ("a name that resolves to us", host(&format!("127.0.0.1.nip.example:{port}"))),
        ("another name of this machine", host(&format!("localhost:{port}"))),
        ("the other family", host(&format!("[::1]:{port}"))),
        ("another port", host("127.0.0.1:1")),
        ("no port", host("127.0.0.1")),
        ("an empty host", host("")),
        ("two hosts", header("Host: evil.example")),
        ("no host", format!("GET {QUERY} HTTP/1.1\r\n{with_secret}\r\n")),
        ("no host, as in 1.0", format!("GET {QUERY} HTTP/1.0\r\n{with_secret}\r\n")),
        ("the metadata service's address", host("169.254.169.254")),
        ("a request for a proxy", line(&format!("GET http://{address}{QUERY} HTTP/1.1"))),
        ("a request for another host", line(&format!("GET http://evil.example{QUERY} HTTP/1.1"))),
        ("a tunnel", line(&format!("CONNECT {address} HTTP/1.1"))),
        ("HTTP/0.9", format!("GET {QUERY}\r\n")),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".to_owned()),
        ("gopher", "\r\n\r\n\r\n".to_owned()),
        ("a preflight", line(&format!("OPTIONS {QUERY} HTTP/1.1"))),
        ("HEAD", line(&format!("HEAD {QUERY} HTTP/1.1"))),
        ("POST to a door of GET", line(&format!("POST {QUERY} HTTP/1.1"))),
        ("PUT", line(&format!("PUT {QUERY} HTTP/1.1"))),
        ("GET to a door of POST", line("GET /token?api-version=2023-07-12-preview HTTP/1.1")),
        ("TRACE", line(&format!("TRACE {QUERY} HTTP/1.1"))),
        ("the root", line("GET / HTTP/1.1")),
        ("a path with a slash more", line(&format!("GET /{QUERY} HTTP/1.1"))),
        ("a path with dots", line(&format!("GET /x/..{QUERY} HTTP/1.1"))),
        (
            "a path with a slash at its end",
            line("GET /msi/token/?api-version=2019-08-01&resource=x HTTP/1.1"),
        ),
        ("an encoded path", line("GET /msi%2Ftoken?api-version=2019-08-01&resource=x HTTP/1.1")),
        ("an older door", line("GET /MSI/token?api-version=2017-09-01&resource=x HTTP/1.1")),
        (
            "the metadata service's door",
            line("GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=x HTTP/1.1"),
        ),
        ("a huge header", header(&format!("X-Padding: {}", "x".repeat(40_000)))),
        ("many headers", header(&(0..100).map(|n| format!("X-{n}: x\r\n")).collect::<String>())),
        ("a huge line", line(&format!("GET {QUERY}&x={} HTTP/1.1", "x".repeat(70_000)))),
        ("a folded header", header("X-A: b\r\n Origin: https://evil.example")),
        ("a header without a name", header(": x")),
        ("a space before the colon", header("Origin : https://evil.example")),
        ("a zero byte", header("X-A: \0")),
        ("two lengths", header("Content-Length: 1\r\nContent-Length: 2")),
        ("a request in a request", header("Content-Length: 3\r\nTransfer-Encoding: chunked")),
    ];
    assert_eq!(served.identity(ARM, &[]).status, 200, "before");
    for (what, request) in &table {
        assert_nothing(&world, what, &served.send(request.as_bytes()));
    }
    assert_eq!(served.identity(ARM, &[]).status, 200, "after");
    report("hostile-requests", &format!("kinds of hostile requests: {}, answered: 0", table.len()));
}

#[test]
fn a_page_in_a_real_browser_reads_nothing_even_if_it_knows_the_secret() {
    let world = signed_in();
    let served = served(&world, &[]);
    let seen = run(node("page.mjs").arg(served.address()).arg(served.secret())).ok().json();
    let attempts = seen["attempts"].as_object().unwrap();
    assert_eq!(attempts.len(), 15);
    for (what, read) in attempts {
        let read = read.as_str().unwrap().trim_end();
        // where nothing came, Chromium shows a page of its own
        let nothing = ["", "opaque 0", "basic 403"].contains(&read) || read.contains("HTTP ERROR 403");
        assert!(nothing || read.starts_with("failed:"), "{what}: {read}");
    }
    let grant = world.run(&["grants", "--json"]).ok().json()["grants"][0].clone();
    assert_eq!(grant["served"], 0, "{grant}");
    assert!(grant["denied"].as_u64().unwrap() >= 9, "{grant}");
    assert_eq!(served.identity(ARM, &[]).status, 200, "for others it works");
}

#[test]
fn without_the_secret_there_is_only_the_protocols_own_error() {
    let world = signed_in();
    let served = served(&world, &[]);
    let secret = served.secret();
    let body = json!({ "scopes": [format!("{ARM}/.default")] }).to_string();
    let length = body.len().to_string();
    let long = "x".repeat(5_000);
    let near = [
        "",
        "wrong",
        &secret[1..],
        &secret[..42],
        &format!("{secret}="),
        &secret.to_lowercase(),
        &format!("{secret}, {secret}"),
        &format!("Bearer {secret}"),
        &format!("Basic {secret}"),
        &secret,
        &long,
    ];
    for given in near {
        // the right secret in the other door's header
        let (identity, azd) = (("Authorization", given), ("X-IDENTITY-HEADER", given));
        let own = if given == secret { identity } else { ("X-IDENTITY-HEADER", given) };
        let reply = served.ask(&format!("GET {QUERY}"), &[own], "");
        assert_eq!(reply.status, 401, "{given}");
        assert_eq!(reply.json()["statusCode"], 401);
        let own = if given == secret { azd } else { ("Authorization", given) };
        // the scheme of a bearer token is no secret
        if given == format!("Bearer {secret}") {
            continue;
        }
        let headers = [own, ("Content-Type", "application/json"), ("Content-Length", &length)];
        let reply = served.ask("POST /token?api-version=2023-07-12-preview", &headers, &body);
        assert_eq!((reply.status, &reply.json()["status"]), (401, &"error".into()), "{given}");
        let reply = served.ask(&format!("GET /az/token?scope={ARM}/.default"), &[own], "");
        assert_eq!(reply.status, 401, "{given}");
    }
    // whoever does not know it is not listened to: of this body nothing ever comes
    let headers = [("Authorization", "Bearer wrong"), ("Content-Length", "70000")];
    let reply = served.ask("POST /token?api-version=2023-07-12-preview", &headers, "");
    let reply = reply.json();
    assert!(reply["message"].as_str().unwrap().contains("not the secret"), "{reply}");

    let twice = [("X-IDENTITY-HEADER", secret.as_str()); 2];
    assert_eq!(served.ask(&format!("GET {QUERY}"), &twice, "").status, 401);
    assert_eq!(served.identity(ARM, &[]).status, 200);
    let denied = world.run(&["grants", "--json"]).ok().json()["grants"][0]["denied"].as_u64().unwrap();
    assert!(denied >= 30, "{denied}");
}

#[test]
fn each_protocol_says_no_in_its_own_words() {
    let world = signed_in();
    let served = served(&world, &[]);
    let secret = served.secret();
    let identity = |query: &str| {
        let line = format!("GET /msi/token?{query}");
        served.ask(&line, &[("X-IDENTITY-HEADER", &secret)], "")
    };
    let version = "api-version=2019-08-01";
    let graph = "https://graph.microsoft.com";
    for (query, status, said) in [
        (format!("{version}&resource={graph}"), 403, "--scope-allow https://graph.microsoft.com/.default"),
        (format!("{version}&resource={ARM}.evil.example"), 403, "does not allow the scope"),
        (version.to_owned(), 400, "no resource"),
        (format!("{version}&resource="), 400, "no resource"),
        (format!("{version}&resource={ARM}&resource={graph}"), 400, "resource stands twice"),
        (format!("{version}&resource={ARM}+{graph}"), 400, "not one scope"),
        (format!("resource={ARM}"), 400, "api-version"),
        (format!("api-version=2017-09-01&resource={ARM}"), 400, "2019-08-01"),
        (format!("{version}&resource={ARM}&client_id=a&mi_res_id=b"), 400, "several identities"),
    ] {
        let reply = identity(&query);
        let body = reply.json();
        assert_eq!((reply.status, &body["statusCode"]), (status, &status.into()), "{query}: {body}");
        assert!(body["message"].as_str().unwrap().contains(said), "{query}: {body}");
        assert!(!body["correlationId"].as_str().unwrap().is_empty());
    }
    for identity_of in
        ["client_id=a", "mi_res_id=/subscriptions/x", "object_id=b", "principal_id=c", "bypass_cache=true"]
    {
        let reply = identity(&format!("{version}&resource={ARM}&{identity_of}"));
        assert_eq!(reply.status, 200, "{identity_of}: whatever the name, it is the signed-in person");
    }

    let azd = |body: &str| {
        let length = body.len().to_string();
        let bearer = format!("bearer {secret}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Length", &length)];
        served.ask("POST /token?api-version=2023-07-12-preview", &headers, body)
    };
    let scope = format!("{ARM}/.default");
    let good = azd(&json!({ "scopes": [scope], "tenantId": "" }).to_string());
    assert_eq!((good.status, &good.json()["status"]), (200, &"success".into()));
    assert!(good.json()["expiresOn"].as_str().unwrap().ends_with('Z'));
    for (body, said) in [
        (json!({ "scopes": [scope, format!("{graph}/.default")] }).to_string(), "--scope-allow"),
        (json!({ "scopes": [scope], "tenantId": TENANT_TWO }).to_string(), "--tenant-allow"),
        (json!({ "scopes": [] }).to_string(), "no scope"),
        (json!({ "scopes": [scope], "tenantId": "a/b" }).to_string(), "tenant"),
        ("{".to_owned(), "JSON"),
        (format!("{{\"scopes\": [\"{}\"]}}", "x".repeat(70_000)), "too long"),
    ] {
        let reply = azd(&body);
        let answer = reply.json();
        // azd shows the message of an answer, and of any other status only its number
        assert_eq!(
            (reply.status, &answer["status"], &answer["code"]),
            (200, &"error".into(), &"GetTokenError".into())
        );
        assert!(answer["message"].as_str().unwrap().contains(said), "{answer}");
    }
    world.run(&["logout", "--all"]).ok();
    let answer = azd(&json!({ "scopes": [scope] }).to_string()).json();
    assert_eq!(answer["code"], "NotSignedInError");
    let reply = identity(&format!("{version}&resource={ARM}"));
    assert_eq!(reply.status, 400);
    assert!(reply.body.contains("tokenkeep login"), "{}", reply.body);
}

#[test]
fn a_token_that_was_refused_elsewhere_is_not_given_out_again() {
    let world = signed_in();
    let served = served(&world, &[]);
    let ask = |more: &str| {
        let answer = served.identity(&format!("{ARM}{more}"), &[]).json();
        answer["access_token"].as_str().unwrap().to_owned()
    };
    let first = ask("");
    assert_eq!(ask(""), first);
    assert_eq!(ask(&format!("&token_sha256_to_refresh={}", "0".repeat(64))), first, "another token's");
    let hash = sha256(&first);
    let second = ask(&format!("&token_sha256_to_refresh={hash}"));
    assert_ne!(second, first);
    assert_eq!(ask(&format!("&token_sha256_to_refresh={hash}")), second);
}

fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_expired_or_revoked_grant_gives_out_nothing_and_its_server_ends() {
    let world = signed_in();
    let expiring = served(&world, &["--expires", "2s"]);
    assert_eq!(expiring.identity(ARM, &[]).status, 200);
    let started = Instant::now();
    let refused = loop {
        let reply = expiring.identity(ARM, &[]);
        if reply.status != 200 {
            break reply;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "it does not expire");
    };
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(refused.body.contains("expired"));
    assert_eq!(expiring.end(), Some(0));

    let revoked = served(&world, &[]);
    let other = served(&world, &[]);
    let id = revoked.announced["grant"].as_str().unwrap();
    world.run(&["grants", "revoke", id]).ok().says("stay valid until they expire");
    let refused = revoked.identity(ARM, &[]);
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(refused.body.contains("revoked"));
    assert_eq!(other.identity(ARM, &[]).status, 200);
    assert_eq!(revoked.end(), Some(0));
    world.run(&["grants", "revoke", "--all"]).ok();
    assert_eq!(other.end(), Some(0));
    assert_eq!(world.run(&["grants", "--json"]).ok().json()["grants"], json!([]));
    world.run(&["grants", "revoke", "nothing"]).exits(2).says("tokenkeep grants");
}

#[test]
fn half_sent_requests_and_idle_connections_keep_nobody_out() {
    let world = signed_in();
    let log = world.home().join("log");
    let mut command = world.command(&["serve", "--json", "--scope-allow", ARM]);
    command.env("RUST_LOG", "tokenkeep=debug").stderr(std::fs::File::create(&log).unwrap());
    let served = Served::by(&mut command);
    let count = proofs(8_000).max(300);
    let mut idle = Vec::new();
    for number in 0..count {
        let mut stream = served.connect();
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"GET /msi/token HTTP/1.1\r\nHost: ").unwrap(),
            _ => stream.write_all(b"G").unwrap(),
        }
        idle.push(stream);
        if number % 50 == 0 {
            assert_eq!(served.identity(ARM, &[]).status, 200, "beside {number} idle ones");
        }
    }
    let mut slow = served.connect();
    let head = format!(
        "POST /token?api-version=2023-07-12-preview HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Length: 100\r\n\r\n{{",
        served.address(),
        served.secret()
    );
    slow.write_all(head.as_bytes()).unwrap();
    assert_eq!(served.identity(ARM, &[]).status, 200);
    let reply = Reply::read(&mut slow).json();
    assert!(reply["message"].as_str().unwrap().contains("too long"), "{reply}");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", served.pid())).unwrap().count();
    assert!(descriptors < 200, "{descriptors}");
    // and not because they have been waited for
    let made_room = std::fs::read_to_string(&log).unwrap().matches("makes room").count();
    assert!(made_room > count / 4, "{made_room} of {count}");
    report("idle-connections", &format!("idle or half-sent connections: {count}, refused clients: 0"));
}
