"""RSA's encodings: PSS, PKCS #1 v1.5 and OAEP of RFC 8017, with their randomness as an argument.

Keys are three numbers: modulus n, public exponent e, private exponent d. Not for secrets.
"""

import hashlib

import der

RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
ALGORITHM = der.sequence(der.oid(RSA_ENCRYPTION), der.item(der.NULL, b""))
# RFC 8017 section 9.2, note 1: DigestInfo up to the digest.
DIGEST_INFO = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}


def size(n):
    return (n.bit_length() + 7) // 8


def digest_size(name):
    return hashlib.new(name).digest_size


def mgf1(name, seed, length):
    blocks = (hashlib.new(name, seed + number.to_bytes(4, "big")).digest()
              for number in range(length // digest_size(name) + 1))
    return b"".join(blocks)[:length]


def xored(one, other):
    return bytes(a ^ b for a, b in zip(one, other))


def power(n, exponent, block):
    return pow(int.from_bytes(block, "big"), exponent, n).to_bytes(size(n), "big")


def pkcs1_block(n, name, digest):
    tail = DIGEST_INFO[name] + digest
    return b"\0\1" + b"\xff" * (size(n) - len(tail) - 3) + b"\0" + tail


def pss_block(n, name, digest, salt):
    """Section 9.1.1, for a modulus of whole bytes."""
    hashed = hashlib.new(name, bytes(8) + digest + salt).digest()
    data = bytes(size(n) - len(salt) - len(hashed) - 2) + b"\1" + salt
    masked = xored(data, mgf1(name, hashed, len(data)))
    return bytes([masked[0] & 0x7F]) + masked[1:] + hashed + b"\xbc"


def oaep_block(n, name, message, seed):
    """Section 7.1.1, no label."""
    data = hashlib.new(name).digest()
    data += bytes(size(n) - len(message) - 2 * len(seed) - 2) + b"\1" + message
    masked = xored(data, mgf1(name, seed, len(data)))
    return b"\0" + xored(seed, mgf1(name, masked, len(seed))) + masked


def pkcs1_seal(n, e, message, padding):
    """RSAES-PKCS1-v1_5, section 7.2.1; `padding` has no zero byte."""
    block = b"\0\2" + padding[:size(n) - len(message) - 3] + b"\0" + message
    return power(n, e, block)


def spki(n, e):
    key = der.sequence(der.integer(n), der.integer(e))
    return der.sequence(ALGORITHM, der.item(der.BIT_STRING, b"\0" + key))


def pkcs8(e, d, p, q):
    numbers = (0, p * q, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))
    key = der.sequence(*map(der.integer, numbers))
    return der.sequence(der.integer(0), ALGORITHM, der.item(der.OCTET_STRING, key))
