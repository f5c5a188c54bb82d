"""Gets a token as the Azure CLI does: its own msal, on its own plaintext file, by the account's name.

The CLI itself is large; this is what it does for `az account get-access-token` once azureProfile.json names the user
and the subscription's tenant.

Prints {"ok": true, "token", "from_cache"}, or {"ok": false, "error", "message"} with exit code 3 if it would ask for
`az login`.
"""

import pathlib

import msal
import msal_extensions

from common import AZURE_CLI, DEFAULT_SCOPE, INTERACTION_REQUIRED, TENANT, parser_of, report


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--file", default=pathlib.Path.home() / ".azure" / "msal_token_cache.json")
    parser.add_argument("--username", required=True)
    parser.add_argument("--scope", action="append", help=f"default {DEFAULT_SCOPE}")
    parser.add_argument("--tenant", default=TENANT)
    parser.add_argument("--force-refresh", action="store_true")
    args = parser.parse_args()

    application = msal.PublicClientApplication(
        AZURE_CLI,
        authority=f"https://login.microsoftonline.com/{args.tenant}",
        token_cache=msal_extensions.PersistedTokenCache(msal_extensions.FilePersistence(str(args.file))),
        client_capabilities=["CP1"],
    )
    accounts = application.get_accounts(args.username)
    if not accounts:
        report(ok=False, error="no_account", message="Please run az login")
        raise SystemExit(INTERACTION_REQUIRED)
    answer = application.acquire_token_silent_with_error(
        args.scope or [DEFAULT_SCOPE], accounts[0], force_refresh=args.force_refresh
    )
    if not answer or "error" in answer:
        answer = answer or {"error": "none"}
        report(ok=False, error=answer["error"], message=answer.get("error_description", ""))
        raise SystemExit(INTERACTION_REQUIRED)
    report(ok=True, token=answer["access_token"], from_cache=answer["token_source"] == "cache")


main()
