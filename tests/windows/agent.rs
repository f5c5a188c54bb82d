//! One agent for all processes of a user, behind a pipe of theirs.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokenkeep::credential::TokenCredential as _;
use tokenkeep::{Error, Scopes, TokenRequest, TokenSource};

use crate::run::{Run, run};
use crate::world::{Agent, World, scope};

#[test]
fn processes_are_served_through_the_pipe_until_the_agent_is_stopped() {
    let world = World::new();
    world.sign_in();
    let (alone, source) = world.token();
    assert_eq!(source, "cache");
    let agent = Agent::of(&world);
    assert_eq!(world.token(), (alone.clone(), "agent".to_owned()));
    let without =
        run(world.command(&["token", "--scope", &scope(), "--json"]).env("TOKENKEEP_NO_AGENT", "1")).ok();
    assert_eq!(without.json()["source"], "cache");
    assert_eq!(
        world.run(&["accounts", "--json"]).ok().json()["accounts"][0]["username"],
        "one@contoso.example"
    );

    let status = world.run(&["agent", "status", "--json"]).ok().json();
    assert_eq!((&status["state"], &status["socket"]), (&json!("unlocked"), &json!(world.pipe)));
    assert_eq!(status["counters"]["cache_hits"], 1, "{status}");
    assert_eq!(status["counters"]["strangers"], 0, "{status}");
    assert!(status["clients"].as_array().unwrap().iter().all(|client| client["pid"].is_u64()), "{status}");

    let second = world.run(&["agent", "--json"]).exits(1).json();
    assert_eq!(second["error"]["kind"], "agent_already_running");
    let again = world.run(&["agent", "start", "--json"]).ok().json();
    assert_eq!((&again["pid"], &again["changed"]), (&status["pid"], &json!(false)));

    world.run(&["agent", "stop"]).ok();
    let (code, said) = agent.ended();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(world.token(), (alone, "cache".to_owned()));
    let absent = world.run(&["agent", "status", "--json"]).exits(1).json();
    assert_eq!(absent["error"]["kind"], "agent_unreachable");
}

#[test]
fn start_leaves_an_agent_behind() {
    let world = World::new();
    let mut start = world.command(&["agent", "start", "--json"]);
    let started = run(&mut start).ok().json();
    assert_eq!((&started["running"], &started["changed"]), (&json!(true), &json!(true)));
    let status = world.run(&["agent", "status", "--json"]).ok().json();
    assert_eq!(status["pid"], started["pid"]);
    assert_eq!(world.run(&["agent", "stop", "--json"]).ok().json()["changed"], json!(true));
    assert_eq!(world.run(&["agent", "stop", "--json"]).ok().json()["changed"], json!(false));
}

#[test]
fn a_start_that_fails_says_why() {
    let world = World::new();
    for name in [r"\\server\pipe\agent", "agent.sock"] {
        let refused = run(world.command(&["agent", "start", "--json"]).env("TOKENKEEP_SOCK", name)).exits(1);
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(r"not named as \\.\pipe\NAME"), "{message}");
    }
}

#[test]
fn sixteen_programs_at_once_are_all_served() {
    let world = World::new();
    world.sign_in();
    let _agent = Agent::of(&world);
    let start = || {
        let mut command = world.command(&["token", "--scope", &scope(), "--json", "-v"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..16).map(|_| start()).collect();
    for child in children {
        let run = Run::of(child.wait_with_output().unwrap(), "token").ok();
        assert_eq!(run.json()["source"], "agent", "{run:?}");
    }
    let counters = &world.run(&["agent", "status", "--json"]).ok().json()["counters"];
    assert_eq!((&counters["cache_hits"], &counters["strangers"]), (&json!(16), &json!(0)), "{counters}");
}

#[test]
fn a_lock_ends_the_process_that_knew_and_nobody_goes_round_it() {
    let world = World::new();
    world.sign_in();
    let agent = Agent::of(&world);
    let mut pids = Vec::new();
    for _ in 0..3 {
        assert_eq!(world.token().1, "agent");
        pids.push(world.run(&["agent", "status", "--json"]).ok().json()["pid"].as_u64().unwrap());
        world.run(&["agent", "lock"]).ok();
        let refused = world.run(&["token", "--scope", &scope(), "--json"]).exits(7).json();
        assert_eq!(refused["error"]["kind"], "locked");
        let status = world.run(&["agent", "status", "--json"]).ok().json();
        assert_eq!((&status["state"], &status["caches"]), (&json!("locked"), &json!([])));
        world.run(&["agent", "unlock"]).ok();
    }
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 3, "another process each time");
    world.run(&["agent", "stop"]).ok();
    assert_eq!(agent.ended().0, Some(0));
}

#[test]
fn whoever_asks_while_it_is_locked_is_refused_and_never_left_alone() {
    let world = World::new();
    world.sign_in();
    let _agent = Agent::of(&world);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let (served, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (client, stopped) = (world.client(), stopped.clone());
            let (served, refused) = (Arc::clone(&served), Arc::clone(&refused));
            asking.spawn(async move {
                let request = TokenRequest::new(Scopes::new([scope()]).unwrap());
                while !*stopped.borrow() {
                    match client.get_token(&request).await {
                        Ok(token) => {
                            assert_eq!(token.source, TokenSource::Agent);
                            served.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(Error::Relayed(refusal)) if refusal.kind == "locked" => {
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
        let client = world.client();
        for _ in 0..3 {
            until_more(&served).await;
            client.lock().await.unwrap();
            until_more(&refused).await;
            client.unlock(None).await.unwrap();
        }
        stop.send(true).unwrap();
        asking.join_all().await;
    });
}

/// Waits until it happened so often that everybody had a part in it.
async fn until_more(count: &AtomicUsize) {
    let enough = count.load(Ordering::SeqCst) + 16;
    while count.load(Ordering::SeqCst) < enough {
        tokio::task::yield_now().await;
    }
}

#[test]
fn an_agent_whose_keeper_is_killed_ends() {
    let world = World::new();
    let mut agent = Agent::of(&world);
    agent.child.kill().unwrap();
    let (_, said) = agent.ended();
    // its standard error ended as well, so the one that served is gone
    assert!(said.contains("listening at"), "{said}");
    let absent = world.run(&["agent", "status", "--json"]).exits(1).json();
    assert_eq!(absent["error"]["kind"], "agent_unreachable");
    assert!(!Path::new(&world.pipe).exists());
    let _another = Agent::of(&world);
}
