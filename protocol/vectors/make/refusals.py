"""Vectors of what must be refused: bodies, and frames in the order of a connection."""

import struct

from bodies import encode
from framing import frame
from frames import NUMBERS, create, hello
from samples import CONTEXT, KEY, NO_CONTEXT, fixed, hexed

U64 = struct.Struct("<Q").pack


def count(number, data=b""):
    return U64(number) + data


def text(value):
    return encode("text", value)


class Bodies:
    """Collects request bodies with the code that each is refused with."""

    def __init__(self):
        self.cases = []

    def add(self, operation, code, name, body):
        self.cases.append({"name": name, "operation": operation, "opcode": NUMBERS[operation], "hex": body.hex(),
                           "code": code})


def shapes(out):
    """Broken encodings."""
    key, encrypt = text(KEY), {"key": KEY, "plaintext": hexed(b"p"), "context": CONTEXT}
    whole = encode("EncryptRequest", encrypt)
    for length in (0, 1, 7, 8, 43, 44, 52, 53, len(whole) - 1):
        out.add("Encrypt", "Malformed", f"cut after {length} bytes", whole[:length])
    out.add("Encrypt", "Malformed", "one byte left over", whole + b"\0")
    out.add("Encrypt", "Malformed", "the body twice", whole + whole)
    out.add("Ping", "Malformed", "no body", b"")
    out.add("Status", "Malformed", "a body where there is none", b"\0")
    for number in (1, 2**20, 2**24 - 8, 2**24, 2**32, 2**63, 2**64 - 1):
        out.add("Ping", "Malformed", f"a byte string that claims {number} bytes", count(number))
        out.add("DescribeKey", "Malformed", f"a text that claims {number} bytes", count(number))
    out.add("DescribeKey", "Malformed", "a text that isn't UTF-8", count(2, b"\xc3\x28"))
    out.add("DescribeKey", "Malformed", "a text of surrogates", count(3, b"\xed\xa0\x80"))
    out.add("DescribeKey", "Malformed", "a text of overlong form", count(2, b"\xc0\xaf"))
    out.add("Decrypt", "Malformed", "an option that is 2", b"\2" + key + count(0) + count(2, b"\0\0"))
    out.add("Decrypt", "Malformed", "an option that is 255", b"\xff")
    body = encode("HelloRequest", hello())
    out.add("Hello", "Malformed", "a boolean that is 2", body[:-1] + b"\2")
    out.add("Hello", "Malformed", "no authenticator field", body[:-1])
    out.add("GetRandom", "Malformed", "an integer of one byte", b"\1")
    out.add("GetRandom", "Malformed", "an integer of four bytes", b"\1\0\0\0")
    out.add("EnableKey", "Malformed", "one key claimed, none there", count(1))
    out.add("Batch", "Malformed", "1024 items claimed, none there", count(1024))
    out.add("Batch", "Malformed", "an item's body isn't there", count(1, b"\1\2" + count(2**24)))


def names(out):
    """Names and texts that break their rules."""
    for value in ("", "alias/", "alias", "nonsense", "alias/a b", "alias/é", "alias/a\0", "alias/" + "a" * 250,
                  KEY.replace("-", ""), "{" + KEY + "}", "urn:uuid:" + KEY, KEY[:-1] + "g", KEY + "0",
                  KEY.replace("-", ":")):
        out.add("DescribeKey", "InvalidArgument", f"key {value!r}", text(value))
    for changes in ({"alias": "alias/s3/default"}, {"alias": "pay"}, {"alias": "alias/"}, {"alias": ""},
                    {"alias": KEY}, {"project": ""}, {"project": "a b"}, {"project": "p" * 256},
                    {"description": "司" * 256}, {"description": "two\nlines"}, {"description": "\x7f"},
                    {"description": "\u0085"}, {"tags": [["", "v"]]}, {"tags": [["k" * 129, "v"]]},
                    {"tags": [["k", "v" * 256]]}, {"tags": [["k\t", "v"]]}, {"tags": [["k", "\x1b"]]},
                    {"tags": [["k", "1"], ["k", "2"]]}, {"tags": [[f"k{i}", ""] for i in range(21)]},
                    {"rotation_days": 6}, {"rotation_days": 731}, {"rotation_days": 0},
                    {"sm2_user_id": hexed(bytes(256))}):
        (field, value), = changes.items()
        out.add("CreateKey", "InvalidArgument", f"{field} {str(value)[:40]}",
                encode("CreateKeyRequest", create(**changes)))


