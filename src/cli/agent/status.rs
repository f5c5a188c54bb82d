//! `tokenkeep agent status`: what the agent holds and does, once or as long as somebody looks.

use std::io::IsTerminal as _;
use std::time::Duration;

use super::super::failure::Failure;
use super::super::output::{FAINT, Output, STRONG, printable, table};
use super::super::settings::Settings;
use super::super::{runtime, times, via_agent};
use super::unreachable;
use crate::agent_client::CallError;
use crate::agent_client::protocol::{
    Client, ConfigStatus, HeldCache, LockReason, NextRefresh, State, Status,
};
use crate::time::{Clock as _, SystemClock, UnixTime};

/// How often a person sees it anew.
const EVERY: Duration = Duration::from_secs(1);

pub(super) fn run(watch: bool, settings: &Settings, output: Output) -> Result<(), Failure> {
    let client = via_agent::of_user(settings);
    if !client.is_there().map_err(|error| unreachable(&error))? {
        let absent = CallError::Absent { path: client.socket().to_owned() };
        return Err(unreachable(&absent));
    }
    if !watch {
        return show(&runtime::wait_for(client.status())?, output);
    }
    let redraws = std::io::stdout().is_terminal() && !output.is_json();
    let looking = async {
        let mut beat = tokio::time::interval(EVERY);
        loop {
            beat.tick().await;
            let status = client.status().await.map_err(Failure::from)?;
            if redraws {
                // From the top, over what was there.
                output.raw(b"\x1b[H\x1b[J")?;
            }
            show(&status, output)?;
        }
    };
    match runtime::finish(looking) {
        Ok(ended) => ended,
        // Ctrl-C is how one stops looking.
        Err(Failure::Cancelled) => Ok(()),
        Err(failure) => Err(failure),
    }
}

fn show(status: &Status, output: Output) -> Result<(), Failure> {
    if output.is_json() { output.json(status) } else { output.text(&in_words(status, SystemClock.now())) }
}

fn in_words(status: &Status, now: UnixTime) -> String {
    let counters = &status.counters;
    let state = match status.state {
        State::Locked => locked_because(status.locked_because),
        State::Unlocked => "unlocked",
        State::Unknown => "unknown",
    };
    let state = match status.locks_in_seconds {
        Some(left) => format!("{state} for {}", times::countdown(Duration::from_secs(left))),
        None => state.to_owned(),
    };
    let up = times::countdown(Duration::from_secs(status.uptime_seconds));
    let mut lines = vec![
        format!("{STRONG}{}{STRONG:#}, process {}, {state}, up {up}", printable(&status.agent), status.pid),
        format!("{FAINT}socket{FAINT:#}    {}", printable(&status.socket)),
        of_config(&status.config),
        format!(
            "{FAINT}requests{FAINT:#}  {} for tokens: {} cached, {} refreshed; {} renewed ahead, {} failed",
            counters.token_requests,
            counters.cache_hits,
            counters.refreshes,
            counters.renewed_ahead,
            counters.ahead_failures
        ),
    ];
    if !counters.refusals.is_empty() {
        let refusals = counters.refusals.iter().map(|(kind, count)| format!("{count} {}", printable(kind)));
        lines.push(format!("{FAINT}refused{FAINT:#}   {}", refusals.collect::<Vec<_>>().join(", ")));
    }
    if !counters.denials.is_empty() {
        let denials = counters.denials.iter().map(|(by, count)| format!("{count} by {}", printable(by)));
        lines.push(format!("{FAINT}denied{FAINT:#}    {}", denials.collect::<Vec<_>>().join(", ")));
    }
    lines.push(format!(
        "{FAINT}clients{FAINT:#}   {} open connections; {} put out, {} of other users, {} bugs",
        status.connections, counters.evictions, counters.strangers, counters.panics
    ));
    if !status.caches.is_empty() {
        lines.push(String::new());
        lines.push(table(&["CACHE", "PLACE", "ENCRYPTED", "ACCOUNTS"], &rows(&status.caches, of_cache)));
    }
    if !status.next_refreshes.is_empty() {
        let row = |next: &NextRefresh| of_refresh(next, now);
        lines.push(String::new());
        lines.push(table(
            &["RENEWED IN", "ACCOUNT", "TENANT", "SCOPES", ""],
            &rows(&status.next_refreshes, row),
        ));
    }
    if !status.clients.is_empty() {
        lines.push(String::new());
        let row = |client: &Client| {
            let ago = UnixTime::from_seconds(client.last_request_at).until(now);
            vec![
                client.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string()),
                client.requests.to_string(),
                times::countdown(ago),
                client.refused.to_string(),
                client.executable.clone(),
                client.started_by.clone().unwrap_or_default(),
                client.claimed_name.clone().unwrap_or_default(),
            ]
        };
        let headings =
            ["PROCESS", "REQUESTS", "LAST AGO", "REFUSED", "PROGRAM", "STARTED BY", "CALLS ITSELF"];
        lines.push(table(&headings, &rows(&status.clients, row)));
    }
    lines.join("\n")
}

