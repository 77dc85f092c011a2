"""Ciphertext blobs and hello's proofs: sections 4, 5.2 and 9 of protocol/SPEC.md.

Randomness is an argument: salts and nonces of the golden vectors are fixed.
"""

import hmac
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

import sm4
from bodies import hyphenated
from tables import ENUMS, Refused

# Suite: bytes of salt, bytes of commitment.
LENGTHS = {1: (32, 32), 2: (16, 0), 3: (0, 0), 4: (32, 32), 5: (0, 0)}
# Suites of SM4 keys, which have 16 bytes; the others' have 32.
SM4_SUITES = (4, 5)
RESERVED_SALT = b"claviger/v1/chkv"


def foreign(why):
    return Refused("InvalidCiphertext", why)


def parse(blob):
    """Takes a blob apart; nothing is authenticated."""
    if len(blob) < 40:
        raise foreign("fewer than 40 bytes")
    if blob[:4] != b"CLVB" or blob[4] != 1 or blob[6:8] != b"\0\0":
        raise foreign("not a blob")
    suite = blob[5]
    if suite not in LENGTHS:
        raise foreign("unknown suite")
    salt_len, commitment_len = LENGTHS[suite]
    prefix_len = 40 + salt_len + 12
    header_len = prefix_len + commitment_len
    if len(blob) < header_len + 16:
        raise foreign("cut")
    salt = blob[40:40 + salt_len]
    if suite == 2 and salt == RESERVED_SALT:
        raise foreign("reserved salt")
    return {
        "suite": suite, "suite_name": ENUMS["Suite"][suite],
        "key_id": hyphenated(blob[8:24]), "key_version_id": hyphenated(blob[24:40]),
        "salt": salt, "nonce": blob[prefix_len - 12:prefix_len], "commitment": blob[prefix_len:header_len],
        "prefix": blob[:prefix_len], "header": blob[:header_len], "sealed": blob[header_len:],
    }


def hkdf_sm3(key, salt, info, length):
    """RFC 5869 over HMAC-SM3."""
    extracted, okm, block = mac(2, salt, key), b"", b""
    while len(okm) < length:
        block = mac(2, extracted, block + info + bytes([len(okm) // 32 + 1]))
        okm += block
    return okm[:length]


def message_key(suite, key, salt, prefix):
    """The key that GCM uses, and the commitment."""
    if len(key) != (16 if suite in SM4_SUITES else 32):
        raise foreign("a key of another suite")
    if suite == 1:
        info = b"claviger/v1/aes-256-gcm" + prefix
        okm = HKDF(algorithm=hashes.SHA256(), length=64, salt=salt, info=info).derive(key)
        return okm[:32], okm[32:]
    if suite == 2:
        cbc = Cipher(algorithms.AES(key), modes.CBC(bytes(16))).encryptor()
        return cbc.update(salt + b"claviger/v1/subk") + cbc.finalize(), b""
    if suite == 4:
        okm = hkdf_sm3(key, salt, b"claviger/v1/sm4-gcm" + prefix, 48)
        return okm[:16], okm[16:]
    return key, b""


def gcm(suite, key):
    return sm4.gcm(key) if suite in SM4_SUITES else AESGCM(key)


def seal(suite, key, key_id, version_id, salt, nonce, plaintext, context):
    """Makes a blob; `context` is in canonical form."""
    prefix = b"CLVB" + bytes([1, suite, 0, 0]) + key_id + version_id + salt + nonce
    gcm_key, commitment = message_key(suite, key, salt, prefix)
    header = prefix + commitment
    return header + gcm(suite, gcm_key).encrypt(nonce, plaintext, header + context)


def open_blob(key, blob, context):
    """The plaintext of a blob; `context` is in canonical form."""
    parts = parse(blob)
    gcm_key, commitment = message_key(parts["suite"], key, parts["salt"], parts["prefix"])
    if not hmac.compare_digest(commitment, parts["commitment"]):
        raise foreign("wrong commitment")
    try:
        return gcm(parts["suite"], gcm_key).decrypt(parts["nonce"], parts["sealed"], parts["header"] + context)
    except InvalidTag:
        raise foreign("wrong tag") from None


def mac(method, key, message):
    """HMAC of an authentication method: 1 with SHA-256, 2 with SM3."""
    return hmac.new(key, message, {1: "sha256", 2: "sm3"}[method]).digest()


def transcript(hello):
    """What hello's proofs are over; `hello` holds the values of section 5.2 by name."""
    endpoint, access_key = hello["endpoint"].encode(), hello["access_key"].encode()
    return (bytes([hello["method"], hello["min_version"], hello["max_version"], hello["version"],
                   hello["frame_authenticator"]])
            + struct.pack("<H", len(endpoint)) + endpoint + struct.pack("<H", len(access_key)) + access_key
            + bytes.fromhex(hello["client_nonce"]) + bytes.fromhex(hello["server_nonce"]))


def proof(label, hello):
    """`label` is client, server or frames."""
    message = b"claviger/v1/hello/" + label.encode() + transcript(hello)
    return mac(hello["method"], bytes.fromhex(hello["secret_key"]), message)


def authenticator(method, frame_key, direction, sequence, header_and_body):
    """The 16 bytes after a flagged frame's body; direction is 1 from the client, 2 from the daemon."""
    return mac(method, frame_key, bytes([direction]) + struct.pack("<Q", sequence) + header_and_body)[:16]
