"""What the Python clients share: their flags, their one line of JSON, and fake sign-ins."""

import argparse
import base64
import json
import sys
import time
import uuid

from azure.core.exceptions import ClientAuthenticationError
from azure.identity import AuthenticationRequiredError, CredentialUnavailableError, TokenCachePersistenceOptions

AZURE_CLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
TENANT = "11111111-1111-4111-8111-111111111111"
DEFAULT_SCOPE = "https://management.core.windows.net//.default"

# The exit codes of every client here.
OK, FAILED, INTERACTION_REQUIRED, UNAVAILABLE = 0, 1, 3, 4


def report(**fields):
    """Prints the client's answer, one line, at once: whoever waits for it reads from a pipe."""
    print(json.dumps(fields), flush=True)


def run(main):
    """Runs `main`; an exception of azure-identity becomes a line of JSON and an exit code."""
    try:
        main()
    except AuthenticationRequiredError as error:
        fail(INTERACTION_REQUIRED, error, scopes=list(error.scopes), claims=error.claims)
    except CredentialUnavailableError as error:
        fail(UNAVAILABLE, error)
    except (ClientAuthenticationError, ValueError) as error:
        fail(FAILED, error)


def fail(code, error, **fields):
    report(ok=False, error=type(error).__name__, message=str(error), **fields)
    sys.exit(code)


def cache_flags(parser):
    parser.add_argument("--cache", default="msal.cache", help="the name, without .nocae or .cae")
    parser.add_argument("--plaintext", action="store_true", help="allow_unencrypted_storage: a file if there is no keyring")
    parser.add_argument("--cae", action="store_true", help="continuous access evaluation: the other cache of the two")


def token_flags(parser):
    cache_flags(parser)
    parser.add_argument("--scope", action="append", help=f"default {DEFAULT_SCOPE}")
    parser.add_argument("--tenant", help="the tenant of the request, or of the login")
    parser.add_argument("--claims", help="a claims challenge, as JSON")


def parser_of(module_doc):
    return argparse.ArgumentParser(description=module_doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def persistence_options(args):
    return TokenCachePersistenceOptions(name=args.cache, allow_unencrypted_storage=args.plaintext)


def open_cache(args):
    """The cache as azure-identity itself opens it, or the plain file that --file names."""
    if args.file:
        import msal_extensions

        return msal_extensions.PersistedTokenCache(msal_extensions.FilePersistence(args.file))
    from azure.identity._persistent_cache import _load_persistent_cache

    return _load_persistent_cache(persistence_options(args), is_cae=args.cae)


def get_token(credential, args, **more):
    """Asks for a token and reports it, with the seconds that this took inside the library."""
    scopes = args.scope or [DEFAULT_SCOPE]
    started = time.monotonic()
    token = credential.get_token(*scopes, claims=args.claims, enable_cae=args.cae, **more)
    return {"ok": True, "token": token.token, "expires_on": token.expires_on, "seconds": time.monotonic() - started}


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def fake_sign_in(user, scope, now, client_id=AZURE_CLI, tenant=TENANT):
    """The event of a sign-in, as MSAL hands it to its cache: every secret in it is visibly fake."""
    object_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"https://users.example/{user}"))
    claims = {
        "aud": client_id,
        "exp": now + 3600,
        "iat": now,
        "iss": f"https://login.microsoftonline.com/{tenant}/v2.0",
        "name": user,
        "oid": object_id,
        "preferred_username": f"{user}@contoso.example",
        "sub": f"sub-{user}",
        "tid": tenant,
    }
    return {
        "client_id": client_id,
        "scope": [scope],
        "token_endpoint": f"https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
        "grant_type": "authorization_code",
        "environment": "login.microsoftonline.com",
        "response": {
            "token_type": "Bearer",
            "scope": scope,
            "expires_in": 4899,
            "ext_expires_in": 4899,
            "access_token": f"fake-access-token-{user}-{scope}",
            "refresh_token": f"fake-refresh-token-{user}",
            "id_token": f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{encoded(claims)}.fake-signature",
            "client_info": encoded({"uid": object_id, "utid": tenant}),
            "foci": "1",
        },
        "params": None,
        "data": {},
    }