def bounds(out):
    """Numbers, lengths and counts over their bounds."""
    body = encode("CreateKeyRequest", create())
    # spec, usage (none), protection, origin follow the 16 bytes of the client token
    for at, what in ((16, "key spec"), (18, "protection"), (19, "origin")):
        for number in (0, 13, 255):
            out.add("CreateKey", "InvalidArgument", f"{what} number {number}",
                    body[:at] + bytes([number]) + body[at + 1:])
    out.add("CreateKey", "InvalidArgument", "key usage number 4", body[:17] + b"\1\4" + body[18:])
    for changes in ({"agent": "a" * 65}, {"agent": "two\nlines"}, {"agent": "é"}, {"access_key": "k" * 65},
                    {"access_key": "a b"}, {"proof": hexed(bytes(65))}):
        (field, value), = changes.items()
        out.add("Hello", "InvalidArgument", f"{field} {str(value)[:40]}", encode("HelloRequest", hello(**changes)))
    body = encode("HelloRequest", hello())
    at = 2 + 8 + len("example/1.0")
    out.add("Hello", "InvalidArgument", "authentication method 3", body[:at] + b"\3" + body[at + 1:])
    out.add("Ping", "InvalidArgument", "a payload of 4097 bytes", count(4097, bytes(4097)))
    for number in (0, 4097, 65535):
        out.add("GetRandom", "InvalidArgument", f"{number} random bytes", struct.pack("<H", number))
    for spec, number in ((0, 0), (0, 1025), (1, 32), (4, 0), (255, 0)):
        out.add("GenerateDataKey", "InvalidArgument", f"data key spec {spec}, {number} bytes",
                text(KEY) + struct.pack("<BH", spec, number) + count(2, b"\0\0"))
    for operation in ("EnableKey", "DisableKey"):
        out.add(operation, "InvalidArgument", "no keys", count(0))
        out.add(operation, "InvalidArgument", "101 keys", count(101, text(KEY) * 101))
        out.add(operation, "InvalidArgument", "2^64 - 1 keys claimed, none there", count(2**64 - 1))
    out.add("Batch", "InvalidArgument", "1025 items", count(1025, (b"\1\2" + count(0)) * 1025))
    out.add("Batch", "InvalidArgument", "2^64 - 1 items claimed, none there", count(2**64 - 1))
    filters = b"\0\0\0\0"
    out.add("ListKeys", "InvalidArgument", "a page of 1001", filters + struct.pack("<H", 1001) + count(0))
    out.add("ListKeys", "InvalidArgument", "a page token of 65 bytes", filters + b"\0\0" + count(65, bytes(65)))
    out.add("ListKeys", "InvalidArgument", "key state number 6", b"\1\6\0\0\0" + b"\0\0" + count(0))
    out.add("Encrypt", "InvalidArgument", "a context of no bytes", text(KEY) + count(1, b"p") + count(0))
    out.add("Encrypt", "InvalidArgument", "a context with a key twice",
            text(KEY) + count(1, b"p") + encode("bytes", hexed(b"\2\0" + b"\1\0k\0\0" * 2)))


def pairs(out):
    """Fields of the operations with key pairs, MACs and digests."""
    key, none, empty = text(KEY), b"\0", count(0)
    for number in (0, 10, 255):
        out.add("AsymmetricSign", "InvalidArgument", f"signing algorithm number {number}",
                key + none + bytes([number, 1]) + empty + none)
    for number in (0, 3, 255):
        out.add("AsymmetricSign", "InvalidArgument", f"message type number {number}",
                key + none + bytes([1, number]) + empty + none)
    for operation, fields in (("AsymmetricSign", empty), ("AsymmetricVerify", empty + empty)):
        out.add(operation, "InvalidArgument", "a user id of 256 bytes",
                key + none + b"\x09\1" + fields + b"\1" + count(256, bytes(256)))
        out.add(operation, "Malformed", "no user id's option", key + none + b"\x09\1" + fields)
        out.add(operation, "InvalidArgument", "a version of 15 bytes",
                key + b"\1" + count(15, bytes(15)) + b"\x09\1" + fields + none)
    for operation in ("AsymmetricEncrypt", "AsymmetricDecrypt"):
        for number in (0, 4, 255):
            out.add(operation, "InvalidArgument", f"encryption algorithm number {number}",
                    key + none + bytes([number]) + empty)
        out.add(operation, "Malformed", "a byte left over", key + none + b"\3" + empty + b"\0")
    for number in (0, 5, 255):
        out.add("GenerateMac", "InvalidArgument", f"MAC algorithm number {number}", key + bytes([1, number]) + empty)
        out.add("VerifyMac", "InvalidArgument", f"MAC algorithm number {number}",
                key + none + bytes([1, number]) + empty + empty)
        out.add("MessageDigest", "InvalidArgument", f"digest algorithm number {number}", bytes([number]) + empty)
    out.add("MessageDigest", "Malformed", "a message of 2^40 bytes claimed", b"\1" + count(2**40))
    out.add("GetPublicKey", "Malformed", "no version's option", key)
    context = count(2, b"\0\0")
    for operation in ("GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"):
        for number in (0, 1, 2, 9, 255):
            out.add(operation, "InvalidArgument", f"key pair spec number {number}", key + bytes([number]) + context)
    for number in (0, 5, 255):
        out.add("ExportDataKey", "InvalidArgument", f"export algorithm number {number}",
                none + empty + context + empty + bytes([number]))
    out.add("ExportDataKey", "InvalidArgument", "a public key of 1025 bytes",
            none + empty + context + count(1025, bytes(1025)) + b"\1")
    out.add("GenerateAndExportDataKey", "InvalidArgument", "a public key of 1025 bytes",
            key + b"\1\0\0" + context + count(1025, bytes(1025)) + b"\1")
    out.add("GenerateAndExportDataKey", "InvalidArgument", "a data key of no bytes",
            key + b"\0\0\0" + context + empty + b"\1")