fn of_config(config: &ConfigStatus) -> String {
    let text = format!("{FAINT}config{FAINT:#}    {}", printable(&config.path));
    match (&config.problem, &config.hint) {
        (Some(problem), hint) => format!(
            "{text}, {STRONG}not as it is now{STRONG:#}: {}\n          {FAINT}hint: {}{FAINT:#}",
            printable(problem),
            printable(hint.as_deref().unwrap_or("tokenkeep doctor"))
        ),
        (None, _) if config.is_watched || config.path.is_empty() => text,
        (None, _) => {
            format!("{text}, {STRONG}not watched{STRONG:#}: a change holds once the agent gets SIGHUP")
        }
    }
}

const fn locked_because(reason: Option<LockReason>) -> &'static str {
    match reason {
        Some(LockReason::Idle) => "locked when nobody had asked for long",
        Some(LockReason::Limit) => "locked after its time",
        Some(LockReason::SessionLock) => "locked with the screen",
        Some(LockReason::Suspend) => "locked for a suspend",
        Some(LockReason::Asked | LockReason::Unknown) | None => "locked",
    }
}

fn rows<T>(items: &[T], row: impl Fn(&T) -> Vec<String>) -> Vec<Vec<String>> {
    let safe = |cells: Vec<String>| cells.iter().map(|cell| printable(cell).into_owned()).collect();
    items.iter().map(|item| safe(row(item))).collect()
}

fn of_cache(cache: &HeldCache) -> Vec<String> {
    let accounts: Vec<&str> = cache.accounts.iter().map(|who| who.username.as_str()).collect();
    vec![
        cache.cache.clone(),
        cache.place.clone(),
        if cache.encrypted { "yes" } else { "NO" }.to_owned(),
        accounts.join(", "),
    ]
}

fn of_refresh(next: &NextRefresh, now: UnixTime) -> Vec<String> {
    vec![
        times::countdown(now.until(UnixTime::from_seconds(next.at))),
        next.username.clone(),
        next.tenant.clone(),
        next.scopes.join(" "),
        match (next.failures, next.enable_cae) {
            (0, false) => String::new(),
            (0, true) => "continuous access evaluation".to_owned(),
            (failures, _) => format!("failed {failures} times"),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_in_words_and_nothing_in_it_can_steer_the_terminal() {
        let client = Client { claimed_name: Some("evil\u{1b}[2J".to_owned()), ..Client::default() };
        let next = NextRefresh {
            username: "user.one@contoso.example".to_owned(),
            at: 1_090,
            failures: 2,
            ..NextRefresh::default()
        };
        let status = Status {
            agent: "tokenkeep/0.1.0".to_owned(),
            state: State::Unlocked,
            uptime_seconds: 61,
            clients: vec![client],
            next_refreshes: vec![next],
            ..Status::default()
        };
        let problem = Some("/c/config.toml, line 1, column 2: \u{1b}[2J".to_owned());
        let config = ConfigStatus { path: "/c/config.toml".to_owned(), ..ConfigStatus::default() };
        let unwatched = Status { config: config.clone(), ..status.clone() };
        let unwatched = in_words(&unwatched, UnixTime::from_seconds(1_000));
        assert!(unwatched.contains("not watched"), "{unwatched}");
        let config = ConfigStatus { problem, hint: Some("correct it".to_owned()), ..config };
        let broken = in_words(&Status { config, ..status.clone() }, UnixTime::from_seconds(1_000));
        let broken = anstream::adapter::strip_str(&broken).to_string();
        let line =
            "config    /c/config.toml, not as it is now: /c/config.toml, line 1, column 2: \u{fffd}[2J\n";
        assert!(broken.contains(line) && broken.contains("hint: correct it\n"), "{broken}");
        let text = in_words(&status, UnixTime::from_seconds(1_000));
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(text.starts_with("tokenkeep/0.1.0, process 0, unlocked, up 1:01\n"), "{text}");
        assert!(text.contains("1:30        user.one@contoso.example"), "{text}");
        assert!(text.contains("failed 2 times"), "{text}");
        assert!(text.contains("evil\u{fffd}[2J"), "{text}");
    }
}
