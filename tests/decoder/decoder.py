#!/usr/bin/env python3
"""An independent reader of Claviger's protocol, written from protocol/SPEC.md alone.

It knows nothing of the Rust code: where it agrees with the golden vectors, so does the text.
Needs Python 3.9 or later and the `cryptography` package (Debian: python3-cryptography).

    decoder.py check-spec SPEC.md        its own tables against the text's
    decoder.py check-vectors DIR         every golden vector
    decoder.py ping SOCKET               hello and ping to a live daemon
    decoder.py encrypt SOCKET KEY        encrypts there, reads the blob, decrypts there
    decoder.py pair SOCKET KEY           signs or encrypts there with a key pair, checks here, and the other way
    decoder.py macs SOCKET KEY SPEC      MACs, and digests
    decoder.py data-keys SOCKET KEY PAIR has key pairs made, and data keys exported to them
    decoder.py backup SOCKET             reads a backup, and has it verified
    decoder.py refused SOCKET DIR        sends what the vectors say is refused
    decoder.py decode HEX                one frame, as JSON
    decoder.py open-blob --key-hex K --blob-hex B [--context k=v]...
"""

import argparse
import json
import pathlib
import re
import sys

import algorithms
import blobs
import curves
import live
import live_pairs
import sm4
from bodies import Reader, canonical_context, decode, encode, parse_context
from framing import decode_frame, frame, parse_header
from tables import (BOUNDS, CAP_BEFORE_HELLO, CODES, DEFAULT_CAP, ENUMS, HEADER_LEN, OPERATIONS, STRUCTS, Refused,
                    unhex)


class Connection:
    """What section 3.1 says of each frame of one connection, as far as the frame alone decides it."""

    def __init__(self, endpoint):
        self.endpoint, self.hello, self.cap, self.open = endpoint, False, CAP_BEFORE_HELLO, True

    def judge(self, data):
        """The code of a frame, or None where the operation itself decides."""
        header = parse_header(data)
        if header["length"] > self.cap:
            self.open = False
            return "FrameTooLarge"
        if header["version"] != 1:
            return "UnsupportedVersion"
        if header["flags"]:
            return "UnsupportedFlag"
        if header["status"] or header["reserved"]:
            return "Malformed"
        if (header["opcode"] == 1) == self.hello:
            self.open = self.hello
            return "HelloRequired"
        if header["opcode"] not in OPERATIONS:
            return "UnknownOpcode"
        name, _, admin, _ = OPERATIONS[header["opcode"]]
        if admin and self.endpoint != "admin":
            return "AccessDenied"
        try:
            body = decode(name + "Request", data[HEADER_LEN:])
        except Refused as refused:
            return refused.code
        return self.judge_hello(body) if name == "Hello" else None

    def judge_hello(self, hello):
        """Section 5.1."""
        if not hello["min_version"] <= 1 <= hello["max_version"]:
            return "UnsupportedVersion"
        if hello["auth_method"] != {"AuthMethod": "none"}:
            return "NotAvailable"
        if hello["frame_authenticator"]:
            return "NotAvailable"
        if hello["access_key"] or hello["proof"]["hex"] or any(unhex(hello["client_nonce"])):
            return "InvalidArgument"
        self.hello, self.cap = True, DEFAULT_CAP
        return None


# Section 11.

def judge_item(opcode, body):
    """The code of a batch's item, Ok where its operation decides."""
    if opcode not in OPERATIONS:
        return "UnknownOpcode"
    name, _, _, batchable = OPERATIONS[opcode]
    if not batchable:
        return "InvalidArgument"
    try:
        decode(name + "Request", body)
    except Refused as refused:
        return refused.code
    return "Ok"


def place_results(replies, max_body):
    """Which code each item gets, by the lengths of their reply bodies."""
    used, codes = 8, []
    for after, length in zip(reversed(range(len(replies))), replies):
        fits = used + 10 + length + 22 * after <= max_body
        used += 10 + length if fits else 22
        codes.append("Ok" if fits else "ReplyTooLarge")
    return codes


# The golden vectors.

