"""Calls the test provider's control address from inside its network, and prints the answer: one line of JSON.

    control.py log kind=token            GET  /_control/log?kind=token
    control.py approve user=U            POST /_control/approve {"user": "U"}
    control.py script '{"answer": ...}'  POST the JSON as it is

POST for approve, change-password, clear-scripts, clock, decline, release, reset-log, script, sign-out; for settings if it
is given values. Values that are JSON numbers or true/false are sent as such. The provider's certificate is not checked:
that is for the clients under test to do. Exit code 1 if it refuses.
"""

import argparse
import json
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request

CHANGES = ["approve", "change-password", "clear-scripts", "clock", "decline", "release", "reset-log", "script", "sign-out"]


def value_of(text):
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError:
        return text
    return parsed if isinstance(parsed, (bool, int, float)) else text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--authority", default="https://login.microsoftonline.com")
    parser.add_argument("call")
    parser.add_argument("values", nargs="*", metavar="NAME=VALUE or JSON")
    args = parser.parse_args()

    url = f"{args.authority}/_control/{args.call}"
    if args.values and args.values[0][:1] in "{[":
        fields = json.loads(args.values[0])
    else:
        fields = dict(value.split("=", 1) for value in args.values)
        fields = {name: value_of(value) for name, value in fields.items()}
    if args.call in CHANGES or (args.call == "settings" and fields):
        request = urllib.request.Request(
            url, json.dumps(fields).encode(), {"Content-Type": "application/json"}, method="POST"
        )
    else:
        request = urllib.request.Request(f"{url}?{urllib.parse.urlencode(fields)}" if fields else url)
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(request, timeout=120, context=trusting) as answer:
            print(json.dumps(json.load(answer)))
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.code} {error.read().decode()}")


main()
