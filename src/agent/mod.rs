//! The agent: one login served to every process of its user, over a Unix socket.
//!
//! The engine is [`acquire`](crate::acquire)'s, kept by `engine`; `ahead` says what to renew before
//! anybody asks. `socket` is where it listens, `server` what it answers, `session` whether it does:
//! `clocks` lock it, `unlock` says what opens it again, `attempts` how fast that may be tried.

mod ahead;
mod attempts;
mod clocks;
mod counters;
mod engine;
mod peer;
mod server;
mod session;
mod socket;
mod unlock;

pub(crate) use self::clocks::LockAfter;
pub(crate) use self::engine::{DefaultAccounts, Surroundings};
pub(crate) use self::server::{Ended, serve};
pub(crate) use self::socket::{BoundSocket, Legacy, SocketError};
