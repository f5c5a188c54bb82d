#!/usr/bin/python3
"""A Secret Service that cannot be relied on, for as long as a command runs (needs Debian's python3-gi).

  odd-keyring.py silent COMMAND...    takes every call and answers none, as one that waits for a prompt nobody sees
  odd-keyring.py forgets COMMAND...   says that it stored an item, and cannot find it
  odd-keyring.py garbles COMMAND...   gives an item back with another secret
  odd-keyring.py keeps COMMAND...     says that it removed an item, and still has it

Run it where nobody else offers a Secret Service. Exit code: the command's.
"""

import subprocess
import sys
import threading

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

ROOT = "/org/freedesktop/secrets"
COLLECTION = f"{ROOT}/collection/login"
ITEM = f"{COLLECTION}/1"

INTERFACES = """
<node>
  <interface name="org.freedesktop.Secret.Service">
    <method name="OpenSession">
      <arg type="s" direction="in"/><arg type="v" direction="in"/>
      <arg type="v" direction="out"/><arg type="o" direction="out"/>
    </method>
    <method name="ReadAlias"><arg type="s" direction="in"/><arg type="o" direction="out"/></method>
    <method name="SearchItems">
      <arg type="a{ss}" direction="in"/><arg type="ao" direction="out"/><arg type="ao" direction="out"/>
    </method>
    <property name="Collections" type="ao" access="read"/>
  </interface>
  <interface name="org.freedesktop.Secret.Collection">
    <method name="CreateItem">
      <arg type="a{sv}" direction="in"/><arg type="(oayays)" direction="in"/><arg type="b" direction="in"/>
      <arg type="o" direction="out"/><arg type="o" direction="out"/>
    </method>
    <method name="SearchItems"><arg type="a{ss}" direction="in"/><arg type="ao" direction="out"/></method>
    <property name="Locked" type="b" access="read"/>
    <property name="Label" type="s" access="read"/>
    <property name="Items" type="ao" access="read"/>
  </interface>
  <interface name="org.freedesktop.Secret.Item">
    <method name="GetSecret"><arg type="o" direction="in"/><arg type="(oayays)" direction="out"/></method>
    <method name="Delete"><arg type="o" direction="out"/></method>
    <property name="Locked" type="b" access="read"/>
    <property name="Label" type="s" access="read"/>
    <property name="Attributes" type="a{ss}" access="read"/>
    <property name="Created" type="t" access="read"/>
    <property name="Modified" type="t" access="read"/>
  </interface>
</node>
"""


class OddKeyring:
    """One collection that holds at most one item. What a client encrypted it gives back as it came, or nearly."""

    def __init__(self, mode):
        self.mode = mode
        self.attributes, self.secret = None, None

    def found(self, wanted):
        has_it = self.attributes is not None and wanted.items() <= self.attributes.items()
        return [ITEM] if has_it and self.mode != "forgets" else []

    def call(self, _connection, _sender, _path, _interface, method, parameters, invocation):
        if self.mode == "silent":
            self.unanswered = invocation
            return
        arguments = parameters.unpack()
        if method == "OpenSession":
            # any number does for the key exchange of a service that opens nothing
            answer = GLib.Variant("(vo)", (GLib.Variant("ay", bytes([2] * 128)), f"{ROOT}/session/1"))
        elif method == "ReadAlias":
            answer = GLib.Variant("(o)", (COLLECTION,))
        elif method == "SearchItems" and len(invocation.get_method_info().out_args) == 2:
            answer = GLib.Variant("(aoao)", (self.found(arguments[0]), []))
        elif method == "SearchItems":
            answer = GLib.Variant("(ao)", (self.found(arguments[0]),))
        elif method == "CreateItem":
            self.attributes = arguments[0]["org.freedesktop.Secret.Item.Attributes"]
            self.secret = arguments[1]
            answer = GLib.Variant("(oo)", (ITEM, "/"))
        elif method == "GetSecret":
            session, initial, sealed, content_type = self.secret
            if self.mode == "garbles":
                initial = [initial[0] ^ 1, *initial[1:]]
            answer = GLib.Variant("((oayays))", ((session, bytes(initial), bytes(sealed), content_type),))
        else:
            if self.mode != "keeps":
                self.attributes = None
            answer = GLib.Variant("(o)", ("/",))
        invocation.return_value(answer)

    def property(self, _connection, _sender, _path, _interface, name):
        return {
            "Attributes": GLib.Variant("a{ss}", self.attributes or {}),
            "Collections": GLib.Variant("ao", [COLLECTION]),
            "Created": GLib.Variant("t", 0),
            "Items": GLib.Variant("ao", [ITEM] if self.attributes is not None else []),
            "Label": GLib.Variant("s", "odd"),
            "Locked": GLib.Variant("b", False),
            "Modified": GLib.Variant("t", 0),
        }[name]


def main(mode="", *command):
    if mode not in ("silent", "forgets", "garbles", "keeps") or not command:
        sys.exit(__doc__)
    bus = Gio.bus_get_sync(Gio.BusType.SESSION, None)
    keyring = OddKeyring(mode)
    interfaces = Gio.DBusNodeInfo.new_for_xml(INTERFACES).interfaces
    for path, interface in zip((ROOT, COLLECTION, ITEM), interfaces, strict=True):
        bus.register_object(path, interface, keyring.call, keyring.property, None)
    loop = GLib.MainLoop()
    codes = []

    def run():
        codes.append(subprocess.call(command))
        GLib.idle_add(loop.quit)

    def start(*_):
        threading.Thread(target=run).start()

    def lost(*_):
        sys.exit("odd-keyring.py: somebody else offers a Secret Service here")

    Gio.bus_own_name_on_connection(bus, "org.freedesktop.secrets", Gio.BusNameOwnerFlags.NONE, start, lost)
    loop.run()
    sys.exit(codes[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
