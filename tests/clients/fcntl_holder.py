"""Holds an fcntl record lock on DIRECTORY/.lockfile until stdin is closed, as Java does for all caches of a folder.

Prints {"held": true, "pid"}, or {"held": false, "pid"} with exit code 1 if another has it.
"""

import argparse
import fcntl
import json
import os
import socket
import sys


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("--keep", action="store_true", help="leave the file behind, unlocked")
    args = parser.parse_args()

    # Java first tries to create the file; one that is there already only makes it wait, not give up.
    path = os.path.join(args.directory, ".lockfile")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        print(json.dumps({"held": False, "pid": os.getpid()}), flush=True)
        sys.exit(1)
    os.write(descriptor, f"{os.getpid()} {socket.gethostname()}".encode())
    print(json.dumps({"held": True, "pid": os.getpid()}), flush=True)
    sys.stdin.read()
    if not args.keep:
        os.unlink(path)


main()
