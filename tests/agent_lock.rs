//! A locked agent has nothing left, serves nobody, and is not gone round.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use emulator::{Answer, Script, USER_ONE, USER_TWO};
use rustix::process::Signal;
use serde_json::json;
use tokenkeep::agent_client::AgentClient;
use tokenkeep::agent_client::protocol::State;
use tokenkeep::credential::TokenCredential as _;
use tokenkeep::{Error, TokenSource};

use crate::support::{
    Agent, GRAPH, Manager, Run, SCOPE, Stopped, World, found, found_in, names, post, proofs, read_reply,
    report, repository, request, run, secrets_of, touching, until,
};

const PASSPHRASE: &str = "correct horse battery staple, and a zebra";

#[test]
fn after_a_lock_no_secret_is_anywhere_in_memory() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let token = world.run(&["token", "--scope", SCOPE]).ok().token();
    let secrets = secrets_of(&world, &token);
    let agent = Agent::of(&world);
    let rounds = proofs(40);
    for _ in 0..rounds {
        assert_eq!(world.run(&["token", "--scope", SCOPE, "--json"]).ok().json()["token"], token);
        assert_eq!(found_in(agent.pid(), &secrets), names(&secrets), "or looking would prove nothing");
        assert_eq!(world.run(&["agent", "lock", "--json"]).ok().json()["state"], "locked");
        assert_eq!(found_in(agent.pid(), &secrets), BTreeSet::new());
        let command_line = std::fs::read(format!("/proc/{}/cmdline", agent.pid())).unwrap();
        assert!(command_line.ends_with(b"}\0"), "what is wiped is not all: it has to begin anew");
        world.run(&["agent", "unlock"]).ok();
    }
    report("agent-lock", &format!("agent: {rounds} locks, secrets found in memory afterwards: 0"));
}

/// The data key of the vault, as another program finds it that knows the passphrase.
fn data_key(vault: &Path) -> Vec<u8> {
    const READER: &str = r#"
import sys
sys.path.insert(0, sys.argv[1])
import vault_reader
class Epoch(vault_reader.Epoch):
    def __init__(self, vault_id, number, data):
        print(data.hex())
        super().__init__(vault_id, number, data)
vault_reader.Epoch = Epoch
vault_reader.Vault(sys.argv[2], sys.argv[3].encode())
"#;
    let python = repository().join(".deps/pyenv-vault/bin/python");
    let mut reader = Command::new(python);
    let read = run(reader.args(["-c", READER]).arg(repository().join("tests")).arg(vault).arg(PASSPHRASE));
    let hexadecimal = read.ok().stdout.lines().next().unwrap().to_owned();
    let digits = |at: usize| u8::from_str_radix(&hexadecimal[at..at + 2], 16).unwrap();
    (0..hexadecimal.len()).step_by(2).map(digits).collect()
}

/// A world whose vault opens by nothing but a passphrase, which nobody keeps.
fn with_a_passphrase() -> World {
    let world = World::vault();
    knowing(&world, &["vault", "init", "--protector", "passphrase", "--no-recovery-key"], PASSPHRASE).ok();
    world.emulator.approve(USER_ONE);
    knowing(&world, &["login", "--device-code", "--scope", SCOPE], PASSPHRASE).ok();
    world
}

/// Runs the command where a file has the passphrase.
fn knowing(world: &World, args: &[&str], passphrase: &str) -> Run {
    let file = world.home().join("passphrase");
    std::fs::write(&file, passphrase).unwrap();
    let done = run(world.command(args).env("TOKENKEEP_PASSPHRASE_FILE", &file));
    std::fs::remove_file(&file).unwrap();
    done
}

