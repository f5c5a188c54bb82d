"""Gets a token with a credential that finds everything by itself, as programs in the field do.

Prints {"ok": true, "token", "expires_on"}, or {"ok": false, "error", "message"} with exit code 4 if
the credential is unavailable, else 1.
"""

import logging

import azure.identity

from common import parser_of, report, run

NAMES = [
    "DefaultAzureCredential",
    "ManagedIdentityCredential",
    "AzureCliCredential",
    "AzureDeveloperCliCredential",
]


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--credential", choices=NAMES, default=NAMES[0])
    parser.add_argument("--scope", default="https://management.azure.com/.default")
    parser.add_argument("--client-id", help="of a user-assigned identity")
    parser.add_argument("--tenant", help="the tenant of the request")
    parser.add_argument("--subscription", help="for AzureCliCredential")
    parser.add_argument("--claims", help="a claims challenge, as JSON")
    parser.add_argument("--twice", action="store_true", help="ask again, from a second credential")
    args = parser.parse_args()

    options = {"client_id": args.client_id, "subscription": args.subscription}
    options = {name: value for name, value in options.items() if value}
    request = {"tenant_id": args.tenant} if args.tenant else {}
    if args.claims:
        request["claims"] = args.claims
    for _ in range(1 + args.twice):
        credential = getattr(azure.identity, args.credential)(**options)
        token = credential.get_token(args.scope, **request)
    report(ok=True, token=token.token, expires_on=token.expires_on)


logging.basicConfig(level=logging.ERROR)
run(main)
