//! Programs under strace: what they asked of the system, and what they do when it refuses, kills or
//! stops them in the middle of a change.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::run::{Run, run};

/// The same program with the same variables, started by another one.
pub(crate) fn through(wrapper: &mut Command, command: &Command) {
    wrapper.arg(command.get_program()).args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapper.env(name, value);
        }
    }
}

/// What a program came to under strace, and each system call that was looked at, a line each.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) run: Run,
    pub(crate) calls: Vec<String>,
}

impl Trace {
    /// Runs the program, threads and all, with options of strace such as `-e trace=connect`.
    pub(crate) fn of(command: &Command, options: &[impl AsRef<OsStr>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let run = run(&mut strace(command, options, &log));
        let text = std::fs::read(&log).unwrap_or_else(|error| panic!("no trace: {error}: {run:?}"));
        let calls = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
        Self { run, calls }
    }

    /// Whether a fault was injected at all.
    pub(crate) fn was_hit(&self) -> bool {
        // a kill leaves the call unfinished and the program's end in the trace
        self.calls.iter().any(|call| call.contains("(INJECTED)") || call.contains("+++ killed by SIGKILL"))
    }

    pub(crate) fn find(&self, text: &str) -> Vec<&str> {
        self.calls.iter().map(String::as_str).filter(|call| call.contains(text)).collect()
    }

    /// Where the last call that contains the text stands.
    #[track_caller]
    pub(crate) fn last(&self, text: &str) -> usize {
        let place = self.calls.iter().rposition(|call| call.contains(text));
        place.unwrap_or_else(|| panic!("no {text}: {:#?}", self.calls))
    }
}

/// `-P` options: only system calls that touch one of these paths are looked at.
pub(crate) fn touching(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().flat_map(|path| ["-P".to_owned(), path.display().to_string()]).collect()
}

fn strace(command: &Command, options: &[impl AsRef<OsStr>], log: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-q", "-o"]).arg(log).args(options).arg("--");
    through(&mut strace, command);
    strace
}

/// A program that stands still in the middle of something, and holds what it holds.
pub(crate) struct Stopped {
    child: Child,
    log: TempDir,
}

impl Stopped {
    /// Starts the program and waits until it has stopped in a system call, such as `rename` or, the
    /// second one, `openat:when=2`; options say which ones count.
    pub(crate) fn at(call: &str, command: &Command, options: &[impl AsRef<OsStr>]) -> Self {
        let log = tempfile::tempdir().unwrap();
        let (name, when) = call.split_once(':').unwrap_or((call, "when=1"));
        // -D: our child is the program and not strace
        let mut all = vec!["-D".to_owned(), "-e".to_owned(), format!("trace={name}")];
        all.extend(["-e".to_owned(), format!("inject={name}:signal=SIGSTOP:{when}")]);
        all.extend(options.iter().map(|option| option.as_ref().to_str().unwrap().to_owned()));
        let mut strace = strace(command, &all, &log.path().join("log"));
        let child =
            strace.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stopped = Self { child, log };
        let started = Instant::now();
        while !stopped.is_stopped() {
            let end = stopped.child.try_wait().unwrap();
            assert!(end.is_none(), "it ended before it stopped in {call}: {end:?}");
            assert!(started.elapsed() < Duration::from_secs(60), "it does not stop in {call}");
            std::thread::yield_now();
        }
        stopped
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As strace has seen it: while traced, a process looks stopped at every call.
    fn is_stopped(&self) -> bool {
        let log = std::fs::read_to_string(self.log.path().join("log")).unwrap_or_default();
        log.contains("--- stopped by SIGSTOP ---")
    }

    /// Lets it go on to its end.
    pub(crate) fn resume(self) -> Run {
        self.send(Signal::CONT);
        Run::of(self.child.wait_with_output().unwrap(), "a stopped program")
    }

    /// How it ended, if it has.
    pub(crate) fn end(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub(crate) fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}
