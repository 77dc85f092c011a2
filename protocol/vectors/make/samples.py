"""Fixed values that the vectors are made of."""

import hashlib


def fixed(label, count):
    """Bytes that look random and aren't."""
    return hashlib.shake_256(b"claviger vector " + label.encode()).digest(count)


def text_uuid(label):
    """A version 4 UUID as text."""
    raw = bytearray(fixed(label, 16))
    raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def hexed(data):
    return {"hex": data.hex()}


KEY = text_uuid("key")
VERSION = text_uuid("version")
OTHER_KEY = text_uuid("other key")
OTHER_VERSION = text_uuid("other version")
NIL = "00000000-0000-0000-0000-000000000000"
PAIRS = [["purpose", "payroll"], ["tenant", "司钥"]]
CONTEXT = {"context": PAIRS}
NO_CONTEXT = {"context": []}
# 2026-01-02T03:04:05.678Z
TIME = 1767323045678


def spec(name):
    return {"KeySpec": name}
