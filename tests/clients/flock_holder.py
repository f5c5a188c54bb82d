"""Holds a flock on a file until stdin is closed, as .NET and Go do: opened or created, locked, then deleted.

Prints {"held": true, "pid"}, or {"held": false, "pid"} with exit code 1 if another has it. With --wait it waits.
"""

import argparse
import fcntl
import json
import os
import sys


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lockfile")
    parser.add_argument("--wait", action="store_true", help="block until the lock is free")
    parser.add_argument("--keep", action="store_true", help="leave the file behind, unlocked")
    args = parser.parse_args()

    descriptor = os.open(args.lockfile, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if args.wait else fcntl.LOCK_NB))
    except BlockingIOError:
        print(json.dumps({"held": False, "pid": os.getpid()}), flush=True)
        sys.exit(1)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()} flock_holder".encode())
    print(json.dumps({"held": True, "pid": os.getpid()}), flush=True)
    sys.stdin.read()
    if not args.keep:
        os.unlink(args.lockfile)


main()