/// How many kB of the process are never written to the swap.
fn kept_in_memory(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    locked.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_vaults_passphrase_opens_the_agent_and_neither_it_nor_the_key_outlives_a_lock() {
    let world = with_a_passphrase();
    let agent = Agent::of(&world);
    // It has no way in yet, and says so; its clients have none either.
    assert_eq!(agent.token(&world, &json!({"scopes": [SCOPE]})).kind(), "vault_locked");
    world.run(&["token", "--scope", SCOPE]).exits(7);

    knowing(&world, &["agent", "unlock"], PASSPHRASE).ok();
    let answer = world.run(&["token", "--scope", SCOPE, "--json"]).ok().json();
    assert_eq!(answer["source"], "agent");
    let secrets = vec![
        ("access token", answer["token"].as_str().unwrap().as_bytes().to_vec()),
        ("data key", data_key(&world.places().vault())),
        ("passphrase", PASSPHRASE.as_bytes().to_vec()),
    ];
    let before = found_in(agent.pid(), &secrets);
    assert!(before.contains("access token") && before.contains("data key"), "{before:?}");
    assert!(kept_in_memory(agent.pid()) > 0, "the key stays out of the swap");

    world.run(&["agent", "lock"]).ok();
    assert_eq!(found_in(agent.pid(), &secrets), BTreeSet::new());
    let refused = world.run(&["agent", "unlock", "--json"]).exits(7).json();
    assert_eq!(refused["error"]["kind"], "vault_locked");
    world.run(&["token", "--scope", SCOPE]).exits(7);
    knowing(&world, &["agent", "unlock"], PASSPHRASE).ok();
    assert_eq!(world.run(&["token", "--scope", SCOPE, "--json"]).ok().json()["source"], "agent");
}

#[test]
fn a_wrong_passphrase_is_told_apart_and_many_of_them_have_to_wait() {
    let world = with_a_passphrase();
    let agent = Agent::of(&world);
    world.run(&["agent", "lock"]).ok();
    let long = "x".repeat(4_097);
    let refused = agent.post("/v1/unlock", &json!({"passphrase": long}));
    assert_eq!((refused.status, refused.kind()), (400, "invalid_argument"));
    let kinds: Vec<String> = (0..8)
        .map(|_| agent.post("/v1/unlock", &json!({"passphrase": "a guess"})))
        .map(|refused| refused.kind().to_owned())
        .collect();
    assert_eq!(kinds[..3], ["vault_wrong_secret"; 3], "{kinds:?}");
    assert!(kinds[3..].contains(&"unlock_too_soon".to_owned()), "{kinds:?}");
    // By now it is some seconds, and the right one has to wait, too.
    let early = found("the next guess is too soon", || {
        let early = knowing(&world, &["agent", "unlock", "--json"], "another guess").exits(7).json();
        (early["error"]["kind"] == "unlock_too_soon").then_some(early)
    });
    assert!(early["error"]["hint"].as_str().unwrap().starts_with("try again in"), "{early}");
    let refused = agent.post("/v1/unlock", &json!({"passphrase": PASSPHRASE}));
    assert_eq!((refused.status, refused.kind()), (429, "unlock_too_soon"));
    assert!(refused.body["error"]["detail"]["retry_after"].as_u64().unwrap() > 0);
    assert_eq!(agent.get("/v1/hello").ok()["state"], "locked");
}

#[test]
fn whoever_asks_a_locked_agent_is_refused_and_nobody_goes_round_it() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    world.login(USER_TWO, &[]);
    let agent = Agent::of(&world);
    let client = AgentClient::at(world.agent_socket())
        .authority(&tokenkeep::Authority::parse(&world.emulator.authority()).unwrap())
        .disable_instance_discovery(true)
        .account(USER_ONE)
        .cache_persistence_options(&world.persistence());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(client.lock()).unwrap();
    // Twice is no mistake, and does no more.
    world.run(&["agent", "lock"]).ok();
    for path in ["/v1/token", "/v1/accounts"] {
        let refused = agent.post(path, &world.agent_question());
        assert_eq!((refused.status, refused.kind()), (423, "locked"));
    }
    for command in [
        &["token", "--scope", SCOPE, "--account", USER_ONE][..],
        &["token", "--scope", SCOPE, "--account", USER_TWO, "--force-refresh"],
        &["accounts"],
    ] {
        let refused = world.run(&[command, &["--json"]].concat()).exits(7).json();
        assert_eq!(refused["error"]["kind"], "locked", "{command:?}");
    }
    let error = runtime.block_on(client.get_token(&request(SCOPE))).unwrap_err();
    assert!(matches!(&error, Error::Relayed(_)) && error.kind() == "locked", "{error:?}");
    assert!(!error.moves_chain_on(), "a chain would go round it");
    let status = agent.status();
    assert_eq!((&status["state"], &status["caches"]), (&json!("locked"), &json!([])));
    assert!(world.run(&["agent", "status"]).ok().stdout.contains(", locked, "));

    runtime.block_on(client.unlock(None)).unwrap();
    let token = runtime.block_on(client.get_token(&request(SCOPE))).unwrap();
    assert_eq!(token.source, TokenSource::Agent);
}

