//! A line that somebody types at the terminal without its being shown.

use std::io;

use secrecy::SecretString;

/// Asks on the terminal itself, whatever the standard input is.
///
/// # Errors
/// [`io::ErrorKind::Interrupted`] for Ctrl-C, [`io::ErrorKind::UnexpectedEof`] for Ctrl-D, and what
/// the terminal says.
#[cfg(unix)]
pub(super) fn ask(question: &str) -> io::Result<SecretString> {
    use std::fs::File;
    use std::io::{BufRead as _, BufReader, Write as _};

    use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
    use zeroize::Zeroizing;

    const CTRL_C: u8 = 3;

    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let mut hidden = tcgetattr(&terminal)?;
    let restore = Restore { terminal: &terminal, shown: hidden.clone() };
    // as a signal, Ctrl-C would end the program and leave the terminal without an echo
    hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ISIG);
    hidden.special_codes[SpecialCodeIndex::VEOL] = CTRL_C;
    tcsetattr(&terminal, OptionalActions::Now, &hidden)?;
    (&terminal).write_all(question.as_bytes())?;

    // long enough for what a terminal takes as one line, so that no part of it is moved and left
    let mut line = Zeroizing::new(Vec::with_capacity(8192));
    let mut input = BufReader::with_capacity(1, &terminal);
    while !matches!(line.last(), Some(b'\n' | &CTRL_C)) {
        let available = input.fill_buf()?;
        let Some(byte) = available.first() else { break };
        line.push(*byte);
        input.consume(1);
    }
    drop(restore);
    (&terminal).write_all(b"\n")?;
    match line.last() {
        None => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(&CTRL_C) => Err(io::ErrorKind::Interrupted.into()),
        Some(_) => {
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            let text = std::str::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData)?;
            Ok(SecretString::from(text))
        }
    }
}

/// Shows what is typed again, on every way out.
#[cfg(unix)]
struct Restore<'t> {
    terminal: &'t std::fs::File,
    shown: rustix::termios::Termios,
}

#[cfg(unix)]
impl Drop for Restore<'_> {
    fn drop(&mut self) {
        let now = rustix::termios::OptionalActions::Now;
        let _restored = rustix::termios::tcsetattr(self.terminal, now, &self.shown);
    }
}

/// Asks on the console.
///
/// # Errors
/// What the console says.
#[cfg(not(unix))]
pub(super) fn ask(question: &str) -> io::Result<SecretString> {
    use zeroize::Zeroize as _;

    let mut text = rpassword::prompt_password(question)?;
    let secret = SecretString::from(text.as_str());
    text.zeroize();
    Ok(secret)
}
