-- The format is explained in docs/vault-format.md. A released file is never edited.

-- One row. Everything but `format` is under `checksum`; `format` equals PRAGMA user_version.
CREATE TABLE vault (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    format        INTEGER NOT NULL,
    vault_id      BLOB    NOT NULL,
    epoch         INTEGER NOT NULL,
    protectors    BLOB    NOT NULL,
    checksum      BLOB    NOT NULL
) STRICT;

-- One row per data key: the current one and, while a rekey is unfinished, the one before.
CREATE TABLE epoch (
    epoch         INTEGER PRIMARY KEY,
    sealed_key    BLOB,
    root          BLOB    NOT NULL
) STRICT;

-- One row per way to open the vault.
CREATE TABLE protector (
    slot          INTEGER PRIMARY KEY,
    kind          TEXT    NOT NULL,
    created       INTEGER NOT NULL,
    parameters    TEXT    NOT NULL,
    public_key    BLOB    NOT NULL,
    wrapped       BLOB    NOT NULL,
    epoch         INTEGER NOT NULL,
    sealed_key    BLOB    NOT NULL,
    checksum      BLOB    NOT NULL
) STRICT;

-- One row per document and epoch: what its rows must add up to.
CREATE TABLE space (
    id            INTEGER PRIMARY KEY,
    space         BLOB    NOT NULL UNIQUE,
    head          BLOB    NOT NULL
) STRICT;

-- One row per token, account or other entry.
CREATE TABLE entry (
    id            INTEGER PRIMARY KEY,
    space         BLOB    NOT NULL,
    bundle        BLOB    NOT NULL,
    identity      BLOB    NOT NULL UNIQUE,
    tag           BLOB    NOT NULL,
    sealed        BLOB    NOT NULL
) STRICT;

CREATE INDEX entry_by_bundle ON entry (space, bundle, identity, tag);

UPDATE vault SET format = 1;
