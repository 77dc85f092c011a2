"""Signatures, encryption to key pairs, MACs and digests: section 13 of protocol/SPEC.md.

RSA is checked with Python's `cryptography`, elliptic curves and SM2 with curves.py.
"""

import hashlib
import hmac

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils

import curves
from curves import P256, P384, SM2
from tables import Refused, invalid

HASHES = {"SM3": "sm3", "SHA_256": "sha256", "SHA_384": "sha384", "SHA_512": "sha512"}
MAC_HASHES = {"HMAC_SHA_256": "sha256", "HMAC_SHA_384": "sha384", "HMAC_SHA_512": "sha512", "HMAC_SM3": "sm3"}
OBJECTS = {"1": hashes.SHA1, "256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
CURVES = {"EC_P256": P256, "EC_P384": P384, "SM2": SM2}


def digest(algorithm, message):
    return hashlib.new(HASHES[algorithm], message).digest()


def mac(algorithm, key, message):
    return hmac.new(key, message, MAC_HASHES[algorithm]).digest()


def hash_of(algorithm):
    """The hash object of an RSA algorithm's name."""
    return OBJECTS[algorithm.rpartition("_")[2]]()


def oaep(algorithm):
    return padding.OAEP(padding.MGF1(hash_of(algorithm)), hash_of(algorithm), None)


def to_sign(algorithm, public, kind, message, user_id):
    """The digest that a signature is of; `public` is SubjectPublicKeyInfo."""
    if kind == "DIGEST":
        size = 32 if algorithm == "SM2DSA" else int(algorithm[-3:]) // 8
        if len(message) != size or user_id is not None:
            raise invalid("a digest of another length, or a user id with a digest")
        return message
    if algorithm == "SM2DSA":
        user_id = curves.DEFAULT_ID if user_id is None else user_id
        return curves.sm2_digest(SM2.from_spki(public), message, user_id)
    if user_id is not None:
        raise invalid("a user id with another algorithm than SM2DSA")
    return digest("SHA_" + algorithm[-3:], message)


def verify(algorithm, public, kind, message, user_id, signature):
    """Whether a signature is right."""
    hashed = to_sign(algorithm, public, kind, message, user_id)
    if algorithm == "SM2DSA":
        return curves.sm2_verify(SM2.from_spki(public), hashed, signature)
    if algorithm.startswith("ECDSA"):
        curve = P256 if algorithm.endswith("256") else P384
        return curves.ecdsa_verify(curve, curve.from_spki(public), hashed, signature)
    used = hash_of(algorithm)
    pad = padding.PSS(padding.MGF1(used), used.digest_size) if "PSS" in algorithm else padding.PKCS1v15()
    try:
        load(public).verify(signature, hashed, pad, utils.Prehashed(used))
    except InvalidSignature:
        return False
    return True


def load(public):
    """An RSA public key."""
    key = serialization.load_der_public_key(public)
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("not an RSA key")
    return key


def encrypt(algorithm, public, plaintext, nonce):
    """What a caller can encrypt by itself; `nonce` is SM2's random number."""
    if algorithm == "SM2PKE":
        return curves.sm2_encrypt(SM2.from_spki(public), plaintext, nonce)
    return load(public).encrypt(plaintext, oaep(algorithm))


def decrypt(algorithm, private, ciphertext):
    """The plaintext; `private` is PKCS#8, for SM2PKE the secret number's 32 bytes."""
    try:
        if algorithm == "SM2PKE":
            return curves.sm2_decrypt(int.from_bytes(private, "big"), ciphertext)
        key = serialization.load_der_private_key(private, None)
        pad = padding.PKCS1v15() if algorithm == "RSAES_PKCS1_V1_5" else oaep(algorithm)
        return key.decrypt(ciphertext, pad)
    except ValueError as error:
        raise Refused("InvalidCiphertext", str(error)) from None


def public_of(spec, private):
    """SubjectPublicKeyInfo of a private key in PKCS#8, as GenerateDataKeyPair gives both."""
    if spec in CURVES:
        curve = CURVES[spec]
        # The secret number is where the form without optional fields has it.
        at = private.index(bytes([2, 1, 1, 4, curve.size])) + 5
        secret = int.from_bytes(private[at:at + curve.size], "big")
        return curve.spki(curve.public(secret))
    key = serialization.load_der_private_key(private, None)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, form)
