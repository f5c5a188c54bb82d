"""Gets a token with DeviceCodeCredential and a stored authentication record; never prompts.

Prints {"ok": true, "token", "expires_on", "seconds"}, or {"ok": false, "error", "message", ...} with exit code 3 if
interaction is required.
"""

import pathlib

from azure.identity import AuthenticationRecord, DeviceCodeCredential

from common import get_token, parser_of, persistence_options, report, run, token_flags


def main():
    parser = parser_of(__doc__)
    token_flags(parser)
    parser.add_argument("--record", type=pathlib.Path, required=True)
    parser.add_argument("--disable-instance-discovery", action="store_true")
    args = parser.parse_args()

    # The authority comes from the record; azure-identity refuses to be given both.
    credential = DeviceCodeCredential(
        client_id=AuthenticationRecord.deserialize(args.record.read_text()).client_id,
        authentication_record=AuthenticationRecord.deserialize(args.record.read_text()),
        disable_automatic_authentication=True,
        disable_instance_discovery=args.disable_instance_discovery,
        cache_persistence_options=persistence_options(args),
    )
    options = {"tenant_id": args.tenant} if args.tenant else {}
    report(**get_token(credential, args, **options))


run(main)
