//! One agent for all processes of a user: the same answers, fewer requests, and nobody in between.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use emulator::{Answer, ErrorAnswer, Script, USER_ONE, USER_TWO};
use serde_json::{Value, json};
use tokenkeep::agent_client::AgentClient;
use tokenkeep::credential::TokenCredential as _;
use tokenkeep::{Error, TokenSource};

use crate::support::{
    Agent, GRAPH, Run, SCOPE, World, found, post, proofs, read_reply, report, request, run, until,
};

const REFRESH: &str = "token.refresh_token";

#[test]
fn a_process_gets_the_same_answer_with_an_agent_and_without_and_source_tells() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let alone = world.run(&["token", "--scope", SCOPE, "--json"]).ok().json();
    let agent = Agent::of(&world);
    let mut served = world.run(&["token", "--scope", SCOPE, "--json"]).ok().json();
    assert_eq!((&alone["source"], &served["source"]), (&json!("cache"), &json!("agent")));
    served["source"] = alone["source"].clone();
    assert_eq!(served, alone);

    let without = run(world.command(&["token", "--scope", SCOPE, "--json"]).env("TOKENKEEP_NO_AGENT", "1"));
    assert_eq!(without.ok().json(), alone);
    let accounts = world.run(&["accounts", "--json"]).ok().json();
    let without = run(world.command(&["accounts", "--json"]).env("TOKENKEEP_NO_AGENT", "1"));
    assert_eq!(accounts, without.ok().json());
    let status = agent.status();
    assert_eq!(status["counters"]["cache_hits"], 1, "{status}");
    assert_eq!(status["caches"][0]["accounts"][0]["username"], USER_ONE);
}

#[test]
fn failures_are_told_in_the_same_words_and_with_the_same_exit_code() {
    let world = World::plaintext();
    let compare = |name: &str, args: &[&str], prepare: &dyn Fn()| {
        let told = |no_agent: &str| {
            prepare();
            let done = run(world.command(&[args, &["--json"]].concat()).env("TOKENKEEP_NO_AGENT", no_agent));
            let mut told = done.json();
            // of one request, and of no other
            told["error"]["correlation_id"] = json!(told["error"]["correlation_id"].is_string());
            let message = told["error"]["message"].as_str().unwrap();
            told["error"]["message"] = json!(message.split("Trace ID").next());
            (done.code, told)
        };
        let alone = told("1");
        let agent = Agent::of(&world);
        let served = told("");
        assert!(agent.status()["counters"]["token_requests"].as_u64().unwrap() > 0, "{name}");
        assert_eq!(served, alone, "{name}");
        served.0
    };
    let token = ["token", "--scope", SCOPE];
    let forced = ["token", "--scope", SCOPE, "--force-refresh"];
    let script = |answer: Answer| {
        world.emulator.clear_scripts();
        world.emulator.script(Script::sticky(answer).kind(REFRESH));
    };
    assert_eq!(compare("nobody", &token, &|| {}), Some(4));
    world.login(USER_ONE, &[]);
    assert_eq!(compare("nobody fits", &["token", "--scope", SCOPE, "--account", "else"], &|| {}), Some(4));
    let interaction = || script(Answer::Error(ErrorAnswer::aadsts(50076)));
    assert_eq!(compare("interaction", &forced, &interaction), Some(3));
    let setup = || script(Answer::Error(ErrorAnswer::aadsts(70011)));
    assert_eq!(compare("setup", &forced, &setup), Some(1));
    let trouble = || script(Answer::Error(ErrorAnswer::throttled("77")));
    assert_eq!(compare("throttled", &forced, &trouble), Some(8));
    world.emulator.clear_scripts();
    world.login(USER_TWO, &[]);
    assert_eq!(compare("several", &token, &|| {}), Some(5));
    std::fs::write(world.cache_file(), "{ damaged").unwrap();
    assert_eq!(compare("damaged", &token, &|| {}), Some(6));
}

/// Waits until so many requests have reached the provider, held ones included.
fn arrived(world: &World, kind: &str, count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(world.emulator.wait_for(kind, count));
}

