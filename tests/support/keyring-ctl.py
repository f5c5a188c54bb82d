#!/usr/bin/python3
"""Look into and steer the keyring of the current D-Bus session (needs Debian's python3-gi).

  keyring-ctl.py dump                    everything as JSON: collections, locks, items, attributes, whole secrets
  keyring-ctl.py item ATTR=VALUE...      the secret of the one item with exactly these attributes, to stdout as it is
  keyring-ctl.py count ATTR=VALUE...     how many items have at least these attributes
  keyring-ctl.py store LABEL ATTR=VALUE...   keep what stands on stdin, as another program would (no prompt, no replace)
  keyring-ctl.py state                   unlocked, locked or none: the collection behind the alias "default"
  keyring-ctl.py lock                    lock it, as a screen lock would
  keyring-ctl.py unlock [PASSWORD]       unlock it again with no prompt (default: pw)
  keyring-ctl.py wipe                    delete every item
  keyring-ctl.py create LABEL [PASSWORD] make a further collection
  keyring-ctl.py drop-collection         delete the default collection: a user who never had a keyring

The schema of an item is its attribute xdg:schema. Exit code 1: no such item, or several.
"""

import json
import sys

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

NAME = "org.freedesktop.secrets"
ROOT = "/org/freedesktop/secrets"
SERVICE = "org.freedesktop.Secret.Service"
COLLECTION = "org.freedesktop.Secret.Collection"
ITEM = "org.freedesktop.Secret.Item"
# gnome-keyring's own interface; without a person at a prompt there is no other way.
GNOME_KEYRING = "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface"


class Keyring:
    """The Secret Service of the session bus, over a plain (unencrypted) session."""

    def __init__(self):
        self.bus = Gio.bus_get_sync(Gio.BusType.SESSION, None)
        self.session = self.call(ROOT, SERVICE, "OpenSession", "(sv)", "plain", GLib.Variant("s", ""))[1]
        self.default = self.call(ROOT, SERVICE, "ReadAlias", "(s)", "default")[0]

    def call(self, path, interface, method, signature=None, *args):
        parameters = GLib.Variant(signature, args) if signature else None
        return self.bus.call_sync(NAME, path, interface, method, parameters, None, 0, 10_000, None).unpack()

    def property(self, path, interface, name):
        return self.call(path, "org.freedesktop.DBus.Properties", "Get", "(ss)", interface, name)[0]

    def items(self):
        for collection in self.property(ROOT, SERVICE, "Collections"):
            for item in self.property(collection, COLLECTION, "Items"):
                yield item, self.property(item, ITEM, "Attributes")

    def secret(self, item):
        ((_, _, value, content_type),) = self.call(item, ITEM, "GetSecret", "(o)", self.session)
        return bytes(value), content_type

    def describe(self, item):
        described = {
            "label": self.property(item, ITEM, "Label"),
            "attributes": self.property(item, ITEM, "Attributes"),
            "locked": self.property(item, ITEM, "Locked"),
        }
        try:
            value, described["content_type"] = self.secret(item)
            described["secret"] = value.decode("utf-8", "replace")
        except GLib.Error as error:
            described["secret_error"] = error.message
        return described

    def dump(self):
        collections = {
            path: {
                "label": self.property(path, COLLECTION, "Label"),
                "locked": self.property(path, COLLECTION, "Locked"),
                "items": [self.describe(item) for item in self.property(path, COLLECTION, "Items")],
            }
            for path in self.property(ROOT, SERVICE, "Collections")
        }
        return {"default": self.default, "collections": collections}

    def state(self):
        if self.default == "/":
            return "none"
        return "locked" if self.property(self.default, COLLECTION, "Locked") else "unlocked"

    def store(self, label, attributes, value):
        properties = {f"{ITEM}.Label": GLib.Variant("s", label), f"{ITEM}.Attributes": GLib.Variant("a{ss}", attributes)}
        secret = (self.session, b"", value, "text/plain")
        item, _prompt = self.call(
            self.default, COLLECTION, "CreateItem", "(a{sv}(oayays)b)", properties, secret, False
        )
        if item == "/":
            sys.exit("the keyring wants a prompt")

    def password(self, args):
        return (self.session, b"", (args[0] if args else "pw").encode(), "text/plain")


def attributes_of(args):
    return dict(arg.split("=", 1) for arg in args)


def main(command="", *args):
    if command not in ("dump", "item", "count", "store", "state", "lock", "unlock", "wipe", "create", "drop-collection"):
        sys.exit(__doc__)
    keyring = Keyring()
    if command == "dump":
        print(json.dumps(keyring.dump(), indent=1, sort_keys=True))
    elif command == "item":
        wanted = attributes_of(args)
        found = [item for item, attributes in keyring.items() if attributes == wanted]
        if len(found) != 1:
            sys.exit(f"{len(found)} items have exactly these attributes")
        sys.stdout.buffer.write(keyring.secret(found[0])[0])
    elif command == "count":
        wanted = attributes_of(args).items()
        print(sum(wanted <= attributes.items() for _, attributes in keyring.items()))
    elif command == "store":
        keyring.store(args[0], attributes_of(args[1:]), sys.stdin.buffer.read())
    elif command == "state":
        print(keyring.state())
    elif command == "lock":
        keyring.call(ROOT, SERVICE, "Lock", "(ao)", [keyring.default])
    elif command == "unlock":
        keyring.call(
            ROOT, GNOME_KEYRING, "UnlockWithMasterPassword", "(o(oayays))", keyring.default, keyring.password(args)
        )
    elif command == "wipe":
        for item, _ in list(keyring.items()):
            keyring.call(item, ITEM, "Delete")
    elif command == "create":
        label = {f"{COLLECTION}.Label": GLib.Variant("s", args[0])}
        password = keyring.password(args[1:])
        print(keyring.call(ROOT, GNOME_KEYRING, "CreateWithMasterPassword", "(a{sv}(oayays))", label, password)[0])
    else:
        keyring.call(keyring.default, COLLECTION, "Delete")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except GLib.Error as error:
        sys.exit(f"keyring-ctl.py: {error.message}")
