#!/usr/bin/env python3
"""Opens a vault by a passphrase and prints a document: an independent reader of docs/vault-format.md.

    vault_reader.py FILE [CACHE] < passphrase

Needs only `cryptography` (44 or newer, for Argon2id) and the standard library. It shares nothing
with the Rust code but the written format; where the two disagree, one of them or the document is
wrong. It never writes.
"""

import base64
import hashlib
import hmac
import json
import sqlite3
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

APPLICATION_ID = 0x546B5674
NEWEST_FORMAT = 2


class Damaged(Exception):
    """The file is not what was written."""


class NewerFormat(Exception):
    """The file is of a format that this reader does not know."""


class WrongPassphrase(Exception):
    """The file is whole, and this is not its passphrase."""


def prefixed(*parts):
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def u64(number):
    return struct.pack("<Q", number)


def sha256(*parts):
    return hashlib.sha256(prefixed(*parts)).digest()


def derive(secret, salt, info):
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(secret)


def associated(vault_id, epoch, table, space="", identity=b""):
    return prefixed(
        b"tokenkeep vault", struct.pack("<I", 1), vault_id, u64(epoch), table.encode(), space.encode(), identity
    )


def open_sealed(key, context, sealed):
    if len(sealed) < 28:
        raise InvalidTag
    return AESGCM(key).decrypt(sealed[:12], sealed[12:], context)


def open_from(secret, context, sealed):
    private = X25519PrivateKey.from_private_bytes(secret)
    own = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    sender, rest = sealed[:32], sealed[32:]
    shared = private.exchange(X25519PublicKey.from_public_bytes(sender))
    key = derive(shared, sender + own, b"tokenkeep vault sealed to a public key")
    return own, open_sealed(key, context, rest)


class Epoch:
    """The keys of one epoch."""

    def __init__(self, vault_id, number, data):
        self.vault_id, self.number = vault_id, number
        self.keys = {
            purpose: derive(data, vault_id, prefixed(b"tokenkeep vault", purpose.encode(), u64(number)))
            for purpose in ("sealing", "index", "totals", "audit")
        }

    def mac(self, purpose, message):
        return hmac.new(self.keys[purpose], message, hashlib.sha256).digest()

    def blind(self, *parts):
        return self.mac("index", prefixed(*parts))[:16]

    def open(self, sealed, table, space="", identity=b""):
        context = associated(self.vault_id, self.number, table, space, identity)
        try:
            return open_sealed(self.keys["sealing"], context, sealed)
        except InvalidTag:
            raise Damaged(f"something in {table} does not open") from None


