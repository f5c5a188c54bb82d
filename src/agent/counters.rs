//! What happened since the agent started, for `status`.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::agent_client::protocol::{self, Client, Source};
use crate::text::harmless;
use crate::time::UnixTime;

use super::asker::Asker;

/// Programs come and go; the latest are of interest.
const MAX_CLIENTS: usize = 64;

/// A name that a program gives itself is shown up to so many characters.
const MAX_NAME: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Counters {
    token_requests: AtomicU64,
    cache_hits: AtomicU64,
    refreshes: AtomicU64,
    renewed_ahead: AtomicU64,
    ahead_failures: AtomicU64,
    pub(super) strangers: AtomicU64,
    refusals: Mutex<BTreeMap<String, u64>>,
    denials: Mutex<BTreeMap<String, u64>>,
    clients: Mutex<HashMap<Option<i32>, Client>>,
}

impl Counters {
    pub(super) fn token(&self, found: Source) {
        self.token_requests.fetch_add(1, Ordering::Relaxed);
        match found {
            Source::Cache => self.cache_hits.fetch_add(1, Ordering::Relaxed),
            Source::Refresh => self.refreshes.fetch_add(1, Ordering::Relaxed),
            Source::Agent | Source::Unknown => 0,
        };
    }

    pub(super) fn no_token(&self) {
        self.token_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Kinds are our own words, so there are few of them.
    pub(super) fn refusal(&self, kind: &str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        *refusals.entry(kind.to_owned()).or_default() += 1;
    }

    /// What denied is a rule of the user's file, so there are few of them.
    pub(super) fn denied(&self, by: &str) {
        let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        *denials.entry(by.to_owned()).or_default() += 1;
    }

    pub(super) fn ahead(&self, is_renewed: bool) {
        let counter = if is_renewed { &self.renewed_ahead } else { &self.ahead_failures };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn client(&self, pid: Option<i32>, claimed_name: Option<&str>, now: UnixTime) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= MAX_CLIENTS && !clients.contains_key(&pid) {
            let oldest = clients.iter().min_by_key(|(_, client)| client.last_request_at);
            let oldest = oldest.map(|(pid, _)| *pid);
            oldest.and_then(|pid| clients.remove(&pid));
        }
        let client = clients.entry(pid).or_default();
        client.pid = pid;
        if let Some(name) = claimed_name {
            client.claimed_name = Some(harmless(name, MAX_NAME));
        }
        client.requests += 1;
        client.last_request_at = now.seconds();
    }

    /// Who it was that asked for a token, as far as it is still known.
    pub(super) fn asked(&self, asker: &Asker, got_one: bool) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get_mut(&asker.connected) {
            client.executable = asker.seen.executable.to_string();
            client.started_by = asker.seen.started_by.as_deref().map(str::to_owned);
            client.grant.clone_from(&asker.grant);
            client.refused += u64::from(!got_one);
        }
    }

    pub(super) fn clients(&self) -> Vec<Client> {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let mut clients: Vec<Client> = clients.values().cloned().collect();
        clients.sort_by_key(|client| std::cmp::Reverse(client.last_request_at));
        clients
    }

    pub(super) fn told(&self, evictions: u64, panics: u64) -> protocol::Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        protocol::Counters {
            token_requests: read(&self.token_requests),
            cache_hits: read(&self.cache_hits),
            refreshes: read(&self.refreshes),
            renewed_ahead: read(&self.renewed_ahead),
            ahead_failures: read(&self.ahead_failures),
            refusals: self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            denials: self.denials.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            evictions,
            strangers: read(&self.strangers),
            panics,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_clients_are_kept_and_a_long_name_is_cut() {
        let counters = Counters::default();
        for pid in 0..1_000 {
            counters.client(Some(pid), Some(&"n".repeat(10_000)), UnixTime::from_seconds(pid.into()));
        }
        counters.client(Some(999), None, UnixTime::from_seconds(1_000));
        let clients = counters.clients();
        assert_eq!(clients.len(), MAX_CLIENTS);
        assert_eq!((clients[0].pid, clients[0].requests), (Some(999), 2));
        assert_eq!(
            clients[0].claimed_name.as_ref().unwrap().chars().count(),
            MAX_NAME + 1,
            "and a sign of it"
        );
    }
}
