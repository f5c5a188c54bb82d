//! Look-up by fields (spec S-C 1.6 and 1.7).

use std::cmp::Reverse;
use std::time::Duration;

use crate::time::UnixTime;
use crate::token::Scopes;

use super::TokenCacheDocument;
use super::clients::Membership;
use super::entity::{AccessTokenView, Entity, RefreshTokenView, Section};
use super::realm::same_realm;

/// Scopes about the sign-in itself: no reader compares them, unless nothing else is asked for.
const OIDC_SCOPES: [&str; 4] = ["email", "offline_access", "openid", "profile"];

/// A token good for longer than this is a mistake, as .NET says, too.
pub(super) const LONGEST_VALIDITY: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// Node rounds the time of a token up to the next second, and clocks of two machines differ.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Which access token would do.
#[derive(Clone, Copy, Debug)]
pub struct AccessTokenQuery<'a> {
    /// Whose; empty for an app's own.
    pub home_account_id: &'a str,
    /// Any host of the cloud.
    pub environment: &'a str,
    /// Which client's.
    pub client_id: &'a str,
    /// Whether a token of another client of the family will do as well (spec S-B 3.2).
    pub any_family_client: bool,
    /// Which tenant's; `organizations` and `common` mean the account's home tenant.
    pub realm: &'a str,
    /// What it must be good for.
    pub scopes: &'a Scopes,
    /// How long it must still be valid.
    pub min_validity: Duration,
}

/// Which refresh tokens may be tried.
#[derive(Clone, Copy, Debug)]
pub struct RefreshTokenQuery<'a> {
    /// Whose.
    pub home_account_id: &'a str,
    /// Any host of the cloud.
    pub environment: &'a str,
    /// Which client asks.
    pub client_id: &'a str,
}

impl TokenCacheDocument {
    /// The best access token that does: the client's own before one of its family, then the very
    /// environment before an alias, then the one that lasts longest (spec S-C 1.6).
    #[must_use]
    pub fn access_token(&self, query: &AccessTokenQuery<'_>, now: UnixTime) -> Option<AccessTokenView<'_>> {
        let mut best = None;
        for (_, entity) in self.entities(Section::AccessToken) {
            // The cheapest test first: in a large cache it turns nearly everything away.
            if !entity.is_of(query.home_account_id) || !query.fits(entity) {
                continue;
            }
            let Some(expires_on) = usable_until(entity, now, query.min_validity) else {
                continue;
            };
            let is_own = entity.is_for_client(query.client_id);
            let is_exact =
                entity.environment().is_some_and(|own| own.eq_ignore_ascii_case(query.environment));
            let rank = (is_own, is_exact, expires_on);
            if best.is_none_or(|(best_rank, _)| rank >= best_rank)
                && (is_own || query.any_family_client && self.is_of_family(entity))
            {
                best = Some((rank, entity));
            }
        }
        best.map(|(_, entity)| AccessTokenView(entity))
    }

    /// Refresh tokens in the order in which to try them, each secret once (spec S-C 1.7).
    ///
    /// A known member of a family tries its own family token, then its family's, then its own
    /// plain one; an unknown client its own, then any family's; a known non-member only its own.
    #[must_use]
    pub fn refresh_tokens(&self, query: &RefreshTokenQuery<'_>) -> Vec<RefreshTokenView<'_>> {
        let found = self
            .entities(Section::RefreshToken)
            .map(|(_, entity)| entity)
            .filter(|entity| {
                entity.is_of(query.home_account_id)
                    && entity.is_in_cloud_of(query.environment)
                    && entity.is_plain_refresh_token()
            })
            .collect();
        let mut found = newest_first(found, |entity| *entity);

        let membership = self.membership(query.environment, query.client_id);
        let turn = |entity: &Entity<'_>| {
            let is_own = entity.is_for_client(query.client_id);
            match (&membership, is_own, entity.family_id().is_some()) {
                (Membership::Member, true, true) => Some(0),
                (Membership::Member, false, true) => Some(1),
                (Membership::Member, true, false) => Some(2),
                (Membership::Unknown | Membership::NotMember, true, _) => Some(0),
                (Membership::Unknown, false, true) => Some(1),
                (Membership::NotMember, false, _) | (_, false, false) => None,
            }
        };
        found.retain(|entity| turn(entity).is_some());
        found.sort_by_key(turn);

        let mut views: Vec<RefreshTokenView<'_>> = Vec::with_capacity(found.len());
        for view in found.into_iter().map(RefreshTokenView) {
            if views.iter().all(|earlier| earlier.secret() != view.secret()) {
                views.push(view);
            }
        }
        views
    }

    fn membership(&self, environment: &str, client_id: &str) -> Membership {
        let mut known = Membership::Unknown;
        for (_, entity) in self.entities(Section::AppMetadata) {
            if entity.is_for_client(client_id) && entity.is_in_cloud_of(environment) {
                if entity.family_id().is_some() {
                    return Membership::Member;
                }
                known = Membership::NotMember;
            }
        }
        known
    }

    /// Whether the token's client is known to be of a family, by its metadata or a refresh token.
    fn is_of_family(&self, token: Entity<'_>) -> bool {
        let (Some(client_id), Some(environment)) = (token.client_id(), token.environment()) else {
            return false;
        };
        matches!(self.membership(environment, client_id), Membership::Member)
            || self.entities(Section::RefreshToken).any(|(_, entity)| {
                entity.family_id().is_some()
                    && entity.is_for_client(client_id)
                    && entity.is_in_cloud_of(environment)
            })
    }
}

impl AccessTokenQuery<'_> {
    fn fits(&self, entity: Entity<'_>) -> bool {
        (self.any_family_client || entity.is_for_client(self.client_id))
            && entity.is_in_cloud_of(self.environment)
            && entity.realm().is_some_and(|own| same_realm(self.home_account_id, own, self.realm))
            && covers(entity, self.scopes)
            && entity.is_plain_access_token()
    }
}

