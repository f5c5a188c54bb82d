//! Small things that belong to no cache: authentication records and default accounts.

use serde_json::Value;

use crate::error::{Error, VaultError};
use crate::record::AuthenticationRecord;
use crate::time::Deadline;

use super::Vault;
use super::space::{Bundle, Item, Put, Space};

const RECORDS: &str = "records";
const DEFAULT_ACCOUNTS: &str = "default accounts";

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
        self.set_text(RECORDS, name, record.map(AuthenticationRecord::serialize), deadline)
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
        self.set_text(DEFAULT_ACCOUNTS, cloud, home_account_id.map(str::to_owned), deadline)
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
        deadline: Deadline,
    ) -> Result<(), VaultError> {
        self.shared.write(deadline, |session| {
            let mut space = Space::open(session, space)?;
            let path = vec![name.to_owned()];
            let old = space.row_in(&Bundle::Top, &path)?;
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
            space.write(removed, put)
        })
    }
}
