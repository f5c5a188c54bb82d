//! Many requests, other writers and locks in between: nobody ever gets what somebody else asked for,
//! and the agent does not grow.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use emulator::{USER_ONE, USER_TWO};
use serde_json::{Value, json};
use tokenkeep::time::Deadline;

use crate::support::{Agent, World, fake_sign_in, proofs, report};

const CLIENTS: usize = 4;
const T1: &str = "11111111-1111-4111-8111-111111111111";
const T2: &str = "22222222-2222-4222-8222-222222222222";

#[test]
fn nobody_ever_gets_what_somebody_else_asked_for_and_nothing_grows() {
    let world = World::plaintext();
    for (user, cae) in [(USER_ONE, false), (USER_TWO, false), (USER_ONE, true), (USER_TWO, true)] {
        world.login(user, if cae { &["--enable-cae"] } else { &[] });
    }
    let agent = Agent::of(&world);
    let requests = proofs(200_000);
    let done = AtomicBool::new(false);
    let (asked, locked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let grown = std::thread::scope(|scope| {
        // Whatever happens: the others would go on for ever, and the scope waits for them.
        let _over = Over(&done);
        scope.spawn(|| write(&world, &done));
        let lock = scope.spawn(|| lock_now_and_then(&agent, &asked, &done));
        let round = |share: usize| {
            let client = |number| {
                let (world, agent, asked, locked) = (&world, &agent, &asked, &locked);
                scope.spawn(move || ask(world, agent, number, share / CLIENTS, asked, locked))
            };
            let clients: Vec<_> = (0..CLIENTS).map(client).collect();
            clients.into_iter().for_each(|client| client.join().unwrap());
            size_of(&agent)
        };
        // Everything is loaded, and every allocator's arena filled, after the first half.
        let (before, after) = (round(requests / 2), round(requests / 2));
        done.store(true, Ordering::Relaxed);
        lock.join().unwrap();
        (before, after)
    });
    let ((descriptors, memory), (descriptors_after, memory_after)) = grown;
    report(
        "agent-soak",
        &format!(
            "agent: {requests} requests, {} of them while locked, wrong answers: 0; descriptors {descriptors} \
             then {descriptors_after}, resident kB {memory} then {memory_after}",
            locked.load(Ordering::Relaxed)
        ),
    );
    assert!(descriptors_after <= descriptors + 8, "{descriptors} then {descriptors_after}");
    assert!(memory_after <= memory + memory / 4 + 4_096, "{memory} then {memory_after} kB");
    assert_eq!(agent.status()["counters"]["panics"], 0);
}

/// Says that it is over when it goes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks for every combination in turn, over one connection as long as that lasts.
fn ask(world: &World, agent: &Agent, client: usize, count: usize, asked: &AtomicUsize, locked: &AtomicUsize) {
    let mut line = None;
    for number in 0..count {
        let nth = client + number * CLIENTS;
        let user = [USER_ONE, USER_TWO][nth % 2];
        let tenant = [T1, T2][nth / 2 % 2];
        let cae = nth / 4 % 2 == 1;
        let scope =
            ["https://management.azure.com/.default", "https://graph.microsoft.com/User.Read"][nth / 8 % 2];
        // user two is no guest anywhere
        let tenant = if user == USER_TWO { T2 } else { tenant };
        let mut question = world.agent_question();
        question["account"] = json!(user);
        question["tenant"] = json!(tenant);
        question["enable_cae"] = json!(cae);
        question["scopes"] = json!([scope]);
        question["force_refresh"] = json!(nth.is_multiple_of(997));
        let answer = exchange(agent, &mut line, &question);
        asked.fetch_add(1, Ordering::Relaxed);
        if answer["error"]["kind"] == "locked" {
            locked.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let token = answer["token"].as_str().unwrap_or_else(|| panic!("{question}: {answer}"));
        let claims: Value = {
            let payload = token.split('.').nth(1).unwrap();
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
        };
        let resource = scope.rsplit_once('/').unwrap().0;
        let audience = claims["aud"].as_str().unwrap();
        assert_eq!(claims["upn"], user, "{question}");
        assert_eq!(claims["tid"], tenant, "{question}");
        assert_eq!(claims["xms_cc"].is_array(), cae, "{question}");
        assert!(audience.starts_with(resource), "{question}: {audience}");
        assert_eq!(answer["account"]["username"], user, "{question}");
    }
}

/// One request over the connection; a new one if the agent has closed it.
fn exchange(agent: &Agent, line: &mut Option<BufReader<UnixStream>>, question: &Value) -> Value {
    let body = question.to_string();
    let request =
        format!("POST /v1/token HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    for _ in 0..3 {
        let stream = line.get_or_insert_with(|| BufReader::new(agent.connect()));
        let answer = stream.get_mut().write_all(request.as_bytes()).ok().and_then(|()| read_answer(stream));
        match answer {
            Some(answer) => return answer,
            None => *line = None,
        }
    }
    panic!("no answer to {question}");
}

fn read_answer(stream: &mut BufReader<UnixStream>) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut header = String::new();
        if stream.read_line(&mut header).ok()? == 0 {
            return None;
        }
        if header == "\r\n" {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

/// Another program's logins come and change all the time.
fn write(world: &World, done: &AtomicBool) {
    for index in (0..8).cycle() {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let change = fake_sign_in("other", index);
        world.store().apply(&change, Deadline::within(Duration::from_secs(30))).unwrap();
    }
}

/// Locks and unlocks once for every few hundred requests.
fn lock_now_and_then(agent: &Agent, asked: &AtomicUsize, done: &AtomicBool) {
    let mut next = 300;
    while !done.load(Ordering::Relaxed) {
        if asked.load(Ordering::Relaxed) < next {
            std::thread::yield_now();
            continue;
        }
        next += 700;
        agent.post("/v1/lock", &json!({})).ok();
        agent.post("/v1/unlock", &json!({})).ok();
    }
}

/// Open descriptors, and resident memory in kB.
fn size_of(agent: &Agent) -> (usize, usize) {
    let process = std::path::Path::new("/proc").join(agent.pid().to_string());
    let descriptors = std::fs::read_dir(process.join("fd")).unwrap().count();
    let status = std::fs::read_to_string(process.join("status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident = resident.trim().trim_end_matches(" kB").parse().unwrap();
    (descriptors, resident)
}
