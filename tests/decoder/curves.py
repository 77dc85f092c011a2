"""Elliptic curves in whole numbers: ECDSA (FIPS 186-5) and SM2 (GB/T 32918), from the standards' text.

Nobody else's code, so that it is a second opinion on SM2, which Python's `cryptography` doesn't have. Not for
secrets. Randomness is an argument.
"""

import hashlib

import der

EC_PUBLIC_KEY = "1.2.840.10045.2.1"
DEFAULT_ID = b"1234567812345678"


class Curve:
    """y² = x³ + ax + b over a prime field; points are pairs, None is the point at infinity."""

    def __init__(self, oid, hash_name, p, a, b, n, x, y):
        self.oid, self.hash_name, self.p, self.a, self.b, self.n, self.g = oid, hash_name, p, a, b, n, (x, y)
        self.size = (p.bit_length() + 7) // 8

    def hash(self, data):
        return hashlib.new(self.hash_name, data).digest()

    def bytes(self, number):
        return number.to_bytes(self.size, "big")

    def has(self, point):
        x, y = point
        return max(x, y) < self.p and (y * y - (x * x + self.a) * x - self.b) % self.p == 0

    def add(self, one, other):
        if one is None or other is None:
            return one or other
        (x1, y1), (x2, y2) = one, other
        if x1 == x2 and (y1 + y2) % self.p == 0:
            return None
        top, bottom = (3 * x1 * x1 + self.a, 2 * y1) if one == other else (y2 - y1, x2 - x1)
        slope = top * pow(bottom, -1, self.p) % self.p
        x = (slope * slope - x1 - x2) % self.p
        return x, (slope * (x1 - x) - y1) % self.p

    def times(self, number, point):
        product = None
        for bit in bin(number)[2:]:
            product = self.add(product, product)
            if bit == "1":
                product = self.add(product, point)
        return product

    def public(self, secret):
        return self.times(secret, self.g)

    def point(self, point):
        return b"\x04" + self.bytes(point[0]) + self.bytes(point[1])

    def from_point(self, data):
        point = (int.from_bytes(data[1:1 + self.size], "big"), int.from_bytes(data[1 + self.size:], "big"))
        if len(data) != 1 + 2 * self.size or data[0] != 4 or not self.has(point):
            raise ValueError("not a point of the curve")
        return point

    def algorithm(self):
        return der.sequence(der.oid(EC_PUBLIC_KEY), der.oid(self.oid))

    def spki(self, public):
        return der.sequence(self.algorithm(), der.item(der.BIT_STRING, b"\0" + self.point(public)))

    def from_spki(self, data):
        """The point of a SubjectPublicKeyInfo of this curve, which must be exactly that."""
        point = self.from_point(data[-(1 + 2 * self.size):])
        if data != self.spki(point):
            raise ValueError("not a SubjectPublicKeyInfo of this curve")
        return point

    def pkcs8(self, secret):
        """PKCS#8 with RFC 5915's ECPrivateKey, its public key in it."""
        public = der.item(0xA1, der.item(der.BIT_STRING, b"\0" + self.point(self.public(secret))))
        private = der.sequence(der.integer(1), der.item(der.OCTET_STRING, self.bytes(secret)), public)
        return der.sequence(der.integer(0), self.algorithm(), der.item(der.OCTET_STRING, private))


P256 = Curve(
    "1.2.840.10045.3.1.7", "sha256",
    0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF,
    0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFC,
    0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5)
P384 = Curve(
    "1.3.132.0.34", "sha384",
    2**384 - 2**128 - 2**96 + 2**32 - 1,
    2**384 - 2**128 - 2**96 + 2**32 - 4,
    0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
    0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
    0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F)
# GB/T 32918.5.
SM2 = Curve(
    "1.2.156.10197.1.301", "sm3",
    0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF,
    0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFC,
    0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93,
    0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123,
    0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7,
    0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0)


def signature(r, s):
    return der.sequence(der.integer(r), der.integer(s))


def parse_signature(data, n):
    """r and s of strict DER, both in range."""
    r, rest = der.read_integer(der.read_all(data, der.SEQUENCE))
    s, rest = der.read_integer(rest)
    if rest or not (0 < r < n and 0 < s < n):
        raise ValueError("not a signature")
    return r, s


def leftmost(curve, digest):
    extra = max(0, 8 * len(digest) - curve.n.bit_length())
    return int.from_bytes(digest, "big") >> extra


def ecdsa_sign(curve, secret, digest, k):
    r = curve.times(k, curve.g)[0] % curve.n
    return signature(r, pow(k, -1, curve.n) * (leftmost(curve, digest) + r * secret) % curve.n)


def ecdsa_verify(curve, public, digest, data):
    try:
        r, s = parse_signature(data, curve.n)
    except ValueError:
        return False
    inverse = pow(s, -1, curve.n)
    one = curve.times(leftmost(curve, digest) * inverse % curve.n, curve.g)
    point = curve.add(one, curve.times(r * inverse % curve.n, public))
    return point is not None and point[0] % curve.n == r


def z_a(public, user_id=DEFAULT_ID):
    """GB/T 32918.2 section 5.5."""
    numbers = (SM2.a, SM2.b, *SM2.g, *public)
    return SM2.hash((8 * len(user_id)).to_bytes(2, "big") + user_id + b"".join(map(SM2.bytes, numbers)))


