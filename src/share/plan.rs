//! What can be copied from where to where, and why something cannot. Reads documents, touches
//! nothing.

use crate::cloud::same_cloud;
use crate::document::{Change, ChangeSet, Dialect, Login, TokenCacheDocument};
use crate::error::CacheError;
use crate::store::Writing;

use super::SharedCache;
use super::tools::{Clients, FAMILY, Tool};

/// The tenant of all personal accounts.
const PERSONAL_ACCOUNTS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// A login that goes into a cache.
#[derive(Clone, Debug)]
pub struct Copy {
    /// What is copied, for the client that will use it.
    pub login: Login,
    /// Why that client can use it.
    pub way: Way,
    /// Whether the cache would be no different: it has this login, or a newer one of its own.
    pub is_there: bool,
    /// Which of the sources it is from.
    pub(super) from: usize,
    pub(super) dialect: Dialect,
}

impl Copy {
    /// The change that makes it.
    #[must_use]
    pub fn changes(&self) -> ChangeSet {
        ChangeSet::of(Change::Adopt {
            login: Box::new(self.login.clone()),
            dialect: self.dialect,
            if_signed_in: false,
        })
    }
}

/// Why a client can use a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Its refresh token is of a family that the client belongs to. Whose it was.
    Family(String),
    /// It is the client's own.
    SameClient,
}

/// Why a login cannot be shared with a cache.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Other tools do not look for such accounts, and there are no families.
    #[error("an account of an AD FS serves only the tool that it signed in to")]
    AdFs,
    /// The refresh token was refused before, and would only be refused again.
    #[error("the account's refresh token is dead: the provider called it so with {code}")]
    Dead {
        /// The provider's code.
        code: String,
    },
    /// The account is known, but nothing can be done with it.
    #[error("there is no refresh token of the account to share")]
    NoLogin,
    /// The tool's client is in no family, or the login is in none.
    #[error("the login is one of client {has}, in no family of clients, and the tool is client {wants}")]
    NoFamily {
        /// The client that the login is of.
        has: String,
        /// The client of the tool.
        wants: String,
    },
    /// The tool's client is not known to be a member.
    #[error("the tool is client {wants}, which is not known to be in the family of client {has}")]
    NotMember {
        /// The client that the login is of.
        has: String,
        /// The client of the tool.
        wants: String,
    },
    /// The account is in the other of the two caches only.
    #[error("the account is in the cache for the other mode of continuous access evaluation only")]
    OtherMode,
    /// Nobody else can make it.
    #[error("the tool encrypts its cache with a key that it makes itself, at its first sign-in")]
    NotMadeYet,
    /// Whether families exist for personal accounts is not known.
    #[error("the tool is another client, and a personal account's login serves its own client only")]
    Personal,
    /// The tool's rules allow no writing.
    #[error("{why}")]
    ReadOnly {
        /// Why not.
        why: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// Nobody said that it may be copied out of an encrypted cache into one that is not.
    #[error(
        "the tool keeps its cache unencrypted: every program of yours, and whoever reads the disk, could use the login"
    )]
    Unencrypted,
    /// What is in the cache cannot be known.
    #[error("{0}")]
    Unreadable(CacheError),
}

impl Refusal {
    /// What to do, for people to read.
    #[must_use]
    pub fn hint(&self, tool: &Tool) -> String {
        match self {
            Self::AdFs
            | Self::NoFamily { .. }
            | Self::NotMadeYet
            | Self::NotMember { .. }
            | Self::Personal => tool.sign_in.to_owned(),
            Self::Dead { .. } => "sign in again where the login is from, such as: tokenkeep login".to_owned(),
            Self::NoLogin => "sign in: tokenkeep login".to_owned(),
            Self::OtherMode => "sign in for it: tokenkeep login, with or without --enable-cae".to_owned(),
            Self::ReadOnly { instead, .. } => (*instead).to_owned(),
            Self::Unencrypted => "if that is all right, say --allow-plaintext".to_owned(),
            Self::Unreadable(error) => error.hint(),
        }
    }
}

