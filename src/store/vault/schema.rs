//! The tables: forward-only migrations, and a check that nobody changed them.

use std::path::Path;
use std::sync::OnceLock;

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use crate::error::VaultError;

use super::file::{APPLICATION_ID, sql};

/// In order; a released file is never edited. `PRAGMA user_version` counts those applied.
const STEPS: &[M<'static>] = &[
    M::up(include_str!("../../../migrations/0001_vault.sql")),
    M::up(include_str!("../../../migrations/0002_audit.sql")),
];
const MIGRATIONS: Migrations<'static> = Migrations::from_slice(STEPS);

/// The newest format that we know.
pub(super) const FORMAT: i64 = STEPS.len() as i64;

/// Makes the tables of a new vault.
pub(super) fn create(connection: &mut Connection, path: &Path) -> Result<(), VaultError> {
    connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(sql(path))?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(sql(path))?;
    apply(connection, path, STEPS.len())
}

/// Brings an older vault up to date; refuses a newer one and one whose tables are not ours.
///
/// # Errors
/// [`VaultError::NewerFormat`], [`VaultError::Damaged`], and what the disk says.
pub(super) fn bring_up_to_date(connection: &mut Connection, path: &Path) -> Result<(), VaultError> {
    if checked_version(connection, path)? == FORMAT {
        return Ok(());
    }
    apply(connection, path, STEPS.len()).or_else(|error| {
        // another process may have done it at the same moment
        if checked_version(connection, path)? == FORMAT { Ok(()) } else { Err(error) }
    })
}

/// The vault's format, after its tables were found to be those of it, in one look.
fn checked_version(connection: &Connection, path: &Path) -> Result<i64, VaultError> {
    let look = connection.unchecked_transaction().map_err(sql(path))?;
    let version: i64 = look.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sql(path))?;
    // the table says it once more: a single flipped bit makes no newer format and no older one
    let format: i64 =
        look.query_row("SELECT format FROM vault WHERE id = 1", [], |row| row.get(0)).map_err(sql(path))?;
    let damaged = |detail: &str| VaultError::Damaged { path: path.to_owned(), detail: detail.to_owned() };
    if format != version || version < 1 {
        return Err(damaged("its two marks of its format disagree"));
    }
    if version > FORMAT {
        return Err(VaultError::NewerFormat { path: path.to_owned(), found: version, known: FORMAT });
    }
    if !is_as_made_by(&look, version).map_err(sql(path))? {
        return Err(damaged("its tables are not those of its format"));
    }
    Ok(version)
}

fn apply(connection: &mut Connection, path: &Path, steps: usize) -> Result<(), VaultError> {
    MIGRATIONS.to_version(connection, steps).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => sql(path)(err),
        other => VaultError::Damaged { path: path.to_owned(), detail: other.to_string() },
    })
}

/// Whether the schema is, letter by letter, what the migrations up to this version make.
fn is_as_made_by(connection: &Connection, version: i64) -> rusqlite::Result<bool> {
    static EXPECTED: OnceLock<Vec<Vec<SchemaRow>>> = OnceLock::new();
    let expected = EXPECTED.get_or_init(|| {
        let made_by = |steps: usize| {
            let mut memory = Connection::open_in_memory().ok()?;
            MIGRATIONS.to_version(&mut memory, steps).ok()?;
            schema_of(&memory).ok()
        };
        (0..=STEPS.len()).map(|steps| made_by(steps).unwrap_or_default()).collect()
    });
    let found = schema_of(connection)?;
    Ok(usize::try_from(version).ok().and_then(|at| expected.get(at)) == Some(&found))
}

type SchemaRow = (String, String, String, Option<String>);

fn schema_of(connection: &Connection) -> rusqlite::Result<Vec<SchemaRow>> {
    connection
        .prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect()
}

#[cfg(test)]
pub(super) fn create_at(connection: &mut Connection, path: &Path, version: usize) {
    connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    apply(connection, path, version).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_in_migrations_is_applied() {
        MIGRATIONS.validate().unwrap();
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
        assert_eq!(files.count(), STEPS.len(), "a file in migrations/ is not listed in STEPS");
    }

    #[test]
    fn a_view_a_trigger_or_another_column_is_noticed() {
        for change in [
            "CREATE VIEW v AS SELECT 1",
            "CREATE TRIGGER t AFTER DELETE ON entry BEGIN DELETE FROM protector; END",
            "ALTER TABLE entry ADD COLUMN more BLOB",
            "DROP INDEX entry_by_bundle",
        ] {
            let mut memory = Connection::open_in_memory().unwrap();
            create(&mut memory, Path::new("m")).unwrap();
            assert!(is_as_made_by(&memory, FORMAT).unwrap());
            memory.execute_batch(change).unwrap();
            assert!(!is_as_made_by(&memory, FORMAT).unwrap(), "{change}");
        }
    }
}
