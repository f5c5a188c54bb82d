//! Which change of one copy goes into which others. Pure: documents in, changes out.
//!
//! Nothing is carried over that was there before, so that no change comes back; what vanished from
//! a cache is not put there again.

use crate::document::{Change, ChangeSet, Dialect, Login, TokenCacheDocument};

use super::{Copy, Way};

/// No tool brings back a refresh token from longer ago.
const REMEMBERED: usize = 16;

/// The copies of one account's logins.
#[derive(Debug)]
pub(super) struct Steps {
    home_account_id: String,
    environment: String,
    parties: Vec<Party>,
    groups: Vec<Group>,
}

/// A cache, as far as it matters here.
#[derive(Debug)]
struct Party {
    dialect: Dialect,
    /// Whether the account was there at the last look.
    is_signed_in: Option<bool>,
}

/// Refresh tokens that are to be one.
#[derive(Debug)]
struct Group {
    /// The source's, which all are copies of.
    origin: (usize, String),
    slots: Vec<Slot>,
    /// What they all have, or are about to.
    agreed: Option<Login>,
    /// What they had before, the latest last.
    superseded: Vec<Login>,
}

/// One client's refresh token in one cache.
#[derive(Debug)]
struct Slot {
    party: usize,
    client_id: String,
    seen: Option<Login>,
    /// What was removed while the account stayed.
    dropped: Option<Login>,
}

/// What came out of a look. Caches go by their number.
#[derive(Debug)]
pub(super) enum Step {
    /// A refresh token goes into another cache.
    Carry { from: usize, to: usize, client_id: String, changes: ChangeSet },
    /// A refresh token was removed, and the account stayed.
    Dropped { party: usize, client_id: String },
    /// The account is there again.
    SignedIn { party: usize },
    /// The account is there no more.
    SignedOut { party: usize },
}

impl Steps {
    /// `sources` spell their entries so; each of the targets has its copies.
    pub(super) fn new(
        (home_account_id, environment): (&str, &str),
        sources: &[Dialect],
        targets: &[(Dialect, &[Copy])],
    ) -> Self {
        let dialects = sources.iter().chain(targets.iter().map(|(dialect, _)| dialect));
        let parties = dialects.map(|dialect| Party { dialect: *dialect, is_signed_in: None }).collect();
        let mut groups: Vec<Group> = Vec::new();
        for (number, (_, copies)) in targets.iter().enumerate() {
            for copy in *copies {
                let client_id = match &copy.way {
                    Way::Family(client_id) => client_id.as_str(),
                    Way::SameClient => copy.login.client_id(),
                };
                let origin = (copy.from, client_id.to_lowercase());
                let slot = Slot::new(sources.len() + number, copy.login.client_id());
                match groups.iter_mut().find(|group| group.origin == origin) {
                    Some(group) => group.slots.push(slot),
                    None => groups.push(Group {
                        slots: vec![Slot::new(copy.from, client_id), slot],
                        origin,
                        agreed: None,
                        superseded: Vec::new(),
                    }),
                }
            }
        }
        Self {
            home_account_id: home_account_id.to_owned(),
            environment: environment.to_owned(),
            parties,
            groups,
        }
    }

    /// What has to be done after these documents were found; `None` where one could not be read.
    pub(super) fn look(&mut self, documents: &[Option<&TokenCacheDocument>]) -> Vec<Step> {
        let mut steps = Vec::new();
        for (number, (party, document)) in self.parties.iter_mut().zip(documents).enumerate() {
            let Some(document) = document else { continue };
            let is_signed_in = document.has_account(&self.home_account_id, &self.environment);
            match (party.is_signed_in.replace(is_signed_in), is_signed_in) {
                (Some(true), false) => steps.push(Step::SignedOut { party: number }),
                (Some(false), true) => steps.push(Step::SignedIn { party: number }),
                _ => {}
            }
        }
        for group in &mut self.groups {
            let found: Vec<Option<Option<Login>>> = group
                .slots
                .iter()
                .map(|slot| {
                    let (document, party) = (documents[slot.party]?, &self.parties[slot.party]);
                    let login = document.login(
                        &self.home_account_id,
                        &self.environment,
                        &slot.client_id,
                        party.dialect,
                    );
                    Some(login.filter(|_| party.is_signed_in == Some(true)))
                })
                .collect();
            let is_signed_in = |party: usize| self.parties[party].is_signed_in == Some(true);
            group.look(found, &is_signed_in, &|party| self.parties[party].dialect, &mut steps);
        }
        steps
    }
}

