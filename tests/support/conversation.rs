//! Somebody at a terminal who answers what is asked, once it is asked.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::run::Run;
use super::traced::through;

/// What is typed once the terminal shows `question`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) question: &'static str,
    pub(crate) typed: &'static str,
}

/// Runs the program on a terminal of its own of 100 columns. A question for something secret is
/// answered only once the terminal shows no more what is typed. All that the terminal showed is
/// the run's standard output; its standard error tells whether what is typed is shown again.
pub(crate) fn converse(command: &Command, answers: &[Answer]) -> Run {
    on_its_terminal(command, answers, true)
}

/// The same where nothing that is typed is secret.
pub(crate) fn converse_openly(command: &Command, answers: &[Answer]) -> Run {
    on_its_terminal(command, answers, false)
}

fn on_its_terminal(command: &Command, answers: &[Answer], is_secret: bool) -> Run {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let size = Winsize { ws_row: 50, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, size).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let side = || Stdio::from(File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap());
    // held, so that the terminal's state can be looked at after the program has ended
    let held = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();

    let mut session = Command::new("setsid");
    session.args(["--ctty", "--wait", "--"]);
    through(&mut session, command);
    session.env("TERM", "xterm-256color");
    let mut child = session.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
    drop(session);

    let mut screen = File::from(terminal.as_fd().try_clone_to_owned().unwrap());
    let (sender, shown) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        // the kernel says EIO once nobody has the other side open
        while let Ok(length @ 1..) = screen.read(&mut bytes) {
            if sender.send(bytes[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    let given_up = Instant::now() + Duration::from_secs(30);
    let (mut output, mut answered) = (Vec::new(), 0);
    for Answer { question, typed } in answers {
        while !String::from_utf8_lossy(&output[answered..]).contains(question) {
            let left = given_up.saturating_duration_since(Instant::now());
            let next = shown.recv_timeout(left);
            output.extend(next.unwrap_or_else(|_| panic!("no {question:?} in {}", lossy(&output))));
        }
        while is_secret && has_echo(&terminal) {
            assert!(Instant::now() < given_up, "{question:?} is answered for all to see");
            std::thread::sleep(Duration::from_millis(1));
        }
        answered = output.len();
        File::from(terminal.as_fd().try_clone_to_owned().unwrap()).write_all(typed.as_bytes()).unwrap();
    }
    let status = loop {
        output.extend(shown.try_iter().flatten());
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > given_up {
            child.kill().unwrap();
            panic!("it waits for more: {}", lossy(&output));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let echo = has_echo(&terminal);
    drop(held);
    reader.join().unwrap();
    output.extend(shown.iter().flatten());
    let code = status.code();
    Run::shown_on_a_terminal(code, lossy(&output), echo)
}

fn has_echo(terminal: &impl AsFd) -> bool {
    tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ECHO)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
