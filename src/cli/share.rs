//! `tokenkeep share`: one login in the caches of several tools, and kept in step there.

mod follow;
mod shared_before;

use serde_json::{Value, json};

use super::account;
use super::arguments::{OWN_STORE, Share};
use super::caches::{self, OpenCache, deadline};
use super::failure::{Failure, Refused};
use super::output::{Output, printable, table};
use super::settings::Settings;
use super::state::DefaultAccounts;
use crate::document::{CachedAccount, TokenCacheDocument};
use crate::revocation::{DeadEntry, Memory, dead_entries, removal_of};
use crate::share::{Copy, Refusal, SharedCache, Tool, Way, plan};
use crate::store::{self, PROFILES, StoreDescription};

use self::shared_before::SharedBefore;

pub(super) fn run(arguments: &Share, settings: &Settings, output: Output) -> Result<(), Failure> {
    let sources = sources(arguments, settings)?;
    let account = choose(arguments, &sources, settings)?;
    let mut before = SharedBefore::read(settings)?;
    let mut targets = targets(arguments, settings, &sources, &account, output)?;
    if arguments.follow {
        for target in &mut targets {
            target.leave_signed_out(&account, &before);
        }
    }
    if arguments.dry_run {
        return report(&account, &sources, &targets, true, output);
    }
    refuse(&targets)?;
    ask(arguments, &account, &targets, output)?;
    for target in &mut targets {
        if target.copy()? {
            before.note(&account, &target.cache)?;
        }
    }
    if !arguments.follow {
        return report(&account, &sources, &targets, false, output);
    }
    for target in targets.iter().filter(|target| target.state.is_shared()) {
        before.note(&account, &target.cache)?;
    }
    if !output.is_json() {
        report(&account, &sources, &targets, false, output)?;
    }
    follow::run(&account, sources, targets, &mut before, &settings.places, output)
}

/// A cache, and what was in it.
struct Source {
    cache: SharedCache,
    open: OpenCache,
    /// The same without refresh tokens that are known to be dead.
    living: TokenCacheDocument,
    dead: Vec<DeadEntry>,
}

/// A cache that the login is to go into.
struct Target {
    /// What it was called on the command line.
    name: String,
    cache: SharedCache,
    described: StoreDescription,
    has_account: bool,
    state: State,
}

enum State {
    /// It is where the login is from.
    SamePlace,
    /// What goes, or went, into it. Of a copy that is there already nothing does.
    Possible(Vec<Copy>),
    Refused(Refusal),
    /// The account was signed out there since it was shared, and stays out.
    SignedOut(Vec<Copy>),
}

impl State {
    const fn is_shared(&self) -> bool {
        matches!(self, Self::Possible(_))
    }
}

fn sources(arguments: &Share, settings: &Settings) -> Result<Vec<Source>, Failure> {
    let name = arguments.from.as_deref().unwrap_or(OWN_STORE);
    let known = Memory::of(&settings.places)
        .recall()
        .inspect_err(|error| tracing::warn!(%error, "what is dead is not known"))
        .ok();
    let open = |cache: SharedCache| -> Result<Source, Failure> {
        let open = OpenCache::of(std::sync::Arc::clone(cache.store()))?;
        let dead = known.as_ref().map(|known| dead_entries(&open.document, known)).unwrap_or_default();
        let mut living = (*open.document).clone();
        living.apply(&removal_of(&dead));
        Ok(Source { cache, open, living, dead })
    };
    caches_named(name, settings)?.into_iter().map(open).collect()
}