class Vectors:
    """Checks a directory of vectors, and counts them."""

    def __init__(self, directory):
        self.directory, self.checked, self.failures = pathlib.Path(directory), 0, []

    def expect(self, name, got, want):
        self.checked += 1
        if got != want:
            self.failures.append(f"{name}: got {got!r}, want {want!r}")

    def refusal(self, act, *arguments):
        try:
            act(*arguments)
        except Refused as refused:
            return refused.code
        return "Ok"

    def run(self):
        for path in sorted(self.directory.glob("*.json")):
            family = json.loads(path.read_text(encoding="utf-8"))
            for part, cases in family.items():
                if part == "about":
                    continue
                for case in cases:
                    where = f"{path.name} {part} {case['name']!r}"
                    try:
                        getattr(self, "check_" + part)(where, case)
                    except Exception as error:  # a fault in one vector must not hide the others
                        self.failures.append(f"{where}: {type(error).__name__}: {error}")
        self.failures += sm4.check() + curves.check()
        self.failures += [f"no vector has a {kind}" for kind in sorted(STRUCTS.keys() - Reader.seen)]

    def check_frames(self, where, case):
        data = bytes.fromhex(case["hex"])
        header, kind, body = decode_frame(data, case["direction"] == "reply")
        self.expect(where, header, case["header"])
        self.expect(where, (kind, body), (case["type"], case["body"]))
        again = frame(header["opcode"], header["request_id"], encode(kind, body), status=header["status"],
                      deadline_ms=header["deadline_ms"])
        self.expect(where, again.hex(), case["hex"])

    def check_bodies(self, where, case):
        kind = OPERATIONS[case["opcode"]][0] + "Request"
        self.expect(where, self.refusal(decode, kind, bytes.fromhex(case["hex"])), case["code"])

    def check_batch_items(self, where, case):
        self.expect(where, judge_item(case["opcode"], bytes.fromhex(case["hex"])), case["code"])

    def check_batch_rooms(self, where, case):
        self.expect(where, place_results(case["replies"], case["max_body"]), case["codes"])

    def check_connections(self, where, case):
        connection = Connection(case["endpoint"])
        for step in case["steps"]:
            self.expect(where, connection.open, True)
            got = connection.judge(bytes.fromhex(step["send"])) or "Ok"
            self.expect(f"{where}, {step['note']}", got, step["code"])
        self.expect(where, connection.open, not case["closed"])

    def check_contexts(self, where, case):
        data = bytes.fromhex(case["hex"])
        if case["code"] != "Ok":
            self.expect(where, self.refusal(parse_context, data), case["code"])
            return
        self.expect(where, parse_context(data), case["pairs"])
        self.expect(where, canonical_context(list(reversed(case["pairs"]))), data)

    def check_blobs(self, where, case):
        key, data = bytes.fromhex(case["key"]), bytes.fromhex(case["blob"])
        parts, context = blobs.parse(data), canonical_context(case["context"])
        self.expect(where, blobs.open_blob(key, data, context).hex(), case["plaintext"])
        for name in ("salt", "nonce", "commitment"):
            self.expect(f"{where} {name}", parts[name].hex(), case[name])
        for name in ("key_id", "key_version_id", "suite", "suite_name"):
            self.expect(f"{where} {name}", parts[name], case[name])

    def check_refused_blobs(self, where, case):
        key, data = bytes.fromhex(case["key"]), bytes.fromhex(case["blob"])
        self.expect(where, self.refusal(blobs.parse, data) != "Ok", case["unreadable"])
        context = canonical_context(case["context"])
        self.expect(where, self.refusal(blobs.open_blob, key, data, context), "InvalidCiphertext")

    def check_signatures(self, where, case):
        message, signature = bytes.fromhex(case["message"]), bytes.fromhex(case["signature"])
        user_id = None if case["user_id"] is None else bytes.fromhex(case["user_id"])
        got = algorithms.verify(case["algorithm"], bytes.fromhex(case["public_key"]), case["message_type"], message,
                                user_id, signature)
        self.expect(where, got, case["valid"])

    def check_ciphertexts(self, where, case):
        private, data = bytes.fromhex(case["private_key"]), bytes.fromhex(case["ciphertext"])
        if case["plaintext"] is None:
            got = self.refusal(algorithms.decrypt, case["algorithm"], private, data)
            self.expect(where, got, "InvalidCiphertext")
        else:
            self.expect(where, algorithms.decrypt(case["algorithm"], private, data).hex(), case["plaintext"])

    def check_macs(self, where, case):
        got = algorithms.mac(case["algorithm"], bytes.fromhex(case["key"]), bytes.fromhex(case["message"]))
        self.expect(where, got.hex(), case["mac"])

    def check_digests(self, where, case):
        self.expect(where, algorithms.digest(case["algorithm"], bytes.fromhex(case["message"])).hex(), case["digest"])

    def check_handshakes(self, where, case):
        self.expect(where, blobs.transcript(case).hex(), case["transcript"])
        for label, field in (("client", "client_proof"), ("server", "server_proof"), ("frames", "frame_key")):
            self.expect(f"{where} {field}", blobs.proof(label, case).hex(), case[field])
        for sent in case["frames"]:
            got = blobs.authenticator(case["method"], bytes.fromhex(case["frame_key"]), sent["direction"],
                                      sent["sequence"], bytes.fromhex(sent["header_and_body"]))
            self.expect(f"{where} frame {sent['sequence']}", got.hex(), sent["authenticator"])


# The text's own tables.

