"""Adds fake sign-ins to a cache through msal-extensions, each as five separate lock-and-save cycles, as real ones are.

Addition I of writer W has the scope `https://api.example/W/I`, so that a reader can tell which are there. Prints
{"ok", "added": N, "lock_timeouts": N}: an addition that met a lock for five seconds is made again, a dozen times at most.
"""

import time

from msal_extensions.token_cache import LockError

from common import FAILED, cache_flags, fail, fake_sign_in, open_cache, parser_of, report, run


def main():
    parser = parser_of(__doc__)
    cache_flags(parser)
    parser.add_argument("--file", help="a plain cache file, in place of the cache that --cache names")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--writer", default="python", help="W; also the user's name")
    parser.add_argument("--users", type=int, default=1, help="spread the additions over so many users: W, W-1, W-2 ...")
    args = parser.parse_args()

    cache = open_cache(args)
    lock_timeouts = 0
    for index in range(args.count):
        number = index % args.users
        user = f"{args.writer}-{number}" if number else args.writer
        event = fake_sign_in(user, f"https://api.example/{args.writer}/{index}", int(time.time()))
        for attempt in range(12):
            try:
                cache.add(event)
                break
            except LockError as error:
                lock_timeouts += 1
                last = error
        else:
            fail(FAILED, last, added=index)
    report(ok=True, added=args.count, lock_timeouts=lock_timeouts)


run(main)