/// The caches of a tool, or our own.
fn caches_named(name: &str, settings: &Settings) -> Result<Vec<SharedCache>, Failure> {
    if name == OWN_STORE {
        let chosen = store::choose(&settings.cache, &settings.places)?;
        return [false, true]
            .into_iter()
            .map(|cae| {
                let place = store::place(&chosen, &settings.cache, cae, &settings.places);
                Ok(SharedCache::own(settings.open_store(cae)?, cae, place))
            })
            .collect();
    }
    let profile = PROFILES.into_iter().find(|profile| profile.id == name);
    let (Some(profile), Some(tool)) = (profile, Tool::of(name)) else {
        return Err(Failure::usage(
            format!("{name:?} is no tool that this version knows"),
            "tokenkeep help share",
        ));
    };
    let silos = store::silos_of(profile, &settings.cache.name, &settings.places);
    Ok(silos.iter().map(|silo| SharedCache::of_tool(tool, silo)).collect())
}

fn choose(arguments: &Share, sources: &[Source], settings: &Settings) -> Result<CachedAccount, Failure> {
    let host = settings.authority.host();
    let listed = caches::accounts(sources.iter().map(|source| &source.open));
    let accounts = account::of_cloud(listed.into_iter().map(|listed| listed.account).collect(), host);
    let default = match arguments.from {
        None => DefaultAccounts::of(settings)?.get(host)?,
        Some(_) => None,
    };
    let name = sources.first().map_or_else(String::new, |source| source.open.name.clone());
    let hint = arguments.account.as_deref();
    Ok(account::choose(&accounts, hint, default.as_deref(), settings.client_id(), &name)?.clone())
}

fn targets(
    arguments: &Share,
    settings: &Settings,
    sources: &[Source],
    account: &CachedAccount,
    output: Output,
) -> Result<Vec<Target>, Failure> {
    // a person at the terminal is asked instead
    let may_be_plain =
        arguments.allow_plaintext || !arguments.yes && !arguments.dry_run && output.has_person();
    let read: Vec<(&SharedCache, &TokenCacheDocument)> =
        sources.iter().map(|source| (&source.cache, &source.living)).collect();
    let is_encrypted = sources.iter().any(|source| source.cache.store().describe().encrypted);
    let mut targets: Vec<Target> = Vec::new();
    for name in &arguments.to {
        let mut found: Vec<Target> = Vec::new();
        for cache in caches_named(name, settings)? {
            if targets.iter().any(|known| known.cache.is_same(&cache)) {
                continue;
            }
            let described = cache.store().describe();
            let mut target =
                Target { name: name.clone(), described, has_account: false, state: State::SamePlace, cache };
            if !sources.iter().any(|source| source.cache.is_same(&target.cache)) {
                target.look(&read, account, settings.client_id.as_deref());
                target.tell_death(sources, account);
            }
            let exposes = is_encrypted && !target.described.encrypted && !may_be_plain;
            if exposes && target.is_pending() {
                target.state = State::Refused(Refusal::Unencrypted);
            }
            found.push(target);
        }
        // one of a tool's two caches is enough
        if !found.iter().all(Target::is_unreached) {
            found.retain(|target| !target.is_unreached());
        }
        targets.extend(found);
    }
    Ok(targets)
}

impl Target {
    fn look(
        &mut self,
        sources: &[(&SharedCache, &TokenCacheDocument)],
        account: &CachedAccount,
        client_id: Option<&str>,
    ) {
        if self.cache.is_not_made_yet() {
            self.state = State::Refused(Refusal::NotMadeYet);
            return;
        }
        let document = match self.cache.store().load() {
            Ok(snapshot) => snapshot.document,
            Err(error) => {
                self.state = State::Refused(Refusal::Unreadable(error));
                return;
            }
        };
        let whose = (account.home_account_id.as_str(), account.environment.as_str());
        self.has_account = document.has_account(whose.0, whose.1);
        self.state = match plan(sources, whose, (&self.cache, &document), client_id) {
            Ok(copies) => State::Possible(copies),
            Err(refusal) => State::Refused(refusal),
        };
    }

