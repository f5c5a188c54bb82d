//! Talking to the person who signs in: the device code and the browser.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anstyle::{AnsiColor, Style};
use indicatif::ProgressBar;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use super::output::{FAINT, Output, STRONG, printable};
use crate::credential::{DeviceCodePrompt, Interaction};
use crate::entra::launch::Surroundings;

/// A sign-in as this process's standard error shows it.
#[derive(Debug)]
pub(super) struct Terminal {
    output: Output,
    /// Whether the address of a browser that cannot be started is shown for the person to open,
    /// rather than giving up.
    waits_without_browser: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Option<ProgressBar>,
    no_browser: Option<String>,
}

impl Terminal {
    pub(super) const fn new(output: Output) -> Self {
        let state = State { waiting: None, no_browser: None };
        Self { output, waits_without_browser: false, state: Mutex::new(state) }
    }

    /// The same for somebody who insists on the browser.
    pub(super) const fn waiting_without_browser(mut self) -> Self {
        self.waits_without_browser = true;
        self
    }

    /// Takes away what was shown while we waited.
    pub(super) fn finish(&self) {
        if let Some(waiting) = self.state().waiting.take() {
            waiting.finish_and_clear();
        }
    }

    /// Why no browser could be started, if that is why the sign-in failed.
    pub(super) fn no_browser(&self) -> Option<String> {
        self.state().no_browser.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interaction for Terminal {
    fn show_device_code(&self, prompt: &DeviceCodePrompt) -> io::Result<()> {
        let DeviceCodePrompt { user_code, verification_uri, verification_uri_complete, message, expires_on } =
            prompt;
        if !self.output.has_terminal() {
            let message = printable(message);
            let has_both =
                message.contains(user_code.as_str()) && message.contains(verification_uri.as_str());
            return if has_both {
                self.output.say(&message)
            } else {
                self.output.say(&plain_prompt(verification_uri, user_code))
            };
        }
        self.output.say(&code_box(verification_uri, user_code))?;
        // A camera does not type, so it gets the address with the code in it where there is one.
        let scanned = verification_uri_complete.as_ref().unwrap_or(verification_uri);
        if let Some(drawing) = qr_code(scanned, self.output.has_colour()) {
            self.output.say(&drawing)?;
        }
        self.state().waiting = Some(self.output.waiting(*expires_on));
        Ok(())
    }

    fn open_browser(&self, url: &str) -> io::Result<()> {
        // First of all, for some browsers take their time.
        self.output.say(&format!(
            "Continue in your browser. {FAINT}If none opens, open this address on this machine:{FAINT:#}\n  {url}"
        ))?;
        match Surroundings::of_this_process().open(url) {
            Ok(()) => Ok(()),
            Err(error) if self.waits_without_browser => self
                .output
                .say(&format!("No browser could be started ({error}), but that address still works")),
            Err(error) => {
                self.state().no_browser = Some(error.to_string());
                Err(error)
            }
        }
    }
}

fn plain_prompt(uri: &str, code: &str) -> String {
    format!("To sign in, open {} and enter the code {}", printable(uri), printable(code))
}

/// The address and the code in a frame.
fn code_box(uri: &str, code: &str) -> String {
    let rows = [("Open ", printable(uri)), ("Enter", printable(code))];
    let width_of = |value: &str| value.chars().count();
    let widest = rows.iter().map(|(_, value)| width_of(value)).max().unwrap_or(0);
    let frame = "─".repeat(widest + 11);
    let row = |(name, value): &(&str, std::borrow::Cow<'_, str>)| {
        let padding = " ".repeat(widest - width_of(value));
        format!("│  {FAINT}{name}{FAINT:#}  {STRONG}{value}{STRONG:#}{padding}  │")
    };
    let rows: Vec<String> = rows.iter().map(row).collect();
    format!("╭{frame}╮\n{}\n╰{frame}╯", rows.join("\n"))
}

/// The address for a telephone's camera; `None` if it is too long for one.
fn qr_code(uri: &str, colour: bool) -> Option<String> {
    let code = QrCode::new(uri).ok()?;
    let mut renderer = code.render::<Dense1x2>();
    if colour {
        let style = Style::new()
            .fg_color(Some(AnsiColor::Black.into()))
            .bg_color(Some(AnsiColor::BrightWhite.into()));
        let drawing = renderer.build();
        let lines = drawing.lines().map(|line| format!("{style}{line}{style:#}"));
        return Some(lines.collect::<Vec<_>>().join("\n"));
    }
    // Without colours most terminals are light on dark, so what is drawn is the light part.
    Some(renderer.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_stands_in_an_even_frame() {
        let drawing = code_box("https://microsoft.com/devicelogin", "ABCD-1234");
        let plain = anstream::adapter::strip_str(&drawing).to_string();
        assert_eq!(
            plain,
            "╭────────────────────────────────────────────╮\n\
             │  Open   https://microsoft.com/devicelogin  │\n\
             │  Enter  ABCD-1234                          │\n\
             ╰────────────────────────────────────────────╯"
        );
    }

    #[test]
    fn the_drawing_fits_a_small_terminal() {
        for colour in [false, true] {
            let drawing = qr_code("https://login.microsoft.com/device", colour).unwrap();
            assert!(drawing.lines().count() < 24, "{drawing}");
        }
    }

    #[test]
    fn what_the_provider_sends_cannot_steer_the_terminal() {
        assert!(!code_box("https://x/\u{1b}[2J", "A\u{7}").contains(['\u{7}']));
        assert_eq!(plain_prompt("u", "c\u{1b}"), "To sign in, open u and enter the code c\u{fffd}");
    }
}
