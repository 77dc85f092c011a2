"""Vectors of encryption contexts, ciphertext blobs and hello's proofs."""

import blobs
from bodies import canonical_context
from samples import KEY, OTHER_KEY, OTHER_VERSION, PAIRS, VERSION, fixed

AES_KEY = fixed("AES key", 32)
SM4_KEY = fixed("SM4 key", 16)


def accepted(name, pairs):
    return {"name": name, "code": "Ok", "pairs": pairs, "hex": canonical_context(pairs).hex()}


def refused(name, data):
    return {"name": name, "code": "InvalidArgument", "hex": data.hex()}


def contexts():
    cases = [
        accepted("nothing", []),
        accepted("one pair", [["k", "v"]]),
        accepted("an empty value", [["k", ""]]),
        accepted("bytes decide, not letters", [["B", ""], ["a", ""], ["ab", ""], ["é", ""], ["司", "钥"]]),
        accepted("a key before its extensions", [["a", "2"], ["a\0", "1"], ["aa", "0"]]),
        accepted("composed and decomposed are two keys", [["e\u0301", ""], ["\u00e9", ""]]),
        accepted("exactly 8192 bytes", [["k", "v" * 8185]]),
        accepted("many pairs", [[f"{i:04}", ""] for i in range(1000)]),
        refused("no bytes", b""),
        refused("one byte", b"\0"),
        refused("a pair claimed, none there", b"\1\0"),
        refused("a byte left over", b"\0\0x"),
        refused("a key longer than what is there", b"\1\0\5\0a"),
        refused("a value longer than what is there", b"\1\0\1\0a\5\0b"),
        refused("no value", b"\1\0\1\0a"),
        refused("out of order", b"\2\0\1\0b\0\0\1\0a\0\0"),
        refused("an extension before its key", b"\2\0\2\0aa\0\0\1\0a\0\0"),
        refused("a key twice", b"\2\0\1\0a\0\0\1\0a\1\0b"),
        refused("an empty key", b"\1\0\0\0\0\0"),
        refused("a key that isn't UTF-8", b"\1\0\1\0\xff\0\0"),
        refused("a value that isn't UTF-8", b"\1\0\1\0a\1\0\x80"),
        refused("65535 pairs claimed", b"\xff\xff"),
        refused("8193 bytes", canonical_context([["k", "v" * 8186]])),
    ]
    return {"about": "Canonical encryption contexts, section 8.", "contexts": cases}


def key_of(suite):
    return SM4_KEY if suite in blobs.SM4_SUITES else AES_KEY


def seal(suite, plaintext, pairs, *, key_id=KEY, salt=None, nonce=None):
    ids = [bytes.fromhex(text.replace("-", "")) for text in (key_id, VERSION)]
    salt = fixed("salt", blobs.LENGTHS[suite][0]) if salt is None else salt
    nonce = fixed("nonce", 12) if nonce is None else nonce
    return blobs.seal(suite, key_of(suite), *ids, salt, nonce, plaintext, canonical_context(pairs))


def opens(name, suite, plaintext, pairs, **changes):
    blob = seal(suite, plaintext, pairs, **changes)
    parts = blobs.parse(blob)
    return {"name": f"suite {suite}: {name}", "suite": suite, "suite_name": parts["suite_name"],
            "key": key_of(suite).hex(), "key_id": parts["key_id"], "key_version_id": parts["key_version_id"],
            "salt": parts["salt"].hex(), "nonce": parts["nonce"].hex(), "commitment": parts["commitment"].hex(),
            "context": pairs, "plaintext": plaintext.hex(), "blob": blob.hex()}


def stays_shut(name, blob, pairs, unreadable=False, *, key=AES_KEY):
    return {"name": name, "unreadable": unreadable, "key": key.hex(), "context": pairs, "blob": blob.hex()}


def flipped(suite):
    """One bit of each byte of a blob in turn, but for the bytes that make it another suite's."""
    blob = seal(suite, b"payload", PAIRS)
    for at in range(len(blob)):
        bad = blob[:at] + bytes([blob[at] ^ 0x80]) + blob[at + 1:]
        yield stays_shut(f"suite {suite}: byte {at} flipped", bad, PAIRS, at < 8, key=key_of(suite))