def spec_tables(text):
    """Heading → rows of the tables under it."""
    tables, heading = {}, ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").strip()
            tables[heading] = []
        elif line.startswith("|") and not line.startswith("| ---"):
            tables[heading].append([cell.strip() for cell in line.strip("|").split("|")])
    return tables


def check_spec(path):
    tables = spec_tables(pathlib.Path(path).read_text(encoding="utf-8"))
    faults = []

    def compare(what, got, want):
        if got != want:
            faults.append(f"{what}: the text has {got}, the decoder {want}")

    for name, fields in STRUCTS.items():
        compare(name, [tuple(row[:2]) for row in tables.get(name, [])[1:]], fields)
    for name, numbers in ENUMS.items():
        compare(name, {int(row[0]): row[1] for row in tables.get(name, [])[1:]}, numbers)
    compare("codes", {int(row[0]): row[1] for row in tables["6. Codes"][1:]}, CODES)
    rows = {int(row[0], 16): (row[1], row[3] == "admin", row[9] == "yes") for row in tables["7.4 Operations"][1:]}
    compare("operations", rows, {number: (op[0], op[2], op[3]) for number, op in OPERATIONS.items()})
    headings = {heading for heading in tables if re.fullmatch(r"[A-Z]\w+", heading)}
    compare("headings", headings - STRUCTS.keys() - ENUMS.keys(), set())
    for struct_name, field in BOUNDS:
        compare("bounds", any(name == field for name, _ in STRUCTS[struct_name]), True)
    return faults


# The command line.

def arguments():
    parser = argparse.ArgumentParser(description="An independent reader of Claviger's protocol.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check-spec", help="compare its tables with the text's").add_argument("path")
    commands.add_parser("check-vectors", help="check every golden vector").add_argument("path")
    commands.add_parser("ping", help="hello and ping to a live daemon").add_argument("socket")
    encrypting = commands.add_parser("encrypt", help="encrypt and decrypt on a live daemon")
    encrypting.add_argument("socket")
    encrypting.add_argument("key")
    for name, what, more in (("pair", "use a key pair of a live daemon", None),
                             ("macs", "use a MAC key of a live daemon", "spec"),
                             ("data-keys", "have pairs made and data keys exported", "pair_spec")):
        using = commands.add_parser(name, help=what)
        using.add_argument("socket")
        using.add_argument("key")
        if more:
            using.add_argument(more)
    commands.add_parser("backup", help="read and verify a live daemon's backup").add_argument("socket")
    refusing = commands.add_parser("refused", help="send what a live daemon has to refuse")
    refusing.add_argument("socket")
    refusing.add_argument("path")
    one = commands.add_parser("decode", help="show one frame")
    one.add_argument("hex")
    one.add_argument("--reply", action="store_true")
    opening = commands.add_parser("open-blob", help="decrypt a ciphertext blob with a key in hand")
    opening.add_argument("--key-hex", required=True)
    opening.add_argument("--blob-hex", required=True)
    opening.add_argument("--context", action="append", default=[], metavar="K=V")
    return parser.parse_args()


def run(options):
    if options.command == "check-spec":
        return check_spec(options.path)
    if options.command == "check-vectors":
        vectors = Vectors(options.path)
        vectors.run()
        print(f"{vectors.checked} checks")
        return vectors.failures
    if options.command == "ping":
        print(json.dumps(live.ping(options.socket), indent=2))
    elif options.command == "encrypt":
        print(json.dumps(live.encrypt(options.socket, options.key), indent=2))
    elif options.command == "pair":
        print(json.dumps(live_pairs.pair(options.socket, options.key), indent=2))
    elif options.command == "macs":
        print(json.dumps(live_pairs.macs(options.socket, options.key, options.spec), indent=2))
    elif options.command == "data-keys":
        print(json.dumps(live_pairs.data_keys(options.socket, options.key, options.pair_spec), indent=2))
    elif options.command == "backup":
        print(json.dumps(live.backup(options.socket), indent=2))
    elif options.command == "refused":
        checked, faults = live.refused(options.socket, pathlib.Path(options.path))
        print(f"{checked} refusals")
        return faults
    elif options.command == "decode":
        header, kind, body = decode_frame(bytes.fromhex(options.hex), options.reply)
        print(json.dumps({"header": header, "type": kind, "body": body}, indent=2, ensure_ascii=False))
    else:
        context = canonical_context([pair.split("=", 1) for pair in options.context])
        plaintext = blobs.open_blob(bytes.fromhex(options.key_hex), bytes.fromhex(options.blob_hex), context)
        sys.stdout.buffer.write(plaintext)
    return []


def main():
    try:
        faults = run(arguments())
    except (Refused, OSError, ValueError) as error:
        faults = [str(error)]
    for fault in faults:
        print(f"decoder.py: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