impl Slot {
    fn new(party: usize, client_id: &str) -> Self {
        Self { party, client_id: client_id.to_owned(), seen: None, dropped: None }
    }

    /// Takes in what stands there now; tells whether something was dropped.
    fn see(&mut self, found: Option<&Login>, is_signed_in: bool) -> bool {
        if !is_signed_in {
            (self.seen, self.dropped) = (None, None);
            return false;
        }
        let is_dropped = found.is_none() && self.seen.is_some();
        if is_dropped {
            self.dropped = self.seen.take();
        }
        self.seen = found.cloned();
        is_dropped
    }
}

impl Group {
    fn look(
        &mut self,
        found: Vec<Option<Option<Login>>>,
        is_signed_in: &dyn Fn(usize) -> bool,
        dialect: &dyn Fn(usize) -> Dialect,
        steps: &mut Vec<Step>,
    ) {
        for (slot, found) in self.slots.iter_mut().zip(&found) {
            let Some(found) = found else { continue };
            if slot.see(found.as_ref(), is_signed_in(slot.party)) {
                steps.push(Step::Dropped { party: slot.party, client_id: slot.client_id.clone() });
            }
        }
        let Some((from, newest)) = self.newest() else { return };
        if !self.agreed.as_ref().is_some_and(|agreed| agreed.is_same_token(&newest)) {
            self.superseded.extend(self.agreed.replace(newest.clone()));
            let too_many = self.superseded.len().saturating_sub(REMEMBERED);
            self.superseded.drain(..too_many);
        }
        for (slot, found) in self.slots.iter().zip(found) {
            if found.is_none() || !is_signed_in(slot.party) {
                continue;
            }
            let is_newest =
                |login: &Option<Login>| login.as_ref().is_some_and(|own| own.is_same_token(&newest));
            let is_older = slot.seen.as_ref().is_none_or(|own| {
                own.last_used() < newest.last_used()
                    || self.superseded.iter().any(|old| old.is_same_token(own))
            });
            let is_for_it = newest.family_id().is_some() || is_client(&newest, &slot.client_id);
            if is_newest(&slot.seen) || is_newest(&slot.dropped) || !is_older || !is_for_it {
                continue;
            }
            let login = newest.for_family_client(&slot.client_id);
            let login = self.superseded.iter().fold(login, Login::superseding);
            let changes = ChangeSet::of(Change::Adopt {
                login: Box::new(login),
                dialect: dialect(slot.party),
                if_signed_in: true,
            });
            let (to, client_id) = (slot.party, slot.client_id.clone());
            steps.push(Step::Carry { from, to, client_id, changes });
        }
    }

    /// The latest of what is there; of two with one date what came since the last look. What was
    /// replaced before is brought back only by a program that did not notice.
    fn newest(&self) -> Option<(usize, Login)> {
        let is_old = |login: &Login| self.superseded.iter().any(|old| old.is_same_token(login));
        let is_agreed = |login: &Login| self.agreed.as_ref().is_some_and(|own| own.is_same_token(login));
        let there = self.slots.iter().filter_map(|slot| Some((slot.party, slot.seen.clone()?)));
        there
            .filter(|(_, login)| !is_old(login))
            .filter(|(_, login)| self.agreed.as_ref().is_none_or(|own| own.last_used() <= login.last_used()))
            .max_by_key(|(_, login)| (login.last_used(), !is_agreed(login)))
    }
}

fn is_client(login: &Login, client_id: &str) -> bool {
    login.client_id().eq_ignore_ascii_case(client_id)
}
