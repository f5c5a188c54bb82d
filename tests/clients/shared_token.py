"""Gets a token with SharedTokenCacheCredential, which knows no client but the Azure CLI's family.

Prints {"ok": true, "token", "expires_on", "seconds"}, or {"ok": false, "error", "message"} with exit code 4 if the
credential is unavailable: no account, none that matches, or several.
"""

from azure.identity import SharedTokenCacheCredential

from common import get_token, parser_of, persistence_options, report, run, token_flags


def main():
    parser = parser_of(__doc__)
    token_flags(parser)
    parser.add_argument("--username")
    parser.add_argument("--authority")
    args = parser.parse_args()

    options = {"authority": args.authority} if args.authority else {}
    if args.tenant:
        options["tenant_id"] = args.tenant
    credential = SharedTokenCacheCredential(
        username=args.username, cache_persistence_options=persistence_options(args), **options
    )
    report(**get_token(credential, args))


run(main)
