"""DER (X.690), as much of it as keys, signatures and SM2's ciphertexts need. Reading is strict."""

INTEGER, BIT_STRING, OCTET_STRING, NULL, OID, SEQUENCE = 0x02, 0x03, 0x04, 0x05, 0x06, 0x30


def item(tag, content):
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def integer(number):
    return item(INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def sequence(*items):
    return item(SEQUENCE, b"".join(items))


def oid(text):
    first, second, *rest = (int(part) for part in text.split("."))
    out = bytearray()
    for number in [first * 40 + second, *rest]:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        out += bytes(reversed(groups))
    return item(OID, bytes(out))


def read(data, tag):
    """Takes one item off the front: its content, and what follows it."""
    if len(data) < 2 or data[0] != tag:
        raise ValueError(f"DER: tag {tag:#x} is expected")
    size, at = data[1], 2
    if size == 0x80 or size > 0x84:
        raise ValueError("DER: a length that can't be")
    if size > 0x80:
        at, size = 2 + size - 0x80, int.from_bytes(data[2:2 + size - 0x80], "big")
        if size < 128 or data[2] == 0:
            raise ValueError("DER: a length that isn't the shortest")
    if len(data) < at + size:
        raise ValueError("DER: cut")
    return data[at:at + size], data[at + size:]


def read_all(data, tag):
    content, rest = read(data, tag)
    if rest:
        raise ValueError("DER: bytes left over")
    return content


def read_integer(data):
    """An integer that isn't negative."""
    content, rest = read(data, INTEGER)
    if not content or content[0] & 0x80 or (content[0] == 0 and len(content) > 1 and not content[1] & 0x80):
        raise ValueError("DER: an integer that is negative or not the shortest")
    return int.from_bytes(content, "big"), rest