def shut(suite):
    def case(name, blob, pairs=PAIRS, unreadable=False, key=key_of(suite)):
        return stays_shut(f"suite {suite}: {name}", blob, pairs, unreadable, key=key)

    blob, whole = seal(suite, b"payload", PAIRS), sum(blobs.LENGTHS[suite]) + 68
    yield from flipped(suite)
    for length in (0, 1, 39, 40, 52, whole - 1):
        yield case(f"cut to {length} bytes", blob[:length], unreadable=True)
    yield case(f"cut to {whole} bytes", blob[:whole])
    yield case("its last byte cut", blob[:-1])
    yield case("a byte more", blob + b"\0")
    yield case("no context", blob, [])
    yield case("another value in the context", blob, [PAIRS[0], ["tenant", "x"]])
    yield case("another key's bytes", blob, key=fixed("another key", len(key_of(suite))))
    other = seal(suite, b"payload", PAIRS, key_id=OTHER_KEY)
    yield case("another key's header", other[:24] + blob[24:])
    version = bytes.fromhex(OTHER_VERSION.replace("-", ""))
    yield case("another version's header", blob[:24] + version + blob[40:])
    for number in sorted({1, 2, 3} - {suite}):
        yield case(f"called suite {number}", called(blob, number))


def called(blob, number):
    """A blob that says that it is of another suite, long enough for each."""
    longer = blob + bytes(200)
    return longer[:5] + bytes([number]) + longer[6:]


def blob_family():
    accept = [opens(*case) for suite in (1, 2, 3) for case in (
        ("a text with a context", suite, b"attack at dawn", PAIRS),
        ("nothing at all", suite, b"", []),
        ("64 bytes, no context", suite, fixed("plaintext", 64), []))]
    accept += [
        opens("another salt and nonce", 1, b"attack at dawn", PAIRS, salt=bytes(32), nonce=bytes(12)),
        opens("a salt of zeros", 2, b"attack at dawn", PAIRS, salt=bytes(16), nonce=bytes([255] * 12)),
        opens("the reserved salt's first half", 2, b"x", [], salt=b"claviger/v1/chkw"),
        opens("the most that Encrypt takes", 1, fixed("most", 6144), []),
    ]
    reject = [case for suite in (1, 2, 3) for case in shut(suite)]
    reject.append(stays_shut("suite 2: the reserved salt", seal(2, b"x", [], salt=blobs.RESERVED_SALT), [], True))
    for number in (0, 128, 255):
        blob = seal(1, b"x", [])
        reject.append(stays_shut(f"suite number {number}", blob[:5] + bytes([number]) + blob[6:], [], True))
    sm4_blobs(accept, reject)
    return {"about": "Ciphertext blobs, section 9. Refused ones are InvalidCiphertext, all of them; unreadable ones "
                     "aren't blobs at all, the others don't open.", "blobs": accept, "refused_blobs": reject}


def sm4_blobs(accept, reject):
    for suite in blobs.SM4_SUITES:
        accept += [
            opens("a text with a context", suite, b"attack at dawn", PAIRS),
            opens("nothing at all", suite, b"", []),
            opens("64 bytes, no context", suite, fixed("plaintext", 64), [])]
        reject += shut(suite)
    for suite, number in ((1, 4), (1, 5), (3, 4), (3, 5), (4, 5), (5, 4)):
        blob = called(seal(suite, b"payload", PAIRS), number)
        reject.append(stays_shut(f"suite {suite}: called suite {number}", blob, PAIRS, key=key_of(suite)))


def handshake(name, method, endpoint):
    hello = {"name": name, "method": method, "min_version": 1, "max_version": 3, "version": 1,
             "frame_authenticator": 1, "endpoint": endpoint, "access_key": "AK0123456789",
             "client_nonce": fixed("client nonce", 32).hex(), "server_nonce": fixed("server nonce", 32).hex(),
             "secret_key": fixed("secret key", 32).hex()}
    hello["transcript"] = blobs.transcript(hello).hex()
    for label, field in (("client", "client_proof"), ("server", "server_proof"), ("frames", "frame_key")):
        hello[field] = blobs.proof(label, hello).hex()
    hello["frames"] = []
    for direction, sequence, sent in ((1, 0, b"request"), (2, 0, b"reply"), (1, 1, b"request"), (2, 2**64 - 1, b"")):
        data = bytes(24) + sent
        mac = blobs.authenticator(method, bytes.fromhex(hello["frame_key"]), direction, sequence, data)
        hello["frames"].append({"direction": direction, "sequence": sequence, "header_and_body": data.hex(),
                                "authenticator": mac.hex()})
    return hello


def handshakes():
    return {"about": "Hello's proofs and the frame authenticators, sections 5.2 and 4. The header in these is 24 zero "
                     "bytes: only the sums matter.",
            "handshakes": [handshake("HMAC-SHA-256", 1, "app"), handshake("HMAC-SM3", 2, "a/longer:name")]}
