"""Bodies and encryption contexts to plain values and back: sections 7 and 8 of protocol/SPEC.md.

A value is what JSON can hold: bytes are {"hex": …}, enumerations {"KeySpec": "AES_256"}, contexts
{"context": [[key, value], …]}.
"""

import re
import struct
import unicodedata

from tables import BOUNDS, COUNTS, ENUMS, STRUCTS, invalid, malformed, unhex

INTEGERS = {"u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q", "i64": "<q"}


class Reader:
    """Takes values off the front of a body."""

    # Names of all structures read so far, nested ones too.
    seen = set()

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if count > len(self.data) - self.at:
            raise malformed("it ends early")
        self.at += count
        return self.data[self.at - count:self.at]

    def integer(self, kind):
        return struct.unpack(INTEGERS[kind], self.take(struct.calcsize(INTEGERS[kind])))[0]

    def text(self):
        try:
            return self.take(self.integer("u64")).decode("utf-8")
        except UnicodeDecodeError:
            raise malformed("a text is not UTF-8") from None

    def mark(self):
        byte = self.take(1)[0]
        if byte > 1:
            raise malformed("neither 0 nor 1")
        return byte == 1

    def items(self, kind, bounds=None):
        count = self.integer("u64")
        if bounds and not bounds[0] <= count <= bounds[1]:
            raise invalid(f"{count} items")
        found = []
        while len(found) < count:
            found.append(self.value(kind))
        return found

    def structure(self, name):
        found = {}
        for field, kind in STRUCTS[name]:
            place = (name, field)
            if place in COUNTS:
                found[field] = self.items(kind[5:-1], COUNTS[place])
            else:
                found[field] = self.value(kind)
            if place in BOUNDS and not BOUNDS[place](found[field]):
                raise invalid(f"{field} is out of bounds")
        self.seen.add(name)
        return found

    def value(self, kind):
        if kind in INTEGERS:
            return self.integer(kind)
        if kind in STRUCTS:
            return self.structure(kind)
        if kind in ENUMS:
            return {kind: self.number(kind, self.integer("u8"))}
        if kind.startswith("option<"):
            return self.value(kind[7:-1]) if self.mark() else None
        if kind.startswith("list<"):
            return self.items(kind[5:-1])
        if kind.startswith("raw"):
            return {"hex": self.take(int(kind[3:])).hex()}
        return getattr(self, "value_" + kind)()

    @staticmethod
    def number(kind, number):
        if number not in ENUMS[kind]:
            raise invalid(f"unknown {kind} number {number}")
        return ENUMS[kind][number]

    def value_bool(self):
        return self.mark()

    def value_bytes(self):
        return {"hex": self.take(self.integer("u64")).hex()}

    def value_text(self):
        return self.text()

    def value_uuid(self):
        if self.integer("u64") != 16:
            raise invalid("a UUID has 16 bytes")
        return hyphenated(self.take(16))

    def value_key(self):
        text = check_name(self.text())
        if text.startswith("alias/") and text != "alias/":
            return text
        if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
            raise invalid("neither a key id nor an alias")
        return text.lower()

    def value_alias(self):
        text = check_name(self.text())
        if not text.startswith("alias/") or text == "alias/" or text.endswith("/default"):
            raise invalid("not an alias")
        return text

    def value_project(self):
        return check_name(self.text())

    def value_description(self):
        return check_chars(self.text(), 0, 255)

    def value_service(self):
        text = self.text()
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
            raise invalid("not a service")
        return text

    def value_tag_key(self):
        return check_chars(self.text(), 1, 128)

    def value_tag(self):
        key, value = self.text(), self.text()
        return [check_chars(key, 1, 128), check_chars(value, 0, 255)]

    def value_tags(self):
        tags = sorted(self.items("tag", COUNTS["tags"]), key=lambda tag: tag[0].encode())
        if len({key for key, _ in tags}) != len(tags):
            raise invalid("a tag key twice")
        return tags

    def value_context(self):
        return {"context": parse_context(self.take(self.integer("u64")))}

    def value_size(self):
        spec, count = self.integer("u8"), self.integer("u16")
        if spec == 0 and 1 <= count <= 1024:
            return {"spec": 0, "bytes": count}
        if spec != 0 and count == 0:
            return {"spec": {"DataKeySpec": self.number("DataKeySpec", spec)}, "bytes": 0}
        raise invalid("a data key is asked for by spec or by length")


def hyphenated(raw):
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def check_name(text):
    if not re.fullmatch(r"[A-Za-z0-9_:/-]{1,255}", text):
        raise invalid("not a name")
    return text


def check_chars(text, least, most):
    if not least <= len(text) <= most or any(unicodedata.category(c) == "Cc" for c in text):
        raise invalid("text out of bounds")
    return text


def decode(kind, body):
    reader = Reader(body)
    found = reader.structure(kind)
    if reader.at != len(body):
        raise malformed("bytes left over")
    return found


# Section 7.1: writing, for the vectors' maker and for `ping`.

def encode(kind, value):
    if kind in INTEGERS:
        return struct.pack(INTEGERS[kind], value)
    if kind in STRUCTS:
        return b"".join(encode(field_kind, value[field]) for field, field_kind in STRUCTS[kind])
    if kind in ENUMS:
        return bytes([number for number, name in ENUMS[kind].items() if name == value[kind]])
    if kind.startswith("option<"):
        return b"\0" if value is None else b"\1" + encode(kind[7:-1], value)
    if kind.startswith("list<"):
        return struct.pack("<Q", len(value)) + b"".join(encode(kind[5:-1], item) for item in value)
    if kind.startswith("raw"):
        return unhex(value)
    if kind == "bool":
        return bytes([value])
    if kind == "size":
        spec = value["spec"] and encode("DataKeySpec", value["spec"])[0]
        return struct.pack("<BH", spec, value["bytes"])
    if kind == "tag":
        return encode("text", value[0]) + encode("text", value[1])
    if kind == "tags":
        return encode("list<tag>", value)
    raw = {"bytes": lambda: unhex(value), "context": lambda: canonical_context(value["context"]),
           "uuid": lambda: bytes.fromhex(value.replace("-", ""))}.get(kind, lambda: value.encode())()
    return struct.pack("<Q", len(raw)) + raw


# Section 8.

MAX_CONTEXT = 8192


def canonical_context(pairs):
    """The canonical form of pairs given in any order."""
    out = struct.pack("<H", len(pairs))
    for key, value in sorted(pairs, key=lambda pair: pair[0].encode()):
        for part in (key.encode(), value.encode()):
            out += struct.pack("<H", len(part)) + part
    return out


def parse_context(data):
    """The pairs of a canonical form; anything else is refused."""
    if len(data) > MAX_CONTEXT:
        raise invalid("a context over the limit")
    at, pairs = 0, []

    def take(count):
        nonlocal at
        if count > len(data) - at:
            raise invalid("a context that ends early")
        at += count
        return data[at - count:at]

    for _ in range(struct.unpack("<H", take(2))[0]):
        key, value = (take(struct.unpack("<H", take(2))[0]) for _ in range(2))
        if not key or (pairs and pairs[-1][0] >= key):
            raise invalid("context keys that are empty, out of order or twice there")
        pairs.append((key, value))
    if at != len(data):
        raise invalid("bytes left over after a context")
    try:
        return [[key.decode("utf-8"), value.decode("utf-8")] for key, value in pairs]
    except UnicodeDecodeError:
        raise invalid("a context that isn't UTF-8") from None
