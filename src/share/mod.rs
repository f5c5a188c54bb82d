//! One person's login, copied into the caches of other tools and kept in step there.
//!
//! [`plan()`] says what can be copied from where to where, and why something cannot; it reads
//! documents and touches nothing. [`Keeper`] carries over what happens to the copies later.
//! `docs/sharing.md` has the whole table.

mod cache;
mod keeper;
mod plan;
mod steps;
#[cfg(test)]
mod tests;
mod tools;

pub use self::cache::SharedCache;
pub use self::keeper::{Keeper, News};
pub use self::plan::{Copy, Refusal, Way, plan};
pub use self::tools::Tool;
