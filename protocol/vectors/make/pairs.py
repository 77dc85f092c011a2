"""Vectors of key pairs, MACs and digests: their frames, with real values in them, and the values by themselves.

Everything is computed by tests/decoder's own implementations; randomness is fixed.
"""

import hashlib
import hmac

import curves
import der
import rsa
from curves import P256, P384, SM2
from frames import Frames
from samples import CONTEXT, KEY, NO_CONTEXT, OTHER_VERSION, VERSION, fixed, hexed, spec
from sealed import seal
from tables import ENUMS

E = 65537
USED = {"key_id": KEY, "key_version_id": VERSION}
MESSAGE = b"attack at dawn"


def number(label, size, most=None):
    found = int.from_bytes(fixed(label, size), "big")
    return found % most if most else found


# A 2,048-bit key; the offsets make its factors the next primes.
P = (number("RSA p", 128) | 3 << 1022 | 1) + 116
Q = (number("RSA q", 128) | 3 << 1022 | 1) + 190
N, D = P * Q, pow(E, -1, (P - 1) * (Q - 1))
SECRETS = {curve: number("secret of " + curve.oid, curve.size, curve.n) for curve in (P256, P384, SM2)}
PUBLIC = {curve: curve.public(secret) for curve, secret in SECRETS.items()}
NONCES = {curve: number("nonce of " + curve.oid, curve.size, curve.n) for curve in SECRETS}
MAC_HASHES = {"HMAC_SHA_256": "sha256", "HMAC_SHA_384": "sha384", "HMAC_SHA_512": "sha512", "HMAC_SM3": "sm3"}


def spki(name):
    return {"RSA_2048": lambda: rsa.spki(N, E), "EC_P256": lambda: P256.spki(PUBLIC[P256]),
            "EC_P384": lambda: P384.spki(PUBLIC[P384]), "SM2": lambda: SM2.spki(PUBLIC[SM2])}[name]()


def digest(algorithm, message, user_id=None):
    if algorithm == "SM2DSA":
        return curves.sm2_digest(PUBLIC[SM2], message, curves.DEFAULT_ID if user_id is None else user_id)
    return hashlib.new("sha" + algorithm[-3:], message).digest()


def sign(algorithm, hashed):
    if algorithm == "SM2DSA":
        return curves.sm2_sign(SECRETS[SM2], hashed, NONCES[SM2])
    if algorithm.startswith("ECDSA"):
        curve = P256 if algorithm.endswith("256") else P384
        return curves.ecdsa_sign(curve, SECRETS[curve], hashed, NONCES[curve])
    name = "sha" + algorithm[-3:]
    block = (rsa.pss_block(N, name, hashed, fixed("PSS salt", len(hashed))) if "PSS" in algorithm
             else rsa.pkcs1_block(N, name, hashed))
    return rsa.power(N, D, block)


def encrypt(algorithm, plaintext):
    if algorithm == "SM2PKE":
        return curves.sm2_encrypt(PUBLIC[SM2], plaintext, NONCES[SM2])
    if algorithm == "RSAES_PKCS1_V1_5":
        padding = bytes(byte or 1 for byte in fixed("PKCS1 padding", 256))
        return rsa.pkcs1_seal(N, E, plaintext, padding)
    name = {"RSAES_OAEP_SHA_1": "sha1", "RSAES_OAEP_SHA_256": "sha256"}[algorithm]
    seed = fixed("OAEP seed", rsa.digest_size(name))
    return rsa.power(N, E, rsa.oaep_block(N, name, plaintext, seed))


def mac(algorithm, message):
    name = MAC_HASHES[algorithm]
    return hmac.new(fixed(algorithm, hashlib.new(name).digest_size), message, name).digest()


def signing(algorithm, *, message=MESSAGE, kind="MESSAGE", version=None, user_id=None):
    return {"key": KEY, "key_version_id": version, "algorithm": {"SigningAlgorithm": algorithm},
            "message_type": {"MessageType": kind}, "message": hexed(message),
            "user_id": None if user_id is None else hexed(user_id)}


