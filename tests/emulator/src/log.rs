//! The request log: what was asked, in the order in which it arrived, without one secret.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::directory::asks_cp1;
use crate::http::{Call, Reply};

/// One request.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogEntry {
    /// 1, 2, 3 … in the order of arrival; a reset of the log does not restart it.
    pub seq: u64,
    /// `GET` or `POST`.
    pub method: String,
    /// Without the query, which carries state and code challenge.
    pub path: String,
    /// The `Host` header.
    pub host: String,
    /// `token.refresh_token`, `token.device_code`, `token.authorization_code`,
    /// `token.client_credentials`, `token`, `devicecode`, `devicelogin`, `authorize`, `login`,
    /// `openid_configuration`, `instance_discovery`, `keys`, `resource` or `other`.
    pub kind: String,
    /// The tenant segment of the path.
    pub tenant: Option<String>,
    /// The client id.
    pub client_id: Option<String>,
    /// The whole grant type.
    pub grant_type: Option<String>,
    /// The scope parameter.
    pub scope: Option<String>,
    /// The claims parameter.
    pub claims: Option<String>,
    /// The claims name the client capability CP1.
    pub cp1: bool,
    /// The serial of the refresh token sent, if it is one of ours.
    pub refresh_token: Option<u64>,
    /// Whose grant was sent.
    pub user: Option<String>,
    /// `x-client-sku`, or `User-Agent`.
    pub client: Option<String>,
    /// `client-request-id`.
    pub correlation_id: Option<String>,
    /// The answer was ordered by a script.
    pub scripted: bool,
    /// The answer's status; `None` while the request is still held, 0 for a broken connection.
    pub status: Option<u16>,
    /// The answer's AADSTS number.
    pub code: Option<u32>,
    /// The answer's OAuth error.
    pub error: Option<String>,
}

impl LogEntry {
    /// Whether the request is of this kind, or of a kind under it.
    pub fn is_kind(&self, kind: &str) -> bool {
        self.kind == kind || self.kind.strip_prefix(kind).is_some_and(|rest| rest.starts_with('.'))
    }
}

/// All requests since the last reset.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Vec<LogEntry>,
    last_seq: u64,
}

impl Log {
    pub(crate) fn begin(&mut self, mut entry: LogEntry) -> u64 {
        self.last_seq += 1;
        entry.seq = self.last_seq;
        self.entries.push(entry);
        self.last_seq
    }

    pub(crate) fn finish(&mut self, seq: u64, reply: &Reply) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.seq == seq) {
            entry.status = Some(reply.status);
            entry.code = reply.code;
            entry.error.clone_from(&reply.error);
        }
    }

    pub(crate) fn reset(&mut self) {
        self.entries.clear();
    }

    pub(crate) fn entries(&self) -> &[LogEntry] {
        &self.entries
    }

    pub(crate) fn count(&self, kind: &str) -> usize {
        self.entries.iter().filter(|entry| kind.is_empty() || entry.is_kind(kind)).count()
    }

    /// `total`, then each kind that occurred.
    pub(crate) fn stats(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::from([("total".to_owned(), self.entries.len())]);
        for entry in &self.entries {
            *counts.entry(entry.kind.clone()).or_default() += 1;
        }
        counts
    }
}

/// What a request tells before it is processed.
pub(crate) fn describe(call: &Call, endpoint: &str, tenant: Option<&str>) -> LogEntry {
    let grant_type = call.form.get("grant_type").filter(|_| endpoint == "token");
    let text = |name: &str| call.param(name).map(str::to_owned);
    LogEntry {
        method: call.method.clone(),
        path: call.path.clone(),
        host: call.host.clone(),
        kind: match grant_type {
            Some(grant) => {
                let short = grant.rsplit(':').next().unwrap_or(grant);
                format!("{endpoint}.{short}")
            }
            None => endpoint.to_owned(),
        },
        tenant: tenant.map(str::to_owned),
        client_id: text("client_id"),
        grant_type: grant_type.map(str::to_owned),
        scope: text("scope"),
        claims: text("claims"),
        cp1: call.param("claims").is_some_and(asks_cp1),
        client: call
            .header("x-client-sku")
            .or_else(|| call.param("x-client-SKU"))
            .or_else(|| call.header("user-agent"))
            .map(str::to_owned),
        correlation_id: call.header("client-request-id").map(str::to_owned),
        ..LogEntry::default()
    }
}
