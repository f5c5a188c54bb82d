//! `tokenkeep share --follow`: in the foreground, until it is interrupted.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::super::account;
use super::super::failure::Failure;
use super::super::output::{Output, printable};
use super::super::runtime;
use super::shared_before::SharedBefore;
use super::{Source, State, Target};
use crate::document::CachedAccount;
use crate::share::{Copy, Keeper, News, SharedCache};
use crate::store::Places;

pub(super) fn run(
    account: &CachedAccount,
    sources: Vec<Source>,
    targets: Vec<Target>,
    before: &mut SharedBefore,
    places: &Places,
    output: Output,
) -> Result<(), Failure> {
    let hints = Arc::new(Notify::new());
    let hint = Arc::clone(&hints);
    let whose = (account.home_account_id.as_str(), account.environment.as_str());
    let sources = sources.into_iter().map(|source| source.cache).collect();
    let mut keeper = Keeper::new(whose, sources, kept(targets), places, move || hint.notify_one())?;
    let name = printable(account::display_name(account)).into_owned();
    runtime::until_interrupted(async {
        let started = format!("Keeping the logins of {name} in step, until you press Ctrl-C");
        say(output, &started, "following", &[])?;
        loop {
            for news in keeper.look() {
                if let News::SignedIn(cache) | News::Carried { to: cache, .. } = &news {
                    before.note(account, cache)?;
                }
                tell(&name, &news, output)?;
            }
            hints.notified().await;
        }
    })
}

/// Those that can take part, now or after the person signs in there again.
fn kept(targets: Vec<Target>) -> Vec<(SharedCache, Vec<Copy>)> {
    let kept = targets.into_iter().filter_map(|target| match target.state {
        State::Possible(copies) | State::SignedOut(copies) => Some((target.cache, copies)),
        State::Refused(_) | State::SamePlace => None,
    });
    kept.collect()
}

fn tell(name: &str, news: &News, output: Output) -> Result<(), Failure> {
    let place = |cache: &SharedCache| printable(&cache.store().describe().to_string()).into_owned();
    let with = |cache: &SharedCache| json!(cache.store().describe().to_string());
    match news {
        News::Carried { from, to, client_id } => say(
            output,
            &format!("A new refresh token was carried over: {} -> {}", place(from), place(to)),
            "carried",
            &[("from", with(from)), ("cache", with(to)), ("client_id", json!(client_id))],
        ),
        News::Cleared { cache, client_id } => say(
            output,
            &format!("A dead refresh token of {name} was removed: {}", place(cache)),
            "cleared",
            &[("cache", with(cache)), ("client_id", json!(client_id))],
        ),
        News::Dropped { cache, client_id } => say(
            output,
            &format!("A refresh token of {name} was removed, and is not put back: {}", place(cache)),
            "removed",
            &[("cache", with(cache)), ("client_id", json!(client_id))],
        ),
        News::SignedIn(cache) => say(
            output,
            &format!("{name} is signed in again: {}", place(cache)),
            "signed_in",
            &[("cache", with(cache))],
        ),
        News::SignedOut(cache) => say(
            output,
            &format!("{name} was signed out, and is not signed in again: {}", place(cache)),
            "signed_out",
            &[("cache", with(cache))],
        ),
        News::Trouble(cache, error) => say(
            output,
            &format!("warning: {}: {error}", place(cache)),
            "trouble",
            &[("cache", with(cache)), ("why", json!(error.to_string()))],
        ),
    }
}

/// A remark, or an event on a line of its own.
fn say(output: Output, text: &str, event: &str, members: &[(&str, Value)]) -> Result<(), Failure> {
    if !output.is_json() {
        return output.remark(text);
    }
    let mut line = json!({ "event": event });
    for (name, value) in members {
        line[*name] = value.clone();
    }
    output.raw(format!("{line}\n").as_bytes())
}