def signature_frames(out):
    for algorithm in ("RSA_PSS_SHA_256", "RSA_PSS_SHA_384", "RSA_PSS_SHA_512", "RSA_PKCS1_SHA_256",
                      "RSA_PKCS1_SHA_384", "RSA_PKCS1_SHA_512", "ECDSA_SHA_256", "ECDSA_SHA_384", "SM2DSA"):
        made = hexed(sign(algorithm, digest(algorithm, MESSAGE)))
        out.request(f"sign, {algorithm}", "AsymmetricSign", signing(algorithm))
        out.reply(f"signed, {algorithm}", "AsymmetricSign", USED | {"signature": made})
    hashed = digest("SM2DSA", MESSAGE)
    out.request("sign a digest with a version", "AsymmetricSign", signing(
        "SM2DSA", message=hashed, kind="DIGEST", version=OTHER_VERSION))
    out.request("sign nothing, with an empty user id", "AsymmetricSign", signing("SM2DSA", message=b"", user_id=b""))
    made = hexed(sign("SM2DSA", digest("SM2DSA", MESSAGE, b"ALICE123@YAHOO.COM")))
    out.request("verify with a user id", "AsymmetricVerify", signing(
        "SM2DSA", user_id=b"ALICE123@YAHOO.COM") | {"signature": made})
    out.reply("it is right", "AsymmetricVerify", USED | {"valid": True})
    out.request("verify garbage, the longest user id", "AsymmetricVerify", signing(
        "RSA_PSS_SHA_512", version=VERSION, user_id=bytes(255)) | {"signature": hexed(b"")})
    out.reply("it is wrong", "AsymmetricVerify", USED | {"valid": False})


def encryption_frames(out):
    for algorithm in ("RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"):
        body = {"key": KEY, "key_version_id": None, "algorithm": {"EncryptionAlgorithm": algorithm}}
        sealed = {"ciphertext": hexed(encrypt(algorithm, MESSAGE))}
        out.request(f"encrypt, {algorithm}", "AsymmetricEncrypt", body | {"plaintext": hexed(MESSAGE)})
        out.reply(f"encrypted, {algorithm}", "AsymmetricEncrypt", USED | sealed)
        out.request(f"decrypt, {algorithm}", "AsymmetricDecrypt", body | {"key_version_id": VERSION} | sealed)
        out.reply(f"decrypted, {algorithm}", "AsymmetricDecrypt", USED | {"plaintext": hexed(MESSAGE)})


def public_key_frames(out):
    for name, usage in (("RSA_2048", "ENCRYPT_DECRYPT"), ("EC_P256", "SIGN_VERIFY"), ("EC_P384", "SIGN_VERIFY"),
                        ("SM2", "SIGN_VERIFY")):
        version = VERSION if name == "SM2" else None
        out.request(f"public key, {name}", "GetPublicKey", {"key": "alias/pair", "key_version_id": version})
        out.reply(f"public key, {name}", "GetPublicKey", USED | {
            "spec": spec(name), "usage": {"KeyUsage": usage}, "public_key": hexed(spki(name))})


