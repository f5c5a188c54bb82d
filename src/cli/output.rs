//! The only place that writes to the standard output and the standard error.
//!
//! Standard output is data; standard error is for people, and an error comes last there.

use std::borrow::Cow;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;
use zeroize::Zeroizing;

use super::failure::{Failure, usage_json};
use super::times;
use crate::text::steers;
use crate::time::{Clock as _, SystemClock, UnixTime};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();
pub(super) const STRONG: Style = Style::new().bold();
pub(super) const FAINT: Style = Style::new().dimmed();

/// How this call talks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
    quiet: bool,
    no_input: bool,
}

impl Output {
    pub(super) const fn new(json: bool, quiet: bool, no_input: bool) -> Self {
        Self { json, quiet, no_input }
    }

    /// Whether results and failures are to be JSON.
    pub(super) const fn is_json(self) -> bool {
        self.json
    }

    /// Whether only what was asked for is to be said.
    pub(super) const fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Prints bytes as they are: tokens, records, scripts.
    pub(super) fn raw(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(Failure::Output)
    }

    /// Prints a result as one JSON text. What is written is wiped, for it may hold a token.
    pub(super) fn json(self, value: &impl Serialize) -> Result<(), Failure> {
        self.raw(&json_text(value)?)
    }

    /// Prints a result for people; colour is left out where it would not be seen.
    pub(super) fn text(self, text: &str) -> Result<(), Failure> {
        writeln!(anstream::stdout(), "{text}").map_err(Failure::Output)
    }

    /// Says something that was not asked for, unless it should be quiet.
    pub(super) fn remark(self, text: &str) -> Result<(), Failure> {
        if self.quiet { Ok(()) } else { self.say(text).map_err(Failure::Output) }
    }

    /// Says something that a person must see.
    pub(super) fn say(self, text: &str) -> io::Result<()> {
        writeln!(anstream::stderr(), "{text}")
    }

    /// Whether a person is there to read and to answer.
    pub(super) fn has_person(self) -> bool {
        !self.no_input && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Whether the standard input may be read.
    pub(super) const fn may_read(self) -> bool {
        !self.no_input
    }

    /// Whether what is said to people goes to a terminal.
    pub(super) fn has_terminal(self) -> bool {
        io::stderr().is_terminal()
    }

    /// Whether colours are shown to people.
    pub(super) fn has_colour(self) -> bool {
        anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
    }

    /// Asks once; anything but the answer that stands for yes or no is the default.
    pub(super) fn ask(self, question: &str, default: bool) -> Result<bool, Failure> {
        let choices = if default { "[Y/n]" } else { "[y/N]" };
        write!(anstream::stderr(), "{question} {choices} ").map_err(Failure::Output)?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map_err(Failure::file("reading", "the terminal"))?;
        Ok(match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => true,
            "n" | "no" => false,
            // The end of the input is no answer; the safe thing is to do nothing.
            _ => default && !answer.is_empty(),
        })
    }

    /// Shows that we wait for a person, and how long they still have. Only on a terminal.
    pub(super) fn waiting(self, until: UnixTime) -> ProgressBar {
        if !self.has_terminal() {
            return ProgressBar::hidden();
        }
        let left = move |_: &ProgressState, text: &mut dyn std::fmt::Write| {
            text.write_str(&times::countdown(SystemClock.now().until(until))).ok();
        };
        let style = ProgressStyle::with_template("{spinner} waiting for you to sign in, {left} left")
            .unwrap_or_else(|_| ProgressStyle::default_spinner())
            .with_key("left", left);
        let bar = ProgressBar::new_spinner().with_style(style);
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        bar
    }

    /// Shows how far something that takes its time has come. Only on a terminal.
    pub(super) fn progress(self, length: usize, what: &'static str) -> ProgressBar {
        if !self.has_terminal() || self.quiet {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg} {pos}/{len}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(length as u64).with_style(style).with_message(what)
    }

    /// Tells a failure: its text, what was removed on the way, and last the next step.
    pub(super) fn failure(self, failure: &Failure, to_repeat: &[String]) {
        if failure.is_broken_pipe() || matches!(failure, Failure::NeedsAttention) {
            return;
        }
        if self.json {
            self.json(&failure.to_json(to_repeat)).ok();
            return;
        }
        let mut stderr = anstream::stderr();
        writeln!(stderr, "{ERROR}error:{ERROR:#} {}", printable(&failure.message())).ok();
        for removed in failure.removed() {
            writeln!(stderr, "{STRONG}removed:{STRONG:#} {}", printable(&removed)).ok();
        }
        if let Some(hint) = failure.hint(to_repeat) {
            writeln!(stderr, "{HINT}hint:{HINT:#} {}", printable(&hint)).ok();
        }
    }

    /// Prints help or a version, or tells what is wrong with the command line.
    pub(super) fn usage(self, error: &clap::Error) {
        if !error.use_stderr() {
            write!(anstream::stdout(), "{}", error.render().ansi()).ok();
        } else if self.json {
            self.json(&usage_json(error)).ok();
        } else {
            write!(anstream::stderr(), "{}", error.render().ansi()).ok();
        }
    }
}

/// Ends the standard output for whoever reads it, while this process goes on.
#[cfg(unix)]
pub(super) fn close_stdout() -> io::Result<()> {
    Ok(rustix::stdio::dup2_stdout(std::fs::File::options().write(true).open("/dev/null")?)?)
}

#[cfg(windows)]
pub(super) use crate::process::close_stdout;

/// The value as indented JSON and a new line.
pub(super) fn json_text(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Room for a large token, so that no half of one is left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(16 * 1024));
    serde_json::to_writer_pretty(&mut *text, value).map_err(|error| Failure::Output(error.into()))?;
    text.push(b'\n');
    Ok(text)
}

/// The text without what could steer a terminal: names and messages come from elsewhere.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c != '\n' && steers(c);
    if text.contains(harmful) { text.replace(harmful, "\u{fffd}").into() } else { text.into() }
}

/// Columns under headings, aligned by what is seen.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width_of = |cell: &str| cell.chars().count();
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(column, heading)| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| width_of(cell));
            cells.max().unwrap_or(0).max(width_of(heading))
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let heading = line(&mut headings.iter().copied());
    let mut lines = vec![format!("{STRONG}{heading}{STRONG:#}")];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(|cell| &**cell))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(printable("user\u{1b}[2J\r\nx"), "user\u{fffd}[2J\u{fffd}\nx");
        assert_eq!(printable("üser@contoso.example"), "üser@contoso.example");
    }

    #[test]
    fn a_table_is_aligned_by_characters() {
        let rows = vec![
            vec!["üser@contoso.example".to_owned(), "t".to_owned(), "x".to_owned()],
            vec!["a".to_owned(), "tenant".to_owned(), String::new()],
        ];
        let plain = anstream::adapter::strip_str(&table(&["USERNAME", "TENANT", ""], &rows)).to_string();
        assert_eq!(
            plain,
            "USERNAME              TENANT\n\
             üser@contoso.example  t       x\n\
             a                     tenant"
        );
    }
}
