//! The doctor looks at the agent: quiet about one that serves and about none, and a finding with a
//! next step about everything else, in bounded time.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use emulator::USER_ONE;
use serde_json::{Value, json};

use crate::support::{Agent, Run, World, run};

/// What `tokenkeep doctor` says, without which nobody would wait for so long.
fn doctor(world: &World, args: &[&str], environment: &[(&str, &Path)]) -> Run {
    let doctor = world.command(&[&["doctor", "--offline"], args].concat());
    let mut bounded = Command::new("timeout");
    bounded.arg("60").arg(doctor.get_program()).args(doctor.get_args()).env_clear();
    bounded.envs(doctor.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(bounded.envs(environment.iter().copied()))
}

/// Of the agent.
fn findings(report: &Value) -> Vec<Value> {
    let all = report["findings"].as_array().unwrap().iter();
    all.filter(|finding| finding["id"].as_str().unwrap().starts_with("agent-")).cloned().collect()
}

/// The only finding about the agent.
#[track_caller]
fn finding(run: &Run, id: &str) -> Value {
    let report = run.json();
    let mut found = findings(&report);
    assert_eq!(found.len(), 1, "{report:#}");
    assert_eq!(found[0]["id"], id, "{report:#}");
    found.remove(0)
}

/// A socket's place of its own, in a folder of this mode.
fn place(world: &World, name: &str, mode: u32) -> PathBuf {
    let folder = world.home().join(name);
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
    folder.join("agent.sock")
}

/// Answers everybody with this, until the tests end.
fn listen(socket: &Path, answer: String) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _question = stream.read(&mut [0; 1024]);
            let _answered = stream.write_all(answer.as_bytes());
        }
    });
}

#[test]
fn it_is_quiet_about_an_agent_that_serves_and_about_none() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let without = doctor(&world, &["--json"], &[]).ok().json();
    assert_eq!(findings(&without), [json!(null); 0]);
    let socket = world.agent_socket();
    let absent = json!({"socket": socket, "state": "absent", "agent": null, "protocol": null, "pid": null});
    assert_eq!(without["agent"], absent);
    assert!(!socket.parent().unwrap().exists(), "and nothing is made");
    assert!(doctor(&world, &[], &[]).ok().stdout.contains("agent     none\n"));

    let agent = Agent::of(&world);
    let with = doctor(&world, &["--json"], &[]).ok().json();
    assert_eq!(findings(&with), [json!(null); 0]);
    let version = concat!("tokenkeep/", env!("CARGO_PKG_VERSION"));
    let serves = json!({
        "socket": socket, "state": "unlocked", "agent": version, "protocol": 1, "pid": agent.pid(),
    });
    assert_eq!(with["agent"], serves);
    let told = format!("agent     serves, process {}, {version}\n", agent.pid());
    assert!(doctor(&world, &[], &[]).ok().stdout.contains(&told));
    let left_out = doctor(&world, &["--json"], &[("TOKENKEEP_NO_AGENT", Path::new("1"))]).ok().json();
    assert_eq!((&left_out["agent"]["state"], &left_out["agent"]["pid"]), (&json!("left_out"), &json!(null)));
}

#[test]
fn a_locked_agent_is_worth_a_note_and_no_defect() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let _agent = Agent::of(&world);
    world.run(&["agent", "lock"]).ok();
    let locked = doctor(&world, &["--json"], &[]).ok();
    assert_eq!(locked.json()["agent"]["state"], "locked");
    let note = finding(&locked, "agent-locked");
    assert_eq!((&note["severity"], &note["fix"]), (&json!("note"), &json!("tokenkeep agent unlock")));
    world.run(&["agent", "unlock"]).ok();
    assert_eq!(findings(&doctor(&world, &["--json"], &[]).ok().json()), [json!(null); 0]);
}

