"""Headers and frames: section 3 of protocol/SPEC.md."""

import struct

from bodies import decode
from tables import HEADER_LEN, OPERATIONS, Refused

HEADER = struct.Struct("<IBBHQIHH")
HEADER_FIELDS = ("length", "version", "flags", "opcode", "request_id", "deadline_ms", "status", "reserved")


def parse_header(data):
    if len(data) < HEADER_LEN:
        raise Refused("Malformed", "a header has 24 bytes")
    return dict(zip(HEADER_FIELDS, HEADER.unpack(data[:HEADER_LEN])))


def frame(opcode, request_id, body, *, deadline_ms=0, status=0, version=1, flags=0, reserved=0, length=None):
    length = len(body) if length is None else length
    return HEADER.pack(length, version, flags, opcode, request_id, deadline_ms, status, reserved) + body


def body_type(header, is_reply):
    name, reply, _, _ = OPERATIONS[header["opcode"]]
    if header["status"]:
        return "ErrorBody"
    return reply if is_reply else name + "Request"


def decode_frame(data, is_reply):
    header, body = parse_header(data), data[HEADER_LEN:]
    if header["length"] != len(body):
        raise Refused("Malformed", "the frame isn't whole")
    kind = body_type(header, is_reply)
    return header, kind, decode(kind, body)