def bodies():
    out = Bodies()
    shapes(out)
    names(out)
    bounds(out)
    pairs(out)
    return {"about": "Request bodies, and the code each must be refused with.", "bodies": out.cases}


def batches():
    empty = encode("PingRequest", {"payload": hexed(b"")})
    encrypt = encode("EncryptRequest", {"key": KEY, "plaintext": hexed(b"p"), "context": CONTEXT})
    items = [
        ("an encrypt", NUMBERS["Encrypt"], encrypt, "Ok"),
        ("a cut encrypt", NUMBERS["Encrypt"], encrypt[:-1], "Malformed"),
        ("an encrypt with a leftover", NUMBERS["Encrypt"], encrypt + b"\0", "Malformed"),
        ("no random bytes", NUMBERS["GetRandom"], b"\0\0", "InvalidArgument"),
        ("a batch in a batch", NUMBERS["Batch"], count(0), "InvalidArgument"),
        ("a batch in a batch, broken", NUMBERS["Batch"], b"", "InvalidArgument"),
        ("a ping", NUMBERS["Ping"], empty, "InvalidArgument"),
        ("a hello", NUMBERS["Hello"], encode("HelloRequest", hello()), "InvalidArgument"),
        ("a creation", NUMBERS["CreateKey"], encode("CreateKeyRequest", create()), "InvalidArgument"),
        ("a description", NUMBERS["DescribeKey"], text(KEY), "InvalidArgument"),
        ("an unknown operation", 0x02FF, b"", "UnknownOpcode"),
        ("operation 0", 0, b"anything", "UnknownOpcode"),
        ("operation 65535", 65535, b"", "UnknownOpcode"),
    ]
    rooms = [
        ("all fit", 100, [20, 20], ["Ok", "Ok"]),
        ("exactly", 8 + 10 + 50 + 22, [50, 12], ["Ok", "Ok"]),
        ("one byte too many", 8 + 10 + 50 + 22, [51, 12], ["ReplyTooLarge", "Ok"]),
        ("the second doesn't fit", 8 + 10 + 50 + 22, [50, 13], ["Ok", "ReplyTooLarge"]),
        ("later, smaller ones still fit", 8 + 3 * 22 + 10, [30, 22, 12], ["ReplyTooLarge", "Ok", "Ok"]),
        ("a short reply makes room", 8 + 2 * 22, [2, 22], ["Ok", "Ok"]),
        ("no room but for refusals", 8 + 3 * 22, [13, 13, 13], ["ReplyTooLarge"] * 3),
        ("64 KiB, random bytes", 65536, [4104] * 16, ["Ok"] * 15 + ["ReplyTooLarge"]),
    ]
    return {"about": "Section 11: what a batch's items are refused with (Ok: the item runs), and which replies fit; "
                     "replies are the lengths of the items' reply bodies.",
            "batch_items": [{"name": name, "opcode": opcode, "hex": body.hex(), "code": code}
                            for name, opcode, body, code in items],
            "batch_rooms": [{"name": name, "max_body": room, "replies": replies, "codes": codes}
                            for name, room, replies, codes in rooms]}


# Connections: what a daemon answers to each frame that is sent, or "Ok" where the operation decides.

HELLO = frame(1, 1, encode("HelloRequest", hello()))


def ping(request_id=2, **header):
    return frame(NUMBERS["Ping"], request_id, encode("PingRequest", {"payload": hexed(b"")}), **header)


def connection(name, steps, *, endpoint="app", closed=False):
    return {"name": name, "endpoint": endpoint, "closed": closed,
            "steps": [{"note": note, "send": data.hex(), "code": code} for note, data, code in steps]}


