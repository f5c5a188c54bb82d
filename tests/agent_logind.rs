//! The agent locks when the machine sleeps and when the screen is locked, where logind says so.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use emulator::{Answer, Script, USER_ONE};
use rustix::process::getuid;
use serde_json::{Value, json};

use crate::support::{
    Agent, GRAPH, SCOPE, World, found, found_in, names, post, proofs, read_reply, report, repository, run,
    secrets_of, until,
};

/// python-dbusmock's logind on a bus of its own; `tests/support/logind.py` says what it understands.
struct Logind {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    address: String,
}

impl Logind {
    /// With session 1, which is this user's, and session 2 of somebody else.
    fn of(world: &World) -> Self {
        let mut child = Command::new(repository().join("tests/support/logind.py"))
            .arg(world.home())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut logind = Self { child, orders, answers, address: String::new() };
        logind.address = serde_json::from_value(logind.answer()).unwrap();
        logind.tell("session 2 54321");
        logind.tell(&format!("session 1 {}", getuid().as_raw()));
        logind
    }

    fn tell(&mut self, order: &str) -> Value {
        writeln!(self.orders.as_ref().unwrap(), "{order}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("logind.py: {error}: {line:?}"))
    }

    /// An agent on this bus. One that locks on a suspend is ready to.
    fn agent(&mut self, world: &World, args: &[&str]) -> Agent {
        let mut command = world.command(&[&["agent", "-vv"], args].concat());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &self.address);
        let agent = Agent::start(&mut command, &world.agent_socket());
        if !args.contains(&"--no-lock-on-suspend") {
            self.wait_for_inhibitors(1);
        }
        agent
    }

    fn wait_for_inhibitors(&mut self, count: usize) {
        until("so many hold it up", || self.tell("inhibitors").as_array().unwrap().len() == count);
    }
}

impl Drop for Logind {
    fn drop(&mut self) {
        // It ends with its orders, and everything that it started.
        drop(self.orders.take());
        self.child.wait().ok();
    }
}

fn wait_until_locked(agent: &Agent) -> Value {
    found("it is locked", || {
        let reply = agent.try_get("/v1/status").ok()?;
        (reply.body["state"] == "locked").then(|| reply.body["locked_because"].clone())
    })
}

#[test]
fn before_the_machine_sleeps_nothing_is_left_in_memory() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let token = world.run(&["token", "--scope", SCOPE]).ok().token();
    let secrets = secrets_of(&world, &token);
    let mut logind = Logind::of(&world);
    let agent = logind.agent(&world, &[]);
    assert_eq!(agent.status()["locked_because"], json!(null));
    let rounds = proofs(40);
    for _ in 0..rounds {
        world.run(&["token", "--scope", SCOPE]).ok();
        assert_eq!(found_in(agent.pid(), &secrets), names(&secrets), "or looking would prove nothing");
        let inhibitors = logind.tell("inhibitors");
        assert_eq!(inhibitors, json!([["sleep", "tokenkeep", "Tokens are wiped from memory", "delay"]]));

        // Somebody has not yet sent all of a request: a farewell that takes its time.
        let mut half = agent.connect();
        half.write_all(b"POST /v1/token HTTP/1.1\r\n").unwrap();
        logind.tell("suspend");
        // As soon as nothing puts it off the machine sleeps, with what is in memory then.
        logind.wait_for_inhibitors(0);
        let command_line = std::fs::read(format!("/proc/{}/cmdline", agent.pid())).unwrap();
        assert!(command_line.ends_with(b"}\0"), "it has begun anew");
        let is_on_the_bus = logind.tell(&format!("spoof 1 {}", agent.pid()));
        assert_eq!(is_on_the_bus, false, "locked it has nothing to listen to");
        assert_eq!(found_in(agent.pid(), &secrets), BTreeSet::new());
        logind.tell("resume");
        assert_eq!(wait_until_locked(&agent), "suspend");
        assert!(world.run(&["agent", "status"]).ok().stdout.contains(", locked for a suspend, "));
        assert_eq!(logind.tell("inhibitors"), json!([]), "locked there is nothing to wait for");
        world.run(&["token", "--scope", SCOPE]).exits(7);

        world.run(&["agent", "unlock"]).ok();
        logind.wait_for_inhibitors(1);
    }
    report("agent-logind", &format!("agent: {rounds} suspends, secrets in memory once they go on: 0"));
}

