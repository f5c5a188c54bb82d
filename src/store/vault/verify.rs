//! Everything that a vault has, looked at once.

use std::path::Path;

use rusqlite::Connection;

use crate::error::VaultError;

use super::file::sql;
use super::header::Header;
use super::root::Root;
use super::session::Session;
use super::slots::check_listed;
use super::space::Space;
use super::{CACHES, Vault};

impl Vault {
    /// Reads and checks everything there is: pages, rows, heads, the audit trail.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] naming the first thing that is wrong.
    pub fn verify(&self) -> Result<VaultReport, VaultError> {
        let mut report = self.shared.read(|session| {
            integrity(session.connection, session.path)?;
            let header = Header::read(session.connection, session.path)?;
            check_listed(session, &header)?;
            let mut report = VaultReport { caches: 0, rows: 0, events: 0 };
            for name in spaces(session)? {
                report.rows += Space::open(session, &name)?.all()?.len() as u64;
                report.caches += u64::from(name.starts_with(CACHES));
            }
            let in_table: i64 = session
                .connection
                .query_row("SELECT count(*) FROM entry", [], |row| row.get(0))
                .map_err(session.sql())?;
            if in_table.cast_unsigned() != report.rows {
                return Err(session.damaged("it has rows of no document"));
            }
            Ok(report)
        })?;
        report.events = self.audit()?.len() as u64;
        Ok(report)
    }
}

/// What [`Vault::verify`] found in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VaultReport {
    /// How many caches.
    pub caches: u64,
    /// How many rows, of caches and of everything else.
    pub rows: u64,
    /// How many events of the audit trail.
    pub events: u64,
}

pub(super) fn spaces(session: &Session<'_>) -> Result<Vec<String>, VaultError> {
    let mut names = Vec::new();
    for keys in session.keys {
        for name in Root::read(session.connection, session.path, keys)?.spaces {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

pub(super) fn integrity(connection: &Connection, path: &Path) -> Result<(), VaultError> {
    let found: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(sql(path))?;
    if found == "ok" {
        return Ok(());
    }
    Err(VaultError::Damaged { path: path.to_owned(), detail: found })
}
