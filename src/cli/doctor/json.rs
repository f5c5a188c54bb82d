//! What the doctor says to programs: version 1 of the schema in `docs/doctor.md`.

use serde_json::{Value, json};

use super::super::arguments::Doctor;
use super::super::times::rfc_3339;
use super::Outcome;
use crate::agent_client::protocol::State;
use crate::document::{ClientSummary, Membership, TokenCacheDocument};
use crate::revocation::doctor::{AgentState, AgentSurvey, Examination, Finding, Network, Repair};
use crate::revocation::{Survey, VaultSurvey};
use crate::store::{Content, Encoding, FileFacts, FileKind, KeyringState, Place};
use crate::time::UnixTime;

/// So many entries of one finding are named, all are counted.
const MOST_ENTRIES: usize = 100;

pub(super) fn report(examination: &Examination, arguments: &Doctor, outcomes: &[Outcome]) -> Value {
    let Examination { caches, agent, keyring, vault, proxies, network, findings, now, .. } = examination;
    let repairs = outcomes.iter().map(|outcome| {
        json!({
            "id": outcome.finding.sign.id,
            "subject": outcome.finding.subject,
            "repair": outcome.finding.repair.as_ref().map(Repair::describe),
            "outcome": outcome.what,
            "detail": outcome.detail,
        })
    });
    json!({
        "version": 1,
        "examined": rfc_3339(*now),
        "needs_attention": examination.needs_attention(),
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
        "repairs": arguments.repair.then(|| repairs.collect::<Vec<_>>()),
        "dry_run": arguments.dry_run,
        "caches": caches.iter().map(|found| cache(found, *now)).collect::<Vec<_>>(),
        "agent": of_agent(agent),
        "keyring": keyring.as_ref().map(of_keyring),
        "vault": of_vault(vault),
        "proxies": {
            "addresses": proxies.proxies.iter().map(|(name, address)| json!({"variable": name, "address": address})).collect::<Vec<_>>(),
            "exceptions": proxies.exceptions,
        },
        "authority": network.as_ref().map(of_network),
    })
}

fn finding(finding: &Finding) -> Value {
    let Finding { sign, severity, subject, detail, entries, fix, repair, .. } = finding;
    let named = entries.iter().take(MOST_ENTRIES);
    json!({
        "id": sign.id,
        "severity": severity.as_str(),
        "subject": subject,
        "meaning": sign.meaning,
        "detail": (!detail.is_empty()).then_some(detail),
        "entries": named.map(|place| json!({"section": place.section, "key": place.key})).collect::<Vec<_>>(),
        "entry_count": entries.len(),
        "fix": fix,
        "repairable": repair.is_some(),
    })
}

fn cache(cache: &Survey, now: UnixTime) -> Value {
    let Survey { silo, facts, .. } = cache;
    let described = silo.describe();
    let (state, document, encoding) = match &facts.content {
        Content::Absent => ("absent", None, None),
        Content::Blank => ("blank", None, None),
        Content::Cache { document, encoding } => ("readable", Some(document), Some(*encoding)),
        Content::Unread { .. } => ("unread", None, None),
        Content::Unreadable(_) => ("unreadable", None, None),
    };
    let profiles = silo.profiles().iter();
    let locks = facts.locks.iter().map(
        |lock| json!({"path": lock.path, "holder": lock.holder, "pid": lock.pid, "alive": lock.is_alive}),
    );
    let item = facts.item.as_ref().map(|item| {
        json!({
            "label": item.label,
            "attributes": item.attributes,
            "modified": item.modified.map(rfc_3339),
            "count": item.count,
        })
    });
    let mut value = json!({
        "name": silo.name(),
        "tools": profiles.map(|profile| profile.id).collect::<Vec<_>>(),
        "title": silo.title(),
        "place": silo.place().to_string(),
        "kind": place_kind(silo.place()),
        "cae": silo.cae(),
        "exists": facts.exists,
        "encrypted": described.encrypted,
        "encoding": encoding.map(encoding_name),
        "state": state,
        "file": facts.file.as_ref().map(file),
        "item": item,
        "locks": locks.collect::<Vec<_>>(),
    });
    let inside = document
        .map_or_else(|| contents(&TokenCacheDocument::default(), now), |document| contents(document, now));
    if let (Value::Object(value), Value::Object(inside)) = (&mut value, inside) {
        value.extend(inside);
    }
    value
}

fn contents(document: &TokenCacheDocument, now: UnixTime) -> Value {
    let accounts = document.accounts().into_iter().map(|account| {
        json!({
            "username": account.username,
            "home_account_id": account.home_account_id,
            "home_tenant": account.home_tenant,
            "environment": account.environment,
        })
    });
    json!({
        "accounts": accounts.collect::<Vec<_>>(),
        "clients": document.client_summaries().iter().map(|summary| client(summary, now)).collect::<Vec<_>>(),
        "access_tokens": document.access_token_count(),
        "set_aside": document.set_aside_count(),
    })
}

