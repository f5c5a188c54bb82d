//! Small things that belong to no cache: authentication records, default accounts, and what a person
//! allowed programs.

use serde_json::Value;

use crate::error::{Error, VaultError};
use crate::record::AuthenticationRecord;
use crate::time::Deadline;

use super::Vault;
use super::audit::{self, AuditEvent};
use super::space::{Bundle, Item, Put, Space};

const RECORDS: &str = "records";
const DEFAULT_ACCOUNTS: &str = "default accounts";
#[cfg(feature = "cli")]
const CONSENTS: &str = "consents";

impl Vault {
    /// The names of all records, in the order in which they were first kept.
    ///
    /// # Errors
    /// [`VaultError::Damaged`], and what the disk says.
    pub fn record_names(&self) -> Result<Vec<String>, VaultError> {
        self.shared.read(|session| {
            let rows = Space::open(session, RECORDS)?.all()?;
            Ok(rows.iter().filter_map(|row| row.item.path.first().cloned()).collect())
        })
    }

    /// The record of that name.
    ///
    /// # Errors
    /// [`crate::error::CacheError::Vault`], or [`Error::InvalidArgument`] for a record that this
    /// version cannot read.
    pub fn record(&self, name: &str) -> Result<Option<AuthenticationRecord>, Error> {
        let text = self.text(RECORDS, name).map_err(crate::error::CacheError::from)?;
        text.map(|text| AuthenticationRecord::deserialize(&text)).transpose()
    }

    /// Keeps a record under a name, or removes the one that is there.
    ///
    /// # Errors
    /// [`VaultError::Damaged`], and what the disk says.
    pub fn set_record(
        &self,
        name: &str,
        record: Option<&AuthenticationRecord>,
        deadline: Deadline,
    ) -> Result<(), VaultError> {
        let event = match record {
            Some(record) => self.event("record_kept").account(record.home_account_id()),
            None => self.event("record_removed"),
        };
        let text = record.map(AuthenticationRecord::serialize);
        self.set_text(RECORDS, name, text, event.subject(name), deadline)
    }

    /// The home account id that commands use for a cloud when none is named.
    ///
    /// # Errors
    /// [`VaultError::Damaged`], and what the disk says.
    pub fn default_account(&self, cloud: &str) -> Result<Option<String>, VaultError> {
        self.text(DEFAULT_ACCOUNTS, cloud)
    }

    /// Chooses a cloud's default account, or none. The cloud goes by the name that caches prefer for it.
    ///
    /// # Errors
    /// [`VaultError::Damaged`], and what the disk says.
    pub fn set_default_account(
        &self,
        cloud: &str,
        home_account_id: Option<&str>,
        deadline: Deadline,
    ) -> Result<(), VaultError> {
        let event = match home_account_id {
            Some(id) => self.event("default_account_set").account(id),
            None => self.event("default_account_removed"),
        };
        let text = home_account_id.map(str::to_owned);
        self.set_text(DEFAULT_ACCOUNTS, cloud, text, event.subject(cloud), deadline)
    }

    /// What a person allowed programs, in the agent's form.
    #[cfg(feature = "cli")]
    pub(crate) fn consents(&self) -> Result<Option<String>, VaultError> {
        self.text(CONSENTS, CONSENTS)
    }

    /// Replaces that.
    #[cfg(feature = "cli")]
    pub(crate) fn set_consents(&self, text: String, deadline: Deadline) -> Result<(), VaultError> {
        self.set_text(CONSENTS, CONSENTS, Some(text), self.event("consents_kept"), deadline)
    }

    fn text(&self, space: &str, name: &str) -> Result<Option<String>, VaultError> {
        self.shared.read(|session| {
            let row = Space::open(session, space)?.row_in(&Bundle::Top, &[name.to_owned()])?;
            Ok(row.and_then(|row| row.item.value.as_str().map(str::to_owned)))
        })
    }

    fn set_text(
        &self,
        space: &str,
        name: &str,
        text: Option<String>,
        event: AuditEvent,
        deadline: Deadline,
    ) -> Result<(), VaultError> {
        self.shared.write(deadline, |session| {
            let mut space = Space::open(session, space)?;
            let path = vec![name.to_owned()];
            let old = space.row_in(&Bundle::Top, &path)?;
            if old.as_ref().and_then(|row| row.item.value.as_str()) == text.as_deref() {
                return Ok(());
            }
            let put = text.map(|text| Put {
                bundle: Bundle::Top,
                item: Item {
                    order: old.as_ref().map_or_else(|| space.next_order(), |old| old.item.order),
                    path,
                    value: Value::String(text),
                },
                replaces: old.as_ref(),
            });
            let removed = if put.is_some() { None } else { old.as_ref() };
            space.write(removed, put)?;
            audit::append(session, &[event])
        })
    }
}