/// What of an account's logins `target` can use, and what that comes to there.
///
/// Sources and target are given with what is in them. With `client_id` only that client's login is
/// shared. An access token is never copied, so that what is for continuous access evaluation stays
/// where it is (spec S-C 2.1).
///
/// # Errors
/// [`Refusal`] if it can use none.
pub fn plan(
    sources: &[(&SharedCache, &TokenCacheDocument)],
    (home_account_id, environment): (&str, &str),
    (target, content): (&SharedCache, &TokenCacheDocument),
    client_id: Option<&str>,
) -> Result<Vec<Copy>, Refusal> {
    if let Writing::ReadOnly { why, instead } = target.writing {
        return Err(Refusal::ReadOnly { why, instead });
    }
    let Some((_, home_tenant)) = home_account_id.split_once('.') else {
        return Err(Refusal::AdFs);
    };
    let fits = |source: &SharedCache| match (source.cae, target.cae) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    let of = |fits: &dyn Fn(&SharedCache) -> bool| {
        let mut logins: Vec<(usize, Login)> = Vec::new();
        for (from, (_, document)) in sources.iter().enumerate().filter(|(_, (source, _))| fits(source)) {
            let wanted = |login: &Login| client_id.is_none_or(|id| is_of(login, id));
            for login in document.logins(home_account_id, environment).into_iter().filter(wanted) {
                match logins.iter_mut().find(|(_, known)| is_of(known, login.client_id())) {
                    Some((_, known)) if known.last_used() >= login.last_used() => {}
                    Some(known) => *known = (from, login),
                    None => logins.push((from, login)),
                }
            }
        }
        logins
    };
    let logins = of(&fits);
    let Some((_, any)) = logins.first() else {
        return Err(if of(&|_| true).is_empty() { Refusal::NoLogin } else { Refusal::OtherMode });
    };

    let for_client = |wants: &str| -> Result<(usize, Login, Way), Refusal> {
        if let Some((from, own)) = logins.iter().find(|(_, login)| is_of(login, wants)) {
            return Ok((*from, own.clone(), Way::SameClient));
        }
        let (has, wants) = (any.client_id().to_owned(), wants.to_owned());
        let of_family = logins.iter().filter(|(_, login)| login.family_id().is_some());
        let Some((from, family)) = of_family.max_by_key(|(_, login)| login.last_used()) else {
            return Err(Refusal::NoFamily { has, wants });
        };
        if home_tenant == PERSONAL_ACCOUNTS {
            return Err(Refusal::Personal);
        }
        let documents = sources.iter().map(|(_, document)| *document).chain([content]);
        let told: Vec<bool> =
            documents.filter_map(|document| document.is_of_a_family(environment, &wants)).collect();
        let is_public = same_cloud(environment, "login.microsoftonline.com");
        let is_listed = is_public && FAMILY.iter().any(|member| member.eq_ignore_ascii_case(&wants));
        let is_member = if told.is_empty() { is_listed } else { told.contains(&true) };
        if !is_member {
            return Err(Refusal::NotMember { has: family.client_id().to_owned(), wants });
        }
        let way = Way::Family(family.client_id().to_owned());
        Ok((*from, family.for_family_client(&wants), way))
    };
    let found = match target.tool.clients {
        Clients::Any(default) => {
            let own = |(from, login): &(usize, Login)| (*from, login.clone(), Way::SameClient);
            let mut found: Vec<_> = logins.iter().map(own).collect();
            let has_default = logins.iter().any(|(_, login)| is_of(login, default));
            if !has_default && client_id.is_none() {
                found.extend(for_client(default));
            }
            found
        }
        Clients::Own(clients) => {
            let mut refused = Refusal::NoLogin;
            let mut found = Vec::new();
            for client in clients {
                match for_client(client) {
                    Ok(login) => found.push(login),
                    Err(refusal) => refused = refusal,
                }
            }
            if found.is_empty() {
                return Err(refused);
            }
            found
        }
    };
    let copy = |(from, login, way): (usize, Login, Way)| {
        let mut copy = Copy { login, way, is_there: false, from, dialect: target.dialect };
        copy.is_there = !content.clone().apply(&copy.changes());
        copy
    };
    Ok(found.into_iter().map(copy).collect())
}

fn is_of(login: &Login, client_id: &str) -> bool {
    login.client_id().eq_ignore_ascii_case(client_id)
}
