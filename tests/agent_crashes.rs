//! An agent that is killed at any instant has lost nothing that it acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use emulator::USER_ONE;
use serde_json::{Value, json};
use tokenkeep::time::Deadline;

use crate::support::{Agent, SCOPE, World, fake_sign_in, post, proofs, report, scope_of};

/// A kill comes within so long of an agent's first refresh: some more and some writes later.
const LONGEST_LIFE: Duration = Duration::from_millis(60);

/// What is looked at after each kill grows with them, so that a home sees no more.
const KILLS_OF_A_HOME: usize = 100;

#[test]
fn killed_at_any_instant_it_has_lost_nothing_that_it_acknowledged() {
    let kills = proofs(1_000);
    let (mut acknowledged, mut written) = (0, 0);
    for first in (0..kills).step_by(KILLS_OF_A_HOME) {
        let kept = kill_again_and_again((kills - first).min(KILLS_OF_A_HOME));
        acknowledged += kept.0;
        written += kept.1;
    }
    report(
        "agent-kills",
        &format!(
            "agent: killed {kills} times during refreshes and writes; tokens acknowledged and still there: \
             {acknowledged}, logins of another writer: {written}"
        ),
    );
}

/// How many tokens were acknowledged and how many logins written, all of which are there.
fn kill_again_and_again(kills: usize) -> (usize, usize) {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
    let (mut written, mut latest_used) = (0, 0);
    for kill in 0..kills {
        world.emulator.reset_log();
        let mut agent = Agent::of(&world);
        // At once: what was there before the last kill is there, and nobody was asked for it.
        assert_eq!(
            agent.token(&world, &json!({"scopes": [SCOPE], "account": USER_ONE})).ok()["found"],
            "cache"
        );
        assert_eq!(world.emulator.count("token"), 0);
        let done = AtomicBool::new(false);
        let (first, acknowledged_one) = mpsc::channel();
        let (tokens, writes) = std::thread::scope(|scope| {
            let refreshing = scope.spawn(|| refresh_until_it_dies(&world, &agent.socket, kill, first));
            let writing = scope.spawn(|| write_until(&world, written, &done));
            acknowledged_one.recv().unwrap();
            let longest = u32::try_from(LONGEST_LIFE.as_micros()).unwrap();
            let life = getrandom::u32().unwrap() % longest;
            // the one thing here that is left to chance
            std::thread::sleep(Duration::from_micros(life.into()));
            let pid = rustix::process::Pid::from_raw(i32::try_from(agent.pid()).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            let tokens = refreshing.join().unwrap();
            done.store(true, Ordering::Relaxed);
            (tokens, writing.join().unwrap())
        });
        agent.child.wait().unwrap();
        // The refresh token that was tried first is no older than the last one that brought an answer.
        let used: Vec<u64> = world.emulator.log().iter().filter_map(|entry| entry.refresh_token).collect();
        assert!(used[0] > latest_used || kill == 0, "{used:?} after {latest_used}");
        latest_used = used[tokens.len() - 1];
        written += writes;
        acknowledged.extend(tokens);
        let document = world.document();
        assert_eq!(lost(&document, &acknowledged), [""; 0], "kill {kill}");
        let scopes: BTreeSet<String> = world.scopes().into_iter().collect();
        for index in 0..written {
            assert!(scopes.contains(&scope_of("w", index)), "another program's login was lost");
        }
    }
    (acknowledged.len(), written)
}

/// Gets tokens for ever new scopes, one after the other; those that were acknowledged.
fn refresh_until_it_dies(
    world: &World,
    socket: &std::path::Path,
    kill: usize,
    first: mpsc::Sender<()>,
) -> Vec<(String, String)> {
    let mut tokens = Vec::new();
    for number in 0.. {
        let scope = format!("https://api.example/kill{kill}/{number}");
        let mut ask = world.agent_question();
        ask["scopes"] = json!([scope]);
        ask["account"] = json!(USER_ONE);
        let Some(answer) = ask_once(socket, &post("/v1/token", &ask)) else { break };
        assert_eq!(answer["found"], "refresh", "{answer}");
        tokens.push((scope, answer["token"].as_str().unwrap().to_owned()));
        first.send(()).ok();
    }
    // Without any it tells whoever waits for the first one.
    drop(first);
    tokens
}

/// The whole answer, or `None` if the agent died first.
fn ask_once(socket: &std::path::Path, request: &str) -> Option<Value> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
}

fn write_until(world: &World, first: usize, done: &AtomicBool) -> usize {
    let mut writes = 0;
    while !done.load(Ordering::Relaxed) && writes < 3 {
        let change = fake_sign_in("w", first + writes);
        world.store().apply(&change, Deadline::within(Duration::from_secs(30))).unwrap();
        writes += 1;
    }
    writes
}

/// Scopes whose acknowledged token is not in the cache.
fn lost(document: &Value, acknowledged: &BTreeMap<String, String>) -> Vec<String> {
    let stored: BTreeMap<&str, &str> = document["AccessToken"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(_, entry)| Some((entry["secret"].as_str()?, entry["target"].as_str()?)))
        .collect();
    let is_lost = |(_, token): &(&String, &String)| !stored.contains_key(token.as_str());
    acknowledged.iter().filter(is_lost).map(|(scope, _)| scope.clone()).collect()
}
