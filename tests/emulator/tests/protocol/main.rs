//! The emulator's promises, over real TLS: one file per endpoint.

mod authorize;
mod control;
mod device;
mod script;
mod support;
mod token;