/// Turns file order into order of age: by the last modification where it is known; an entry
/// without one counts as written after those before it.
pub(super) fn newest_first<'a, T>(found: Vec<T>, entity: impl Fn(&T) -> Entity<'a>) -> Vec<T> {
    let mut latest = UnixTime::default();
    let mut dated = Vec::with_capacity(found.len());
    for item in found {
        let known = entity(&item).time("last_modification_time");
        latest = known.map_or(latest, |own| latest.max(own));
        dated.push((known.unwrap_or(latest), item));
    }
    // Of two with one date, the later in the file is the newer: the sort is stable.
    dated.reverse();
    dated.sort_by_key(|(date, _)| Reverse(*date));
    dated.into_iter().map(|(_, item)| item).collect()
}

/// Whether every scope asked for is granted, whatever its case.
fn covers(entity: Entity<'_>, scopes: &Scopes) -> bool {
    let nothing_else = scopes.iter().all(is_oidc);
    scopes
        .iter()
        .filter(|scope| nothing_else || !is_oidc(scope))
        .all(|scope| entity.scopes().any(|granted| granted.eq_ignore_ascii_case(scope)))
}

pub(super) fn is_oidc(scope: &str) -> bool {
    OIDC_SCOPES.iter().any(|known| known.eq_ignore_ascii_case(scope))
}

/// When it expires, if it is still good for long enough and its times make sense.
fn usable_until(entity: Entity<'_>, now: UnixTime, min_validity: Duration) -> Option<UnixTime> {
    let expires_on = entity.time("expires_on")?;
    let cached_at = entity.time("cached_at")?;
    let is_usable = cached_at <= now.after(CLOCK_TOLERANCE)
        && expires_on > now
        && expires_on <= now.after(LONGEST_VALIDITY)
        && now.until(expires_on) >= min_validity;
    is_usable.then_some(expires_on)
}