def sm2_digest(public, message, user_id=DEFAULT_ID):
    """What a DIGEST of SM2DSA is."""
    return SM2.hash(z_a(public, user_id) + message)


def sm2_sign(secret, digest, k):
    """GB/T 32918.2 section 6.1."""
    n = SM2.n
    r = (int.from_bytes(digest, "big") + SM2.times(k, SM2.g)[0]) % n
    return signature(r, pow(1 + secret, -1, n) * (k - r * secret) % n)


def sm2_verify(public, digest, data):
    """Section 7.1."""
    n = SM2.n
    try:
        r, s = parse_signature(data, n)
    except ValueError:
        return False
    t = (r + s) % n
    if t == 0:
        return False
    point = SM2.add(SM2.times(s, SM2.g), SM2.times(t, public))
    return point is not None and (int.from_bytes(digest, "big") + point[0]) % n == r


def kdf(shared, size):
    """GB/T 32918.4 section 5.4.3."""
    blocks = (SM2.hash(shared + number.to_bytes(4, "big")) for number in range(1, size // 32 + 2))
    return b"".join(blocks)[:size]


def xored(one, other):
    return bytes(a ^ b for a, b in zip(one, other))


def sm2_encrypt(public, plaintext, k):
    """GB/T 32918.4 section 6.1, as the SM2Cipher of GM/T 0009 section 7.2."""
    c1, shared = SM2.times(k, SM2.g), SM2.times(k, public)
    x2, y2 = (SM2.bytes(number) for number in shared)
    stream = kdf(x2 + y2, len(plaintext))
    if not any(stream):
        raise ValueError("another random number is needed")
    return der.sequence(der.integer(c1[0]), der.integer(c1[1]),
                        der.item(der.OCTET_STRING, SM2.hash(x2 + plaintext + y2)),
                        der.item(der.OCTET_STRING, xored(plaintext, stream)))


def sm2_decrypt(secret, data):
    """Section 7.1; ValueError for every ciphertext that doesn't decrypt."""
    x, rest = der.read_integer(der.read_all(data, der.SEQUENCE))
    y, rest = der.read_integer(rest)
    c3, rest = der.read(rest, der.OCTET_STRING)
    c2 = der.read_all(rest, der.OCTET_STRING)
    if len(c3) != 32 or not SM2.has((x, y)):
        raise ValueError("not an SM2 ciphertext")
    x2, y2 = (SM2.bytes(number) for number in SM2.times(secret, (x, y)))
    plaintext = xored(c2, kdf(x2 + y2, len(c2)))
    if SM2.hash(x2 + plaintext + y2) != c3:
        raise ValueError("another hash")
    return plaintext


def check():
    """Published values, and ECDSA beside another implementation."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

    faults = []

    def same(what, got, want):
        if got != want:
            faults.append(f"{what}: got {got!r}, want {want!r}")

    # GB/T 32918.5-2017 A.2: a signature, the default user id.
    secret = 0x3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8
    k = 0x59276E27D506861A16680F3AD9C02DCCEF3CC1FA3CDBE4CE6D54B80DEAC1BC21
    public = SM2.public(secret)
    same("x_A", public[0], 0x09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020)
    same("Z_A", z_a(public).hex(), "b2e14c5c79c6df5b85f4fe7ed8db7a262b9da7e07ccb0ea9f4747b8ccda8a4f3")
    digest = sm2_digest(public, b"message digest")
    same("e", digest.hex(), "f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640")
    made = sm2_sign(secret, digest, k)
    same("r and s", parse_signature(made, SM2.n), (
        0xF5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3,
        0xB1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA))
    same("a good signature", sm2_verify(public, digest, made), True)
    same("another message", sm2_verify(public, sm2_digest(public, b"message"), made), False)
    # A.3: an encryption.
    sealed = sm2_encrypt(public, b"encryption standard", k)
    want = ("04ebfc718e8d1798620432268e77feb6415e2ede0e073c0f4f640ecd2e149a73"
            "e858f9d81e5430a57b36daab8f950a3c64e6ee6a63094d99283aff767e124df0")
    got = der.read_integer(der.read_all(sealed, der.SEQUENCE))
    same("C1", SM2.bytes(got[0]) + SM2.bytes(der.read_integer(got[1])[0]), bytes.fromhex(want))
    same("C3", sealed[-53:-21].hex(), "59983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766")
    same("C2", sealed[-19:].hex(), "21886ca989ca9c7d58087307ca93092d651efa")
    same("the plaintext", sm2_decrypt(secret, sealed), b"encryption standard")
    for curve, other, algorithm in ((P256, ec.SECP256R1(), hashes.SHA256()), (P384, ec.SECP384R1(), hashes.SHA384())):
        private = ec.generate_private_key(other)
        secret = private.private_numbers().private_value
        public = curve.public(secret)
        theirs = load_der_public_key(curve.spki(public))
        theirs.verify(ecdsa_sign(curve, secret, curve.hash(b"m"), secret ^ 1), b"m", ec.ECDSA(algorithm))
        same("the private key", load_der_private_key(curve.pkcs8(secret), None).private_numbers().private_value, secret)
        for message, valid in ((b"m", True), (b"n", False)):
            got = ecdsa_verify(curve, public, curve.hash(message), private.sign(b"m", ec.ECDSA(algorithm)))
            same(f"ECDSA of {message}", got, valid)
    return faults