/// What happens where the real logind is; each line that begins with a name and a colon is looked at.
const REAL: &str = r#"
say() { printf '%s: ' "$1"; shift; "$@" | tr '\n' ' '; echo; }
"$PROGRAM" agent 2>"$HOME/said" &
echo $! >"$HOME/pid"
until systemd-inhibit --list --no-pager --no-legend | grep -q tokenkeep; do
    kill -0 "$(cat "$HOME/pid")"
done
# Somebody has not yet sent all of a request: a farewell that takes its time.
/usr/bin/python3 -c '
import os, signal, socket
half = socket.socket(socket.AF_UNIX)
half.connect(os.environ["TOKENKEEP_SOCK"])
half.sendall(b"POST /v1/token HTTP/1.1\r\n")
open(os.environ["HOME"] + "/half", "w")
signal.pause()
' &
until [ -e "$HOME/half" ]; do kill -0 $!; done
say held systemd-inhibit --list --no-pager --no-legend
busctl --address="$DBUS_SYSTEM_BUS_ADDRESS" call org.freedesktop.login1 /org/freedesktop/login1 \
    org.freedesktop.login1.Manager Suspend b false
until [ -s "$HOME/asleep" ]; do kill -0 "$(cat "$HOME/pid")"; done
say asleep cat "$HOME/asleep"
say released systemd-inhibit --list --no-pager --no-legend
say status "$PROGRAM" agent status --json
"#;

#[test]
fn the_real_logind_has_the_machine_sleep_once_the_agent_has_begun_anew() {
    let world = World::plaintext();
    let mut real = Command::new(repository().join("tests/support/real-logind"));
    real.arg(world.home()).args(["sh", "-ec", REAL]);
    real.env("HOME", world.home()).env("PROGRAM", env!("CARGO_BIN_EXE_tokenkeep"));
    real.env("TOKENKEEP_STORE", "plaintext").env("TOKENKEEP_SOCK", world.home().join("agent.sock"));
    let real = run(&mut real).ok();
    let said = |name: &str| {
        let line = real.stdout.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name}: {real:?}")).trim()
    };
    let held: Vec<&str> = said("held").split_whitespace().collect();
    assert!(held[0] == "tokenkeep" && held.contains(&"sleep") && held.contains(&"delay"), "{held:?}");
    assert!(said("asleep").starts_with("suspend.target: "), "{real:?}");
    assert!(said("asleep").ends_with('}'), "it had not begun anew: {real:?}");
    assert_eq!(said("released"), "");
    let status: Value = serde_json::from_str(said("status")).unwrap();
    assert_eq!((&status["state"], &status["locked_because"]), (&json!("locked"), &json!("suspend")));
}

#[test]
fn an_agent_that_is_unlocked_while_the_machine_falls_asleep_locks_again() {
    let world = World::plaintext();
    let mut logind = Logind::of(&world);
    let agent = logind.agent(&world, &[]);
    logind.tell("suspend");
    assert_eq!(wait_until_locked(&agent), "suspend");
    world.run(&["agent", "lock"]).ok();
    logind.tell("suspending true");
    world.run(&["agent", "unlock"]).ok();
    assert_eq!(wait_until_locked(&agent), "suspend");
    logind.wait_for_inhibitors(0);
}

