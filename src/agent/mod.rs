//! The agent: one login served to every process of its user, over a Unix socket or a named pipe.
//!
//! The engine is [`acquire`](crate::acquire)'s, kept by `engine`: `target` says whom a question means,
//! `shelf` keeps open what that takes, and `renewals` renew before anybody asks, when `ahead` says so.
//! `socket` is where it listens, `server` what it answers, `session` whether it does: `clocks` and `logind`
//! lock it, `unlock` says what opens it again, `attempts` how fast that may be tried. `peer` is who is at the
//! other end, `seen` and `asker` what is known of it, `permit` whether it may, `consent` and `ask_program` what a person
//! says to that, `memory` where that rests, `journal` what is kept of it all; `chosen` is what the user chose
//! for good, as the file has it now. `acquaintances` spare looking at the same program again, and `rest` gives
//! memory back.

mod acquaintances;
mod ahead;
mod ask_program;
mod asker;
mod attempts;
mod chosen;
mod clocks;
mod consent;
mod counters;
mod engine;
mod journal;
mod logind;
mod memory;
mod peer;
mod permit;
mod renewals;
mod rest;
mod seen;
mod server;
mod session;
mod shelf;
#[cfg(unix)]
mod socket;
#[cfg(windows)]
#[path = "socket/windows.rs"]
mod socket;
mod socket_error;
mod target;
mod unlock;

pub(crate) use self::chosen::{Chosen, Given};
pub(crate) use self::clocks::LockAfter;
pub(crate) use self::engine::{DefaultAccounts, Surroundings};
pub(crate) use self::logind::LockOn;
pub(crate) use self::server::{Ended, serve};
#[cfg(windows)]
pub(crate) use self::socket::KeptName;
pub(crate) use self::socket::{BoundSocket, Legacy};
pub(crate) use self::socket_error::SocketError;
