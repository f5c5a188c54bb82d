#!/usr/bin/python3
"""What systemd-logind needs of systemd to put a machine to sleep, on the system bus of DBUS_SYSTEM_BUS_ADDRESS.

  systemd1.py FOLDER     nothing sleeps: what it would have started is written to FOLDER/asleep, a line each, with the
                         command line by then of the process whose number is in FOLDER/pid
"""

import sys

import dbus
import dbus.service
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

MANAGER = "org.freedesktop.systemd1.Manager"
JOB = "/org/freedesktop/systemd1/job/1"
folder = sys.argv[1]


class Unit(dbus.service.Object):
    @dbus.service.method("org.freedesktop.DBus.Properties", in_signature="ss", out_signature="v")
    def Get(self, _interface, _name):
        return "loaded"


class Manager(dbus.service.Object):
    @dbus.service.method(MANAGER)
    def Subscribe(self):
        pass

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o")
    def StartUnit(self, unit, _mode):
        with open(f"{folder}/pid") as pid, open(f"{folder}/asleep", "a") as asleep:
            with open(f"/proc/{pid.read().strip()}/cmdline") as command_line:
                words = command_line.read().replace("\0", " ")
            asleep.write(f"{unit}: {words}\n")
        # It is awake again once the job is done.
        GLib.idle_add(self.JobRemoved, 1, JOB, unit, "done")
        return JOB

    @dbus.service.signal(MANAGER, signature="uoss")
    def JobRemoved(self, number, job, unit, result):
        pass


DBusGMainLoop(set_as_default=True)
bus = dbus.SystemBus()
Manager(bus, "/org/freedesktop/systemd1")
Unit(bus, "/org/freedesktop/systemd1/unit/suspend_2etarget")
name = dbus.service.BusName("org.freedesktop.systemd1", bus)
print("ready", flush=True)
GLib.MainLoop().run()
