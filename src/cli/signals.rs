//! Signals that are meant for the program that we started.

use std::io;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, c_int, siginfo_t};

/// What people and supervisors send to end or steer a program.
const PASSED_ON: [c_int; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// The child, once it runs; 0 before and after.
static CHILD: AtomicI32 = AtomicI32::new(0);
/// What came before it ran, a bit each.
static EARLY: AtomicU32 = AtomicU32::new(0);

/// From now on signals do not end us, but wait for the child. One that we were started to ignore,
/// as `nohup` does, stays ignored, and so the child ignores it, too.
///
/// # Errors
/// When the system refuses.
pub(super) fn hold() -> io::Result<()> {
    for signal in PASSED_ON {
        if !is_ignored(signal)? {
            register(signal)?;
        }
    }
    Ok(())
}

/// Passes signals on to the child, and first those that came before it ran.
pub(super) fn pass_on_to(child: u32) {
    CHILD.store(child.cast_signed(), Ordering::SeqCst);
    let early = EARLY.swap(0, Ordering::SeqCst);
    for signal in PASSED_ON.into_iter().filter(|signal| early & bit(*signal) != 0) {
        send(child.cast_signed(), signal);
    }
}

/// The child has ended, and its number may be another process's soon.
pub(super) fn child_ended() {
    CHILD.store(0, Ordering::SeqCst);
}

const fn bit(signal: c_int) -> u32 {
    1 << signal
}

/// Runs in a signal handler: atomics and `kill`, which are safe there, and nothing else.
fn on_signal(signal: c_int, from_terminal: bool) {
    // a key of the terminal reaches the child by itself, as a member of the same group
    if from_terminal {
        return;
    }
    match CHILD.load(Ordering::SeqCst) {
        0 => {
            EARLY.fetch_or(bit(signal), Ordering::SeqCst);
        }
        child => send(child, signal),
    }
}

#[expect(unsafe_code, reason = "a signal handler that sees who sent the signal")]
fn register(signal: c_int) -> io::Result<()> {
    let action = move |info: &siginfo_t| on_signal(signal, is_from_terminal(info));
    // SAFETY: the action does only what is allowed in a handler, see `on_signal`.
    unsafe { signal_hook_registry::register_sigaction(signal, action) }.map(drop)
}

/// A process of another namespace has no number here, so on Linux the kernel's own mark counts.
#[cfg(target_os = "linux")]
const fn is_from_terminal(info: &siginfo_t) -> bool {
    info.si_code == libc::SI_KERNEL
}

#[cfg(not(target_os = "linux"))]
#[expect(unsafe_code, reason = "who sent a signal is in a union")]
fn is_from_terminal(info: &siginfo_t) -> bool {
    // SAFETY: every signal that we register for carries its sender, or 0.
    unsafe { info.si_pid() == 0 }
}

#[expect(unsafe_code, reason = "kill takes no pointer, but libc calls it unsafe")]
fn send(child: libc::pid_t, signal: c_int) {
    // SAFETY: two numbers; the child is ours and not yet waited for.
    unsafe { libc::kill(child, signal) };
}

#[expect(unsafe_code, reason = "sigaction writes what it finds to a pointer")]
fn is_ignored(signal: c_int) -> io::Result<bool> {
    let mut found = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null action only asks; `found` is written if that succeeds.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), found.as_mut_ptr()) };
    if asked != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded.
    Ok(unsafe { found.assume_init() }.sa_sigaction == libc::SIG_IGN)
}
