//! How these examples talk to a person: a line on stderr.

use std::io;

use tokenkeep::credential::{DeviceCodePrompt, Interaction};

/// Shows device codes on stderr; browsers are opened as the system does it.
#[derive(Debug)]
pub(crate) struct Terminal;

#[expect(clippy::print_stderr, reason = "this is where the person reads")]
impl Interaction for Terminal {
    fn show_device_code(&self, prompt: &DeviceCodePrompt) -> io::Result<()> {
        eprintln!("{}", prompt.message);
        Ok(())
    }
}