/// A user whose token is about to expire, and whose next one will not be.
fn with_an_expired_token() -> World {
    let world = World::plaintext();
    world.emulator.set(|settings| settings.access_token_lifetime = 60);
    world.login(USER_ONE, &[]);
    world.emulator.set(|settings| settings.access_token_lifetime = 4899);
    world.emulator.reset_log();
    world
}

#[test]
fn sixty_four_processes_with_one_expired_token_make_one_request() {
    let world = with_an_expired_token();
    let agent = Agent::of(&world);
    // Held until all of them have asked, so that none of them comes after the answer.
    world.emulator.script(Script::once(Answer::Normal).kind(REFRESH).held());
    // What a process says of why it would do without the agent is shown if one does.
    let command = || world.command(&["token", "--scope", SCOPE, "--json", "-v"]);
    let mut children: Vec<Child> = (0..64).map(|_| start(&mut command())).collect();
    // One that ends by now did without the agent: the sources tell below.
    let mut all_wait = || children.iter_mut().all(|child| child.try_wait().unwrap().is_none());
    let all_are_here = || agent.status()["connections"].as_u64().unwrap() >= 65;
    until("all of them are here", || !all_wait() || all_are_here());
    arrived(&world, REFRESH, 1);
    world.emulator.release();
    let tokens: Vec<String> = children.into_iter().map(|child| token_of(child, "agent")).collect();
    assert_eq!(world.emulator.count(REFRESH), 1);
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    report("agent-one-request", "agent: 64 processes, one expired token: 1 request, 64 tokens");
}