fn client(client: &ClientSummary, now: UnixTime) -> Value {
    let family = match client.membership {
        Membership::Member => "member",
        Membership::NotMember => "not_member",
        Membership::Unknown => "unknown",
    };
    let tokens = client.refresh_tokens.iter().map(|token| {
        json!({
            "username": token.username,
            "home_account_id": token.home_account_id,
            "family_id": token.family_id,
            "written": token.written.map(rfc_3339),
            "age": token.written.map(|written| written.until(now).as_secs()),
        })
    });
    json!({
        "client_id": client.client_id,
        "environment": client.environment,
        "family": family,
        "refresh_tokens": tokens.collect::<Vec<_>>(),
    })
}

fn file(file: &FileFacts) -> Value {
    let kind = match file.kind {
        FileKind::BrokenLink => "broken_link",
        FileKind::Device => "device",
        FileKind::Folder => "folder",
        FileKind::Pipe => "pipe",
        FileKind::Regular => "file",
        FileKind::Socket => "socket",
    };
    json!({
        "path": file.path,
        "kind": kind,
        "link": file.link,
        "owner": file.owner,
        "mode": file.mode.map(|mode| format!("{mode:04o}")),
        "folder_mode": file.folder_mode.map(|mode| format!("{mode:04o}")),
        "size": file.size,
        "modified": file.modified.map(rfc_3339),
    })
}

const fn place_kind(place: &Place) -> &'static str {
    match place {
        Place::File(_) => "file",
        Place::Keychain { .. } => "keychain",
        Place::SecretService { .. } => "secret_service",
    }
}

const fn encoding_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::AzdEnvelope => "azd_envelope",
        Encoding::Base64 => "base64",
        Encoding::Dpapi => "dpapi",
        Encoding::Json => "json",
        Encoding::Jwe => "jwe",
    }
}

fn of_agent(agent: &AgentSurvey) -> Value {
    let (state, hello) = match &agent.state {
        AgentState::Absent => ("absent", None),
        AgentState::Answers(hello) if hello.state == State::Locked => ("locked", Some(hello)),
        AgentState::Answers(hello) => ("unlocked", Some(hello)),
        AgentState::LeftOut => ("left_out", None),
        AgentState::LeftOver => ("left_behind", None),
        AgentState::Refused { .. } => ("refused", None),
        AgentState::Silent { .. } => ("silent", None),
    };
    json!({
        "socket": agent.socket,
        "state": state,
        "agent": hello.map(|hello| &hello.agent),
        "protocol": hello.map(|hello| hello.protocol),
        "pid": hello.map(|hello| hello.pid),
    })
}

/// Layer by layer: each is true only if all before it are.
fn of_keyring(state: &KeyringState) -> Value {
    let (reached, detail) = match state {
        KeyringState::NoBus { detail } => (0, Some(detail.clone())),
        KeyringState::NoService { detail } => (1, Some(detail.clone())),
        KeyringState::Silent { waited } => (1, Some(format!("no answer within {} s", waited.as_secs_f32()))),
        KeyringState::NoCollection => (2, None),
        KeyringState::Locked => (3, None),
        KeyringState::Forgets { detail } => (4, Some(detail.clone())),
        KeyringState::Works => (5, None),
    };
    json!({
        "bus": reached >= 1,
        "service": reached >= 2,
        "collection": reached >= 3,
        "unlocked": reached >= 4,
        "keeps": reached >= 5,
        "detail": detail,
    })
}

fn of_vault(vault: &VaultSurvey) -> Value {
    match vault {
        VaultSurvey::Absent => Value::Null,
        VaultSurvey::Sealed { path, size, protectors } => {
            let kinds = protectors.iter().map(|slot| slot.kind.to_string());
            json!({"path": path, "size": size, "usable": true, "protectors": kinds.collect::<Vec<_>>()})
        }
        VaultSurvey::Unusable { path, .. } => {
            json!({"path": path, "size": null, "usable": false, "protectors": []})
        }
    }
}

fn of_network(network: &Network) -> Value {
    let (reached, status, clock_ahead, milliseconds) = match network {
        Network::Reached { status, clock_ahead, took } => {
            (true, Some(*status), *clock_ahead, u64::try_from(took.as_millis()).ok())
        }
        Network::Unknown | Network::Unreachable { .. } => (false, None, None, None),
    };
    json!({"reached": reached, "status": status, "clock_ahead": clock_ahead, "milliseconds": milliseconds})
}
