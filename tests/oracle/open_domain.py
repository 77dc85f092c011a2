#!/usr/bin/env python3
"""Opens a domain's blobs with nothing but what a recovery recipient has on paper.

Written from the documented formats alone: the recovery file (RSA-OAEP of both root
keys), the domain file (domain key under the seal root), key material under the wrap
root (RFC 3394) or the domain's software key, and protocol/SPEC.md section 9. It knows
nothing of the store's format: wrapped material authenticates itself, so it is found by
trying every place in the store's log that could be one.

    open_domain.py STATE_DIR PRIVATE_KEY.pem BLOB_HEX...      the plaintexts, a line of hex each
"""

import hashlib
import json
import pathlib
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "decoder"))
import blobs  # noqa: E402

HASHES = {"sha-1": hashes.SHA1, "sha-256": hashes.SHA256}
AES_256 = 1
EMPTY_CONTEXT = b"\0\0"


def hkdf(key, salt, info):
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(key)


def roots(recovery, private_key):
    """The wrap and the seal key, of the first recipient that this private key is."""
    key = serialization.load_pem_private_key(private_key, None)
    for recipient in recovery["recipients"]:
        hash_of = HASHES[recipient["oaep_hash"]]
        oaep = padding.OAEP(padding.MGF1(hash_of()), hash_of(), None)
        try:
            return tuple(key.decrypt(bytes.fromhex(recipient[name]), oaep) for name in ("wrap", "seal"))
        except ValueError:
            continue
    raise SystemExit("no recipient of this file has this private key")


def domain_key(domain, seal):
    """The domain's id and key."""
    assert len(domain) == 100 and domain[:10] == b"CLAVDOMN\x01\0", "not a domain file of version 1"
    assert hashlib.sha256(domain[:92]).digest()[:8] == domain[92:], "a damaged domain file"
    key = AESGCM(seal).decrypt(domain[32:44], domain[44:92], b"claviger/v1/domain-file" + domain[:32])
    return domain[10:26], key


def byte_strings(log, length):
    """Everything in the log that could be a stored byte string of this length."""
    mark, at = struct.pack("<Q", length), -1
    while (at := log.find(mark, at + 1)) >= 0:
        if len(found := log[at + 8:at + 8 + length]) == length:
            yield found


def hsm_material(log, wrap):
    """Every AES-256 key that is wrapped in the log."""
    for wrapped in byte_strings(log, 40):
        try:
            yield aes_key_unwrap(wrap, wrapped)
        except InvalidUnwrap:
            continue


def software_material(log, software_key, parts):
    """The SOFTWARE key that a blob names, if it is in the log."""
    key_id, version_id = parts["prefix"][8:24], parts["prefix"][24:40]
    key = hkdf(software_key, version_id, b"claviger/v1/software-material")
    for sealed in byte_strings(log, 12 + 32 + 16):
        try:
            yield AESGCM(key).decrypt(sealed[:12], sealed[12:], key_id + version_id + bytes([AES_256]))
        except InvalidTag:
            continue


def main():
    state, private_key, wanted = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
    recovery = json.loads((state / "root-1.recovery").read_text())
    wrap, seal = roots(recovery, private_key.read_bytes())
    domain_id, key = domain_key((state / "domain").read_bytes(), seal)
    software_key = hkdf(key, domain_id, b"claviger/v1/software-seal")
    log = (state / "store" / "db").read_bytes()
    for blob in map(bytes.fromhex, wanted):
        parts = blobs.parse(blob)
        if parts["suite"] == 1:
            candidates = software_material(log, software_key, parts)
        else:
            candidates = hsm_material(log, wrap)
        print(opened(candidates, blob).hex())


def opened(candidates, blob):
    for material in candidates:
        try:
            return blobs.open_blob(material, blob, EMPTY_CONTEXT)
        except blobs.Refused:
            continue
    raise SystemExit("no stored material opens this blob")


if __name__ == "__main__":
    main()
