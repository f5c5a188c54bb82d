//! Logs for people who look for a fault: to the standard error, and off by default.

use std::io::{self, IsTerminal as _};

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::settings::variable;

/// Starts logging if `-v` or `RUST_LOG` asks for it.
pub(super) fn start(verbose: u8) {
    let by_option = match verbose {
        0 => None,
        1 => Some("info,tokenkeep=debug"),
        _ => Some("debug,tokenkeep=trace"),
    };
    let by_environment = variable("RUST_LOG");
    let Some(filter) = by_environment.as_deref().or(by_option) else { return };
    // At their trace level other crates may show what they send and receive.
    let no_bodies =
        filter_fn(|event| event.target().starts_with("tokenkeep") || *event.level() <= Level::DEBUG);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && variable("NO_COLOR").is_none())
        .with_filter(no_bodies);
    // A second start, as in tests, has nothing to do.
    tracing_subscriber::registry().with(lines).with(EnvFilter::new(filter)).try_init().ok();
}
