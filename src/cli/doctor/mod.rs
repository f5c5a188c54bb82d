//! `tokenkeep doctor`: every cache on the machine, what is wrong with it, and putting that right.

mod json;
mod text;

use super::arguments::Doctor;
use super::caches::deadline;
use super::failure::Failure;
use super::output::{Output, printable};
use super::settings::Settings;
use crate::revocation::doctor::{
    Examination, ExaminationOptions, Finding, Repair, Repaired, examine, examine_again,
};
use crate::time::{Clock as _, SystemClock};

/// A repair may show what was hidden behind it: a folder that was not trusted, and then its caches.
const MOST_ROUNDS: usize = 4;

pub(super) fn run(arguments: &Doctor, settings: &Settings, output: Output) -> Result<(), Failure> {
    let mut options = ExaminationOptions::new(settings.places.clone(), SystemClock.now());
    options.authority = settings.authority.clone();
    options.disable_instance_discovery = settings.disable_instance_discovery;
    options.storage = settings.cache.storage;
    options.offline = arguments.offline;
    options.config = settings.config_file.clone();
    let mut examination = examine(&options);
    let mut outcomes = Vec::new();
    if !output.is_json() {
        text::everything(&examination, &options, output)?;
    }
    if arguments.repair && arguments.dry_run {
        outcomes =
            to_repair(&examination, &outcomes).map(|finding| Outcome::new(finding, "planned")).collect();
        if !output.is_json() {
            text::plan(&outcomes, output)?;
        }
    } else if arguments.repair {
        (examination, outcomes) = repair_all(arguments, &options, examination, output)?;
        if !output.is_json() {
            text::left(&examination, &outcomes, output)?;
        }
    }
    if output.is_json() {
        output.json(&json::report(&examination, arguments, &outcomes))?;
    }
    if examination.needs_attention() { Err(Failure::NeedsAttention) } else { Ok(()) }
}

/// What was done about a finding, or would be.
#[derive(Debug)]
struct Outcome {
    finding: Finding,
    what: &'static str,
    /// Where something went to, or why it failed.
    detail: Option<String>,
}

impl Outcome {
    fn new(finding: &Finding, what: &'static str) -> Self {
        Self { finding: finding.clone(), what, detail: None }
    }

    fn is_of(&self, finding: &Finding) -> bool {
        self.finding.sign == finding.sign
            && self.finding.subject == finding.subject
            && self.finding.entries == finding.entries
    }
}

/// Findings that can be repaired and that nobody has decided about yet.
fn to_repair<'a>(examination: &'a Examination, decided: &[Outcome]) -> impl Iterator<Item = &'a Finding> {
    let is_open = |finding: &&Finding| {
        finding.repair.is_some() && !decided.iter().any(|outcome| outcome.is_of(finding))
    };
    examination.findings.iter().filter(is_open).collect::<Vec<_>>().into_iter()
}

fn repair_all(
    arguments: &Doctor,
    options: &ExaminationOptions,
    mut examination: Examination,
    output: Output,
) -> Result<(Examination, Vec<Outcome>), Failure> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for round in 0..MOST_ROUNDS {
        let open: Vec<Finding> = to_repair(&examination, &outcomes).cloned().collect();
        if open.is_empty() {
            break;
        }
        if !arguments.yes && !output.has_person() {
            return Err(Failure::usage(
                "nobody is here to ask whether this may be repaired",
                "look at what would be done with --dry-run, then say --yes",
            ));
        }
        if round > 0 && !output.is_json() {
            text::findings(open.iter(), output)?;
        }
        for finding in open {
            outcomes.push(repair_one(arguments, &examination, finding, output)?);
        }
        examination = examine_again(options, examination);
    }
    Ok((examination, outcomes))
}

fn repair_one(
    arguments: &Doctor,
    examination: &Examination,
    finding: Finding,
    output: Output,
) -> Result<Outcome, Failure> {
    let plan = finding.repair.as_ref().map_or("nothing", Repair::describe);
    let subject = printable(&finding.subject).into_owned();
    if !arguments.yes && !output.ask(&format!("{subject}: {}; {plan}?", finding.sign.meaning), false)? {
        return Ok(Outcome { finding, what: "declined", detail: None });
    }
    let outcome = match examination.repair(&finding, deadline()) {
        Ok(Repaired::Done(detail)) => {
            let kept = detail
                .as_deref()
                .map_or_else(String::new, |place| format!("; it is kept as {}", printable(place)));
            output.remark(&format!("Repaired {}: {subject}{kept}", finding.sign.id))?;
            Outcome { finding, what: "repaired", detail }
        }
        Ok(_) => Outcome { finding, what: "not_needed", detail: None },
        Err(error) => {
            output.remark(&format!(
                "Not repaired: {}: {}",
                finding.sign.id,
                printable(&error.to_string())
            ))?;
            Outcome { finding, what: "failed", detail: Some(error.to_string()) }
        }
    };
    Ok(outcome)
}