/// What requests differ by, one by one, when the provider is asked for all of them.
fn different_questions() -> [(&'static str, Value); 6] {
    const T1: &str = "11111111-1111-4111-8111-111111111111";
    const T2: &str = "22222222-2222-4222-8222-222222222222";
    let one = json!({"account": USER_ONE, "tenant": T1, "scopes": [SCOPE], "force_refresh": true});
    let but = |name: &str, value: Value| {
        let mut question = one.clone();
        question[name] = value;
        question
    };
    let mut others = but("tenant", json!(T2));
    others["account"] = json!(USER_TWO);
    let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#;
    // The one of the other cache comes last: it is no reason to forget what was refused in this one.
    [
        ("scopes", but("scopes", json!([GRAPH]))),
        ("tenant", but("tenant", json!(T2))),
        ("account", others),
        ("claims", but("claims", json!(claims))),
        ("cae", but("enable_cae", json!(true))),
        ("nothing", one),
    ]
}

fn with_two_accounts() -> World {
    let world = World::plaintext();
    for (user, args) in [(USER_ONE, &[][..]), (USER_TWO, &[]), (USER_ONE, &["--enable-cae"])] {
        world.login(user, args);
    }
    world.emulator.reset_log();
    world
}

#[test]
fn requests_that_differ_in_anything_do_not_share_an_answer() {
    let world = with_two_accounts();
    let agent = Agent::of(&world);
    world.emulator.script(Script::sticky(Answer::Normal).kind(REFRESH).held());
    let asked = different_questions().map(|(name, members)| {
        let mut question = world.agent_question();
        question.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let mut stream = agent.connect();
        stream.write_all(post("/v1/token", &question).as_bytes()).unwrap();
        (name, stream)
    });
    until("each of them has the provider asked", || world.emulator.count(REFRESH) == asked.len());
    world.emulator.release();
    let mut tokens = BTreeSet::new();
    for (name, mut stream) in asked {
        let answer = read_reply(&mut stream).ok();
        assert!(tokens.insert(answer["token"].as_str().unwrap().to_owned()), "{name}: {answer}");
    }
}

#[test]
fn a_refusal_is_remembered_for_that_very_request_alone() {
    let world = with_two_accounts();
    let agent = Agent::of(&world);
    let [others @ .., (_, one)] = different_questions();
    let (_, of_other_tenant) = others[1].clone();
    for (name, members) in others {
        // The other account is of the other tenant.
        let refused = if name == "account" { &of_other_tenant } else { &one };
        world.emulator.script(Script::once(Answer::Error(ErrorAnswer::aadsts(70011))).kind(REFRESH));
        assert_eq!(agent.token(&world, refused).kind(), "authentication_failed", "{name}");
        assert_eq!(agent.token(&world, refused).kind(), "authentication_failed", "without asking again");
        assert_eq!(agent.token(&world, &members).ok()["found"], "refresh", "{name}");
    }
    assert_eq!(world.emulator.count(REFRESH), 10);
    assert_eq!(agent.token(&world, &one).kind(), "authentication_failed");
    // Whatever changes the cache may change the answer.
    world.login(USER_ONE, &[]);
    assert_eq!(agent.token(&world, &one).ok()["found"], "refresh");
}

#[test]
fn whoever_needs_a_token_does_not_wait_for_an_attempt_ahead() {
    let world = World::plaintext();
    world.emulator.set(|settings| settings.refresh_in = Some(0));
    world.login(USER_ONE, &[]);
    let agent = Agent::of(&world);
    world.emulator.reset_log();
    // The attempt ahead, which is made once, fails; the other one is not its.
    let trouble = Answer::Error(ErrorAnswer { status: Some(503), ..ErrorAnswer::bare("server_error") });
    world.emulator.script(Script::once(trouble).kind(REFRESH).held());
    assert_eq!(agent.token(&world, &json!({"scopes": [SCOPE]})).ok()["found"], "cache");
    arrived(&world, REFRESH, 1);
    let answer = agent.token(&world, &json!({"scopes": [SCOPE], "force_refresh": true})).ok();
    assert_eq!(answer["found"], "refresh", "while the first one is held");
    assert_eq!(world.emulator.count(REFRESH), 2);
    world.emulator.release();
}

#[test]
fn sixty_four_processes_without_an_agent_all_get_a_token() {
    let world = with_an_expired_token();
    let command = || world.command(&["token", "--scope", SCOPE, "--json"]);
    let children: Vec<Child> = (0..64).map(|_| start(&mut command())).collect();
    for child in children {
        assert!(!Run::of(child.wait_with_output().unwrap(), "token").ok().json()["token"].is_null());
    }
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn token_of(child: Child, source: &str) -> String {
    let run = Run::of(child.wait_with_output().unwrap(), "token").ok();
    let answer = run.json();
    assert_eq!(answer["source"], source, "{run:?}");
    answer["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_provider_that_hangs_holds_up_nobody_who_does_not_need_it() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    world.login(USER_TWO, &[]);
    let agent = Agent::of(&world);
    world.emulator.script(Script::sticky(Answer::Normal).kind(REFRESH).held());
    let mut stuck = agent.connect();
    let mut ask = world.agent_question();
    ask["account"] = json!(USER_ONE);
    ask["scopes"] = json!([GRAPH]);
    stuck.write_all(post("/v1/token", &ask).as_bytes()).unwrap();
    arrived(&world, REFRESH, 1);

    // All of these are answered while the provider still owes the first one its answer.
    for account in [USER_ONE, USER_TWO] {
        let answer = agent.token(&world, &json!({"account": account, "scopes": [SCOPE]})).ok();
        assert_eq!((&answer["found"], &answer["account"]["username"]), (&json!("cache"), &json!(account)));
    }
    assert_eq!(world.run(&["accounts", "--json"]).ok().json()["accounts"].as_array().unwrap().len(), 2);
    assert_eq!(world.emulator.count(REFRESH), 1, "and it is still held");
    world.emulator.release();
    assert_eq!(read_reply(&mut stuck).ok()["found"], "refresh");
}

#[test]
fn a_token_that_is_due_is_given_at_once_and_renewed_behind() {
    let world = World::plaintext();
    // Half of such a lifetime lies before now: the provider would like it renewed.
    world.emulator.set(|settings| settings.refresh_in = Some(0));
    world.login(USER_ONE, &[]);
    let agent = Agent::of(&world);
    world.emulator.set(|settings| settings.refresh_in = Some(3_000));
    world.emulator.script(Script::once(Answer::Normal).kind(REFRESH).held());
    let first = agent.token(&world, &json!({"scopes": [SCOPE]})).ok();
    assert_eq!(first["found"], "cache");
    arrived(&world, REFRESH, 1);
    let second = agent.token(&world, &json!({"scopes": [SCOPE]})).ok();
    assert_eq!(second["token"], first["token"], "the provider has not answered yet");
    world.emulator.release();
    let later = found("the next token", || {
        let later = agent.token(&world, &json!({"scopes": [SCOPE]})).ok();
        (later["token"] != first["token"]).then_some(later)
    });
    assert_eq!(later["found"], "cache");
    assert_eq!(world.emulator.count(REFRESH), 1);
}

#[test]
fn a_token_that_somebody_asked_for_is_renewed_before_it_expires() {
    let world = World::plaintext();
    // Valid enough for clients, but for less than the agent would have it.
    world.emulator.set(|settings| settings.access_token_lifetime = 500);
    world.login(USER_ONE, &[]);
    world.login(USER_TWO, &[]);
    world.emulator.set(|settings| settings.access_token_lifetime = 4899);
    world.emulator.reset_log();
    let agent = Agent::of(&world);
    let ask = json!({"scopes": [SCOPE], "account": USER_ONE});
    let first = agent.token(&world, &ask).ok();
    assert_eq!(first["found"], "cache");
    arrived(&world, REFRESH, 1);
    until("the next token", || {
        let later = agent.token(&world, &ask).ok();
        assert_eq!(later["found"], "cache", "nobody waits for it");
        later["token"] != first["token"]
    });
    until("it is counted", || agent.status()["counters"]["renewed_ahead"] == 1);
    let status = agent.status();
    let planned = status["next_refreshes"].as_array().unwrap();
    assert_eq!(planned.len(), 1, "nobody asked for the other one's: {status}");
    assert_eq!(planned[0]["username"], USER_ONE);
    assert!(planned[0]["at"].as_i64().unwrap() > status["started_at"].as_i64().unwrap() + 3_000);
    assert_eq!(world.emulator.count(REFRESH), 1);
}

#[test]
fn a_renewal_ahead_comes_again_when_the_provider_said_and_not_where_a_person_is_needed() {
    let world = World::plaintext();
    world.emulator.set(|settings| settings.access_token_lifetime = 500);
    world.login(USER_ONE, &[]);
    let plans_after = |answer: Answer| {
        world.emulator.clear_scripts();
        world.emulator.script(Script::sticky(answer).kind(REFRESH));
        let agent = Agent::of(&world);
        assert_eq!(agent.token(&world, &json!({"scopes": [SCOPE]})).ok()["found"], "cache");
        found("it did not work", || {
            let status = agent.status();
            (status["counters"]["ahead_failures"] == 1).then_some(status)
        })
    };
    let status = plans_after(Answer::Error(ErrorAnswer::throttled("277")));
    let planned = status["next_refreshes"].as_array().unwrap();
    assert!(planned[0]["at"].as_i64().unwrap() >= status["started_at"].as_i64().unwrap() + 277, "{status}");
    let status = plans_after(Answer::Error(ErrorAnswer::aadsts(50076)));
    assert_eq!(status["next_refreshes"], json!([]), "another attempt would end no better");

    world.emulator.clear_scripts();
    world.emulator.set(|settings| settings.refresh_in = Some(0));
    world.login(USER_ONE, &[]);
    let agent = Agent::of(&world);
    world.emulator.script(Script::sticky(Answer::Normal).kind(REFRESH).held());
    world.emulator.reset_log();
    assert_eq!(agent.token(&world, &json!({"scopes": [SCOPE]})).ok()["found"], "cache");
    until("somebody's request tries it, so it is put off", || {
        agent.status()["next_refreshes"][0]["failures"] == 1
    });
    arrived(&world, REFRESH, 1);
    assert_eq!(world.emulator.count(REFRESH), 1);
    world.emulator.release();
}

#[test]
fn cached_tokens_are_served_while_the_provider_is_down_and_a_refusal_is_asked_for_once() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let agent = Agent::of(&world);
    world.emulator.script(Script::sticky(Answer::Error(ErrorAnswer::aadsts(70011))).kind(REFRESH));
    let wrong = json!({"scopes": [GRAPH]});
    for _ in 0..5 {
        assert_eq!(agent.token(&world, &wrong).kind(), "authentication_failed");
        assert_eq!(agent.token(&world, &json!({"scopes": [SCOPE]})).ok()["found"], "cache");
    }
    assert_eq!(world.emulator.count(REFRESH), 1, "a wrong setup does not get better by asking again");

    world.emulator.clear_scripts();
    let page = Answer::Raw {
        status: 429,
        headers: [("Retry-After".to_owned(), "77".to_owned())].into(),
        body: "<html>".to_owned(),
    };
    world.emulator.script(Script::sticky(page).kind(REFRESH));
    world.emulator.reset_log();
    let other = json!({"scopes": ["https://vault.azure.net/.default"]});
    for _ in 0..5 {
        let refused = agent.token(&world, &other);
        assert_eq!((refused.status, refused.kind()), (502, "network"));
        assert_eq!(refused.body["error"]["detail"]["retry_after"], 77);
    }
    assert_eq!(world.emulator.count(REFRESH), 1, "the provider said when to come back");
}

#[test]
fn a_login_and_a_logout_are_known_to_the_agent_at_once() {
    let world = World::plaintext();
    let agent = Agent::of(&world);
    assert_eq!(agent.token(&world, &json!({"scopes": [SCOPE]})).kind(), "no_accounts");
    for _ in 0..3 {
        world.login(USER_ONE, &[]);
        assert_eq!(agent.token(&world, &json!({"scopes": [SCOPE]})).ok()["found"], "cache");
        world.run(&["logout", "--all"]).ok();
        assert_eq!(agent.token(&world, &json!({"scopes": [SCOPE]})).kind(), "no_accounts");
    }
}

#[test]
fn a_default_account_a_record_and_another_store_mean_the_same_through_the_agent() {
    let world = World::plaintext();
    let record = world.home().join("record.json");
    world.login(USER_ONE, &["--record-out", record.to_str().unwrap()]);
    world.login(USER_TWO, &[]);
    let _agent = Agent::of(&world);
    let who = |args: &[&str]| {
        let answer = world.run(&[&["token", "--scope", SCOPE, "--json"], args].concat()).ok().json();
        assert_eq!(answer["source"], "agent");
        answer["account"]["username"].as_str().unwrap().to_owned()
    };
    world.run(&["token", "--scope", SCOPE]).exits(5);
    for user in [USER_ONE, USER_TWO] {
        world.run(&["accounts", "default", user]).ok();
        assert_eq!(who(&[]), user);
        assert_eq!(who(&["--account", USER_ONE]), USER_ONE);
        assert_eq!(who(&["--record", record.to_str().unwrap()]), USER_ONE);
    }
    let other = run(world.command(&["token", "--scope", SCOPE]).env("TOKENKEEP_CACHE", "another"));
    other.exits(4);
}

#[test]
fn a_client_of_another_home_is_not_given_this_homes_tokens() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let agent = Agent::of(&world);
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = world.command(&["token", "--scope", SCOPE]);
    command.env("HOME", elsewhere.path()).env("TOKENKEEP_SOCK", &agent.socket);
    run(&mut command).exits(4);
    assert_eq!(agent.status()["counters"]["refusals"]["other_home"], 1);
    for place in ["home", "state"] {
        let answer = agent.token(&world, &json!({"scopes": [SCOPE], place: elsewhere.path()}));
        assert_eq!((answer.status, answer.kind()), (421, "other_home"), "{place}");
    }
}

#[test]
fn the_library_asks_the_agent_and_a_chain_goes_on_without_one() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let client = AgentClient::at(world.agent_socket())
        .authority(&tokenkeep::Authority::parse(&world.emulator.authority()).unwrap())
        .disable_instance_discovery(true)
        .cache_persistence_options(&world.persistence());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |scope: &str| runtime.block_on(client.get_token(&request(scope)));
    let absent = ask(SCOPE).unwrap_err();
    assert!(matches!(absent, Error::Unavailable(_)) && absent.moves_chain_on(), "{absent:?}");

    let _agent = Agent::of(&world);
    let token = ask(SCOPE).unwrap();
    assert_eq!(token.source, TokenSource::Agent);
    assert_eq!(token.details.account.as_ref().unwrap().username, USER_ONE);
    world.emulator.change_password(USER_ONE);
    match ask(GRAPH).unwrap_err() {
        Error::InteractionRequired(required) => {
            assert_eq!(required.removed.len(), 1);
            assert_eq!(required.provider.unwrap().codes, [50173]);
            assert_eq!(required.scopes.to_string(), GRAPH);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(runtime.block_on(client.accounts()).unwrap()[0].username, USER_ONE);
    assert_eq!(runtime.block_on(client.status()).unwrap().counters.token_requests, 2);
}

#[test]
fn a_locked_agent_says_so_and_clients_do_not_go_round_it() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let agent = Agent::of(&world);
    world.run(&["token", "--scope", SCOPE]).ok();
    assert_eq!(agent.post("/v1/lock", &json!({})).ok()["state"], "locked");
    for _ in 0..2 {
        let refused = world.run(&["token", "--scope", SCOPE, "--json"]).exits(7).json();
        assert_eq!(refused["error"]["kind"], "locked");
        world.run(&["accounts"]).exits(7);
    }
    let status = agent.status();
    assert_eq!((&status["state"], &status["caches"]), (&json!("locked"), &json!([])));
    assert_eq!(agent.post("/v1/unlock", &json!({})).ok()["state"], "unlocked");
    world.run(&["token", "--scope", SCOPE]).ok();
}

#[test]
fn start_leaves_an_agent_behind_and_stop_ends_it() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let started = world.run(&["agent", "start", "--json"]).ok().json();
    let pid = started["pid"].as_u64().unwrap();
    assert_eq!((&started["running"], &started["changed"]), (&json!(true), &json!(true)));
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    assert_eq!(fields[3], pid.to_string(), "it leads a session of its own");
    assert_eq!(fields[4], "0", "without a terminal");
    for descriptor in 0..3 {
        let target = std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).unwrap();
        assert_eq!(target, Path::new("/dev/null"));
    }
    let again = world.run(&["agent", "start", "--json"]).ok().json();
    assert_eq!((&again["pid"], &again["changed"]), (&json!(pid), &json!(false)));
    let status = world.run(&["agent", "status", "--json"]).ok().json();
    assert_eq!(
        (&status["pid"], &status["version"], &status["protocol"]),
        (&json!(pid), &json!(1), &json!(1))
    );
    assert!(world.run(&["agent", "status"]).ok().stdout.contains(&format!("process {pid}, unlocked")));
    assert_eq!(world.run(&["token", "--scope", SCOPE, "--json"]).ok().json()["source"], "agent");

    world.run(&["agent", "stop"]).ok();
    assert!(!world.agent_socket().exists());
    assert!(!Path::new(&format!("/proc/{pid}/fd/0")).exists(), "it is gone when stop returns");
    assert_eq!(world.run(&["agent", "stop", "--json"]).ok().json()["running"], json!(false));
    let absent = world.run(&["agent", "status", "--json"]).exits(1).json();
    assert_eq!(absent["error"]["kind"], "agent_unreachable");
    assert_eq!(world.run(&["token", "--scope", SCOPE, "--json"]).ok().json()["source"], "cache");
}