/// A client that waits for a new token, whose provider has the question and answers when it is released.
fn asking_a_provider_that_waits(world: &World, agent: &Agent) -> UnixStream {
    let kind = "token.refresh_token";
    world.emulator.script(Script::once(Answer::Normal).kind(kind).held());
    let mut asking = agent.connect();
    let mut ask = world.agent_question();
    ask["scopes"] = json!([GRAPH]);
    std::io::Write::write_all(&mut asking, post("/v1/token", &ask).as_bytes()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(world.emulator.wait_for(kind, 1));
    asking
}

#[test]
fn a_lock_saves_what_the_provider_owes_and_keeps_the_process_and_its_socket() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let agent = Agent::of(&world);
    let _asking = asking_a_provider_that_waits(&world, &agent);
    // Half a request of somebody else's does not hold it up.
    let mut half = agent.connect();
    std::io::Write::write_all(&mut half, b"POST /v1/token HTTP/1.1\r\n").unwrap();

    let mut locking = agent.connect();
    std::io::Write::write_all(&mut locking, post("/v1/lock", &json!({})).as_bytes()).unwrap();
    // Already while it waits for the provider nobody is served.
    until("it is locked", || agent.get("/v1/hello").ok()["state"] == "locked");
    assert_eq!(agent.token(&world, &json!({"scopes": [SCOPE]})).kind(), "locked");
    assert_eq!(agent.post("/v1/unlock", &json!({})).kind(), "locked", "not before it is done");
    world.emulator.release();
    assert_eq!(read_reply(&mut locking).ok()["state"], "locked");
    assert_eq!(agent.get("/v1/hello").ok()["pid"], agent.pid());
    assert!(world.scopes().iter().any(|scopes| scopes.contains("User.Read")), "{:?}", world.scopes());
    let name = std::fs::read_to_string(format!("/proc/{}/comm", agent.pid())).unwrap();
    assert_eq!(name, "tokenkeep\n");
    assert_eq!(world.run(&["agent", "--json"]).exits(1).json()["error"]["kind"], "agent_already_running");

    agent.terminate();
    assert_eq!(agent.ended().0, Some(0));
    assert!(!world.agent_socket().exists(), "it removes what it made before it was locked");
}

#[test]
fn an_end_that_is_wanted_during_a_lock_waits_for_what_the_provider_owes() {
    for by_signal in [false, true] {
        let world = World::plaintext();
        world.login(USER_ONE, &[]);
        let manager = Manager::of(&world);
        let agent = Agent::start(manager.runs(&mut world.command(&["agent"])), &world.agent_socket());
        assert_eq!(manager.next(), "READY=1");
        let asking = asking_a_provider_that_waits(&world, &agent);
        let mut locking = agent.connect();
        std::io::Write::write_all(&mut locking, post("/v1/lock", &json!({})).as_bytes()).unwrap();
        until("it is locked", || agent.get("/v1/hello").ok()["state"] == "locked");
        // Nobody is left who waits for an answer; the refresh token is renewed all the same.
        drop((asking, locking));
        if by_signal {
            agent.terminate();
        } else {
            assert_eq!(agent.post("/v1/shutdown", &json!({})).ok()["state"], "locked");
        }
        assert_eq!(manager.next(), "STOPPING=1");
        world.emulator.release();
        let (code, said) = agent.ended();
        assert_eq!(code, Some(0), "{said}");
        assert!(world.scopes().iter().any(|scopes| scopes.contains("User.Read")), "{:?}", world.scopes());
        assert!(!world.agent_socket().exists(), "it has not begun anew");
    }
}

#[test]
fn it_locks_by_itself_and_shows_when() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let client = AgentClient::at(world.agent_socket());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = |limit: &str| {
        let mut command = world.command(&["agent", limit]);
        Agent::start(&mut command, &world.agent_socket())
    };
    let agent = start("--lock-after=1h");
    let left = agent.status()["locks_in_seconds"].as_u64().unwrap();
    assert!((3_500..=3_600).contains(&left), "{left}");
    drop(agent);
    for limit in ["--lock-after=1s", "--lock-after-idle=1s"] {
        let agent = start(limit);
        // While it lets go of its connections some of the questions break off.
        until("it is locked", || {
            runtime.block_on(client.hello()).is_ok_and(|hello| hello.state == State::Locked)
        });
        world.run(&["token", "--scope", SCOPE]).exits(7);
        let command_line = || std::fs::read(format!("/proc/{}/cmdline", agent.pid())).unwrap();
        until("it begins anew, with another command line", || command_line().ends_with(b"}\0"));
    }
    for limit in ["--lock-after=0s", "--lock-after-idle=soon"] {
        world.run(&["agent", limit]).exits(2);
        world.run(&["agent", "start", limit]).exits(2);
    }
    let unlimited = Agent::of(&world);
    assert_eq!(unlimited.status()["locks_in_seconds"], json!(null));
}

