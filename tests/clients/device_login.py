"""Signs in with azure-identity's DeviceCodeCredential; the test provider approves the code at once.

Prints {"ok", "token", "expires_on", "seconds", "record": {...}}.
"""

import json
import pathlib

import requests
from azure.identity import DeviceCodeCredential

from common import AZURE_CLI, get_token, parser_of, persistence_options, report, run, token_flags


def main():
    parser = parser_of(__doc__)
    token_flags(parser)
    parser.add_argument("--user", required=True, help="who approves, as the test provider knows them")
    parser.add_argument("--client-id", default=AZURE_CLI)
    parser.add_argument("--authority", help="default: the real name of the public cloud, for use inside `netns`")
    parser.add_argument("--disable-instance-discovery", action="store_true")
    parser.add_argument("--record-out", type=pathlib.Path, help="the file to keep the authentication record in")
    args = parser.parse_args()
    provider = args.authority or "https://login.microsoftonline.com"

    def approve(_verification_uri, user_code, _expires_on):
        answer = requests.post(
            f"{provider}/_control/approve", json={"user_code": user_code, "user": args.user}, timeout=10
        )
        answer.raise_for_status()

    options = {"authority": args.authority} if args.authority else {}
    if args.tenant:
        options["tenant_id"] = args.tenant
    credential = DeviceCodeCredential(
        client_id=args.client_id,
        prompt_callback=approve,
        cache_persistence_options=persistence_options(args),
        disable_instance_discovery=args.disable_instance_discovery,
        **options,
    )
    record = credential.authenticate(scopes=args.scope, claims=args.claims, enable_cae=args.cae).serialize()
    if args.record_out:
        args.record_out.write_text(record)
    args.claims = None  # answered by the sign-in; asking again would go past the cache
    report(**get_token(credential, args), record=json.loads(record))


run(main)
