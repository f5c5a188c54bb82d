//! Refresh tokens with what is known about their age: which of them a revocation has killed.

use std::collections::HashMap;

use crate::cloud::preferred_cache;
use crate::record::jwt_claims;
use crate::time::UnixTime;

use super::TokenCacheDocument;
use super::entity::{Entity, RefreshTokenView, Section};

/// A person's refresh token where it stands. `Debug` does not show it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HeldRefreshToken<'a> {
    /// Its key in the section.
    pub key: &'a str,
    /// The entry.
    pub token: RefreshTokenView<'a>,
    /// The last moment at which it can have been issued, as far as the cache tells; `None` if
    /// nothing there dates it.
    pub issued_by: Option<UnixTime>,
}

/// Whose tokens: the account, its cloud, and the client.
type Owner = (String, String, String);

impl TokenCacheDocument {
    /// Every person's refresh token, with what is known about its age.
    ///
    /// Its date is its last modification, which not every library writes, or the `iat` of the
    /// newest ID token of the same account and client, which every sign-in replaces; the later of
    /// both, because a library may renew the token and leave another's date as it is. An access
    /// token of the two that was cached later moves it on: one was redeemed for it.
    #[must_use]
    pub fn held_refresh_tokens(&self) -> Vec<HeldRefreshToken<'_>> {
        let id_tokens = self.latest(Section::IdToken, |entity| {
            let claims = jwt_claims(entity.secret()?)?;
            Some(UnixTime::from_seconds(claims.get("iat")?.as_i64()?))
        });
        let access_tokens = self.latest(Section::AccessToken, |entity| entity.time("cached_at"));
        let held = self.entities(Section::RefreshToken).filter(|(_, entity)| entity.is_plain_refresh_token());
        held.map(|(key, entity)| {
            let owner = owner(entity);
            let signed_in = owner.as_ref().and_then(|owner| id_tokens.get(owner)).copied();
            let date = entity.time("last_modification_time").max(signed_in);
            let used = owner.as_ref().and_then(|owner| access_tokens.get(owner)).copied();
            HeldRefreshToken {
                key,
                token: RefreshTokenView(entity),
                issued_by: date.map(|date| date.max(used.unwrap_or(date))),
            }
        })
        .collect()
    }

    fn latest(
        &self,
        section: Section,
        moment: impl Fn(Entity<'_>) -> Option<UnixTime>,
    ) -> HashMap<Owner, UnixTime> {
        let mut latest: HashMap<Owner, UnixTime> = HashMap::new();
        for (_, entity) in self.entities(section) {
            if let (Some(owner), Some(moment)) = (owner(entity), moment(entity)) {
                let known = latest.entry(owner).or_insert(moment);
                *known = moment.max(*known);
            }
        }
        latest
    }
}

fn owner(entity: Entity<'_>) -> Option<Owner> {
    let home_account_id = entity.home_account_id()?.to_owned();
    let cloud = preferred_cache(entity.environment()?);
    Some((home_account_id, cloud, entity.client_id()?.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    fn id_token(iat: &Value) -> Value {
        let payload = URL_SAFE_NO_PAD.encode(json!({ "iat": iat }).to_string());
        json!({"credential_type": "IdToken", "secret": format!("h.{payload}.s"), "home_account_id": "u.t",
            "environment": "login.windows.net", "client_id": "C", "realm": "t"})
    }

    fn access_token(cached_at: &str) -> Value {
        json!({"credential_type": "AccessToken", "home_account_id": "u.t", "client_id": "c",
            "environment": "login.microsoftonline.com", "cached_at": cached_at})
    }

    /// The date of a refresh token that stands beside these.
    fn issued_by(last_modification_time: Option<&str>, beside: Value) -> Option<i64> {
        let mut document = beside;
        let mut token = json!({"credential_type": "RefreshToken", "secret": "s", "home_account_id": "u.t",
            "environment": "login.microsoftonline.com", "client_id": "c"});
        if let Some(time) = last_modification_time {
            token["last_modification_time"] = time.into();
        }
        document["RefreshToken"] = json!({ "key": token });
        let document = TokenCacheDocument::parse(document.to_string().as_bytes()).unwrap();
        let held = document.held_refresh_tokens();
        assert_eq!((held.len(), held[0].key), (1, "key"));
        held[0].issued_by.map(UnixTime::seconds)
    }

    #[test]
    fn a_token_is_dated_by_its_own_time_or_its_clients_id_token_whichever_is_later() {
        assert_eq!(issued_by(Some("100"), json!({})), Some(100));
        assert_eq!(issued_by(None, json!({"IdToken": {"a": id_token(&json!(70))}})), Some(70));
        let two = json!({"IdToken": {"a": id_token(&json!(70)), "b": id_token(&json!(90))}});
        assert_eq!(issued_by(None, two.clone()), Some(90));
        assert_eq!(issued_by(Some("80"), two.clone()), Some(90), "Node leaves another's date as it is");
        assert_eq!(issued_by(Some("100"), two), Some(100));
    }

    #[test]
    fn an_access_token_shows_that_it_lived_longer_but_dates_nothing_by_itself() {
        let beside = json!({"AccessToken": {"a": access_token("150"), "b": access_token("120")}});
        assert_eq!(issued_by(None, beside.clone()), None);
        assert_eq!(issued_by(Some("100"), beside.clone()), Some(150));
        assert_eq!(issued_by(Some("200"), beside), Some(200));
    }

    #[test]
    fn what_is_somebody_elses_or_no_date_does_not_count() {
        let mut other = id_token(&json!(90));
        other["client_id"] = "other".into();
        let mut elsewhere = id_token(&json!(90));
        elsewhere["environment"] = "login.microsoftonline.us".into();
        let mut guest = id_token(&json!(90));
        guest["home_account_id"] = "v.t".into();
        for stranger in [other, elsewhere, guest, id_token(&json!("90")), id_token(&Value::Null)] {
            assert_eq!(issued_by(None, json!({"IdToken": {"a": stranger}})), None);
        }
        assert_eq!(issued_by(Some("soon"), json!({})), None);
    }
}