#[test]
fn a_provider_that_hangs_does_not_keep_the_machine_awake() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let mut logind = Logind::of(&world);
    for lock_first in [false, true] {
        let agent = logind.agent(&world, &[]);
        let kind = "token.refresh_token";
        world.emulator.script(Script::once(Answer::Normal).kind(kind).held());
        let mut asking = agent.connect();
        let mut ask = world.agent_question();
        ask["scopes"] = json!([GRAPH]);
        ask["force_refresh"] = json!(true);
        asking.write_all(post("/v1/token", &ask).as_bytes()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(world.emulator.wait_for(kind, 1 + usize::from(lock_first)));
        let mut locking = agent.connect();
        if lock_first {
            locking.write_all(post("/v1/lock", &json!({})).as_bytes()).unwrap();
            until("it is locked", || agent.get("/v1/hello").ok()["state"] == "locked");
        }
        logind.tell("suspend");
        logind.wait_for_inhibitors(0);
        if lock_first {
            read_reply(&mut locking).ok();
        }
        let because = if lock_first { "asked" } else { "suspend" };
        assert_eq!(wait_until_locked(&agent), because);
        world.emulator.release();
        agent.terminate();
        let (code, said) = agent.ended();
        assert_eq!(code, Some(0));
        let waited = if lock_first { "the machine did not wait for a provider" } else { "in 2s" };
        assert!(said.contains(waited), "{said}");
    }
}

#[test]
fn a_locked_screen_of_this_user_locks_and_nobody_elses_does() {
    let world = World::plaintext();
    let mut logind = Logind::of(&world);
    for (order, args) in [("lock 1", &[][..]), ("hint 1 true", &[]), ("lock 1", &["--no-lock-on-suspend"])] {
        let agent = logind.agent(&world, args);
        // It has looked at the first one before it asks about the second.
        logind.tell("asked 2");
        logind.tell("asked 2");
        logind.tell("hint 1 false");
        assert_eq!(logind.tell(&format!("spoof 1 {}", agent.pid())), true);
        logind.tell("asked 2");
        assert_eq!(agent.status()["state"], "unlocked");

        logind.tell(order);
        assert_eq!(wait_until_locked(&agent), "session_lock");
        logind.wait_for_inhibitors(0);
        drop(agent);
        logind.tell("hint 1 false");
    }
}

#[test]
fn who_does_not_want_that_is_not_locked() {
    let world = World::plaintext();
    let mut logind = Logind::of(&world);
    let agent = logind.agent(&world, &["--no-lock-on-session-lock"]);
    logind.tell("lock 1");
    logind.tell("hint 1 true");
    logind.tell("suspend");
    assert_eq!(wait_until_locked(&agent), "suspend");
    drop(agent);

    let neither = ["--no-lock-on-session-lock", "--no-lock-on-suspend"];
    let agent = logind.agent(&world, &neither);
    logind.tell("suspend");
    logind.tell("lock 1");
    assert_eq!(logind.tell(&format!("spoof 1 {}", agent.pid())), false, "it is not on the bus at all");
    assert_eq!(agent.status()["state"], "unlocked");
}

