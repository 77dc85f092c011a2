"""Conversations with a live daemon: what protocol/SPEC.md says, and the daemon does."""

import json
import os
import socket
import struct

import blobs
from bodies import canonical_context, encode
from framing import decode_frame, frame, parse_header
from tables import CODES, HEADER_LEN, OPERATIONS, Refused

NUMBERS = {name: number for number, (name, _, _, _) in OPERATIONS.items()}
CONTEXT = [["purpose", "decoder"], ["tenant", "司钥"]]


class Session:
    """A connection that has said hello."""

    def __init__(self, path):
        self.connection, self.last_id = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), 0
        self.connection.settimeout(30)
        self.connection.connect(path)
        self.stream = self.connection.makefile("rb")
        self.hello = self.call("Hello", {
            "min_version": 1, "max_version": 1, "agent": "decoder.py/1", "auth_method": {"AuthMethod": "none"},
            "access_key": "", "client_nonce": {"hex": "00" * 32}, "proof": {"hex": ""}, "frame_authenticator": False})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.connection.close()

    def receive(self):
        header = self.stream.read(HEADER_LEN)
        if len(header) < HEADER_LEN:
            raise ConnectionError("the daemon closed the connection")
        return header + self.stream.read(parse_header(header)["length"])

    def send(self, opcode, body):
        """Sends a body as it is; gives the reply or raises its code."""
        self.last_id += 1
        self.connection.sendall(frame(opcode, self.last_id, body, deadline_ms=20000))
        header, _, reply = decode_frame(self.receive(), True)
        if (header["request_id"], header["opcode"]) != (self.last_id, opcode):
            raise ConnectionError(f"a reply to something else: {header}")
        if header["status"]:
            raise Refused(CODES.get(header["status"], str(header["status"])), reply["message"])
        return reply

    def call(self, name, body):
        return self.send(NUMBERS[name], encode(name + "Request", body))

    def code(self, opcode, body):
        try:
            self.send(opcode, body)
        except Refused as refused:
            return refused.code
        return "Ok"


def same(what, got, want):
    if got != want:
        raise ValueError(f"{what}: got {got!r}, want {want!r}")


def ping(path):
    with Session(path) as session:
        payload = {"hex": os.urandom(32).hex()}
        pong = session.call("Ping", {"payload": payload})
        same("the payload", pong["payload"], payload)
        return {"hello": session.hello, "ping": pong}


def encrypt(path, key):
    """Section 9: what the daemon makes is a blob, and opens only whole and under its context."""
    with Session(path) as session:
        secret, context = {"hex": os.urandom(100).hex()}, {"context": CONTEXT}
        sealed = session.call("Encrypt", {"key": key, "plaintext": secret, "context": context})
        blob = bytes.fromhex(sealed["ciphertext_blob"]["hex"])
        parts = blobs.parse(blob)
        for name in ("key_id", "key_version_id"):
            same(name, parts[name], sealed[name])
        same("the blob's length", len(parts["sealed"]), 100 + 16)

        def opening(blob, context):
            return {"key": None, "ciphertext_blob": {"hex": blob.hex()}, "context": {"context": context}}

        opened = session.call("Decrypt", opening(blob, CONTEXT))
        same("the plaintext", opened["plaintext"], secret)
        decrypt = NUMBERS["Decrypt"]
        for at in range(len(blob)):
            other = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1:]
            got = session.code(decrypt, encode("DecryptRequest", opening(other, CONTEXT)))
            same(f"byte {at} changed", got, "InvalidCiphertext")
        for context in ([], CONTEXT[:1]):
            got = session.code(decrypt, encode("DecryptRequest", opening(blob, context)))
            same("another context", got, "InvalidCiphertext")
        return {"suite": parts["suite_name"], "key_id": parts["key_id"], "changed": len(blob)}


def parse_backup_header(data):
    """Section 12.1."""
    same("the magic and version", data[:10], b"CLAVBKUP\x01\x00")
    domain_len, copies = struct.unpack("<IH", data[70:76])
    at, generations = 76 + domain_len, []
    for _ in range(copies):
        generation, length = struct.unpack("<II", data[at:at + 8])
        generations.append(generation)
        at += 8 + length
    same("the header's length", len(data), at)
    return {"root_generation": struct.unpack("<I", data[26:30])[0], "recovery": generations}


def backup(path):
    """Section 12: every chunk in its place verifies, and in another place or changed doesn't."""
    with Session(path) as session:
        begun = session.call("BeginBackup", {})
        header = parse_backup_header(bytes.fromhex(begun["header"]["hex"]))
        chunks, last = [], False
        while not last:
            read = session.call("ReadBackup", {"backup_id": begun["backup_id"], "index": len(chunks)})
            chunks.append(bytes.fromhex(read["chunk"]["hex"]))
            last = read["last"]
        session.call("EndBackup", {"backup_id": begun["backup_id"], "complete": True})

        def verify(index, last, chunk):
            return {"header": begun["header"], "index": index, "last": last, "chunk": {"hex": chunk.hex()}}

        puts = deletes = 0
        for index, chunk in enumerate(chunks):
            ends = index == len(chunks) - 1
            seen = session.call("VerifyBackup", verify(index, ends, chunk))
            puts, deletes = puts + seen["puts"], deletes + seen["deletes"]
            changed = chunk[:-1] + bytes([chunk[-1] ^ 1])
            for bad in (verify(index + 1, ends, chunk), verify(index, not ends, chunk), verify(index, ends, changed)):
                got = session.code(NUMBERS["VerifyBackup"], encode("VerifyBackupRequest", bad))
                same("a chunk out of its place, or changed", got, "InvalidCiphertext")
        same("the totals", (seen["total_puts"], seen["total_deletes"]), (puts, deletes))
        same("what was read", (read["puts"], read["deletes"]), (puts, deletes))
        return {**header, "chunks": len(chunks), "records": puts}


def refused(path, directory):
    """Sections 7 and 8: every body that the vectors call bad gets their code from the daemon too."""
    faults, checked = [], 0
    with Session(path) as session:
        for case in json.loads((directory / "bodies_refused.json").read_text(encoding="utf-8"))["bodies"]:
            if case["operation"] == "Hello":
                continue
            checked += 1
            got = session.code(case["opcode"], bytes.fromhex(case["hex"]))
            if got != case["code"]:
                faults.append(f"{case['operation']} {case['name']!r}: got {got}, want {case['code']}")
        for case in json.loads((directory / "contexts.json").read_text(encoding="utf-8"))["contexts"]:
            if case["code"] == "Ok":
                continue
            checked += 1
            # The request ends with its context, after its length.
            whole = encode("EncryptRequest", {"key": "alias/none", "plaintext": {"hex": "00"},
                                              "context": {"context": []}})
            empty = canonical_context([])
            context = bytes.fromhex(case["hex"])
            body = whole[:-len(empty) - 8] + struct.pack("<Q", len(context)) + context
            got = session.code(NUMBERS["Encrypt"], body)
            if got != case["code"]:
                faults.append(f"context {case['name']!r}: got {got}, want {case['code']}")
    return checked, faults
