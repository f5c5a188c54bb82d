//! A container has nothing but a socket that was mounted into it; unchanged SDKs in it get what its
//! own grant allows, and nothing of another container's.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use emulator::USER_ONE;
use serde_json::{Value, json};

use crate::support::{Run, World, node, python, repository, run};

const GRAPH: &str = "https://graph.microsoft.com";
const VAULT: &str = "https://vault.azure.net";

/// A folder with a socket, the server behind it, and the variables that go with it.
struct Container {
    server: Child,
    folder: PathBuf,
    variables: Vec<String>,
}

impl Container {
    fn new(world: &World, name: &str, scope: &str) -> Self {
        let folder = world.home().join(name);
        std::fs::create_dir(&folder).unwrap();
        let (socket, file) = (folder.join("front.sock"), world.home().join(format!("{name}.env")));
        let options = [format!("--socket={}", socket.display()), format!("--env-file={}", file.display())];
        let mut command =
            world.command(&["serve", "--scope-allow", scope, "--quiet", &options[0], &options[1]]);
        let mut server = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let printed = std::io::read_to_string(server.stdout.take().unwrap()).unwrap();
        assert_eq!(printed, "", "it closes its output once it serves");
        let variables = std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect();
        Self { server, folder, variables }
    }

    /// Runs a script inside; `$tokenkeep` is ours, and the relay leads to the socket.
    fn inside(&self, variables: &[String], script: &str) -> Run {
        let mut command = Command::new(repository().join("tests/support/container"));
        let program = env!("CARGO_BIN_EXE_tokenkeep");
        command.arg(&self.folder).args(variables).arg(format!("tokenkeep={program}")).args(["sh", "-c"]);
        command.arg(format!(
            "ready=$(\"$tokenkeep\" serve --quiet --connect /mnt/door/front.sock &) || exit 9\n{script}"
        ));
        run(&mut command)
    }

    fn sdk(&self, variables: &[String], sdk: &Command, resource: &str) -> Run {
        let words: Vec<_> = std::iter::once(sdk.get_program())
            .chain(sdk.get_args())
            .map(|word| word.to_str().unwrap())
            .collect();
        self.inside(variables, &format!("exec {} --scope {resource}/.default", words.join(" ")))
    }