#[test]
fn start_passes_on_what_it_was_told() {
    let world = World::plaintext();
    let given = [
        "--lock-after-idle=1h",
        "--lock-after=2h",
        "--no-lock-on-suspend",
        "--no-lock-on-session-lock",
        "--cache=it's mine",
        "--store=vault",
        "--disable-instance-discovery",
    ];
    let mut start = world.command(&[&["agent", "start", "--json"], &given[..6]].concat());
    let pid = run(&mut start).ok().json()["pid"].as_u64().unwrap();
    let command_line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    world.run(&["agent", "stop"]).ok();
    let words: Vec<&str> = command_line.split('\0').collect();
    assert!(given.iter().all(|given| words.contains(given)), "{words:?}");
}

#[test]
fn a_start_that_fails_says_why() {
    let world = World::plaintext();
    let folder = world.home().join("open");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let start = |args: &[&str], socket: &Path| run(world.command(args).env("TOKENKEEP_SOCK", socket));
    let refused = start(&["agent", "start", "--json"], &folder.join("a.sock")).exits(1);
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("others may write"), "{refused:?}");
    let refused = start(&["agent"], Path::new("relative.sock")).exits(1);
    assert!(refused.stderr.contains("absolute path"), "{refused:?}");
}

#[test]
fn a_second_agent_leaves_the_first_one_its_socket() {
    let world = World::plaintext();
    let agent = Agent::of(&world);
    let inode = agent.socket.metadata().unwrap().ino();
    let second = world.run(&["agent", "--json"]).exits(1).json();
    assert_eq!(second["error"]["kind"], "agent_already_running");
    assert_eq!(agent.socket.metadata().unwrap().ino(), inode);
    agent.get("/v1/hello").ok();
}

