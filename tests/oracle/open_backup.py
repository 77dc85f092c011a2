#!/usr/bin/env python3
"""Opens a backup with nothing but SPEC.md section 12 and a recovery recipient's private key.

    open_backup.py BACKUP PRIVATE_KEY.pem      one line for each record of the store: key and value, hex

The root comes from the recovery file in the backup, the domain key from the domain file in it.
"""

import hashlib
import hmac
import json
import pathlib
import struct
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from open_domain import domain_key, hkdf, roots


class Reader:
    """Takes bytes off the front; what isn't there is an error."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        out = self.data[self.at:self.at + count]
        assert len(out) == count, "cut short"
        self.at += count
        return out

    def number(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def left(self):
        return len(self.data) - self.at


def header(file):
    """Domain id, generation, salt, domain file, recovery files by generation."""
    assert file.take(8) == b"CLAVBKUP" and file.number("H") == 1, "not a backup of version 1"
    domain_id, generation, _created_at, salt = file.take(16), file.number("I"), file.number("q"), file.take(32)
    domain_len, copies = file.number("I"), file.number("H")
    domain = file.take(domain_len)
    recovery = {}
    for _ in range(copies):
        of = file.number("I")
        recovery[of] = file.take(file.number("I"))
    assert file.at <= 524288, "too long a header"
    return domain_id, generation, salt, domain, recovery


def chunks(file, key, aad):
    """The plaintexts."""
    index = 0
    while file.left():
        length = file.number("I")
        assert 16 <= length <= 65552, "a chunk's length"
        sealed = file.take(length)
        last = not file.left()
        nonce = bytes(7) + struct.pack(">IB", index, last)
        yield last, AESGCM(key).decrypt(nonce, sealed, aad)
        index += 1


def entries(plaintext):
    data = Reader(plaintext)
    while data.left():
        kind = data.take(1)[0]
        assert kind in (1, 2, 3), "an unknown entry"
        if kind == 3:
            yield kind, data.number("Q"), data.number("Q")
            assert not data.left(), "something after the end"
            return
        key = data.take(data.number("H"))
        yield kind, key, data.take(data.number("H")) if kind == 1 else None


def check(mac_key, key, value):
    """The record's own MAC."""
    label = b"claviger/v1/record"
    signed = b"".join(struct.pack("<I", len(part)) + part for part in (label, key)) + value[:-32]
    assert hmac.compare_digest(hmac.digest(mac_key, signed, "sha256"), value[-32:]), "a record's MAC"


def records(data, private_key):
    file = Reader(data)
    domain_id, generation, salt, domain, recovery = header(file)
    raw_header = data[:file.at]
    _wrap, seal = roots(json.loads(recovery[generation]), private_key)
    found_id, key = domain_key(domain, seal)
    assert found_id == domain_id, "another domain's file"
    backup_key = hkdf(key, domain_id, b"claviger/v1/backup")
    file_key = hkdf(backup_key, salt, b"claviger/v1/backup-file")
    mac_key = hkdf(key, domain_id, b"claviger/v1/record-mac")
    aad = b"claviger/v1/backup-chunk" + hashlib.sha256(raw_header).digest()
    store, counts, totals = {}, [0, 0], None
    for last, plaintext in chunks(file, file_key, aad):
        for kind, first, second in entries(plaintext):
            if kind == 3:
                assert last, "an end before the end"
                totals = [first, second]
                continue
            counts[kind - 1] += 1
            store.pop(first, None)
            if kind == 1:
                check(mac_key, first, second)
                store[first] = second
    assert totals == counts, "wrong totals"
    return store


def main():
    store = records(pathlib.Path(sys.argv[1]).read_bytes(), pathlib.Path(sys.argv[2]).read_bytes())
    for key in sorted(store):
        print(key.hex(), store[key].hex())


if __name__ == "__main__":
    main()