    /// There may be no login because it is dead.
    fn tell_death(&mut self, sources: &[Source], account: &CachedAccount) {
        let mut dead = sources.iter().flat_map(|source| &source.dead);
        let dead = dead.find(|entry| entry.home_account_id == account.home_account_id);
        if let (State::Refused(Refusal::NoLogin), Some(dead)) = (&self.state, dead) {
            self.state = State::Refused(Refusal::Dead { code: dead.cause.code().to_owned() });
        }
    }

    /// Whether there is no login for it, or only one for the other mode.
    const fn is_unreached(&self) -> bool {
        matches!(self.state, State::Refused(Refusal::Dead { .. } | Refusal::NoLogin | Refusal::OtherMode))
    }

    fn pending(&self) -> impl Iterator<Item = &Copy> {
        let copies = match &self.state {
            State::Possible(copies) => copies.as_slice(),
            _ => &[],
        };
        copies.iter().filter(|copy| !copy.is_there)
    }

    fn is_pending(&self) -> bool {
        self.pending().next().is_some()
    }

    /// Who follows does not undo a sign-out of the time when nobody did.
    fn leave_signed_out(&mut self, account: &CachedAccount, before: &SharedBefore) {
        if !self.has_account && before.has(account, &self.cache) {
            self.state = match std::mem::replace(&mut self.state, State::SamePlace) {
                State::Possible(copies) => State::SignedOut(copies),
                other => other,
            };
        }
    }

    /// Copies what is missing; tells whether anything is there now that we brought.
    fn copy(&self) -> Result<bool, Failure> {
        for copy in self.pending() {
            self.cache.store().apply(&copy.changes(), deadline())?;
        }
        Ok(self.is_pending())
    }

    fn state(&self, dry_run: bool) -> &'static str {
        match &self.state {
            State::Refused(_) => "refused",
            State::SamePlace => "same_place",
            State::SignedOut(_) => "signed_out",
            State::Possible(_) if !self.is_pending() => "already_shared",
            State::Possible(_) if dry_run => "would_be_shared",
            State::Possible(_) => "shared",
        }
    }

    fn to_json(&self, dry_run: bool) -> Value {
        let (copies, refusal) = match &self.state {
            State::Possible(copies) | State::SignedOut(copies) => (copies.as_slice(), None),
            State::Refused(refusal) => (&[][..], Some(refusal)),
            State::SamePlace => (&[][..], None),
        };
        let clients = copies.iter().map(|copy| {
            let from = match &copy.way {
                Way::Family(client_id) => client_id.as_str(),
                Way::SameClient => copy.login.client_id(),
            };
            json!({"client_id": copy.login.client_id(), "from_client_id": from, "is_there": copy.is_there})
        });
        json!({
            "to": self.name,
            "cache": self.described.cache,
            "place": self.described.place,
            "encrypted": self.described.encrypted,
            "state": self.state(dry_run),
            "clients": clients.collect::<Vec<_>>(),
            "why": refusal.map(ToString::to_string),
            "hint": refusal.map(|refusal| refusal.hint(self.cache.tool())),
        })
    }
}

/// All or nothing: what cannot be shared is told before anything is written.
fn refuse(targets: &[Target]) -> Result<(), Failure> {
    let refused = targets.iter().filter_map(|target| match &target.state {
        State::Refused(refusal) => Some((target, refusal)),
        _ => None,
    });
    let refused: Vec<(&Target, &Refusal)> = refused.collect();
    match refused.as_slice() {
        [] => Ok(()),
        [(_, Refusal::Unreadable(error))] => Err(error.clone().into()),
        [(first, reason), ..] => {
            let line = |(target, refusal): &(&Target, &Refusal)| {
                format!("with {} ({}): {refusal}", target.name, target.described)
            };
            let problem = match refused.as_slice() {
                [only] => format!("it cannot be shared {}", line(only)),
                several => {
                    let lines: Vec<String> = several.iter().map(|one| format!("\n  {}", line(one))).collect();
                    format!("it cannot be shared{}", lines.concat())
                }
            };
            let needs_sign_in = refused.iter().all(|(target, _)| target.is_unreached());
            let hint = reason.hint(first.cache.tool());
            Err(Failure::Refused(Box::new(Refused { problem, hint, needs_sign_in })))
        }
    }
}

