//! How somebody asks this program to end: SIGTERM, Ctrl-C, and whatever else [`ask`]s.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(unix)]
use libc::{SIGHUP, SIGINT, SIGTERM, c_int};

static ASKED_FOR: AtomicBool = AtomicBool::new(false);

/// The process that keeps this one is gone.
#[cfg(windows)]
static LEFT_ALONE: tokio::sync::Notify = tokio::sync::Notify::const_new();

/// Listens from now on, and is done once somebody wants this program to end.
pub(crate) fn asked_for() -> impl Future<Output = ()> {
    let (interrupted, terminated) = (interrupted(), terminated());
    async {
        tokio::select! {
            () = interrupted => {}
            () = terminated => {}
        }
    }
}

/// The same for Ctrl-C alone.
pub(crate) fn interrupted() -> impl Future<Output = ()> {
    #[cfg(unix)]
    let listening = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt());
    #[cfg(windows)]
    let listening = tokio::signal::windows::ctrl_c();
    come(listening.map(|mut signals| async move { signals.recv().await }))
}

/// What a system sends that ends programs.
#[cfg(unix)]
fn terminated() -> impl Future<Output = ()> {
    let listening = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    come(listening.map(|mut signals| async move { signals.recv().await }))
}

/// Ctrl-Break, the end of the console or of the machine, and of whoever keeps this program.
#[cfg(windows)]
fn terminated() -> impl Future<Output = ()> {
    use tokio::signal::windows;

    let stopped = come(windows::ctrl_break().map(|mut signals| async move { signals.recv().await }));
    let closed = come(windows::ctrl_close().map(|mut signals| async move { signals.recv().await }));
    let shut_down = come(windows::ctrl_shutdown().map(|mut signals| async move { signals.recv().await }));
    async {
        tokio::select! {
            () = stopped => {}
            () = closed => {}
            () = shut_down => {}
            () = LEFT_ALONE.notified() => {}
        }
    }
}

/// SIGHUP, heard from now on. It ends a program whose terminal is gone; else somebody wants it to read
/// anew what it read from files.
pub(crate) struct HangUps {
    #[cfg(unix)]
    signals: Option<tokio::signal::unix::Signal>,
}

impl HangUps {
    pub(crate) fn from_now_on() -> Self {
        #[cfg(unix)]
        let signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
        Self {
            #[cfg(unix)]
            signals: signals.ok(),
        }
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signals) = &mut self.signals
            && signals.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// Listens from now on, and is done once the terminal from which this program was started is gone.
pub(crate) fn left_by_the_terminal() -> impl Future<Output = ()> {
    #[cfg(unix)]
    let has_terminal = || std::fs::File::open("/dev/tty").is_ok();
    // The system tells of a console's end by itself.
    #[cfg(windows)]
    let has_terminal = || false;
    let (had_one, mut hang_ups) = (has_terminal(), HangUps::from_now_on());
    async move {
        loop {
            hang_ups.next().await;
            if had_one && !has_terminal() {
                return;
            }
        }
    }
}

async fn come(listening: io::Result<impl Future<Output = Option<()>>>) {
    match listening {
        Ok(signal) => _ = signal.await,
        // It cannot be listened for here, so the system's own way of ending us stays.
        Err(_) => std::future::pending().await,
    }
}

/// Asks this program to end, or notes that somebody did.
pub(crate) fn ask() {
    ASKED_FOR.store(true, Ordering::SeqCst);
}

/// Whether this program was [`ask`]ed to end.
pub(crate) fn was_asked_for() -> bool {
    ASKED_FOR.load(Ordering::SeqCst)
}

/// From now on a signal is noted also while nobody listens.
///
/// # Errors
/// When the system refuses.
#[cfg(unix)]
#[expect(unsafe_code, reason = "a signal handler")]
pub(crate) fn remember() -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // SAFETY: storing an atomic is allowed in a handler, and `ask` does no more.
        unsafe { signal_hook_registry::register(signal, ask) }?;
    }
    Ok(())
}

/// From now on the end of the process that keeps this one counts. That one holds the other end of its
/// standard input, and never says a word.
///
/// # Errors
/// When the system has no thread left.
#[cfg(windows)]
pub(crate) fn remember() -> io::Result<()> {
    let keeper = std::thread::Builder::new().name("tokenkeep-keeper".to_owned());
    keeper.spawn(|| {
        io::copy(&mut io::stdin(), &mut io::sink()).ok();
        ask();
        LEFT_ALONE.notify_one();
    })?;
    Ok(())
}

/// As long as it lives a signal ends this program at once, as it ends one that has only just started. A
/// hang-up does not: the program that takes this one's place reads everything anew.
#[cfg(unix)]
pub(super) struct AtOnce(Vec<(c_int, libc::sigaction)>);

#[cfg(unix)]
impl AtOnce {
    pub(super) fn from_now_on() -> io::Result<Self> {
        let actions = [(SIGINT, libc::SIG_DFL), (SIGTERM, libc::SIG_DFL), (SIGHUP, libc::SIG_IGN)];
        let set = |(signal, handler)| Ok((signal, replace(signal, &action(handler))?));
        actions.into_iter().map(set).collect::<io::Result<_>>().map(Self)
    }
}

#[cfg(unix)]
impl Drop for AtOnce {
    fn drop(&mut self) {
        for (signal, before) in &self.0 {
            replace(*signal, before).ok();
        }
    }
}

#[cfg(unix)]
#[expect(unsafe_code, reason = "an action has members that differ from system to system")]
fn action(handler: libc::sighandler_t) -> libc::sigaction {
    // SAFETY: numbers and an optional function; zeros are no flags and an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action
}

#[cfg(unix)]
#[expect(unsafe_code, reason = "sigaction takes pointers")]
fn replace(signal: c_int, action: &libc::sigaction) -> io::Result<libc::sigaction> {
    let mut before = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: both pointers are good, and `before` is written if the call succeeds.
    if unsafe { libc::sigaction(signal, action, before.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded.
    Ok(unsafe { before.assume_init() })
}
