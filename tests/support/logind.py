#!/usr/bin/python3
"""A system bus of one's own with python-dbusmock's logind on it (needs Debian's python3-dbusmock).

  logind.py FOLDER     the bus listens in FOLDER; prints its address, then answers each line with one line of JSON

  session ID UID       there is such a session of this user's
  inhibitors           what is held up now: [[what, who, why, mode], ...]
  suspend, resume      the machine is about to sleep, or awake again
  suspending true      it was about to sleep already
  lock ID              the session is to be locked
  hint ID true|false   its screen is locked, or not any more
  gone ID              as lock, and then there is no such session any more
  asked ID             as lock; answers once somebody wants to know whose session it is
  spoof ID PID         a stranger tells this process that the session is to be locked
  down, up             the bus and logind go, or come back without any session
"""

import json
import os
import select
import subprocess
import sys
import time

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

NAME = "org.freedesktop.login1"
PATH = "/org/freedesktop/login1"
MANAGER = "org.freedesktop.login1.Manager"
SESSION = "org.freedesktop.login1.Session"
MOCK = "org.freedesktop.DBus.Mock"
BUS = "org.freedesktop.DBus"


class Machine:
    def __init__(self, folder):
        self.address = f"unix:path={folder}/system-bus"
        self.up()

    def up(self):
        command = ["dbus-daemon", "--session", "--nofork", "--print-address", f"--address={self.address}"]
        self.daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.daemon.stdout.readline()
        command = [sys.executable, "-m", "dbusmock", "--system", "--template", "logind"]
        environment = {"DBUS_SYSTEM_BUS_ADDRESS": self.address, "PATH": "/usr/bin:/bin"}
        self.mock = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        self.bus = self.connect()
        while not self.call(BUS, "/org/freedesktop/DBus", BUS, "NameHasOwner", "(s)", NAME):
            time.sleep(0.01)

    def down(self):
        for process in (self.daemon, self.mock):
            process.kill()
            process.wait()

    def connect(self):
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        bus = Gio.DBusConnection.new_for_address_sync(self.address, flags, None, None)
        bus.set_exit_on_close(False)
        return bus

    def call(self, name, path, interface, method, form="()", *values):
        arguments = GLib.Variant(form, values)
        answer = self.bus.call_sync(name, path, interface, method, arguments, None, 0, 30_000, None).unpack()
        return answer[0] if answer else None

    def session(self, number, uid):
        self.call(NAME, PATH, MOCK, "AddSession", "(ssusb)", number, f"seat{number}", int(uid), f"user{uid}", True)

    def inhibitors(self):
        return [list(inhibitor[:4]) for inhibitor in self.call(NAME, PATH, MANAGER, "ListInhibitors")]

    def prepare_for_sleep(self, begins):
        values = [GLib.Variant("b", begins)]
        self.call(NAME, PATH, MOCK, "EmitSignal", "(sssav)", MANAGER, "PrepareForSleep", "b", values)

    def suspend(self):
        self.prepare_for_sleep(True)

    def resume(self):
        self.prepare_for_sleep(False)

    def suspending(self, begins):
        changes = {"PreparingForSleep": GLib.Variant("b", begins == "true")}
        self.call(NAME, PATH, MOCK, "UpdateProperties", "(sa{sv})", MANAGER, changes)

    def lock(self, number):
        self.call(NAME, f"{PATH}/session/{number}", SESSION, "Lock")

    def hint(self, number, is_locked):
        self.call(NAME, f"{PATH}/session/{number}", SESSION, "SetLockedHint", "(b)", is_locked == "true")

    def gone(self, number):
        path = f"{PATH}/session/{number}"
        # both are in the mock's queue before anybody can ask whose session it was
        self.bus.call(NAME, path, SESSION, "Lock", None, None, 0, 30_000, None)
        self.call(NAME, PATH, MOCK, "RemoveObject", "(s)", path)

    def asked(self, number):
        path = f"{PATH}/session/{number}"
        rule = f"type='method_call',interface='org.freedesktop.DBus.Properties',member='Get',path='{path}'"
        command = ["stdbuf", "-oL", "dbus-monitor", "--address", self.address, rule]
        monitor = subprocess.Popen(command, stdout=subprocess.PIPE)
        output = monitor.stdout.fileno()
        seen = b""
        try:
            while b"NameLost" not in seen:  # it listens from here on
                seen += os.read(output, 4096)
            self.lock(number)
            for _ in range(120):
                if path.encode() in seen:
                    return
                if select.select([output], [], [], 0.5)[0]:
                    seen += os.read(output, 4096)
                else:
                    self.lock(number)  # nobody listened yet
            raise SystemExit("nobody wants to know whose session it is")
        finally:
            monitor.kill()
            monitor.wait()

    def spoof(self, number, pid):
        stranger = self.connect()
        for name in self.call(BUS, "/org/freedesktop/DBus", BUS, "ListNames"):
            arguments = ("(s)", name)
            owner = self.call(BUS, "/org/freedesktop/DBus", BUS, "GetConnectionUnixProcessID", *arguments)
            if owner == int(pid) and name.startswith(":"):
                stranger.emit_signal(name, f"{PATH}/session/{number}", SESSION, "Lock", None)
                stranger.flush_sync(None)
                return True
        return False


def main():
    machine = Machine(sys.argv[1])
    print(json.dumps(machine.address), flush=True)
    try:
        for line in sys.stdin:
            command, *arguments = line.split()
            print(json.dumps(getattr(machine, command)(*arguments)), flush=True)
    finally:
        machine.down()


main()