    fn secret(&self) -> &str {
        self.variables.iter().find_map(|line| line.strip_prefix("IDENTITY_HEADER=")).unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

fn signed_in() -> World {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    world
}

fn user_of(answer: &Value) -> Value {
    let payload = answer["token"].as_str().unwrap_or_else(|| panic!("{answer}")).split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    claims["upn"].clone()
}

#[test]
fn each_container_gets_what_its_own_grant_allows() {
    let world = signed_in();
    let containers = [
        (Container::new(&world, "one", VAULT), VAULT, GRAPH),
        (Container::new(&world, "two", GRAPH), GRAPH, VAULT),
    ];
    let listed = world.run(&["grants", "--json"]).ok().json()["grants"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    for (container, allowed, other) in &containers {
        for sdk in [python("any_credential.py"), node("any_credential.mjs")] {
            let answer = container.sdk(&container.variables, &sdk, allowed).ok().json();
            assert_eq!(user_of(&answer), USER_ONE, "{allowed}");
            let refused = container.sdk(&container.variables, &sdk, other).json();
            assert!(refused["message"].as_str().unwrap().contains("--scope-allow"), "{refused}");
        }
    }
    let [(one, ..), (two, ..)] = &containers;
    let refused = two.sdk(&one.variables, &python("any_credential.py"), GRAPH).exits(1).json();
    assert!(refused["message"].as_str().unwrap().contains("not the secret"), "{refused}");

    let id = listed.as_array().unwrap().iter().find(|grant| grant["scopes"] == json!([VAULT])).unwrap()["id"]
        .clone();
    world.run(&["grants", "revoke", id.as_str().unwrap()]).ok();
    let gone = one.sdk(&one.variables, &python("any_credential.py"), VAULT);
    assert_ne!(gone.code, Some(0), "{gone:?}");
    two.sdk(&two.variables, &python("any_credential.py"), GRAPH).ok();
}

#[test]
fn a_container_has_nothing_else_and_its_relay_knows_no_secret() {
    let world = signed_in();
    let container = Container::new(&world, "one", VAULT);
    let provider = world.emulator.authority();
    let port = provider.rsplit_once(':').unwrap().1.trim_end_matches('/').to_owned();
    for (what, script, code) in [
        (
            "the provider",
            format!("/usr/bin/python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}))'"),
            1,
        ),
        ("a login of its own", "\"$tokenkeep\" token --store plaintext --scope x/y".to_owned(), 4),
        ("a list of grants", "\"$tokenkeep\" grants --json | grep '\"id\"'".to_owned(), 1),
    ] {
        let run = container.inside(&[], &script).exits(code);
        assert!(!run.output().contains("CANARY"), "{what}: {run:?}");
    }
    let relay = "for file in cmdline environ; do tr '\\0' '\\n' </proc/$(pgrep -x tokenkeep)/$file; done";
    let relay = container.inside(&container.variables[..1], relay).ok().stdout;
    assert!(relay.contains("--connect") && relay.contains("HOME="), "{relay}");
    assert!(!relay.contains(container.secret()), "{relay}");
    let metadata = std::fs::metadata(container.folder.join("front.sock")).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let stranger = "setpriv --reuid 65534 --clear-groups /usr/bin/python3 -c 'import socket; \
                    socket.socket(socket.AF_UNIX).connect(\"/mnt/door/front.sock\")'";
    container.inside(&[], stranger).exits(1).says("PermissionError");
}

/// The socket itself, without the relay, and what a page in a container's browser could send.
#[test]
fn the_socket_serves_what_speaks_to_it_and_no_rebound_name() {
    let world = signed_in();
    let container = Container::new(&world, "one", VAULT);
    let curl = |to: &str, headers: &str| {
        let secret = container.secret();
        let script = format!(
            "curl -s -m 20 -o /tmp/body -w '%{{http_code}} ' {to} -H 'X-IDENTITY-HEADER: {secret}' {headers}; wc -c </tmp/body"
        );
        container.inside(&[], &script).ok().stdout.trim().to_owned()
    };
    let query = "/msi/token?api-version=2019-08-01\\&resource=https://vault.azure.net";
    let socket = format!("--unix-socket /mnt/door/front.sock http://localhost{query}");
    let relay = format!("http://127.0.0.1:4141{query}");
    for to in [&socket, &relay] {
        assert!(curl(to, "").starts_with("200 "), "{to}: {}", curl(to, ""));
        assert!(curl(to, "-H 'Host: azd-auth'").starts_with("200 "), "{to}");
        for header in [
            "Host: evil.example",
            "Host: evil.example:4141",
            "Origin: http://evil.example",
            "X-Forwarded-For: 192.0.2.1",
        ] {
            assert_eq!(curl(to, &format!("-H '{header}'")), "403 0", "{to} {header}");
        }
    }
}

#[test]
fn a_socket_that_a_kill_left_behind_is_replaced_and_nothing_else_is() {
    let world = signed_in();
    let path = world.home().join("front.sock");
    let option = format!("--socket={}", path.display());
    let serve = ["serve", "--scope-allow", VAULT, "--expires", "1s", &option];
    std::fs::write(&path, "a file").unwrap();
    world.run(&serve).exits(1).says("something else is there");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
    std::fs::remove_file(&path).unwrap();

    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left behind");
    world.run(&serve).ok().says("has expired");
    assert!(!path.exists(), "gone with its server");

    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    world.run(&serve).exits(1).says("another server");
    assert!(path.exists());
    let connect = format!("--connect={}", world.home().join("nothing.sock").display());
    world.run(&["serve", "--port", "0", &connect]).exits(1).says("nothing.sock");
}
