//! `tokenkeep agent consent`: who waits for a person's word, and what was said before.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use super::super::arguments::ConsentCommand;
use super::super::failure::Failure;
use super::super::output::{FAINT, Output, STRONG, printable, table};
use super::super::settings::Settings;
use super::super::{runtime, times};
use super::present;
use crate::agent_client::AgentClient;
use crate::agent_client::protocol::{Consent, Consents, Question};
use crate::time::{self, Clock as _, SystemClock, UnixTime};

/// How soon a new question is seen.
const EVERY: Duration = Duration::from_millis(500);

pub(super) fn run(
    follow: bool,
    command: Option<&ConsentCommand>,
    settings: &Settings,
    output: Output,
) -> Result<(), Failure> {
    let client = present(settings)?;
    match command {
        None if follow => at_the_terminal(&client, output),
        None => show(&runtime::wait_for(client.consents())?, output),
        Some(ConsentCommand::Allow { id, lasting, once }) => {
            let holds = match lasting {
                Some(text) => Some(time::length(text)?),
                None => once.then_some(Duration::ZERO),
            };
            answer(&client, id, true, holds)?;
            report("allowed", id, "Allowed", output)
        }
        Some(ConsentCommand::Deny { id }) => {
            answer(&client, id, false, None)?;
            report("denied", id, "Denied", output)
        }
        Some(ConsentCommand::Forget { id, all: _ }) => {
            let forgotten = runtime::wait_for(client.forget_consent(id.as_deref()))?;
            if output.is_json() {
                return output.json(&json!({ "version": 1, "forgotten": forgotten }));
            }
            output.remark(&match forgotten {
                0 => "Nothing was remembered under that id".to_owned(),
                1 => "It is asked again".to_owned(),
                count => format!("{count} are asked again"),
            })
        }
    }
}

fn answer(client: &AgentClient, id: &str, allow: bool, holds: Option<Duration>) -> Result<(), Failure> {
    runtime::wait_for(client.answer_question(id, allow, holds))
}

fn report(what: &str, id: &str, sentence: &str, output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&json!({ "version": 1, "id": id, "answer": what }));
    }
    output.remark(sentence)
}

fn show(consents: &Consents, output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(consents);
    }
    let now = SystemClock.now();
    let mut parts = Vec::new();
    for question in &consents.open {
        parts.push(format!(
            "{STRONG}{}{STRONG:#} {}\n{FAINT}waits for {} more, {} requests{FAINT:#}",
            printable(&question.id),
            printable(&question.in_words(Duration::ZERO)),
            times::countdown(now.until(UnixTime::from_seconds(question.ends_at))),
            question.waiting,
        ));
    }
    if !consents.remembered.is_empty() {
        let rows: Vec<Vec<String>> = consents.remembered.iter().map(|consent| row(consent, now)).collect();
        parts.push(table(&["ID", "ANSWER", "FOR", "PROGRAM", "ACCOUNT", "TENANT", "SCOPES"], &rows));
    }
    if parts.is_empty() {
        return output.remark("Nobody waits for an answer, and none is remembered");
    }
    output.text(&parts.join("\n\n"))
}

fn row(consent: &Consent, now: UnixTime) -> Vec<String> {
    let cells = [
        consent.id.clone(),
        if consent.allowed { "yes" } else { "no" }.to_owned(),
        times::countdown(now.until(UnixTime::from_seconds(consent.until))),
        consent.programs.join(" by "),
        consent.account.username.clone(),
        consent.tenant.clone(),
        consent.scopes.join(" "),
    ];
    cells.iter().map(|cell| printable(cell).into_owned()).collect()
}

/// Asks the person here, one question after the other, until Ctrl-C.
fn at_the_terminal(client: &AgentClient, output: Output) -> Result<(), Failure> {
    if !output.has_person() {
        return Err(Failure::usage(
            "nobody is at this terminal to be asked",
            "answer by tokenkeep agent consent allow ID, or deny ID",
        ));
    }
    output.remark("Questions are asked here; Ctrl-C ends that")?;
    let mut asked = HashSet::new();
    loop {
        let asking = async {
            let question = next(client, &asked).await?;
            output.say(&printable(&question.in_words(Duration::ZERO))).map_err(Failure::Output)?;
            Ok::<_, Failure>((question.id, typed(output).await?))
        };
        let (id, allow) = match runtime::finish(asking) {
            Err(Failure::Cancelled) => return Ok(()),
            answered => answered??,
        };
        match runtime::finish(client.answer_question(&id, allow, None))? {
            Err(error) if error.kind() == "no_such_question" => {
                output.remark("It was answered elsewhere, or nobody waits for it any more")?;
            }
            answered => {
                answered?;
                output.remark(if allow { "Allowed" } else { "Denied" })?;
            }
        }
        asked.insert(id);
    }
}

/// What the person types. Nobody waits for that any more after Ctrl-C, which a read would not notice.
async fn typed(output: Output) -> Result<bool, Failure> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || answer.send(output.ask("Allow it?", false)));
    answered.await.unwrap_or(Err(Failure::Cancelled))
}

async fn next(client: &AgentClient, asked: &HashSet<String>) -> Result<Question, Failure> {
    loop {
        let open = client.consents().await?.open;
        if let Some(question) = open.into_iter().find(|question| !asked.contains(&question.id)) {
            return Ok(question);
        }
        tokio::time::sleep(EVERY).await;
    }
}
