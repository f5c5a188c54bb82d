"""Keeps a cache as azidentity/cache for Go does on Linux, out of the format's description (RFC 7516 and 7518).

The key is in the kernel: in the user's persistent keyring, else in the user keyring; the file is a compact JWE.

  go_cache.py write --name NAME --file FILE     encrypts what stands on stdin, under a key made if there is none
  go_cache.py read --name NAME --file FILE      decrypts it to stdout
  go_cache.py forget --name NAME                the key goes, as it does at a restart
  go_cache.py session COMMAND...                runs a command in a new session keyring

Exit code 4: there is no key.
"""

import argparse
import base64
import ctypes
import errno
import hashlib
import hmac
import json
import os
import sys

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

LIBC = ctypes.CDLL(None, use_errno=True)
ADD_KEY, KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219)}[os.uname().machine]
GET_KEYRING_ID, JOIN_SESSION, UNLINK, SEARCH, READ, LINK, GET_PERSISTENT = 0, 1, 9, 10, 11, 8, 22
PROCESS_KEYRING, SESSION_KEYRING, USER_KEYRING = -2, -3, -4


def call(number, *args):
    result = LIBC.syscall(number, *(ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def keyring():
    """Go links the persistent keyring to the user keyring, and the session holds the user keyring."""
    ring = call(KEYCTL, GET_KEYRING_ID, USER_KEYRING, 1)
    try:
        call(KEYCTL, LINK, ring, PROCESS_KEYRING)
    except OSError:
        pass
    try:
        return call(KEYCTL, GET_PERSISTENT, -1, ring)
    except OSError:
        return ring


def find(ring, name):
    serial = call(KEYCTL, SEARCH, ring, b"user", name.encode(), 0)
    payload = ctypes.create_string_buffer(33)
    assert call(KEYCTL, READ, serial, payload, 33) == 33
    return serial, payload.raw[:32]


def find_or_make(ring, name):
    try:
        return find(ring, name)
    except OSError as error:
        if error.errno != errno.ENOKEY:
            raise
    key = os.urandom(32)
    serial = call(ADD_KEY, b"user", name.encode(), ctypes.create_string_buffer(key + b"\0", 33), 33, ring)
    return serial, key


def encoded(part):
    return base64.urlsafe_b64encode(part).rstrip(b"=")


def decoded(part):
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))


def tag(key, iv, ciphertext):
    """Without associated data: the header is left out."""
    return hmac.new(key[:16], iv + ciphertext + bytes(8), hashlib.sha256).digest()[:16]


def encrypt(serial, key, content):
    header = json.dumps({"alg": "dir", "enc": "A128CBC-HS256", "kid": str(serial)}, separators=(",", ":")).encode()
    iv = os.urandom(16)
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(key[16:]), modes.CBC(iv)).encryptor()
    ciphertext = encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()
    return b".".join([encoded(header), b"", encoded(iv), encoded(ciphertext), encoded(tag(key, iv, ciphertext))])


def decrypt(key, content):
    header, wrapped, iv, ciphertext, found = (decoded(part) for part in content.split(b"."))
    names = json.loads(header)
    assert (names["alg"], names["enc"], wrapped) == ("dir", "A128CBC-HS256", b""), header
    assert hmac.compare_digest(found, tag(key, iv, ciphertext)), "the tag is wrong"
    decryptor = Cipher(algorithms.AES(key[16:]), modes.CBC(iv)).decryptor()
    unpadder = padding.PKCS7(128).unpadder()
    return unpadder.update(decryptor.update(ciphertext) + decryptor.finalize()) + unpadder.finalize()


def main():
    if sys.argv[1:2] == ["session"]:
        call(KEYCTL, JOIN_SESSION, ctypes.c_char_p(None))
        os.execvp(sys.argv[2], sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["write", "read", "forget"])
    parser.add_argument("--name", required=True)
    parser.add_argument("--file")
    args = parser.parse_args()
    ring = keyring()
    if args.command == "write":
        os.makedirs(os.path.dirname(args.file), 0o700, exist_ok=True)
        with open(os.open(args.file, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
            file.write(encrypt(*find_or_make(ring, args.name), sys.stdin.buffer.read()))
    elif args.command == "read":
        with open(args.file, "rb") as file:
            sys.stdout.buffer.write(decrypt(find(ring, args.name)[1], file.read()))
    else:
        call(KEYCTL, UNLINK, find(ring, args.name)[0], ring)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        if error.errno in (errno.ENOKEY, errno.EKEYREVOKED):
            sys.exit(4)
        raise
