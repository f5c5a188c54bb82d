"""Holds the lock of msal-extensions until stdin is closed: LOCKFILE is the cache's path with `.lockfile` behind it.

Which lock that is, is a matter of the Python environment: with portalocker flock, without it the file's existence.
Prints {"held": true, "lock": "portalocker" or "filelock", "pid"}, or {"held": false, ...} with exit code 1 if the lock
was somebody else's for five seconds.
"""

import os
import sys

from msal_extensions.token_cache import CrossPlatLock, LockError

from common import FAILED, parser_of, report


def main():
    parser = parser_of(__doc__)
    parser.add_argument("lockfile")
    args = parser.parse_args()

    lock = {"msal_extensions.cache_lock": "portalocker", "msal_extensions.filelock": "filelock"}[CrossPlatLock.__module__]
    try:
        with CrossPlatLock(args.lockfile):
            report(held=True, lock=lock, pid=os.getpid())
            sys.stdin.read()
    except LockError as error:
        report(held=False, lock=lock, pid=os.getpid(), message=str(error))
        sys.exit(FAILED)


main()