#[test]
fn a_session_that_is_locked_already_locks_an_agent_that_starts_and_not_one_that_somebody_unlocks() {
    let world = World::plaintext();
    let file = world.places().config.join("tokenkeep").join("config.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let mut logind = Logind::of(&world);
    logind.tell("hint 2 true");
    logind.tell("hint 1 true");
    for args in [&["agent", "-vv", "--no-lock-on-session-lock"][..], &["agent", "-vv"]] {
        let mut command = world.command(args);
        let agent =
            Agent::start(command.env("DBUS_SYSTEM_BUS_ADDRESS", &logind.address), &world.agent_socket());
        if args.len() > 2 {
            logind.wait_for_inhibitors(1);
            assert_eq!(agent.status()["state"], "unlocked", "it is not wanted");
            continue;
        }
        assert_eq!(wait_until_locked(&agent), "session_lock");
        world.run(&["agent", "unlock"]).ok();
        logind.wait_for_inhibitors(1);
        // It has looked at all of them before it asks about one.
        logind.tell("asked 2");
        assert_eq!(agent.status()["state"], "unlocked", "whoever unlocks it means it");
        // Nor does it lock when it begins to listen once more, unless another one is locked by then.
        for (text, inhibitors) in [("[agent]\nlock_on_suspend = false\n", 0), ("", 1)] {
            std::fs::write(&file, text).unwrap();
            logind.wait_for_inhibitors(inhibitors);
        }
        logind.tell("asked 2");
        assert_eq!(agent.status()["state"], "unlocked", "it is the same session");
        logind.tell("down");
        logind.tell("up");
        logind.tell(&format!("session 3 {}", getuid().as_raw()));
        logind.tell("hint 3 true");
        assert_eq!(wait_until_locked(&agent), "session_lock");
    }
}

#[test]
fn what_it_locks_on_is_as_the_file_says_now() {
    let world = World::plaintext();
    let file = world.places().config.join("tokenkeep").join("config.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "[agent]\nlock_on_session_lock = false\nlock_on_suspend = false\n").unwrap();
    let mut logind = Logind::of(&world);
    let agent = logind.agent(&world, &["--no-lock-on-suspend"]);
    std::fs::write(&file, "[agent]\nlock_on_session_lock = true\n").unwrap();
    logind.tell("asked 2");
    assert_eq!(logind.tell("inhibitors"), json!([]), "the option says no");
    drop(agent);

    std::fs::write(&file, "[agent]\nlock_on_session_lock = false\nlock_on_suspend = false\n").unwrap();
    let mut command = world.command(&["agent", "-vv"]);
    let command = command.env("DBUS_SYSTEM_BUS_ADDRESS", &logind.address);
    let agent = Agent::start(command, &world.agent_socket());
    logind.tell("suspend");
    assert_eq!(agent.status()["state"], "unlocked");
    std::fs::write(&file, "").unwrap();
    logind.wait_for_inhibitors(1);
    std::fs::write(&file, "[agent]\nlock_on_suspend = false\n").unwrap();
    logind.wait_for_inhibitors(0);
    std::fs::write(&file, "[agent]\nlock_on_session_lock = false\n").unwrap();
    logind.wait_for_inhibitors(1);
    logind.tell("lock 1");
    logind.tell("suspend");
    assert_eq!(wait_until_locked(&agent), "suspend");
}

#[test]
fn a_session_that_is_gone_before_anybody_asks_whose_it_was_opens_no_gap() {
    let world = World::plaintext();
    let mut logind = Logind::of(&world);
    let agent = logind.agent(&world, &[]);
    logind.tell("asked 2");
    logind.tell(&format!("session 3 {}", getuid().as_raw()));
    logind.tell("gone 3");
    logind.tell("suspend");
    assert_eq!(wait_until_locked(&agent), "suspend");
    agent.terminate();
    let (code, said) = agent.ended();
    assert_eq!((code, said.matches("heard of for now").count()), (Some(0), 0), "{said}");
}

#[test]
fn a_bus_that_comes_after_the_agent_is_found() {
    let world = World::plaintext();
    let mut logind = Logind::of(&world);
    logind.tell("down");
    let mut command = world.command(&["agent", "-vv"]);
    let command = command.env("DBUS_SYSTEM_BUS_ADDRESS", &logind.address);
    let agent = Agent::start(command, &world.agent_socket());
    logind.tell("up");
    logind.wait_for_inhibitors(1);
    logind.tell("suspend");
    assert_eq!(wait_until_locked(&agent), "suspend");
}

#[test]
fn without_a_bus_or_when_it_dies_the_agent_goes_on() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let served = |agent: &Agent| agent.token(&world, &json!({"scopes": [SCOPE]})).ok();
    let agent = Agent::start(
        world.command(&["agent", "-vv"]).env("DBUS_SYSTEM_BUS_ADDRESS", "nonsense"),
        &world.agent_socket(),
    );
    served(&agent);
    agent.terminate();
    let (code, said) = agent.ended();
    assert_eq!(code, Some(0));
    assert_eq!(said.matches(" DEBUG ").count(), 1, "{said}");

    let mut logind = Logind::of(&world);
    let agent = logind.agent(&world, &[]);
    logind.tell("down");
    served(&agent);
    logind.tell("up");
    logind.tell(&format!("session 1 {}", getuid().as_raw()));
    logind.wait_for_inhibitors(1);
    served(&agent);
    logind.tell("suspend");
    assert_eq!(wait_until_locked(&agent), "suspend");
}
