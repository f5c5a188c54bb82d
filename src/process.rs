//! What a process that holds keys asks of the kernel.

#[cfg(feature = "cli")]
pub(crate) mod ending;
#[cfg(all(feature = "cli", unix))]
mod peer;
#[cfg(all(feature = "cli", windows))]
#[path = "process/windows.rs"]
mod platform;
#[cfg(feature = "cli")]
mod program;
#[cfg(feature = "cli")]
mod resident;

#[cfg(feature = "cli")]
use std::io;
#[cfg(all(feature = "cli", unix))]
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
#[cfg(all(feature = "cli", unix))]
use std::process::Command;
#[cfg(all(feature = "cli", unix))]
use std::time::Duration;

#[cfg(all(feature = "cli", unix))]
use rustix::io::FdFlags;

#[cfg(all(feature = "cli", unix))]
pub(crate) use self::peer::{Credentials, credentials_of, peer_of};
#[cfg(all(feature = "cli", windows))]
pub(crate) use self::platform::{
    ANEW, DETACHED, READY, begin_anew, close_stdout, harden, keep_standard_handles, name_anew, since_boot,
};
#[cfg(all(feature = "cli", any(windows, all(test, target_os = "linux"))))]
pub(crate) use self::program::handle_of;
#[cfg(all(test, feature = "cli", target_os = "linux"))]
pub(crate) use self::program::tests::start;
#[cfg(feature = "cli")]
pub(crate) use self::program::{FileId, Handle, Program, Stands, lives, look_at, runs};
#[cfg(feature = "cli")]
pub(crate) use self::resident::let_go_of_idle_code;

/// Asks for these bytes to stay out of the swap. A limit on locked memory may refuse; then they
/// are as safe as the rest of the process.
///
/// Never undone: the same page may hold another key, and unlocking would expose that one, too.
#[cfg(unix)]
#[expect(unsafe_code, reason = "mlock takes a raw range")]
pub(crate) fn keep_out_of_swap(bytes: &mut [u8]) {
    // SAFETY: the range is the slice's own; mlock neither reads nor writes it.
    let locked = unsafe { rustix::mm::mlock(bytes.as_mut_ptr().cast(), bytes.len()) };
    if let Err(error) = locked {
        tracing::debug!(%error, "a key could not be kept out of the swap");
    }
}

#[cfg(windows)]
pub(crate) fn keep_out_of_swap(bytes: &mut [u8]) {
    if let Err(error) = crate::windows::memory::keep(bytes) {
        tracing::debug!(%error, "a key could not be kept out of the paging file");
    }
}

/// Closes this process's memory to other programs of the same user, and to core dumps.
///
/// On Linux no debugger may attach and nobody but root may read `/proc/PID/mem`. Elsewhere only core
/// dumps are refused. It ends with the program: one that takes its place has to ask again.
#[cfg(all(feature = "cli", unix))]
pub(crate) fn harden() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps are not ruled out");
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        // The limit does not hold for dumps that go to a program; this does.
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!(%error, "other programs of this user may read the memory");
        }
    }
}

/// The limit on core dumps that a program had before [`keep_out_of_cores`].
#[cfg(all(feature = "cli", unix))]
#[derive(Debug)]
pub(crate) struct CoreLimit(rustix::process::Rlimit);

/// Rules out core dumps of this process. Unlike [`harden`] it can be undone for a child, and leaves
/// this process visible to the user's other programs: the agent has to see that a front door is ours.
#[cfg(all(feature = "cli", unix))]
pub(crate) fn keep_out_of_cores() -> CoreLimit {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Core);
    // Linux dumps nothing then, not even to a program, which a limit of 0 would not keep it from.
    #[cfg(target_os = "linux")]
    let most = before.maximum.map_or(1, |most| most.min(1));
    #[cfg(not(target_os = "linux"))]
    let most = 0;
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(most), ..before }) {
        tracing::warn!(%error, "core dumps are not ruled out");
    }
    CoreLimit(before)
}

/// Gives the child the limit that this process had: whether it may dump its core is its own matter.
#[cfg(all(feature = "cli", unix))]
#[expect(unsafe_code, reason = "the limit is the child's from its start, so it is set after the fork")]
pub(crate) fn as_it_was(command: &mut tokio::process::Command, CoreLimit(before): CoreLimit) {
    // SAFETY: one system call, which takes no lock and no memory.
    unsafe {
        command.pre_exec(move || Ok(rustix::process::setrlimit(rustix::process::Resource::Core, before)?))
    };
}

/// The time since the machine was started. It goes on while the machine sleeps, and nobody sets it.
#[cfg(all(feature = "cli", unix))]
pub(crate) fn since_boot() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    // macOS counts sleep by this one.
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Why a program did not begin anew.
#[cfg(feature = "cli")]
#[derive(Debug)]
pub(crate) enum NotBegun {
    /// Somebody wants it to end instead.
    Ending,
    /// The system refused.
    Failed(io::Error),
}

/// Becomes the program that it is already, from its start and with nothing of its memory: the same
/// process and environment, `arguments`, and of all descriptors the standard ones and those that
/// [`outlive`] was called for. Returns only what kept it from that.
#[cfg(all(feature = "cli", unix))]
pub(crate) fn begin_anew(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> NotBegun {
    use std::os::unix::process::CommandExt as _;
    let mut own = std::env::args_os();
    // This very file, even if a newer one has its name by now.
    #[cfg(target_os = "linux")]
    let program = Ok(std::path::PathBuf::from("/proc/self/exe"));
    #[cfg(not(target_os = "linux"))]
    let program = std::env::current_exe();
    let program = match program {
        Ok(program) => program,
        Err(error) => return NotBegun::Failed(error),
    };
    let mut command = Command::new(program);
    if let Some(name) = own.next() {
        command.arg0(name);
    }
    command.args(arguments);
    // A handler of ours would take what comes now, and be gone with it.
    let _at_once = match ending::AtOnce::from_now_on() {
        Ok(at_once) => at_once,
        Err(error) => return NotBegun::Failed(error),
    };
    if ending::was_asked_for() { NotBegun::Ending } else { NotBegun::Failed(command.exec()) }
}

/// The kernel calls a process by its file's name, which was `exe` if it began anew.
#[cfg(all(feature = "cli", unix))]
pub(crate) fn name_anew(name: &str) {
    #[cfg(target_os = "linux")]
    std::fs::write("/proc/self/comm", name).ok();
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}

/// Leaves the descriptor open for the program that takes this one's place.
#[cfg(all(feature = "cli", unix))]
pub(crate) fn outlive(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?)
}

/// Takes over what the program before this one left open under the number, for this one alone.
///
/// # Errors
/// If nothing is open there. The standard descriptors are nobody's to take.
#[cfg(all(feature = "cli", unix))]
#[expect(unsafe_code, reason = "a descriptor that was left open is known by its number only")]
pub(crate) fn take_over(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is no -1, and it is only looked at: the call fails if nothing is open there.
    let open = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(open, FdFlags::CLOEXEC)?;
    // SAFETY: it is open. It is taken at the start, when this program has opened nothing that lasts.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