def header_cases():
    hi = ("hello", HELLO, "Ok")
    again = ("the connection goes on", ping(9), "Ok")
    refused = [
        ("version 0", ping(version=0), "UnsupportedVersion"),
        ("version 2, with every other fault", ping(version=2, flags=255, status=1, reserved=1), "UnsupportedVersion"),
        ("version 255 and an unknown opcode", frame(0xFFFF, 3, b"x", version=255), "UnsupportedVersion"),
        ("the authenticator's flag", frame(NUMBERS["Ping"], 3, count(0) + fixed("mac", 16), flags=1),
         "UnsupportedFlag"),
        ("an unknown flag", ping(flags=2), "UnsupportedFlag"),
        ("every flag, and a status", ping(flags=255, status=1), "UnsupportedFlag"),
        ("a status in a request", ping(status=1), "Malformed"),
        ("reserved isn't zero", ping(reserved=256), "Malformed"),
        ("an unknown opcode", frame(0x02FF, 3, b"anything"), "UnknownOpcode"),
        ("opcode 0", frame(0, 3, b""), "UnknownOpcode"),
        ("opcode 65535", frame(0xFFFF, 3, b""), "UnknownOpcode"),
        ("a second hello", HELLO, "HelloRequired"),
        ("status on an application endpoint", frame(NUMBERS["Status"], 3, b""), "AccessDenied"),
        ("a body that doesn't decode", frame(NUMBERS["Ping"], 3, b"\1"), "Malformed"),
        ("a value out of its rule", frame(NUMBERS["GetRandom"], 3, b"\0\0"), "InvalidArgument"),
        ("request id 0 and the longest deadline", ping(0, deadline_ms=2**32 - 1), "Ok"),
        ("the largest request id", ping(2**64 - 1), "Ok"),
    ]
    return [connection(name, [hi, (name, data, code), again]) for name, data, code in refused]


def connections():
    hi = ("hello", HELLO, "Ok")
    encrypt = encode("EncryptRequest", {"key": KEY, "plaintext": hexed(bytes(65536)), "context": NO_CONTEXT})
    cases = header_cases() + [
        connection("no hello", [("a ping comes first", ping(), "HelloRequired")], closed=True),
        connection("no hello, unknown opcode", [("unknown", frame(0x7777, 1, b""), "HelloRequired")], closed=True),
        connection("hello in an unknown version, then in version 1", [
            ("version 2", frame(1, 1, b"?", version=2), "UnsupportedVersion"), hi, ("ping", ping(), "Ok")]),
        connection("a hello that doesn't decode, then one that does", [
            ("cut", frame(1, 1, b"\1\1"), "Malformed"), hi, ("ping", ping(), "Ok")]),
        connection("no common version, then one", [
            ("2 to 3", frame(1, 1, encode("HelloRequest", hello(min_version=2, max_version=3))), "UnsupportedVersion"),
            ("lowest over highest", frame(1, 1, encode("HelloRequest", hello(min_version=2, max_version=1))),
             "UnsupportedVersion"),
            ("0 to 255", frame(1, 1, encode("HelloRequest", hello(min_version=0, max_version=255))), "Ok")]),
        connection("an access key's leftovers without an access key", [
            ("a name", frame(1, 1, encode("HelloRequest", hello(access_key="AK1"))), "InvalidArgument"),
            ("a nonce", frame(1, 1, encode("HelloRequest", hello(client_nonce=hexed(fixed("n", 32))))),
             "InvalidArgument"),
            ("a proof", frame(1, 1, encode("HelloRequest", hello(proof=hexed(b"p")))), "InvalidArgument"),
            ("authenticators", frame(1, 1, encode("HelloRequest", hello(frame_authenticator=True))), "NotAvailable"),
            hi]),
        connection("access keys come later", [
            ("method 1", frame(1, 1, encode("HelloRequest", hello(
                auth_method={"AuthMethod": "HMAC_SHA_256"}, access_key="AK1"))), "NotAvailable"), hi]),
        connection("over the cap before hello", [
            ("only a header, which claims 65537 bytes", ping(length=65537)[:24], "FrameTooLarge")], closed=True),
        connection("over every cap before hello", [
            ("only a header, of an unknown version", ping(length=2**32 - 1, version=9)[:24], "FrameTooLarge")],
            closed=True),
        connection("over the first cap and under the second", [
            hi, ("64 KiB of plaintext", frame(NUMBERS["Encrypt"], 3, encrypt), "Ok")]),
        connection("over the default cap after hello", [
            hi, ("only a header", ping(length=1048577)[:24], "FrameTooLarge")], closed=True),
        connection("status on the admin endpoint", [
            hi, ("status", frame(NUMBERS["Status"], 3, b""), "Ok")], endpoint="admin"),
    ]
    return {"about": "What each frame of a connection is answered with, in order; limits are the defaults. Ok: the "
                     "frame is well, and its operation decides.", "connections": cases}