def mac_frames(out):
    for algorithm in MAC_HASHES:
        made = {"mac": hexed(mac(algorithm, MESSAGE))}
        named = {"algorithm": {"MacAlgorithm": algorithm}, "message": hexed(MESSAGE)}
        out.request(f"mac, {algorithm}", "GenerateMac", {"key": KEY} | named)
        out.reply(f"mac, {algorithm}", "GenerateMac", USED | made)
        out.request(f"verify, {algorithm}", "VerifyMac", {"key": KEY, "key_version_id": None} | named | made)
    out.reply("the MAC is right", "VerifyMac", USED | {"valid": True})
    out.request("mac of nothing by the spec's algorithm", "GenerateMac", {
        "key": "alias/mac", "algorithm": None, "message": hexed(b"")})
    out.request("verify with one version", "VerifyMac", {
        "key": "alias/mac", "key_version_id": VERSION, "algorithm": None, "message": hexed(b""), "mac": hexed(b"")})
    out.reply("the MAC is wrong", "VerifyMac", USED | {"valid": False})
    for algorithm, name in (("SM3", "sm3"), ("SHA_256", "sha256"), ("SHA_384", "sha384"), ("SHA_512", "sha512")):
        named = {"algorithm": {"DigestAlgorithm": algorithm}}
        out.request(f"digest, {algorithm}", "MessageDigest", named | {"message": hexed(b"abc")})
        out.reply(f"digest, {algorithm}", "MessageDigest", {"digest": hexed(hashlib.new(name, b"abc").digest())})


