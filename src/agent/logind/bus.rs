//! The same over the system bus.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SelectAll, select_all};
use futures_util::{FutureExt as _, StreamExt as _};
use rustix::io::{FdFlags, fcntl_setfd};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use zbus::message::Type;
use zbus::names::UniqueName;
use zbus::zvariant::{self, OwnedObjectPath, OwnedValue};
use zbus::{Connection, MatchRule, Message, MessageStream, connection};

use super::{Delay, LockOn};
use crate::agent::chosen::InForce;
use crate::agent::session::Session;
use crate::agent_client::place::own_uid;
use crate::agent_client::protocol::{LockReason, State};

const NAME: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SESSION: &str = "org.freedesktop.login1.Session";
const SESSIONS: &str = "/org/freedesktop/login1/session";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const BUS: &str = "org.freedesktop.DBus";

/// What is said of an object that is not there; which one depends on the library that says it.
const GONE: [&str; 2] =
    ["org.freedesktop.DBus.Error.UnknownMethod", "org.freedesktop.DBus.Error.UnknownObject"];

/// A bus or a logind that does not answer in this time does not work.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the system's bus is unless the environment says otherwise (D-Bus Specification, "System message bus").
const USUAL_SOCKET: &str = "/var/run/dbus/system_bus_socket";

/// How long it is until the bus is looked for again; twice as long after each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// For how long a bus is looked for that was never there.
const LONGEST_SEARCH: Duration = Duration::from_secs(60 * 60);

/// A lock of logind's on sleep, which ends with its descriptor.
#[derive(Debug)]
pub(crate) struct Inhibitor {
    _descriptor: OwnedFd,
}

pub(super) async fn watch(session: Arc<Session>, mut chosen: watch::Receiver<Arc<InForce>>, delay: &Delay) {
    // Whoever unlocks it while a screen is locked means it; a start is nobody's word.
    let known = (session.state() == State::Unlocked).then(HashSet::new);
    session.unlocked().await;
    let mut listener = Listener { delay, known, was_there: false };
    loop {
        let on = chosen.borrow_and_update().lock_on;
        tokio::select! {
            because = listener.reason(on) => return session.lock(because).await,
            // What puts a sleep off is held until the next one is.
            Ok(()) = chosen.wait_for(|now| now.lock_on != on).map(|other| other.map(drop)) => {}
        }
    }
}

/// What is kept from one logind to the next.
struct Listener<'a> {
    delay: &'a Delay,
    /// Sessions whose lock is no reason any more; `None` while that is not known.
    known: Option<HashSet<OwnedObjectPath>>,
    was_there: bool,
}

impl Listener<'_> {
    /// Waits for a reason to lock, for ever if that is wanted for nothing or there is no logind.
    async fn reason(&mut self, on: LockOn) -> LockReason {
        if on == (LockOn { session_lock: false, suspend: false }) {
            self.delay.take();
            return pending().await;
        }
        while let Some((mut logind, inhibitor)) = look_for(self.was_there, || Logind::listen(on)).await {
            self.was_there = true;
            self.delay.replace(inhibitor);
            match logind.wait(on, &mut self.known).await {
                Ok(because) => return because,
                Err(error) => tracing::warn!(%error, "no suspend or session lock is heard of for now"),
            }
            // What is not heard of would only be held up.
            self.delay.take();
            sleep(FIRST_PAUSE).await;
        }
        pending().await
    }
}

