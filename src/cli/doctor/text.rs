//! What the doctor says to people.

use super::super::output::{FAINT, Output, STRONG, printable};
use super::Outcome;
use crate::agent_client::protocol::{Hello, State};
use crate::document::{ClientSummary, Membership, RefreshTokenSummary, TokenCacheDocument};
use crate::revocation::doctor::{
    AgentState, Examination, ExaminationOptions, Finding, Network, Repair, Severity,
};
use crate::revocation::{Survey, VaultSurvey};
use crate::store::{Content, KeyringState};
use crate::time::{UnixTime, in_words};

use super::super::failure::Failure;

/// Caches, what they stand on, findings.
pub(super) fn everything(
    examination: &Examination,
    options: &ExaminationOptions,
    output: Output,
) -> Result<(), Failure> {
    for cache in &examination.caches {
        output.text(&of_cache(cache, examination.now))?;
    }
    output.text(&of_machine(examination, options))?;
    findings(examination.findings.iter(), output)?;
    output.remark(&summary(&examination.findings))
}

/// How much there is to do, at the end of what may be long.
fn summary(findings: &[Finding]) -> String {
    let of = |severity: Severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let [problems, warnings] = [Severity::Problem, Severity::Warning].map(of);
    let counts: Vec<String> = [(problems, "problem"), (warnings, "warning")]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| count(number, what))
        .collect();
    let repairable = findings.iter().filter(|finding| finding.repair.is_some()).count();
    let found = if counts.is_empty() { "Nothing needs attention".to_owned() } else { counts.join(", ") };
    match repairable {
        0 => found,
        all => format!("{found}; tokenkeep doctor --repair mends {all}"),
    }
}

/// One paragraph each, the worst first.
pub(super) fn findings<'a>(
    findings: impl Iterator<Item = &'a Finding>,
    output: Output,
) -> Result<(), Failure> {
    let mut findings: Vec<_> = findings.collect();
    findings.sort_by_key(|finding| finding.severity);
    for finding in findings {
        output.text(&of_finding(finding))?;
    }
    Ok(())
}

/// What would be done.
pub(super) fn plan(outcomes: &[Outcome], output: Output) -> Result<(), Failure> {
    for Outcome { finding, .. } in outcomes {
        let plan = finding.repair.as_ref().map_or("nothing", Repair::describe);
        output.text(&format!("would repair {}: {}: {plan}", finding.sign.id, printable(&finding.subject)))?;
    }
    if outcomes.is_empty() { output.remark("There is nothing to repair") } else { Ok(()) }
}

/// What is left after repairs.
pub(super) fn left(examination: &Examination, outcomes: &[Outcome], output: Output) -> Result<(), Failure> {
    if outcomes.is_empty() {
        return output.remark("There is nothing to repair");
    }
    let left: Vec<_> =
        examination.findings.iter().filter(|finding| finding.severity != Severity::Note).collect();
    if left.is_empty() {
        return output.remark("Nothing needs attention any more");
    }
    output.remark(&format!("{} left:", count(left.len(), "finding")))?;
    findings(left.into_iter(), output)
}

fn of_finding(finding: &Finding) -> String {
    let style = if finding.severity == Severity::Note { FAINT } else { STRONG };
    let Finding { sign, severity, subject, detail, fix, .. } = finding;
    let mut text =
        format!("\n{style}{severity}{style:#} {}: {}\n  {}", sign.id, printable(subject), sign.meaning);
    if !detail.is_empty() {
        text.push_str(&format!(" ({})", printable(detail)));
    }
    if let Some(fix) = fix {
        text.push_str(&format!("\n  fix: {}", printable(fix)));
    }
    text
}

fn of_cache(cache: &Survey, now: UnixTime) -> String {
    let (silo, facts) = (&cache.silo, &cache.facts);
    let described = silo.describe();
    let mut lines = vec![format!("{STRONG}{}{STRONG:#}", printable(&described.cache))];
    let mut line = |name: &str, value: &str| {
        lines.push(format!("  {FAINT}{name:<8}{FAINT:#}  {}", printable(value)));
    };
    line("tool", &silo.title());
    line("place", &silo.place().to_string());
    let mut about = vec![if described.encrypted { "encrypted" } else { "NOT encrypted" }.to_owned()];
    if let Some(file) = &facts.file {
        about.extend(file.mode.map(|mode| format!("mode {mode:04o}")));
        about.push(bytes(file.size));
    }
    let modified =
        facts.item.as_ref().map_or(facts.file.as_ref().and_then(|file| file.modified), |item| item.modified);
    about.extend(modified.map(|modified| format!("changed {} ago", in_words(modified.until(now)))));
    line("kept", &about.join(", "));
    // azd's says nothing of its holder, and stays there, held or not
    for lock in facts.locks.iter().filter(|lock| lock.path.extension().is_some_and(|end| end == "lockfile")) {
        let life = match lock.is_alive {
            Some(true) => "which lives",
            Some(false) => "which is gone",
            None => "of whom nothing is known",
        };
        line("lock", &format!("{}: {}, {life}", lock.path.display(), lock.holder));
    }
    match &facts.content {
        Content::Cache { document, .. } => of_document(document, now, &mut line),
        Content::Absent => line("content", "none"),
        Content::Blank => line("content", "empty"),
        Content::Unread { why } => line("content", &format!("not read: {why}")),
        Content::Unreadable(_) => line("content", "cannot be read, see below"),
    }
    lines.push(String::new());
    lines.join("\n")
}