fn ask(
    arguments: &Share,
    account: &CachedAccount,
    targets: &[Target],
    output: Output,
) -> Result<(), Failure> {
    let pending: Vec<&Target> = targets.iter().filter(|target| target.is_pending()).collect();
    if arguments.yes || pending.is_empty() {
        return Ok(());
    }
    if !output.has_person() {
        return Err(Failure::usage(
            "nobody is here to ask whether this may be done",
            "look at it with --dry-run, then say --yes",
        ));
    }
    let plain = |target: &Target| if target.described.encrypted { "" } else { ", which is NOT encrypted" };
    let lines: Vec<String> = pending
        .iter()
        .map(|target| format!("\n  {}: {}{}", target.name, target.described, plain(target)))
        .collect();
    let question = format!("Copy the login of {} into{}\n?", account::display_name(account), lines.concat());
    let is_safe = pending.iter().all(|target| target.described.encrypted);
    if output.ask(&printable(&question), is_safe)? { Ok(()) } else { Err(Failure::Cancelled) }
}

fn report(
    account: &CachedAccount,
    sources: &[Source],
    targets: &[Target],
    dry_run: bool,
    output: Output,
) -> Result<(), Failure> {
    if output.is_json() {
        let targets: Vec<Value> = targets.iter().map(|target| target.to_json(dry_run)).collect();
        return output.json(&json!({
            "version": 1,
            "dry_run": dry_run,
            "account": {"username": account.username, "home_account_id": account.home_account_id},
            "from": sources.iter().map(|source| source.cache.store().describe().to_string()).collect::<Vec<_>>(),
            "targets": targets,
        }));
    }
    if dry_run {
        return output.text(&table(&["TOOL", "CACHE", "ENCRYPTED", "CLIENT", "IT"], &rows(targets)));
    }
    let name = printable(account::display_name(account)).into_owned();
    for target in targets {
        let place = printable(&target.described.to_string()).into_owned();
        let tool = &target.name;
        output.remark(&match &target.state {
            State::Possible(_) if target.is_pending() => format!("Shared {name} with {tool}: {place}"),
            State::Possible(_) => format!("{tool} has it already: {place}"),
            State::SamePlace => format!("{tool} has it already, for it is the same cache: {place}"),
            State::SignedOut(_) => format!(
                "{name} was signed out of {tool} and is left so: {place}\n\
                 To share it again: tokenkeep share --to {tool}"
            ),
            State::Refused(refusal) => format!("Not shared with {tool}: {refusal}"),
        })?;
    }
    let mut told: Vec<&str> = Vec::new();
    for target in targets.iter().filter(|target| target.is_pending()) {
        let tool = target.cache.tool();
        if let Some(needs) = tool.also_needs.filter(|needs| !told.contains(needs)) {
            output.remark(needs)?;
            told.push(needs);
        }
    }
    Ok(())
}

fn rows(targets: &[Target]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for target in targets {
        let row = |client: &str, state: &str| {
            let encrypted = if target.described.encrypted { "yes" } else { "NO" };
            let place = target.described.to_string();
            [&target.name, &place, encrypted, client, state].map(|cell| printable(cell).into_owned()).to_vec()
        };
        match &target.state {
            State::Possible(copies) => rows.extend(copies.iter().map(|copy| {
                let state = if copy.is_there { "is there already" } else { "would be copied" };
                row(copy.login.client_id(), state)
            })),
            State::SamePlace => rows.push(row("", "is the same cache")),
            State::SignedOut(_) => rows.push(row("", "was signed out there")),
            State::Refused(refusal) => rows.push(row("", &format!("cannot be: {refusal}"))),
        }
    }
    rows
}
