"""Reads a cache through msal-extensions and counts what it finds.

Prints {"ok", "encrypted", "access_tokens", "refresh_tokens", "id_tokens", "accounts", "app_metadata": N each,
"users": [...], "scopes": [...]}. With --watch it keeps the cache open and prints such a line for each line on stdin, so
that a test sees whether a change was noticed.
"""

import sys

from common import cache_flags, open_cache, parser_of, report, run


def contents(cache):
    kinds = cache.CredentialType
    found = {
        name: list(cache.search(kind))
        for name, kind in {
            "access_tokens": kinds.ACCESS_TOKEN,
            "refresh_tokens": kinds.REFRESH_TOKEN,
            "id_tokens": kinds.ID_TOKEN,
            "accounts": kinds.ACCOUNT,
            "app_metadata": kinds.APP_METADATA,
        }.items()
    }
    return {
        "ok": True,
        "encrypted": cache.is_encrypted,
        **{name: len(entries) for name, entries in found.items()},
        "users": sorted(account["username"] for account in found["accounts"]),
        "scopes": sorted(token["target"] for token in found["access_tokens"]),
    }


def main():
    parser = parser_of(__doc__)
    cache_flags(parser)
    parser.add_argument("--file", help="a plain cache file, in place of the cache that --cache names")
    parser.add_argument("--watch", action="store_true")
    args = parser.parse_args()

    cache = open_cache(args)
    report(**contents(cache))
    if args.watch:
        for _ in sys.stdin:
            report(**contents(cache))


run(main)