def data_key_frames(out):
    for name in ("RSA_2048", "RSA_3072", "RSA_4096", "EC_P256", "EC_P384", "SM2"):
        body = {"key": KEY, "pair_spec": {"KeyPairSpec": name}, "context": NO_CONTEXT}
        out.request(f"key pair, {name}", "GenerateDataKeyPair", body)
    private = SM2.pkcs8(SECRETS[SM2])
    wrapped = USED | {"public_key": hexed(spki("SM2")), "ciphertext_blob": hexed(seal(4, private, []))}
    out.reply("key pair", "GenerateDataKeyPair", wrapped | {"private_key": hexed(private)})
    out.request("key pair, wrapped only", "GenerateDataKeyPairWithoutPlaintext", {
        "key": "alias/sm4", "pair_spec": {"KeyPairSpec": "SM2"}, "context": CONTEXT})
    out.reply("key pair, wrapped only", "GenerateDataKeyPairWithoutPlaintext", wrapped)
    data_key = fixed("data key", 16)
    blob = {"ciphertext_blob": hexed(seal(4, data_key, []))}
    for algorithm in ("RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "RSAES_PKCS1_V1_5", "SM2PKE"):
        to = {"public_key": hexed(spki("SM2" if algorithm == "SM2PKE" else "RSA_2048")),
              "algorithm": {"ExportAlgorithm": algorithm}}
        exported = {"exported_data_key": hexed(encrypt(algorithm, data_key))}
        expected = KEY if algorithm == "SM2PKE" else None
        out.request(f"export, {algorithm}", "ExportDataKey", {"key": expected, "context": NO_CONTEXT} | blob | to)
        out.reply(f"exported, {algorithm}", "ExportDataKey", USED | exported)
        out.request(f"make and export, {algorithm}", "GenerateAndExportDataKey", {
            "key": KEY, "size": {"spec": {"DataKeySpec": "SM4"}, "bytes": 0}, "context": NO_CONTEXT} | to)
        out.reply(f"made and exported, {algorithm}", "GenerateAndExportDataKey", USED | blob | exported)


def pairs():
    out = Frames("Key pairs, MACs, digests. The values are real: their keys are algorithms.json's.")
    signature_frames(out)
    encryption_frames(out)
    public_key_frames(out)
    mac_frames(out)
    data_key_frames(out)
    return out.family()


# The values by themselves, for testing algorithms.

def signed(name, key, algorithm, signature, *, message=MESSAGE, kind="MESSAGE", user_id=None, valid=True):
    return {"name": name, "spec": key, "public_key": spki(key).hex(), "algorithm": algorithm, "message_type": kind,
            "message": message.hex(), "user_id": None if user_id is None else user_id.hex(),
            "signature": signature.hex(), "valid": valid}


def signatures():
    keys = {"RSA": "RSA_2048", "SM2": "SM2", "256": "EC_P256", "384": "EC_P384"}
    cases = []
    for algorithm in ENUMS["SigningAlgorithm"].values():
        key = keys.get(algorithm[:3]) or keys[algorithm[-3:]]
        hashed = digest(algorithm, MESSAGE)
        made = sign(algorithm, hashed)
        cases += [
            signed(f"{algorithm} of a message", key, algorithm, made),
            signed(f"{algorithm} of a digest", key, algorithm, made, message=hashed, kind="DIGEST"),
            signed(f"{algorithm} of nothing", key, algorithm, sign(algorithm, digest(algorithm, b"")), message=b""),
            signed(f"{algorithm}: another message", key, algorithm, made, message=b"attack at dusk", valid=False),
            signed(f"{algorithm}: no signature", key, algorithm, b"", valid=False),
            signed(f"{algorithm}: a byte cut", key, algorithm, made[:-1], valid=False),
            signed(f"{algorithm}: a byte more", key, algorithm, made + b"\0", valid=False),
            signed(f"{algorithm}: a bit flipped", key, algorithm, made[:-1] + bytes([made[-1] ^ 1]), valid=False)]
        if key != "RSA_2048":
            cases += malformed_der(key, algorithm, made)
    block = rsa.pss_block(N, "sha256", digest("RSA_PSS_SHA_256", MESSAGE), b"")
    cases.append(signed("RSA_PSS_SHA_256: an empty salt", "RSA_2048", "RSA_PSS_SHA_256", rsa.power(N, D, block),
                        valid=False))
    for user_id in (b"", b"ALICE123@YAHOO.COM", bytes(255)):
        made = sign("SM2DSA", digest("SM2DSA", MESSAGE, user_id))
        cases += [signed(f"SM2DSA, a user id of {len(user_id)} bytes", "SM2", "SM2DSA", made, user_id=user_id),
                  signed(f"SM2DSA: not that of {len(user_id)} bytes", "SM2", "SM2DSA", made, valid=False)]
    return cases


def malformed_der(key, algorithm, made):
    """Right numbers in a form that isn't DER, and numbers out of range."""
    curve = {"EC_P256": P256, "EC_P384": P384, "SM2": SM2}[key]
    r, s = curves.parse_signature(made, curve.n)
    integers = der.integer(r) + der.integer(s)
    padded = der.item(der.INTEGER, b"\0" + der.read(der.integer(r), der.INTEGER)[0])
    negative = der.item(der.INTEGER, ((1 << 8 * curve.size) - curve.n + s).to_bytes(curve.size, "big"))
    for name, bad in (
            ("a needless zero", der.item(der.SEQUENCE, padded + der.integer(s))),
            ("a long length", bytes([der.SEQUENCE, 0x82, 0, len(integers)]) + integers),
            ("an indefinite length", bytes([der.SEQUENCE, 0x80]) + integers + b"\0\0"),
            ("a third integer", der.item(der.SEQUENCE, integers + der.integer(1))),
            ("r and s without DER", curve.bytes(r) + curve.bytes(s)),
            ("r is 0", curves.signature(0, s)),
            ("s is 0", curves.signature(r, 0)),
            ("s is negative", der.item(der.SEQUENCE, der.integer(r) + negative)),
            ("s is n more", curves.signature(r, s + curve.n))):
        yield signed(f"{algorithm}: {name}", key, algorithm, bad, valid=False)


def private(algorithm):
    """PKCS#8 of the RSA key, or SM2's secret number."""
    if algorithm == "SM2PKE":
        return SM2.bytes(SECRETS[SM2])
    return rsa.pkcs8(E, D, P, Q)


def sealed_to(name, algorithm, ciphertext, plaintext=None):
    """Without a plaintext it doesn't decrypt."""
    return {"name": f"{algorithm}: {name}", "algorithm": algorithm, "private_key": private(algorithm).hex(),
            "ciphertext": ciphertext.hex(), "plaintext": None if plaintext is None else plaintext.hex()}


def ciphertexts():
    cases = []
    for algorithm, most in (("RSAES_OAEP_SHA_1", 214), ("RSAES_OAEP_SHA_256", 190), ("SM2PKE", 6144)):
        made = encrypt(algorithm, MESSAGE)
        cases += [sealed_to("a text", algorithm, made, MESSAGE),
                  sealed_to("one byte", algorithm, encrypt(algorithm, b"\0"), b"\0"),
                  sealed_to("the most", algorithm, encrypt(algorithm, fixed("most", most)), fixed("most", most)),
                  sealed_to("nothing there", algorithm, b""),
                  sealed_to("a byte cut", algorithm, made[:-1]),
                  sealed_to("a byte more", algorithm, made + b"\0"),
                  sealed_to("a bit flipped", algorithm, made[:-1] + bytes([made[-1] ^ 1]))]
    for name in ("sha1", "sha256"):
        other = {"sha1": "RSAES_OAEP_SHA_256", "sha256": "RSAES_OAEP_SHA_1"}[name]
        block = rsa.oaep_block(N, name, MESSAGE, fixed("OAEP seed", rsa.digest_size(name)))
        cases.append(sealed_to("of the other hash", other, rsa.power(N, E, block)))
    cases.append(sealed_to("the modulus", "RSAES_OAEP_SHA_256", N.to_bytes(256, "big")))
    c1, c3, c2 = sm2_parts()
    for name, parts in (("a point that isn't on the curve", (c1[0], c1[1] ^ 1, c3, c2)),
                        ("the point 0, 0", (0, 0, c3, c2)),
                        ("x is p more", (c1[0] + SM2.p, c1[1], c3, c2)),
                        ("a hash of 31 bytes", (*c1, c3[1:], c2)),
                        ("another hash", (*c1, bytes(32), c2)),
                        ("nothing encrypted", (*c1, c3, b""))):
        cases.append(sealed_to(name, "SM2PKE", sm2_cipher(*parts)))
    cases.append(sealed_to("raw C1 C3 C2", "SM2PKE", SM2.point(c1) + c3 + c2))
    return cases


def sm2_cipher(x, y, c3, c2):
    return der.sequence(der.integer(x), der.integer(y), der.item(der.OCTET_STRING, c3),
                        der.item(der.OCTET_STRING, c2))


def sm2_parts():
    x, rest = der.read_integer(der.read_all(encrypt("SM2PKE", MESSAGE), der.SEQUENCE))
    y, rest = der.read_integer(rest)
    c3, rest = der.read(rest, der.OCTET_STRING)
    return (x, y), c3, der.read_all(rest, der.OCTET_STRING)


def hashed_cases():
    """Digests and MACs of messages around the ends of blocks."""
    for algorithm, name in (("SM3", "sm3"), ("SHA_256", "sha256"), ("SHA_384", "sha384"), ("SHA_512", "sha512")):
        for size in (0, 3, 55, 56, 64, 111, 112, 128, 1000):
            message = b"abc" if size == 3 else fixed("message", size)
            yield {"name": f"{algorithm} of {size} bytes", "algorithm": algorithm, "message": message.hex(),
                   "digest": hashlib.new(name, message).hexdigest()}


def macs():
    for algorithm, name in MAC_HASHES.items():
        key = fixed(algorithm, hashlib.new(name).digest_size)
        for size in (0, 3, 64, 128, 1000):
            message = fixed("message", size)
            yield {"name": f"{algorithm} of {size} bytes", "algorithm": algorithm, "key": key.hex(),
                   "message": message.hex(), "mac": mac(algorithm, message).hex()}


def algorithms():
    return {"about": "Section 13 without frames: what is right, and what is `valid` 0 or InvalidCiphertext. A "
                     "private_key is PKCS#8, of SM2PKE the secret number.",
            "signatures": signatures(), "ciphertexts": ciphertexts(), "macs": list(macs()),
            "digests": list(hashed_cases())}
