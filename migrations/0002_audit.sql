-- Events in order, each under the chain of those before it.
CREATE TABLE audit (
    seq           INTEGER PRIMARY KEY,
    sealed        BLOB    NOT NULL,
    mac           BLOB    NOT NULL
) STRICT;

-- Events that happened while the vault was locked, sealed to its public key.
CREATE TABLE audit_pending (
    seq           INTEGER PRIMARY KEY,
    sealed        BLOB    NOT NULL,
    checksum      BLOB    NOT NULL
) STRICT;

ALTER TABLE vault ADD COLUMN audit_key BLOB;
ALTER TABLE vault ADD COLUMN pending INTEGER NOT NULL DEFAULT 0;
ALTER TABLE vault ADD COLUMN audit_checksum BLOB;

UPDATE vault SET format = 2;
