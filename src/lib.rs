#![doc = include_str!("../README.md")]

mod acquire;
#[cfg(feature = "cli")]
mod agent;
pub mod agent_client;
#[cfg(feature = "cli")]
mod bounded_http;
pub mod cloud;
#[cfg(feature = "cli")]
#[cfg_attr(not(unix), allow(dead_code, reason = "what the agent reads, and why it may not"))]
mod config;
pub mod credential;
pub mod document;
mod entra;
pub mod error;
mod options;
#[cfg(feature = "cli")]
#[cfg_attr(not(unix), allow(dead_code, reason = "what the agent decides by"))]
mod policy;
mod process;
mod record;
pub mod revocation;
#[cfg(feature = "cli")]
mod serve;
pub mod share;
pub mod store;
#[cfg(feature = "cli")]
#[cfg_attr(not(unix), allow(dead_code, reason = "how the agent shows names"))]
mod text;
pub mod time;
mod token;
#[cfg(windows)]
mod windows;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;

pub use crate::cloud::{Authority, TenantId};
pub use crate::error::{Error, Result};
pub use crate::options::{CacheName, Storage, TokenCachePersistenceOptions};
pub use crate::record::AuthenticationRecord;
pub use crate::token::{AccessToken, Claims, Scopes, TokenAccount, TokenDetails, TokenRequest, TokenSource};
