//! What is wrong with a document: found, named, and mended without losing a good entry.
//!
//! `diagnosis` says what is wrong and which remedy would help, `remedy` carries it out. A repair
//! looks again at the document that it changes, so what is no longer wrong is left alone.

use super::TokenCacheDocument;
use super::diagnosis::Fault;
use super::remedy::Remedy;
use crate::time::UnixTime;

/// What can be wrong with a document (spec S-C 1.2 to 1.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DefectKind {
    /// Access tokens that have expired.
    AccessTokenExpired,
    /// Access tokens of which two could answer one request: .NET fails, Node deletes both.
    AccessTokensOverlap,
    /// Several entries for one account and tenant; under one alias .NET keeps only the last.
    AccountDuplicate,
    /// An account without fields by which Python lists and finds it; they follow from the others.
    AccountIncomplete,
    /// An account that no refresh token can sign in.
    AccountWithoutRefreshToken,
    /// Several entries for one client: every refresh of Node's fails.
    AppMetadataDuplicate,
    /// An app's own token beside the tokens of people.
    AppTokenAmongUsers,
    /// A byte order mark, at which .NET deletes the whole cache.
    ByteOrderMark,
    /// A credential type that is missing or in another case.
    CredentialTypeMisspelled,
    /// A credential type that we do not know; Node removes such entries.
    CredentialTypeUnknown,
    /// An entry without a field that every reader needs.
    EntryIncomplete,
    /// An entry that is no object.
    EntryMalformed,
    /// An access token said to be good for more than ten years.
    ExpiryAbsurd,
    /// A client whose refresh token is its family's, and whose entry says that it has none.
    FamilyMisstated,
    /// A client whose refresh token is its family's, and of which no entry says so.
    FamilyMissing,
    /// A field that should be text and is something else.
    FieldMalformed,
    /// A token that was written later than now.
    FromTheFuture,
    /// Several ID tokens for one tenant: Node deletes all of them.
    IdTokenDuplicate,
    /// A null, at which .NET may delete the whole cache.
    NullValue,
    /// A number in place of text, at which .NET may delete the whole cache.
    NumberValue,
    /// Several refresh tokens for one client: Node takes the first, stale or not.
    RefreshTokenDuplicate,
    /// A refresh token that nobody has used for as long as the provider keeps one.
    RefreshTokenOld,
    /// A refresh token of an account that no entry names, as an incomplete sign-out leaves it.
    RefreshTokenWithoutAccount,
    /// A section that is no object.
    SectionMalformed,
}

/// Where an entry stands. A section as a whole has an empty key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct EntryPlace {
    /// Which section.
    pub section: String,
    /// The entry's key there.
    pub key: String,
}

impl EntryPlace {
    pub(crate) fn new(section: &str, key: &str) -> Self {
        Self { section: section.to_owned(), key: key.to_owned() }
    }
}

/// Everything of one kind that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Defect {
    /// What is wrong.
    pub kind: DefectKind,
    /// The entries it is about, in the order of the file; none for what is wrong with the whole.
    pub entries: Vec<EntryPlace>,
    /// Whether [`super::Change::Repair`] mends it.
    pub repairable: bool,
}

impl TokenCacheDocument {
    /// What is wrong at this moment, each kind once.
    #[must_use]
    pub fn defects(&self, now: UnixTime) -> Vec<Defect> {
        let mut faults = self.faults(now);
        faults.sort_by_key(|fault| fault.kind);
        let mut defects: Vec<Defect> = Vec::new();
        for Fault { kind, entries, remedy } in faults {
            let repairable = !matches!(remedy, Remedy::None);
            match defects.last_mut().filter(|last| last.kind == kind) {
                Some(last) => {
                    last.entries.extend(entries);
                    last.repairable &= repairable;
                }
                None => defects.push(Defect { kind, entries, repairable }),
            }
        }
        defects
    }

    /// Mends of this defect what is still wrong; no entry that it does not name is touched.
    pub(super) fn repair(&mut self, listed: &Defect, now: UnixTime) -> bool {
        let named: std::collections::HashSet<&EntryPlace> = listed.entries.iter().collect();
        let still_wrong = self.faults(now).into_iter().filter(|fault| {
            fault.kind == listed.kind && fault.entries.iter().all(|place| named.contains(place))
        });
        let still_wrong: Vec<Fault> = still_wrong.collect();
        self.remedy(&still_wrong)
    }
}
