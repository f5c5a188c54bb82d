//! The agent: one login served to every process of its user, over a Unix socket.
//!
//! The engine is [`acquire`](crate::acquire)'s, kept by `engine`; `ahead` says what to renew before
//! anybody asks. `socket` is where it listens, `server` what it answers, `session` whether it does.

mod ahead;
mod counters;
mod engine;
mod server;
mod session;
mod socket;

pub(crate) use self::engine::{DefaultAccounts, Surroundings};
pub(crate) use self::server::serve;
pub(crate) use self::socket::{BoundSocket, SocketError};
