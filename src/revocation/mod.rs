//! All caches of a machine together: which there are, and what is wrong with them.

pub mod doctor;
mod inventory;

pub use self::inventory::{Survey, VaultSurvey, survey};