#[test]
fn what_a_killed_agent_left_is_told_and_removed_unless_one_listens_by_then() {
    let world = World::plaintext();
    let socket = world.agent_socket();
    drop(Agent::of(&world));
    assert!(socket.exists(), "it was killed");
    let left = doctor(&world, &["--json"], &[]).exits(1);
    assert_eq!(left.json()["agent"]["state"], "left_behind");
    assert_eq!(finding(&left, "agent-socket-left-behind")["repairable"], true);
    doctor(&world, &["--repair", "--dry-run"], &[]).exits(1);
    assert!(socket.exists(), "a dry run removes nothing");

    let repaired = doctor(&world, &["--repair", "--yes", "--json"], &[]).ok().json();
    assert_eq!(repaired["repairs"][0]["outcome"], "repaired", "{repaired:#}");
    assert_eq!(repaired["agent"]["state"], "absent", "{repaired:#}");
    assert!(!socket.exists());

    // the other way out
    drop(Agent::of(&world));
    let started = world.run(&["agent", "start", "--json"]).ok().json();
    assert_eq!(doctor(&world, &["--json"], &[]).ok().json()["agent"]["pid"], started["pid"]);
    world.run(&["agent", "stop"]).ok();
}

#[test]
fn who_listens_and_answers_nothing_is_named_within_bounded_time() {
    let world = World::plaintext();
    let socket = place(&world, "silent", 0o700);
    // connections are taken by the system, and nobody reads them
    let listener = UnixListener::bind(&socket).unwrap();
    let silent = doctor(&world, &["--json"], &[("TOKENKEEP_SOCK", &socket)]).exits(1);
    let silent = finding(&silent, "agent-silent");
    assert_eq!(silent["fix"], format!("kill {}, then tokenkeep agent start", std::process::id()));
    assert!(silent["detail"].as_str().unwrap().contains("no answer within 5 s"), "{silent:#}");

    drop(listener);
    for (number, answer) in
        ["", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"].into_iter().enumerate()
    {
        let socket = place(&world, &number.to_string(), 0o700);
        listen(&socket, answer.to_owned());
        let strange = doctor(&world, &["--json"], &[("TOKENKEEP_SOCK", &socket)]).exits(1);
        assert_eq!(finding(&strange, "agent-silent")["fix"], silent["fix"], "{answer:?}");
    }
}

#[test]
fn an_agent_of_another_version_is_told() {
    let world = World::plaintext();
    let ours = concat!("tokenkeep/", env!("CARGO_PKG_VERSION"));
    for (name, agent, protocol) in [("newer", "tokenkeep/99.0.0", 1), ("ahead", ours, 2)] {
        let socket = place(&world, name, 0o700);
        let hello = json!({"protocol": protocol, "agent": agent, "pid": 7, "state": "dozing"}).to_string();
        listen(&socket, format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{hello}", hello.len()));
        let told = doctor(&world, &["--json"], &[("TOKENKEEP_SOCK", &socket)]).exits(1);
        let told = finding(&told, "agent-other-version");
        assert!(told["detail"].as_str().unwrap().contains(agent), "{told:#}");
    }
}

#[test]
fn a_socket_that_could_be_anybodys_or_nobodys_is_told_with_the_next_step() {
    let world = World::plaintext();
    let told = |socket: &Path, id: &str| {
        finding(&doctor(&world, &["--json"], &[("TOKENKEEP_SOCK", socket)]).exits(1), id)
    };
    let open = place(&world, "open", 0o777);
    let _listener = UnixListener::bind(&open).unwrap();
    let refused = told(&open, "agent-socket-refused");
    assert!(refused["fix"].as_str().unwrap().contains("chmod 700"), "{refused:#}");

    let foreign = place(&world, "foreign", 0o700);
    let _listener = UnixListener::bind(&foreign).unwrap();
    chown(&foreign, Some(54321), None).unwrap();
    let file = place(&world, "file", 0o700);
    fs::write(&file, "").unwrap();
    let link = place(&world, "link", 0o700);
    symlink(&file, &link).unwrap();
    let linked = world.home().join("linked");
    symlink(file.parent().unwrap(), &linked).unwrap();
    for (socket, why) in [
        (foreign, "belongs to user 54321"),
        (file, "no socket"),
        (link, "it is a link"),
        (linked.join("agent.sock"), "its folder is a link"),
        (PathBuf::from("agent.sock"), "absolute path"),
    ] {
        let refused = told(&socket, "agent-socket-refused");
        assert!(refused["detail"].as_str().unwrap().contains(why), "{refused:#}");
        assert_eq!(refused["repairable"], false);
    }
    for missing in ["none.sock", "none/agent.sock"] {
        let missing = told(&world.home().join(missing), "agent-socket-missing");
        assert_eq!(missing["fix"], "tokenkeep agent start, or: unset TOKENKEEP_SOCK");
    }
}
