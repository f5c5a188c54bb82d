"""Signs in and gets tokens as the Azure CLI does, by the CLI's own code: azure-cli-core, without its commands.

  azure_cli.py login --username U            `az login --use-device-code`, approved by the test provider
  azure_cli.py token --username U --scope S  `az account get-access-token`

What `az login` writes into azureProfile.json, a subscription of the user, is written here: it would ask Resource Manager.
Prints {"ok": true, "token", "tenant"}, or {"ok": false, "message"} with exit code 3 if it asks for `az login`.
"""

import argparse
import json
import pathlib
import sys

TENANT = "11111111-1111-4111-8111-111111111111"
SUBSCRIPTION = "99999999-9999-4999-8999-999999999999"
DEFAULT_SCOPE = "https://management.core.windows.net//.default"
INTERACTION_REQUIRED = 3


def report(**fields):
    print(json.dumps(fields), flush=True)


def keep_profile(username):
    subscription = {
        "id": SUBSCRIPTION,
        "name": "One",
        "state": "Enabled",
        "user": {"name": username, "type": "user"},
        "isDefault": True,
        "tenantId": TENANT,
        "environmentName": "AzureCloud",
    }
    folder = pathlib.Path.home() / ".azure"
    folder.mkdir(exist_ok=True)
    (folder / "azureProfile.json").write_text(json.dumps({"installationId": TENANT, "subscriptions": [subscription]}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["login", "token"])
    parser.add_argument("--username", required=True)
    parser.add_argument("--scope", default=DEFAULT_SCOPE)
    args = parser.parse_args()
    keep_profile(args.username)

    # It reads its folder's files when it is imported.
    from azure.cli.core import get_default_cli
    from azure.cli.core._profile import Profile, _create_identity_instance
    from azure.cli.core.azclierror import AuthenticationError
    from knack.util import CLIError

    cli = get_default_cli()
    profile = Profile(cli_ctx=cli)
    try:
        if args.command == "login":
            identity = _create_identity_instance(cli, profile._authority, tenant_id=TENANT)
            identity.login_with_device_code([args.scope])
            report(ok=True)
            return
        (_, token, _), _, tenant = profile.get_raw_token(scopes=[args.scope])
    except (AuthenticationError, CLIError) as error:
        # what it prints below the message
        report(ok=False, message=" ".join([str(error), *getattr(error, "recommendations", [])]))
        sys.exit(INTERACTION_REQUIRED)
    report(ok=True, token=token, tenant=tenant)


main()