class Vault:
    def __init__(self, path, passphrase):
        self.check_file(path)
        self.db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        (version,) = self.db.execute("PRAGMA user_version").fetchone()
        (found,) = self.one("SELECT format FROM vault WHERE id = 1")
        if found != version:
            raise Damaged("its two marks of its format disagree")
        if version > NEWEST_FORMAT:
            raise NewerFormat(f"format {version}")
        slots = self.read_header()
        self.epochs = self.unlock(slots, passphrase)

    @staticmethod
    def check_file(path):
        with open(path, "rb") as file:
            header = file.read(100)
            length = file.seek(0, 2)
        if length < 100 or header[:16] != b"SQLite format 3\0":
            raise Damaged("it does not begin as a database does")
        if struct.unpack(">I", header[68:72])[0] != APPLICATION_ID:
            raise Damaged("it is not marked as a vault")
        page = struct.unpack(">H", header[16:18])[0]
        page = 65536 if page == 1 else page
        if page < 512 or length % page or struct.unpack(">I", header[28:32])[0] * page != length:
            raise Damaged("its length is not the one that its header says")

    def one(self, statement, *values):
        row = self.db.execute(statement, values).fetchone()
        if row is None:
            raise Damaged("a row is missing")
        return row

    def read_header(self):
        self.vault_id, self.epoch, protectors, checksum = self.one(
            "SELECT vault_id, epoch, protectors, checksum FROM vault WHERE id = 1"
        )
        if sha256(b"tokenkeep vault header", self.vault_id, u64(self.epoch), protectors) != checksum:
            raise Damaged("the checksum of its first row is wrong")
        slots, checksums = [], b""
        for slot, kind, created, parameters, public, wrapped, epoch, sealed, stored in self.db.execute(
            "SELECT slot, kind, created, parameters, public_key, wrapped, epoch, sealed_key, checksum"
            " FROM protector ORDER BY slot"
        ):
            own = sha256(
                b"tokenkeep vault protector",
                self.vault_id,
                struct.pack("<I", slot),
                kind.encode(),
                struct.pack("<q", created),
                parameters.encode(),
                public,
                wrapped,
                u64(epoch),
                sealed,
            )
            if own != stored:
                raise Damaged(f"the checksum of protector {slot} is wrong")
            checksums += own
            slots.append((kind, parameters, public, wrapped, epoch, sealed))
        if sha256(b"tokenkeep vault protectors", checksums) != protectors:
            raise Damaged("its protectors are not the ones it lists")
        self.protectors = protectors
        return slots

    def unlock(self, slots, passphrase):
        for kind, parameters, public, wrapped, epoch, sealed in slots:
            if kind != "passphrase":
                continue
            settings = json.loads(parameters)
            cost = settings["cost"]
            bounds = {"memory_kib": (8192, 1048576), "passes": (1, 16), "lanes": (1, 16)}
            if any(not low <= cost[name] <= high for name, (low, high) in bounds.items()):
                raise Damaged("the cost of a passphrase is out of bounds")
            stretched = Argon2id(
                salt=bytes.fromhex(settings["salt"]),
                length=32,
                iterations=cost["passes"],
                lanes=cost["lanes"],
                memory_cost=cost["memory_kib"],
            ).derive(passphrase)
            context = associated(self.vault_id, 0, "protector", kind, parameters.encode())
            try:
                secret = open_sealed(stretched, context, wrapped)
            except InvalidTag:
                continue
            return self.open_epochs(secret, public, epoch, sealed)
        raise WrongPassphrase

    def open_epochs(self, secret, public, epoch, sealed):
        try:
            own, data = open_from(secret, associated(self.vault_id, epoch, "data key"), sealed)
        except InvalidTag:
            raise Damaged("a protector does not open the data key that it should") from None
        if own != public or epoch != self.epoch:
            raise Damaged("a protector is of another vault or epoch")
        epochs = [Epoch(self.vault_id, epoch, data)]
        root = self.root(epochs[0])
        if base64.b64decode(root["protectors"]) != self.protectors:
            raise Damaged("its protectors are not the ones that were sealed")
        if root["previous"] is not None:
            (older,) = self.one("SELECT sealed_key FROM epoch WHERE epoch = ?", root["previous"])
            data = epochs[0].open(older, "previous key", identity=u64(root["previous"]))
            epochs.append(Epoch(self.vault_id, root["previous"], data))
        return epochs

    def root(self, epoch):
        (sealed,) = self.one("SELECT root FROM epoch WHERE epoch = ?", epoch.number)
        return json.loads(epoch.open(sealed, "root"))

    def spaces(self):
        return sorted({name for epoch in self.epochs for name in self.root(epoch)["spaces"]})

    def rows(self, space):
        """All rows of a space in their order, after head and rows were found to fit."""
        items = []
        for epoch in self.epochs:
            if space not in self.root(epoch)["spaces"]:
                continue
            name = space.encode()
            index = epoch.blind(b"space", name)
            (sealed,) = self.one("SELECT head FROM space WHERE space = ?", index)
            head = epoch.open(sealed, "space", space)
            _, count = struct.unpack("<QQ", head[:16])
            totals = [head[16 + 16 * at : 32 + 16 * at] for at in range(256)]
            found = self.db.execute(
                "SELECT bundle, identity, tag, sealed FROM entry WHERE space = ? ORDER BY bundle, identity, tag",
                (index,),
            ).fetchall()
            if len(found) != count:
                raise Damaged("rows are missing or too many")
            for bucket in range(256):
                own = b"".join(b + i + t for b, i, t, _ in found if b[0] == bucket)
                total = epoch.mac("totals", prefixed(name) + bytes([bucket]) + own)[:16] if own else bytes(16)
                if total != totals[bucket]:
                    raise Damaged("rows are missing, old or not their own")
            for _, identity, tag, sealed in found:
                if sealed[-16:] != tag:
                    raise Damaged("a row is not the one its index names")
                item = json.loads(epoch.open(sealed, "entry", space, identity))
                if epoch.blind(b"identity", name, *(part.encode() for part in item["path"])) != identity:
                    raise Damaged("a row stands in another's place")
                items.append(item)
        return sorted(items, key=lambda item: item["order"])

    def document(self, cache):
        items = self.rows(f"cache {cache}")
        document = {item["path"][0]: item["value"] for item in items if len(item["path"]) == 1}
        for item in items:
            if len(item["path"]) == 2:
                section, key = item["path"]
                document.setdefault(section, {})[key] = item["value"]
        return document

    def audit(self):
        """All events, after the chain was found to be unbroken."""
        events, following = [], 1
        for epoch in self.epochs:
            segment = self.root(epoch)["audit"]
            link = base64.b64decode(segment["start"])
            if segment["first"] != following:
                raise Damaged("the parts of the audit trail do not join")
            for seq in range(segment["first"], segment["end"]):
                sealed, mac = self.one("SELECT sealed, mac FROM audit WHERE seq = ?", seq)
                link = epoch.mac("audit", prefixed(link, u64(seq), sealed))
                if link != mac:
                    raise Damaged(f"event {seq} is not the one that was written there")
                events.append(json.loads(epoch.open(sealed, "audit", identity=u64(seq))))
            if link != base64.b64decode(segment["head"]):
                raise Damaged("the audit trail does not end where it was sealed")
            following = segment["end"]
        return events


def main():
    path, cache = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "msal.cache.nocae"
    passphrase = sys.stdin.buffer.read().rstrip(b"\r\n")
    try:
        vault = Vault(path, passphrase)
        vault.audit()
        json.dump(vault.document(cache), sys.stdout, indent=4)
    except (Damaged, NewerFormat, WrongPassphrase) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return {"Damaged": 6, "NewerFormat": 6, "WrongPassphrase": 7}[type(error).__name__]
    except sqlite3.DatabaseError as error:
        print(f"Damaged: {error}", file=sys.stderr)
        return 6
    return 0


if __name__ == "__main__":
    sys.exit(main())
