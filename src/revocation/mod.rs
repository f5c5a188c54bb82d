//! All caches of a machine together: which there are, what is wrong with them, and the removal of
//! what is dead from every one of them.
//!
//! A refusal teaches two things: that this very refresh token is dead, and sometimes the moment from
//! which on the account's tokens are valid ([`DeadGrant::valid_from`]). [`Memory`] keeps both, so
//! that a token is recognised when a program that was not told writes it back. [`dead_entries`]
//! finds what is dead in a cache, and each removal is a compare-and-delete under that cache's own
//! locks: a token that was renewed meanwhile stays. [`Everywhere`] does all that after a refusal.
//!
//! A token that nothing dates, or that was issued within ten minutes of the moment, is not known to
//! be dead and stays until the provider refuses it.
//!
//! [`DeadGrant::valid_from`]: crate::credential::DeadGrant::valid_from

pub mod doctor;
mod everywhere;
mod inventory;
mod known;
mod memory;
mod plan;

pub use self::everywhere::Everywhere;
pub use self::inventory::{Survey, VaultSurvey, survey};
pub use self::known::{Cause, Known};
pub use self::memory::Memory;
pub use self::plan::{DeadEntry, dead_entries, removal_of};
