//! The same over the system bus.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{SelectAll, select_all};
use rustix::io::{FdFlags, fcntl_setfd};
use tokio::time::{sleep, timeout};
use zbus::message::Type;
use zbus::names::UniqueName;
use zbus::zvariant::{self, OwnedObjectPath, OwnedValue};
use zbus::{Connection, MatchRule, Message, MessageStream, connection};

use super::{Delay, LockOn};
use crate::agent::session::Session;
use crate::agent_client::place::own_uid;
use crate::agent_client::protocol::LockReason;

const NAME: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SESSION: &str = "org.freedesktop.login1.Session";
const SESSIONS: &str = "/org/freedesktop/login1/session";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const BUS: &str = "org.freedesktop.DBus";

/// A bus or a logind that does not answer in this time does not work.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long after the bus was lost it is looked for again; twice as long after each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// A lock of logind's on sleep, which ends with its descriptor.
#[derive(Debug)]
pub(crate) struct Inhibitor {
    _descriptor: OwnedFd,
}

pub(super) async fn watch(session: Arc<Session>, on: LockOn, delay: &Delay) {
    if on == (LockOn { session_lock: false, suspend: false }) {
        return;
    }
    session.unlocked().await;
    let mut pause = FIRST_PAUSE;
    let mut was_there = false;
    loop {
        match Logind::listen(on).await {
            Ok((mut logind, inhibitor)) => {
                delay.replace(inhibitor);
                (was_there, pause) = (true, FIRST_PAUSE);
                match logind.wait(on).await {
                    Ok(because) => return session.lock(because).await,
                    Err(error) => tracing::warn!(%error, "no suspend or session lock is heard of for now"),
                }
                // What is not heard of would only be held up.
                delay.take();
            }
            Err(error) if was_there => tracing::debug!(%error, "logind is still out of reach"),
            Err(error) => {
                tracing::debug!(%error, "there is no logind: nothing but the clocks locks by itself");
                return;
            }
        }
        sleep(pause).await;
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

    /// Waits for a reason to lock.
    ///
    /// # Errors
    /// When logind is gone, or another one came.
    async fn wait(&mut self, on: LockOn) -> zbus::Result<LockReason> {
        if on.suspend && self.is_suspending {
            return Ok(LockReason::Suspend);
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
        Ok((self.user_of(path).await? == own_uid()).then_some(LockReason::SessionLock))
    }

    async fn user_of(&self, session: &zvariant::ObjectPath<'_>) -> zbus::Result<u32> {
        let asked = (SESSION, "User");
        let answer = self.bus.call_method(Some(NAME), session, Some(PROPERTIES), "Get", &asked).await?;
        let (uid, _): (u32, OwnedObjectPath) = answer.body().deserialize::<OwnedValue>()?.try_into()?;
        Ok(uid)
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
