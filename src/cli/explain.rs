//! `tokenkeep explain`: what an error means, and what to do about it.

use serde_json::{Value, json};

use super::arguments::Explain;
use super::failure::Failure;
use super::output::{Output, STRONG};
use super::{private_file, times};
use crate::entra::{self, Explanation, Sign};
use crate::time::UnixTime;

/// No error text that a person pastes is longer; whatever is, stands for its beginning.
const MAX_LENGTH: u64 = 1024 * 1024;

/// What is to be printed. Of a text from outside it holds numbers and a date, never a word.
#[derive(Default)]
struct Report {
    known: Vec<&'static Explanation>,
    unknown: Vec<u32>,
    valid_from: Option<UnixTime>,
}

pub(super) fn run(arguments: &Explain, output: Output) -> Result<(), Failure> {
    let report = if arguments.codes.iter().any(|code| code == "-") {
        if arguments.codes.len() > 1 {
            return Err(Failure::usage(
                "`-` reads the standard input, so nothing can stand beside it",
                "give either codes or `-`",
            ));
        }
        of_text(output)?
    } else {
        of_codes(&arguments.codes)?
    };
    if report.known.is_empty() {
        return Err(nothing_known(&report.unknown));
    }
    if output.is_json() {
        return output.json(&to_json(&report));
    }
    output.text(&in_words(&report))?;
    report.unknown.iter().try_for_each(|code| output.remark(&format!("Nothing is known about AADSTS{code}")))
}

fn of_codes(given: &[String]) -> Result<Report, Failure> {
    let mut report = Report::default();
    for text in given {
        let Some(code) = entra::code_named(text) else {
            return Err(Failure::usage(
                "only a number of the provider can be explained by itself, such as AADSTS50173",
                "give a whole error text on the standard input: tokenkeep explain -",
            ));
        };
        match entra::explain(code) {
            Some(explanation) => report.known.push(explanation),
            None => report.unknown.push(code),
        }
    }
    Ok(report)
}

fn of_text(output: Output) -> Result<Report, Failure> {
    if !output.may_read() {
        return Err(Failure::usage(
            "the text is on the standard input, which --no-input does not read",
            "give the number that stands in it: tokenkeep explain AADSTS50173",
        ));
    }
    let bytes = private_file::read_stdin(MAX_LENGTH)?;
    if bytes.len() as u64 > MAX_LENGTH {
        output.remark("The text is longer than a megabyte; its beginning is explained")?;
    }
    let text = String::from_utf8_lossy(&bytes);
    let entra::Findings { known, unknown } = entra::find_in(&text);
    Ok(Report { known, unknown, valid_from: entra::valid_from(&text) })
}

fn nothing_known(unknown: &[u32]) -> Failure {
    match unknown {
        [] => Failure::Unexplained {
            problem: "the text holds no number of the provider and no message that is known".to_owned(),
            hint: "look for AADSTS and a number in what the program logged".to_owned(),
        },
        [first, ..] => {
            let names: Vec<String> = unknown.iter().map(|code| format!("AADSTS{code}")).collect();
            Failure::Unexplained {
                problem: format!("nothing is known about {}", names.join(", ")),
                hint: format!("ask the provider: https://login.microsoftonline.com/error?code={first}"),
            }
        }
    }
}

/// Only what says that a grant is dead can say since when.
fn valid_from(report: &Report, explanation: &Explanation) -> Option<String> {
    let moment = report.valid_from.filter(|_| explanation.class == entra::Class::Dead)?;
    Some(times::rfc_3339(moment))
}

fn to_json(report: &Report) -> Value {
    let explained = report.known.iter().map(|explanation| {
        let (code, message) = match explanation.sign {
            Sign::Message { name, .. } => (None, Some(name)),
            Sign::Number(code) => (Some(format!("AADSTS{code}")), None),
        };
        json!({
            "code": code,
            "message": message,
            "class": explanation.class.as_str(),
            "meaning": explanation.meaning,
            "next_step": explanation.next_step,
            "valid_from": valid_from(report, explanation),
        })
    });
    let unknown = report.unknown.iter().map(|code| format!("AADSTS{code}"));
    json!({
        "version": 1,
        "explanations": explained.collect::<Vec<_>>(),
        "unknown": unknown.collect::<Vec<_>>(),
    })
}

fn in_words(report: &Report) -> String {
    let paragraphs = report.known.iter().map(|explanation| {
        let name = match explanation.sign {
            Sign::Message { name, .. } => name.to_owned(),
            Sign::Number(code) => format!("AADSTS{code}"),
        };
        let mut lines = vec![format!("{STRONG}{name}{STRONG:#}"), format!("  {}", explanation.meaning)];
        let since = valid_from(report, explanation);
        lines.extend(since.map(|moment| format!("  dead is what was issued before {moment}")));
        lines.push(format!("  next: {}", explanation.next_step));
        lines.join("\n")
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