/// Tries until it works. Where there never was a logind there may be none, so that ends.
async fn look_for<T, F: Future<Output = zbus::Result<T>>>(
    was_there: bool,
    mut listen: impl FnMut() -> F,
) -> Option<T> {
    let (mut pause, mut waited) = (FIRST_PAUSE, Duration::ZERO);
    loop {
        let error = match listen().await {
            Ok(found) => return Some(found),
            Err(error) => error,
        };
        if waited.is_zero() {
            tracing::debug!(%error, "logind is out of reach: nothing but the clocks locks by itself");
        }
        if !was_there && waited >= LONGEST_SEARCH {
            return None;
        }
        sleep(pause).await;
        waited += pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A logind that answers.
struct Logind {
    bus: Connection,
    signals: SelectAll<MessageStream>,
    /// Who it is on the bus: anybody may send a signal that looks the same.
    owner: UniqueName<'static>,
    /// The machine was about to sleep already.
    is_suspending: bool,
}

impl Logind {
    /// Listens first, and puts sleep off then, so that none goes by unheard.
    async fn listen(on: LockOn) -> zbus::Result<(Self, Option<Inhibitor>)> {
        // Where there is none, as in a container, looking for it again and again stays as cheap as that.
        let is_elsewhere = std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS").is_some();
        if !is_elsewhere && !Path::new(USUAL_SOCKET).exists() {
            return Err(zbus::Error::Failure(format!("there is no {USUAL_SOCKET}")));
        }
        let building = connection::Builder::system()?.method_timeout(PATIENCE).build();
        let bus = timeout(PATIENCE, building).await.map_err(|_| timed_out())??;
        let mut signals = Vec::new();
        for rule in rules(on)? {
            let stream = MessageStream::for_match_rule(rule, &bus, None);
            signals.push(timeout(PATIENCE, stream).await.map_err(|_| timed_out())??);
        }
        let asked = (MANAGER, "PreparingForSleep");
        let answer = bus.call_method(Some(NAME), PATH, Some(PROPERTIES), "Get", &asked).await?;
        let owner = answer.header().sender().map(UniqueName::to_owned);
        let owner = owner.ok_or_else(|| zbus::Error::Failure("an answer of nobody's".to_owned()))?;
        let is_suspending = bool::try_from(answer.body().deserialize::<OwnedValue>()?)?;
        let inhibitor = if on.suspend { inhibitor(&bus).await } else { None };
        Ok((Self { bus, signals: select_all(signals), owner, is_suspending }, inhibitor))
    }

    /// Waits for a reason to lock. A session that is locked already is one unless it is `known` to be;
    /// while nothing is known, it becomes so.
    ///
    /// # Errors
    /// When logind is gone, or another one came.
    async fn wait(
        &mut self,
        on: LockOn,
        known: &mut Option<HashSet<OwnedObjectPath>>,
    ) -> zbus::Result<LockReason> {
        if on.suspend && self.is_suspending {
            return Ok(LockReason::Suspend);
        }
        if on.session_lock {
            let locked = self.locked_sessions().await?;
            if known.as_ref().is_some_and(|known| !locked.is_subset(known)) {
                return Ok(LockReason::SessionLock);
            }
            *known = Some(locked);
        }
        while let Some(signal) = self.signals.next().await {
            if let Some(because) = self.reason(&signal?).await? {
                return Ok(because);
            }
        }
        Err(zbus::Error::Failure("the bus is gone".to_owned()))
    }

    async fn reason(&self, signal: &Message) -> zbus::Result<Option<LockReason>> {
        let header = signal.header();
        let member = header.member().map(zbus::names::MemberName::as_str).unwrap_or_default();
        if member == "NameOwnerChanged" {
            let (_, _, owner): (String, String, String) = signal.body().deserialize()?;
            let is_gone = owner != self.owner.as_str();
            return if is_gone { Err(zbus::Error::Failure("logind is gone".to_owned())) } else { Ok(None) };
        }
        if header.sender() != Some(&self.owner) {
            return Ok(None);
        }
        let is_locked = match member {
            "PrepareForSleep" => {
                return Ok(signal.body().deserialize::<bool>()?.then_some(LockReason::Suspend));
            }
            "Lock" => true,
            "PropertiesChanged" => {
                type Changed = (String, HashMap<String, OwnedValue>, Vec<String>);
                let (_, changed, _): Changed = signal.body().deserialize()?;
                changed.get("LockedHint").is_some_and(|hint| matches!(bool::try_from(hint), Ok(true)))
            }
            _ => false,
        };
        let Some(path) = header.path().filter(|_| is_locked) else { return Ok(None) };
        Ok((self.user_of(path).await? == Some(own_uid())).then_some(LockReason::SessionLock))
    }

    /// This user's sessions whose screen is locked now.
    async fn locked_sessions(&self) -> zbus::Result<HashSet<OwnedObjectPath>> {
        type Sessions = Vec<(String, u32, String, String, OwnedObjectPath)>;
        let answer = self.bus.call_method(Some(NAME), PATH, Some(MANAGER), "ListSessions", &()).await?;
        let sessions: Sessions = answer.body().deserialize()?;
        let mut locked = HashSet::new();
        for (_, uid, _, _, path) in sessions {
            if uid == own_uid()
                && let Some(hint) = self.property_of(&path, "LockedHint").await?
                && bool::try_from(hint)?
            {
                locked.insert(path);
            }
        }
        Ok(locked)
    }

    /// `None` if the session is gone.
    async fn user_of(&self, session: &zvariant::ObjectPath<'_>) -> zbus::Result<Option<u32>> {
        let Some(user) = self.property_of(session, "User").await? else { return Ok(None) };
        let (uid, _): (u32, OwnedObjectPath) = user.try_into()?;
        Ok(Some(uid))
    }

    /// `None` if there is no such session any more.
    async fn property_of(
        &self,
        session: &zvariant::ObjectPath<'_>,
        name: &str,
    ) -> zbus::Result<Option<OwnedValue>> {
        match self.bus.call_method(Some(NAME), session, Some(PROPERTIES), "Get", &(SESSION, name)).await {
            Ok(answer) => Ok(Some(answer.body().deserialize()?)),
            Err(zbus::Error::MethodError(error, ..)) if GONE.contains(&error.as_str()) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn rules(on: LockOn) -> zbus::Result<Vec<MatchRule<'static>>> {
    let signal = || MatchRule::builder().msg_type(Type::Signal);
    let mut rules = vec![
        // Somebody else may be logind from now on.
        signal().sender(BUS)?.interface(BUS)?.member("NameOwnerChanged")?.add_arg(NAME)?.build(),
    ];
    if on.suspend {
        let rule = signal().sender(NAME)?.path(PATH)?.interface(MANAGER)?.member("PrepareForSleep")?;
        rules.push(rule.build());
    }
    if on.session_lock {
        let of_sessions = || signal().sender(NAME)?.path_namespace(SESSIONS);
        rules.push(of_sessions()?.interface(SESSION)?.member("Lock")?.build());
        let changed = of_sessions()?.interface(PROPERTIES)?.member("PropertiesChanged")?;
        rules.push(changed.add_arg(SESSION)?.build());
    }
    Ok(rules)
}

/// Puts sleep off. Where that is refused the agent still locks, only maybe not before.
async fn inhibitor(bus: &Connection) -> Option<Inhibitor> {
    let asked = ("sleep", env!("CARGO_PKG_NAME"), "Tokens are wiped from memory", "delay");
    let answer = bus.call_method(Some(NAME), PATH, Some(MANAGER), "Inhibit", &asked).await;
    let descriptor = answer.and_then(|answer| answer.body().deserialize::<zvariant::OwnedFd>());
    let descriptor = descriptor.map(OwnedFd::from).and_then(|descriptor| {
        // zbus leaves it open for the program that takes this one's place, which would keep it.
        fcntl_setfd(descriptor.as_fd(), FdFlags::CLOEXEC).map_err(std::io::Error::from)?;
        Ok(descriptor)
    });
    match descriptor {
        Ok(descriptor) => Some(Inhibitor { _descriptor: descriptor }),
        Err(error) => {
            tracing::warn!(%error, "a suspend is not put off until the agent is locked");
            None
        }
    }
}

fn timed_out() -> zbus::Error {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tokio::time::Instant;

    use super::*;

    fn absent() -> zbus::Result<&'static str> {
        Err(zbus::Error::Failure("nobody is there".to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_bus_that_comes_later_is_found_less_and_less_soon_and_none_is_given_up() {
        let mut moments = Vec::new();
        let began = Instant::now();
        let found = look_for(false, || {
            moments.push(began.elapsed().as_secs());
            ready(if moments.len() < 12 { absent() } else { Ok("logind") })
        });
        assert_eq!(found.await, Some("logind"));
        assert_eq!(moments, [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811, 1_111]);

        let began = Instant::now();
        let mut tries = 0;
        let never = || {
            tries += 1;
            ready(absent())
        };
        assert_eq!(look_for(false, never).await, None);
        let took = began.elapsed();
        assert!(took >= LONGEST_SEARCH && took < LONGEST_SEARCH + LONGEST_PAUSE, "{took:?}");
        assert!(tries < 30, "{tries}");

        // One that was there comes back, even after a day.
        let began = Instant::now();
        let day = Duration::from_secs(24 * 3_600);
        let late = || ready(if began.elapsed() < day { absent() } else { Ok("logind") });
        assert_eq!(look_for(true, late).await, Some("logind"));
    }
}