#[test]
fn nothing_is_sent_to_a_socket_that_is_not_this_users() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let folder = world.home().join("run");
    std::fs::create_dir(&folder).unwrap();
    let real = folder.join("real.sock");
    let listener = UnixListener::bind(&real).unwrap();
    let linked = folder.join("linked.sock");
    symlink(&real, &linked).unwrap();
    let linked_folder = world.home().join("linked");
    symlink(&folder, &linked_folder).unwrap();
    let open = world.home().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(folder.join("file.sock"), "").unwrap();
    for (socket, why) in [
        (linked, "it is a link"),
        (linked_folder.join("real.sock"), "its folder is a link"),
        (open.join("a.sock"), "others may write into its folder"),
        (folder.join("file.sock"), "no socket"),
    ] {
        let done = run(world.command(&["token", "--scope", SCOPE]).env("TOKENKEEP_SOCK", &socket)).ok();
        assert!(done.stderr.contains(why), "{done:?}");
        assert!(!done.token().is_empty());
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody even connected");
}

#[test]
fn sigterm_waits_for_what_the_provider_still_owes_and_saves_it() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let agent = Agent::of(&world);
    world.emulator.script(Script::once(Answer::Normal).kind(REFRESH).held());
    let mut asking = agent.connect();
    let mut ask = world.agent_question();
    ask["scopes"] = json!([GRAPH]);
    asking.write_all(post("/v1/token", &ask).as_bytes()).unwrap();
    arrived(&world, REFRESH, 1);
    // Whoever asked goes away, and so does the agent's reason to answer; the refresh token is renewed.
    drop(asking);
    agent.terminate();
    world.emulator.release();
    let (code, said) = agent.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(world.scopes().iter().any(|scopes| scopes.contains("User.Read")), "{:?}", world.scopes());
    assert!(!world.agent_socket().exists());
}