fn of_document(document: &TokenCacheDocument, now: UnixTime, line: &mut dyn FnMut(&str, &str)) {
    for account in document.accounts() {
        let name = if account.username.is_empty() { &account.home_account_id } else { &account.username };
        line("account", &format!("{name} ({})", account.environment));
    }
    for client in document.client_summaries() {
        line("client", &of_client(&client, now));
    }
    line("tokens", &count(document.access_token_count(), "access token"));
    if document.set_aside_count() > 0 {
        line(
            "aside",
            &format!("{} kept where no library reads them", count(document.set_aside_count(), "entry")),
        );
    }
}

fn of_client(client: &ClientSummary, now: UnixTime) -> String {
    let family = match client.membership {
        Membership::Member => "of the family",
        Membership::NotMember => "of no family",
        Membership::Unknown => "family unknown",
    };
    let token = |token: &RefreshTokenSummary| {
        let name = if token.username.is_empty() { &token.home_account_id } else { &token.username };
        match token.written {
            Some(written) => format!("refresh token of {name}, {} old", in_words(written.until(now))),
            None => format!("refresh token of {name}, of unknown age"),
        }
    };
    let mut parts = vec![format!("{}, {family}", client.client_id)];
    parts.extend(client.refresh_tokens.iter().map(token));
    parts.join("; ")
}

fn of_machine(examination: &Examination, options: &ExaminationOptions) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: &str| {
        lines.push(format!("{FAINT}{name:<10}{FAINT:#}{}", printable(value)));
    };
    if examination.caches.is_empty() {
        line("caches", "none");
    }
    line("agent", &agent_in_words(&examination.agent.state));
    if let Some(keyring) = &examination.keyring {
        line("keyring", keyring_in_words(keyring));
    }
    match &examination.vault {
        VaultSurvey::Absent => line("vault", "none"),
        VaultSurvey::Sealed { path, size, protectors } => {
            let kinds: Vec<String> = protectors.iter().map(|slot| slot.kind.to_string()).collect();
            line("vault", &format!("{}, {}, opened by {}", path.display(), bytes(*size), kinds.join(", ")));
        }
        VaultSurvey::Unusable { path, .. } => line("vault", &format!("{}, cannot be used", path.display())),
    }
    for (name, address) in &examination.proxies.proxies {
        line("proxy", &format!("{address} ({name})"));
    }
    match &examination.network {
        Some(Network::Reached { clock_ahead, took, .. }) => {
            let clock = clock_ahead.map_or_else(String::new, |ahead| format!(", clock {ahead:+} s"));
            let authority = options.authority.for_network();
            line("authority", &format!("{authority} answers in {} ms{clock}", took.as_millis()));
        }
        Some(Network::Unknown | Network::Unreachable { .. }) => {
            line("authority", &format!("{} was not reached", options.authority.for_network()));
        }
        None => line("authority", "not asked"),
    }
    lines.join("\n")
}

fn agent_in_words(state: &AgentState) -> String {
    match state {
        AgentState::Absent => "none".to_owned(),
        AgentState::Answers(Hello { agent, pid, state, .. }) => {
            let state = if *state == State::Locked { "locked" } else { "serves" };
            format!("{state}, process {pid}, {agent}")
        }
        AgentState::LeftOut => "left out by TOKENKEEP_NO_AGENT".to_owned(),
        AgentState::LeftOver => "none any more: its socket is left".to_owned(),
        AgentState::Refused { .. } => "not used: its socket is not to be trusted".to_owned(),
        AgentState::Silent { .. } => "does not answer".to_owned(),
    }
}

const fn keyring_in_words(state: &KeyringState) -> &'static str {
    match state {
        KeyringState::Forgets { .. } => "answers, but does not keep what it is given",
        KeyringState::Locked => "locked",
        KeyringState::NoBus { .. } => "none: there is no D-Bus session",
        KeyringState::NoCollection => "the service is there, but no default keyring",
        KeyringState::NoService { .. } => "none: nothing offers a Secret Service",
        KeyringState::Silent { .. } => "does not answer",
        KeyringState::Works => "works: an item was stored, read back and removed",
    }
}

fn bytes(size: u64) -> String {
    if size < 1024 { format!("{size} bytes") } else { format!("{} KiB", size.div_ceil(1024)) }
}

fn count(count: usize, what: &str) -> String {
    match (count, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (count, Some(stem)) => format!("{count} {stem}ies"),
        (count, None) => format!("{count} {what}s"),
    }
}
