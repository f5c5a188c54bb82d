//! The promises that Windows has its own way to keep, run under Wine by `scripts/cross`: real processes
//! of the program and a real pipe between them. No token of theirs is ever due, so no provider is asked.

#![cfg(windows)]

mod agent;
#[path = "../programs/src/fake_sign_in.rs"]
mod fake_sign_in;
#[path = "../support/listening.rs"]
mod listening;
#[path = "../support/run.rs"]
#[expect(dead_code, reason = "the tests of Linux use all of it")]
mod run;
mod world;
