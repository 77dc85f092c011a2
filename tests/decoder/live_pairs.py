"""Conversations with a live daemon about key pairs, MACs, digests and data keys: section 13 of protocol/SPEC.md.

A session's caller has made the keys; what the daemon computes is checked here, and what is made here is sent
to it.
"""

import os

import algorithms
import der
from bodies import encode
from live import CONTEXT, NUMBERS, Session, same

SIGNS = {"EC_P256": ["ECDSA_SHA_256"], "EC_P384": ["ECDSA_SHA_384"], "SM2": ["SM2DSA"]}
RSA_SIGNS = [f"RSA_{padding}_SHA_{bits}" for padding in ("PSS", "PKCS1") for bits in (256, 384, 512)]
MACS = {"HMAC_256": "HMAC_SHA_256", "HMAC_384": "HMAC_SHA_384", "HMAC_512": "HMAC_SHA_512", "HMAC_SM3": "HMAC_SM3"}


def hexed(data):
    return {"hex": data.hex()}


def unhexed(value):
    return bytes.fromhex(value["hex"])


def public_key(session, key):
    return session.call("GetPublicKey", {"key": key, "key_version_id": None})


def signatures(session, key, found):
    """Both ways: the daemon's signatures are right here, and changed ones are wrong there."""
    spec, public = found["spec"]["KeySpec"], unhexed(found["public_key"])
    count = 0
    for algorithm in SIGNS.get(spec, RSA_SIGNS):
        size = 32 if algorithm == "SM2DSA" else int(algorithm[-3:]) // 8
        cases = [("MESSAGE", os.urandom(100), None), ("MESSAGE", b"", None), ("DIGEST", os.urandom(size), None)]
        if algorithm == "SM2DSA":
            cases += [("MESSAGE", b"m", b""), ("MESSAGE", b"m", os.urandom(255))]
        for kind, message, user_id in cases:
            body = {"key": key, "key_version_id": None, "algorithm": {"SigningAlgorithm": algorithm},
                    "message_type": {"MessageType": kind}, "message": hexed(message),
                    "user_id": None if user_id is None else hexed(user_id)}
            made = unhexed(session.call("AsymmetricSign", body)["signature"])
            same(f"{algorithm}, {kind}", algorithms.verify(algorithm, public, kind, message, user_id, made), True)
            changed = made[:-1] + bytes([made[-1] ^ 1])
            for signature, valid in ((made, True), (changed, False), (made + b"\0", False), (b"", False)):
                seen = session.call("AsymmetricVerify", body | {"signature": hexed(signature)})
                same(f"{algorithm}, {kind}, {signature.hex()}", seen["valid"], valid)
            count += 1
        bad = body | {"message_type": {"MessageType": "DIGEST"}, "message": hexed(bytes(size - 1)), "user_id": None}
        same(f"{algorithm}, a short digest", session.code(NUMBERS["AsymmetricSign"],
                                                          encode("AsymmetricSignRequest", bad)), "InvalidArgument")
    return count


def encryption(session, key, found):
    """What is encrypted here and there decrypts there; what was changed is one error."""
    spec, public = found["spec"]["KeySpec"], unhexed(found["public_key"])
    count = 0
    for algorithm in ["SM2PKE"] if spec == "SM2" else ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]:
        body = {"key": key, "key_version_id": None, "algorithm": {"EncryptionAlgorithm": algorithm}}
        for secret in (b"\0", os.urandom(100)):
            nonce = int.from_bytes(os.urandom(31), "big")
            theirs = unhexed(session.call("AsymmetricEncrypt", body | {"plaintext": hexed(secret)})["ciphertext"])
            for ciphertext in (theirs, algorithms.encrypt(algorithm, public, secret, nonce)):
                opened = session.call("AsymmetricDecrypt", body | {"ciphertext": hexed(ciphertext)})
                same(f"{algorithm} of {len(secret)} bytes", unhexed(opened["plaintext"]), secret)
            for bad in (theirs[:-1] + bytes([theirs[-1] ^ 1]), theirs + b"\0", theirs[:-1], b""):
                got = session.code(NUMBERS["AsymmetricDecrypt"],
                                   encode("AsymmetricDecryptRequest", body | {"ciphertext": hexed(bad)}))
                same(f"{algorithm}, changed", got, "InvalidCiphertext")
            count += 1
    return count