#[test]
fn an_agent_of_another_version_is_done_without_and_says_which_it_is() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    // An older client finds an agent that has left its version behind,
    let socket = world.agent_socket();
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    std::fs::set_permissions(socket.parent().unwrap(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let newer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 4_096];
        let length = stream.read(&mut asked).unwrap();
        let body = json!({"error": {"kind": "unsupported", "message": "this agent speaks 2 and later"}});
        let body = body.to_string();
        write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        String::from_utf8_lossy(&asked[..length]).into_owned()
    });
    let answer = world.run(&["token", "--scope", SCOPE, "--json"]).ok().json();
    assert_eq!(answer["source"], "cache");
    assert!(newer.join().unwrap().starts_with("POST /v1/token "));
    std::fs::remove_file(&socket).unwrap();

    // and a newer client one that has not come to it.
    let agent = Agent::of(&world);
    let refused = agent.get("/v2/token");
    assert_eq!((refused.status, refused.kind()), (404, "unsupported"));
    let hint = refused.body["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("speaks version 1"), "{hint}");
    assert_eq!(agent.get("/v1/hello").ok()["protocol"], 1);
}

#[test]
fn a_stopped_agent_is_done_without() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    let agent = Agent::of(&world);
    let pid = rustix::process::Pid::from_raw(i32::try_from(agent.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let answer = world.run(&["token", "--scope", SCOPE, "--json"]).ok().json();
    assert_eq!(answer["source"], "cache");
}

#[test]
fn left_over_sockets_of_killed_agents_are_replaced() {
    let world = World::plaintext();
    world.login(USER_ONE, &[]);
    for _ in 0..proofs(40) {
        let mut agent = Agent::of(&world);
        agent.child.kill().unwrap();
        agent.child.wait().unwrap();
        assert!(agent.socket.exists());
        let answer = world.run(&["token", "--scope", SCOPE, "--json"]).ok().json();
        assert_eq!(answer["source"], "cache", "a dead agent's socket is no reason to fail");
    }
}
