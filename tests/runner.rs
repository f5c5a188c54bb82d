//! All promises in one binary: one file each. Real parts wherever there is one; only the identity
//! provider is emulated.
//!
//! On Linux: the keyrings, clients, namespaces and tracers that the promises are held against are
//! there. `scripts/cross` runs the store's own tests for Windows, and `tests/windows`.

#![cfg(target_os = "linux")]

mod support;

mod agent;
mod agent_activation;
mod agent_config;
mod agent_crashes;
mod agent_limits;
mod agent_lock;
mod agent_logind;
mod agent_policy;
mod agent_protocol;
mod agent_service;
mod agent_soak;
mod agent_strangers;
mod architecture;
mod authority;
#[cfg(feature = "azure")]
mod azure;
mod bad_input;
mod browser;
mod cached_path;
mod canaries;
mod clean_up;
mod command_line;
mod containers;
mod dead_grant;
mod doctor;
mod doctor_agent;
mod doctor_clients;
mod doctor_config;
mod examples;
mod explain;
mod faults;
mod front_doors;
mod hostile_profiles;
mod hostile_requests;
mod interop_node;
mod interop_python;
mod kills;
mod locks;
mod many_processes;
mod profiles;
mod proxies;
mod share;
mod signals;
mod silent;
mod terminal;
mod vault_command_line;
mod vault_faults;
mod vault_terminal;
mod watch;
