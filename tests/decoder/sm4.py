"""SM4 (GB/T 32907-2016) and GCM (NIST SP 800-38D), written from the standards' text.

Plain and slow, and nobody else's code: where it agrees with the daemon, two implementations do. SM4-GCM is
in no version of OpenSSL before 3.1 and in no version of Python's `cryptography`. Not for secrets: it takes
as long as its data makes it.
"""

import functools
import hmac

from tables import Refused

SBOX = bytes.fromhex(
    "d690e9fecce13db716b614c228fb2c05" "2b679a762abe04c3aa44132649860699"
    "9c4250f491ef987a33540b43edcfac62" "e4b31ca9c908e89580df94fa758f3fa6"
    "4707a7fcf37317ba83593c19e6854fa8" "686b81b27164da8bf8eb0f4b70569d35"
    "1e240e5e6358d1a225227c3b01217887" "d40046579fd327524c3602e7a0c4c89e"
    "eabf8ad240c738b5a3f7f2cef96115a1" "e0ae5da49b341a55ad933230f58cb1e3"
    "1df6e22e8266ca60c02923ab0d534e6f" "d5db3745defd8e2f03ff6a726d6c5b51"
    "8d1baf92bbddbc7f11d95c411f105ad8" "0ac13188a5cd7bbd2d74d012b8e5b4b0"
    "8969974a0c96777e65b9f109c56ec684" "18f07dec3adc4d2079ee5f3ed7cb3948")
FK = (0xA3B1BAC6, 0x56AA3350, 0x677D9197, 0xB27022DC)
CK = tuple(int.from_bytes(bytes((4 * i + j) * 7 % 256 for j in range(4)), "big") for i in range(32))
BLOCK = 16


def rotated(word, bits):
    return (word << bits | word >> 32 - bits) & 0xFFFFFFFF


def substituted(word):
    """τ: the S-box on each byte of a word."""
    return int.from_bytes(bytes(SBOX[byte] for byte in word.to_bytes(4, "big")), "big")


def words(block):
    return [int.from_bytes(block[at:at + 4], "big") for at in range(0, BLOCK, 4)]


@functools.lru_cache(maxsize=64)
def round_keys(key):
    """Section 7.3: the key's expansion."""
    if len(key) != BLOCK:
        raise ValueError("an SM4 key has 16 bytes")
    state, keys = [word ^ fixed for word, fixed in zip(words(key), FK)], []
    for constant in CK:
        mixed = substituted(state[1] ^ state[2] ^ state[3] ^ constant)
        state = state[1:] + [state[0] ^ mixed ^ rotated(mixed, 13) ^ rotated(mixed, 23)]
        keys.append(state[3])
    return keys


def encrypt_block(key, block):
    """Section 7.1."""
    state = words(block)
    for round_key in round_keys(key):
        mixed = substituted(state[1] ^ state[2] ^ state[3] ^ round_key)
        mixed ^= rotated(mixed, 2) ^ rotated(mixed, 10) ^ rotated(mixed, 18) ^ rotated(mixed, 24)
        state = state[1:] + [state[0] ^ mixed]
    return b"".join(word.to_bytes(4, "big") for word in reversed(state))


def times(x, y):
    """SP 800-38D section 6.3: the product of two blocks; bit 0 is the leftmost."""
    product = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            product ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return product


def ghash(subkey, data):
    """Section 6.4; `data` is whole blocks."""
    state = 0
    for at in range(0, len(data), BLOCK):
        state = times(state ^ int.from_bytes(data[at:at + BLOCK], "big"), subkey)
    return state.to_bytes(BLOCK, "big")


def padded(data):
    return data + bytes(-len(data) % BLOCK)


class Gcm:
    """GCM of any cipher of 16-byte blocks, with 96-bit nonces and 128-bit tags (section 7)."""

    def __init__(self, cipher):
        self.cipher = cipher

    def counted(self, nonce, data):
        """GCTR from the second counter on."""
        out = bytearray()
        for number, at in enumerate(range(0, len(data), BLOCK)):
            stream = self.cipher(nonce + (number + 2).to_bytes(4, "big"))
            out += bytes(a ^ b for a, b in zip(data[at:at + BLOCK], stream))
        return bytes(out)

    def tag(self, nonce, ciphertext, aad):
        lengths = (8 * len(aad)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
        subkey = int.from_bytes(self.cipher(bytes(BLOCK)), "big")
        hashed = ghash(subkey, padded(aad) + padded(ciphertext) + lengths)
        return bytes(a ^ b for a, b in zip(hashed, self.cipher(nonce + b"\0\0\0\1")))

    def encrypt(self, nonce, plaintext, aad):
        ciphertext = self.counted(nonce, plaintext)
        return ciphertext + self.tag(nonce, ciphertext, aad)

    def decrypt(self, nonce, sealed, aad):
        ciphertext, tag = sealed[:-BLOCK], sealed[-BLOCK:]
        if not hmac.compare_digest(self.tag(nonce, ciphertext, aad), tag):
            raise Refused("InvalidCiphertext", "wrong tag")
        return self.counted(nonce, ciphertext)


def gcm(key):
    """SM4-GCM, as RFC 8998 uses it."""
    return Gcm(functools.partial(encrypt_block, key))


def check():
    """Published values, and GCM with AES beside another implementation."""
    import os

    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    faults = []

    def same(what, got, want):
        if got != want:
            faults.append(f"{what}: got {got.hex()}, want {want.hex()}")

    # GB/T 32907-2016 A.1 and A.2.
    key = bytes.fromhex("0123456789abcdeffedcba9876543210")
    same("SM4 once", encrypt_block(key, key), bytes.fromhex("681edf34d206965e86b3e94f536e4246"))
    # RFC 8998 A.1.
    plaintext = b"".join(bytes([byte]) * 8 for byte in b"\xaa\xbb\xcc\xdd\xee\xff\xee\xaa")
    aad = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    nonce = bytes.fromhex("00001234567800000000abcd")
    sealed = bytes.fromhex(
        "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735"
        "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"
        "83de3541e4c2b58177e065a9bf7b62ec")
    same("SM4-GCM sealed", gcm(key).encrypt(nonce, plaintext, aad), sealed)
    same("SM4-GCM opened", gcm(key).decrypt(nonce, sealed, aad), plaintext)
    for size in (0, 1, 15, 16, 17, 40):
        key, nonce, plaintext, aad = os.urandom(32), os.urandom(12), os.urandom(size), os.urandom(size * 2)
        aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        same(f"AES-GCM of {size} bytes", Gcm(aes.update).encrypt(nonce, plaintext, aad),
             AESGCM(key).encrypt(nonce, plaintext, aad))
    return faults
