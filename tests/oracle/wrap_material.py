#!/usr/bin/env python3
"""Encrypts key material for an import, from the layouts of SPEC.md section 14 alone.

    wrap_material.py PUBLIC_KEY ALGORITHM MATERIAL OUT [--ephemeral OUT] [--kind secret|pkcs8|scalar]
                     [--oid ecb] [--no-null]

PUBLIC_KEY is the SubjectPublicKeyInfo (DER) of the wrapping key, MATERIAL a file with the secret, the PKCS#8
DER or (scalar) SM2's 32 bytes. With --ephemeral there are two parts. RSA and AES are `cryptography`'s (OpenSSL
beneath), SM2 and SM4 those of tests/decoder.
"""

import argparse
import pathlib
import secrets
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "decoder"))

import curves  # noqa: E402
import der  # noqa: E402
import sm4  # noqa: E402

from cryptography.hazmat.primitives import hashes, keywrap, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import padding  # noqa: E402

SM4_OID = "1.2.156.10197.1.104"


def oaep(digest):
    return padding.OAEP(mgf=padding.MGF1(digest()), algorithm=digest(), label=None)


PADDINGS = {
    "RSAES_PKCS1_V1_5": padding.PKCS1v15,
    "RSAES_OAEP_SHA_1": lambda: oaep(hashes.SHA1),
    "RSAES_OAEP_SHA_256": lambda: oaep(hashes.SHA256),
    "RSA_AES_KEY_WRAP_SHA_256": lambda: oaep(hashes.SHA256),
}


def rsa_parts(public_key, algorithm, material, two_steps):
    """The RSA block, and AES-KWP behind it where there are two steps."""
    key = serialization.load_der_public_key(public_key)
    if not two_steps:
        return key.encrypt(material, PADDINGS[algorithm]()), b""
    aes = secrets.token_bytes(32)
    return key.encrypt(aes, PADDINGS[algorithm]()), keywrap.aes_key_wrap_with_padding(aes, material)


def sm2_to(public_key, plaintext):
    point = curves.SM2.from_spki(public_key)
    return curves.sm2_encrypt(point, plaintext, 1 + secrets.randbelow(curves.SM2.n - 1))


def sm4_ecb(key, text):
    blocks = (text[at:at + sm4.BLOCK] for at in range(0, len(text), sm4.BLOCK))
    return b"".join(sm4.encrypt_block(key, block) for block in blocks)


def enveloped(public_key, scalar, oid, null):
    """SM2EnvelopedKey of GB/T 35276."""
    key = secrets.token_bytes(16)
    inside = curves.SM2.point(curves.SM2.public(int.from_bytes(scalar, "big")))
    algorithm = der.sequence(der.oid(oid), *([der.item(der.NULL, b"")] if null else []))
    bits = [der.item(der.BIT_STRING, b"\0" + part) for part in (inside, sm4_ecb(key, scalar))]
    return der.sequence(algorithm, sm2_to(public_key, key), *bits)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("public_key", type=pathlib.Path)
    parser.add_argument("algorithm")
    parser.add_argument("material", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--ephemeral", type=pathlib.Path)
    parser.add_argument("--kind", choices=["secret", "pkcs8", "scalar"], default="secret")
    parser.add_argument("--oid", choices=["sm4", "ecb"], default="sm4")
    parser.add_argument("--no-null", action="store_true")
    args = parser.parse_args()
    public_key, material = args.public_key.read_bytes(), args.material.read_bytes()
    if args.algorithm != "SM2PKE":
        joined = args.algorithm == "RSA_AES_KEY_WRAP_SHA_256"
        block, inner = rsa_parts(public_key, args.algorithm, material, joined or args.kind == "pkcs8")
        if args.ephemeral:
            args.ephemeral.write_bytes(block)
            args.out.write_bytes(inner)
        else:
            args.out.write_bytes(block + inner)
    elif args.kind == "scalar" and args.ephemeral:
        key = secrets.token_bytes(16)
        args.ephemeral.write_bytes(sm2_to(public_key, key))
        args.out.write_bytes(sm4_ecb(key, material))
    elif args.kind == "scalar":
        oid = SM4_OID + (".1" if args.oid == "ecb" else "")
        args.out.write_bytes(enveloped(public_key, material, oid, not args.no_null))
    else:
        args.out.write_bytes(sm2_to(public_key, material))


if __name__ == "__main__":
    main()