def pair(path, key):
    """A key pair of any spec, for the one thing that it is for."""
    with Session(path) as session:
        found = public_key(session, key)
        act = signatures if found["usage"]["KeyUsage"] == "SIGN_VERIFY" else encryption
        return {"spec": found["spec"]["KeySpec"], "key_id": found["key_id"], "checked": act(session, key, found)}


def macs(path, key, spec):
    """A MAC key whose bytes only the daemon knows: MACs differ, verify, and don't when changed."""
    with Session(path) as session:
        named = {"key": key, "algorithm": {"MacAlgorithm": MACS[spec]}}
        seen = set()
        for size in (0, 1, 1000):
            body = named | {"message": hexed(os.urandom(size))}
            made = unhexed(session.call("GenerateMac", body)["mac"])
            same("the MAC by the spec's algorithm", unhexed(session.call(
                "GenerateMac", body | {"algorithm": None})["mac"]), made)
            seen.add(made)
            for mac, valid in ((made, True), (made[:-1], False), (made[::-1], False), (b"", False)):
                checked = session.call("VerifyMac", body | {"key_version_id": None, "mac": hexed(mac)})
                same(f"a MAC of {size} bytes", checked["valid"], valid)
        same("MACs of three messages", len(seen), 3)
        for algorithm in algorithms.HASHES:
            message = os.urandom(300)
            digest = session.call("MessageDigest", {
                "algorithm": {"DigestAlgorithm": algorithm}, "message": hexed(message)})["digest"]
            same(algorithm, unhexed(digest), algorithms.digest(algorithm, message))
        return {"spec": spec, "length": len(made)}


def data_keys(path, key, pair_spec):
    """Under a symmetric key: pairs belong together, and what is exported opens with the pair's private key."""
    with Session(path) as session:
        context = {"context": CONTEXT}
        made = session.call("GenerateDataKeyPair", {
            "key": key, "pair_spec": {"KeyPairSpec": pair_spec}, "context": context})
        private, public = unhexed(made["private_key"]), unhexed(made["public_key"])
        same("the public key", algorithms.public_of(pair_spec, private), public)
        opened = session.call("Decrypt", {"key": key, "ciphertext_blob": made["ciphertext_blob"], "context": context})
        same("the wrapped private key", unhexed(opened["plaintext"]), private)
        wrapped = session.call("GenerateDataKeyPairWithoutPlaintext", {
            "key": key, "pair_spec": {"KeyPairSpec": pair_spec}, "context": context})
        opened = session.call("Decrypt", {"key": key, "ciphertext_blob": wrapped["ciphertext_blob"],
                                          "context": context})
        same("the other's public key", algorithms.public_of(pair_spec, unhexed(opened["plaintext"])),
             unhexed(wrapped["public_key"]))
        exported = 0
        if not pair_spec.startswith("EC"):
            exported = exports(session, key, pair_spec, private, public)
        return {"pair": pair_spec, "exported": exported}


def exports(session, key, pair_spec, private, public):
    context = {"context": CONTEXT}
    if pair_spec == "SM2":
        at = private.index(bytes([2, 1, 1, 4, 32])) + 5
        private, names = private[at:at + 32], ["SM2PKE"]
    else:
        names = ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "RSAES_PKCS1_V1_5"]
    for algorithm in names:
        to = {"public_key": hexed(public), "algorithm": {"ExportAlgorithm": algorithm}}
        made = session.call("GenerateAndExportDataKey", {
            "key": key, "size": {"spec": 0, "bytes": 48}, "context": context} | to)
        blob = {"key": None, "ciphertext_blob": made["ciphertext_blob"], "context": context}
        data_key = unhexed(session.call("Decrypt", blob)["plaintext"])
        again = session.call("ExportDataKey", blob | to)
        for exported in (made, again):
            opened = algorithms.decrypt(algorithm, private, unhexed(exported["exported_data_key"]))
            same(f"a data key by {algorithm}", opened, data_key)
        longer = der.item(der.SEQUENCE, public)
        for bad in (public + b"\0", public[:-1], longer, b""):
            got = session.code(NUMBERS["ExportDataKey"], encode("ExportDataKeyRequest", blob | to | {
                "public_key": hexed(bad)}))
            same("a public key that isn't one", got, "InvalidArgument")
    return len(names)