#[test]
fn who_wants_it_to_end_in_the_instant_before_it_begins_anew_is_heard() {
    let world = World::plaintext();
    let mut lock = world.agent_socket().into_os_string();
    lock.push(".lock");
    let command = world.command(&["agent", "--lock-after=1s"]);
    // The last thing that it does in its old life is to leave this file open for the new one.
    let mut agent = Stopped::at("fcntl", &command, &touching(&[lock.into()]));
    agent.send(Signal::TERM);
    agent.send(Signal::CONT);
    let ended = found("its end", || {
        let command_line = std::fs::read(format!("/proc/{}/cmdline", agent.pid())).unwrap_or_default();
        if command_line.ends_with(b"}\0") {
            agent.send(Signal::KILL);
            panic!("it began anew");
        }
        agent.end()
    });
    // Only another thread may have been faster with the signal than the one that would have begun anew.
    assert!(ended.success() || ended.signal() == Some(Signal::TERM.as_raw()), "{ended:?}");
}

/// Another user than the one who runs the tests, who may look into every process.
const SOMEBODY: &str = "54322";

fn as_somebody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", SOMEBODY, "--regid", SOMEBODY, "--clear-groups"]).arg(program);
    command
}

/// A program of somebody's that is ready for everything: its core may be dumped into the folder.
fn dumping(program: &Path, folder: &Path) -> Command {
    let mut command = as_somebody(Path::new("/bin/sh"));
    command.args(["-c", r#"ulimit -c unlimited && cd "$1" && shift && exec "$@""#, "sh"]);
    command.arg(folder).arg(program);
    command
}

fn as_somebody_reads(path: &str) -> bool {
    let mut command = as_somebody(Path::new("/bin/cat"));
    command
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

#[test]
fn neither_another_program_of_the_user_nor_a_core_dump_gets_the_memory() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("work");
    std::fs::create_dir(&folder).unwrap();
    for place in [home.path(), &folder] {
        std::os::unix::fs::chown(place, Some(54_322), Some(54_322)).unwrap();
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    // Somebody has to be able to run it.
    let program = home.path().join("tokenkeep");
    std::fs::copy(env!("CARGO_BIN_EXE_tokenkeep"), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = home.path().join("agent.sock");
    let core_dumps = || {
        let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name());
        files.filter(|name| name.to_string_lossy().starts_with("core")).count()
    };
    let abort = |pid: u32| {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::ABORT).unwrap();
    };

    // An ordinary program of the same user gives all this away, or the agent's refusal would prove nothing.
    let mut plain = dumping(Path::new("/bin/sleep"), &folder).arg("600").spawn().unwrap();
    let name = || std::fs::read_to_string(format!("/proc/{}/comm", plain.id())).unwrap();
    until("it sleeps", || name() == "sleep\n");
    assert!(as_somebody_reads(&format!("/proc/{}/environ", plain.id())));
    abort(plain.id());
    assert!(plain.wait().unwrap().core_dumped(), "set core_pattern to a file's name");
    assert_eq!(core_dumps(), 1);

    for is_locked in [false, true] {
        let mut command = dumping(&program, &folder);
        command.arg("agent").env_clear().env("HOME", home.path()).env("PATH", "/usr/bin:/bin");
        let mut agent = Agent::start(command.env("TOKENKEEP_SOCK", &socket), &socket);
        if is_locked {
            let mut lock = as_somebody(&program);
            run(lock.args(["agent", "lock"]).env("HOME", home.path()).env("TOKENKEEP_SOCK", &socket)).ok();
        }
        let process = format!("/proc/{}", agent.pid());
        for file in ["environ", "maps", "mem", "auxv"] {
            assert!(!as_somebody_reads(&format!("{process}/{file}")), "{file}");
        }
        let limits = std::fs::read_to_string(format!("{process}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
        abort(agent.pid());
        assert!(!agent.child.wait().unwrap().core_dumped());
        assert_eq!(core_dumps(), 1);
    }
}
