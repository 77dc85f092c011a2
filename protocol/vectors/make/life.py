"""Vectors of a key's life: deletion, tags, versions, import, aliases, projects, default keys.

The imported material is really encrypted, by each of section 14.2's layouts, to pairs.py's keys.
"""

import struct

from bodies import encode
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

import der
import pairs
import sm4
from curves import P256, SM2
from frames import Frames, summary
from refusals import Bodies, count, text
from samples import KEY, OTHER_KEY, OTHER_VERSION, TIME, VERSION, fixed, hexed, spec

TOKEN = hexed(fixed("client token", 16))
NO_PAGE = hexed(b"")
DAY = 24 * 60 * 60 * 1000


def state(name):
    return {"KeyState": name}


def done(key, now, changed=True, key_id=KEY):
    return {"key": key, "status": 0, "key_id": key_id, "state": state(now), "changed": changed, "message": ""}


def refused(key, status, message):
    return {"key": key, "status": status, "key_id": None, "state": None, "changed": False, "message": message}


def deletion(out):
    out.request("schedule deletion, as little as possible", "ScheduleKeyDeletion", {
        "keys": [KEY], "days": None, "force": False})
    planned = {"key": KEY, "status": 0, "key_id": KEY, "deletion_date": TIME + 30 * DAY, "associations": [],
               "message": ""}
    out.reply("scheduled", "ScheduleKeyDeletion", {"results": [planned]})
    out.request("schedule three deletions, by force", "ScheduleKeyDeletion", {
        "keys": [KEY, "alias/pay", "alias/safe"], "days": 1096, "force": True})
    used = [{"access_point": "app", "last_used_at": TIME}, {"access_point": "job", "last_used_at": TIME - 1}]
    kept = {"key_id": None, "deletion_date": None}
    out.reply("one is in use, one protected", "ScheduleKeyDeletion", {"results": [
        planned, kept | {"key": "alias/pay", "status": 39, "associations": used, "message": "app and job use it"},
        kept | {"key": "alias/safe", "status": 38, "associations": [], "message": "protected"}]})
    out.request("schedule a deletion at once", "ScheduleKeyDeletion", {"keys": [KEY], "days": 0, "force": False})
    out.request("cancel a deletion", "CancelKeyDeletion", {"keys": [KEY], "enable": False})
    out.reply("cancelled", "CancelKeyDeletion", {"results": [done(KEY, "Disabled")]})
    out.request("cancel two deletions and enable", "CancelKeyDeletion", {"keys": [KEY, "alias/b"], "enable": True})
    out.reply("one awaits its material, one has no deletion planned", "CancelKeyDeletion", {"results": [
        done(KEY, "PendingImport"), refused("alias/b", 30, "the key is Enabled")]})
    for operation in ("ProtectKey", "UnprotectKey"):
        out.request(operation, operation, {"keys": [KEY, "alias/s3/default"]})
        out.reply(f"{operation}: a default key isn't", operation, {"results": [
            done(KEY, "Enabled", operation == "ProtectKey"), refused("alias/s3/default", 37, "a default key")]})


def metadata(out):
    out.request("another description", "UpdateKeyDescription", {"key": KEY, "description": "司" * 255})
    out.reply("described anew", "UpdateKeyDescription", {"key_id": KEY, "changed": True})
    out.request("no description", "UpdateKeyDescription", {"key": "alias/pay", "description": ""})
    out.reply("it had none", "UpdateKeyDescription", {"key_id": KEY, "changed": False})
    out.request("tag two keys", "TagResource", {"keys": [KEY, "alias/b"], "tags": [["env", "prod"], ["钥", "匙"]]})
    out.reply("one has too many", "TagResource", {"results": [
        done(KEY, "Enabled"), refused("alias/b", 45, "at most 20 tags")]})
    out.request("set no tags", "TagResource", {"keys": [KEY], "tags": []})
    out.request("untag", "UntagResource", {"keys": [KEY], "tag_keys": ["env", "钥"]})
    out.reply("untagged", "UntagResource", {"results": [done(KEY, "Disabled", False)]})
    out.request("the tags", "ListTags", {"key": KEY})
    out.reply("two tags", "ListTags", {"key_id": KEY, "tags": [["env", "prod"], ["钥", "匙"]]})
    out.reply("no tags", "ListTags", {"key_id": KEY, "tags": []})
    out.request("who uses it?", "DetectAssociation", {"key": KEY})
    out.reply("two access points", "DetectAssociation", {"key_id": KEY, "associations": [
        {"access_point": "app", "last_used_at": TIME}, {"access_point": "job", "last_used_at": 0}]})
    out.reply("nobody", "DetectAssociation", {"key_id": KEY, "associations": []})


def version(number, **changes):
    return {"key_version_id": VERSION, "number": number, "created_at": TIME, "primary": False,
            "destroyed_at": None} | changes


def versions(out):
    made = {"key_id": KEY, "key_version_id": OTHER_VERSION}
    for operation in ("RotateKey", "CreateKeyVersion"):
        out.request(operation, operation, {"client_token": TOKEN, "key": KEY})
        out.reply(f"{operation}: a new version", operation, made)
    out.request("rotate every week", "UpdateRotationPolicy", {"key": KEY, "rotation_days": 7})
    out.reply("from now on", "UpdateRotationPolicy", {
        "key_id": KEY, "rotation": {"days": 7, "last": None, "next": TIME + 7 * DAY}, "changed": True})
    out.request("rotate every other year", "UpdateRotationPolicy", {"key": "alias/pay", "rotation_days": 730})
    out.request("no regular rotation", "UpdateRotationPolicy", {"key": KEY, "rotation_days": None})
    out.reply("it had none", "UpdateRotationPolicy", {"key_id": KEY, "rotation": None, "changed": False})
    out.request("the versions", "ListKeyVersions", {"key": KEY, "limit": 0, "page": NO_PAGE})
    out.reply("two versions, more to come", "ListKeyVersions", {
        "key_id": KEY, "versions": [version(4294967295, primary=True), version(1, key_version_id=OTHER_VERSION)],
        "next_page": hexed(b"\0\0\0\1")})
    out.request("more versions", "ListKeyVersions", {"key": KEY, "limit": 1000, "page": hexed(bytes(64))})
    out.reply("no more", "ListKeyVersions", {"key_id": KEY, "versions": [], "next_page": NO_PAGE})
    out.request("one version", "DescribeKeyVersion", {"key": KEY, "key_version_id": VERSION})
    out.reply("of a pair", "DescribeKeyVersion", {
        "key_id": KEY, "version": version(2), "public_key": hexed(pairs.spki("SM2")), "hardware": True,
        "made_by": "a", "counted_uses": None})
    out.reply("used directly, its material destroyed", "DescribeKeyVersion", {
        "key_id": KEY, "version": version(1, destroyed_at=TIME), "public_key": None, "hardware": False,
        "made_by": "embedded", "counted_uses": 2**32})


def rsa_sealed(algorithm, data):
    """What one RSA block holds; RSA_AES_KEY_WRAP's is OAEP with SHA-256."""
    return pairs.encrypt("RSAES_OAEP_SHA_256" if "WRAP" in algorithm else algorithm, data)


def sm4_ecb(key, data):
    return b"".join(sm4.encrypt_block(key, data[at:at + 16]) for at in range(0, len(data), 16))


def enveloped_key(secret):
    """Section 14.3's SM2EnvelopedKey."""
    ephemeral = fixed("ephemeral SM4 key", 16)
    bits = [der.item(der.BIT_STRING, b"\0" + data)
            for data in (SM2.point(SM2.public(secret)), sm4_ecb(ephemeral, secret.to_bytes(32, "big")))]
    algorithm = der.sequence(der.oid("1.2.156.10197.1.104.1"), der.item(der.NULL, b""))
    return der.sequence(algorithm, pairs.encrypt("SM2PKE", ephemeral), *bits)


def layouts():
    """Name, encrypted material, encrypted ephemeral key: a case for each row of section 14.2."""
    ephemeral, material = fixed("ephemeral AES key", 32), fixed("material", 32)
    secret = pairs.SECRETS[SM2]
    for algorithm in ("RSAES_PKCS1_V1_5", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"):
        yield f"AES_256, {algorithm}", rsa_sealed(algorithm, material), b""
    private = P256.pkcs8(pairs.SECRETS[P256])
    yield ("EC_P256 in two parts, RSAES_OAEP_SHA_256", aes_key_wrap_with_padding(ephemeral, private),
           rsa_sealed("RSAES_OAEP_SHA_256", ephemeral))
    block = rsa_sealed("RSA_AES_KEY_WRAP_SHA_256", ephemeral)
    yield "SM4, RSA_AES_KEY_WRAP_SHA_256", block + aes_key_wrap_with_padding(ephemeral, material[:16]), b""
    yield "HMAC_512, SM2PKE", pairs.encrypt("SM2PKE", material + material), b""
    yield "SM2, SM2EnvelopedKey", enveloped_key(secret), b""
    key = fixed("ephemeral SM4 key", 16)
    yield "SM2 in two parts", sm4_ecb(key, secret.to_bytes(32, "big")), pairs.encrypt("SM2PKE", key)


def imports(out):
    for wrapping, algorithm in (("RSA_2048", "RSAES_PKCS1_V1_5"), ("RSA_3072", "RSAES_OAEP_SHA_1"),
                                ("RSA_4096", "RSAES_OAEP_SHA_256"), ("RSA_2048", "RSA_AES_KEY_WRAP_SHA_256"),
                                ("SM2", "SM2PKE")):
        out.request(f"import parameters, {wrapping} and {algorithm}", "GetParametersForImport", {
            "key": KEY, "wrapping_spec": {"WrappingKeySpec": wrapping}, "algorithm": {"ImportAlgorithm": algorithm}})
    for name in ("RSA_2048", "SM2"):
        out.reply(f"import parameters, {name}", "GetParametersForImport", {
            "key_id": KEY, "public_key": hexed(pairs.spki(name)), "token": hexed(fixed("import token", 96)),
            "expires_at": TIME + DAY})
    for name, material, ephemeral in layouts():
        out.request(f"import {name}", "ImportKeyMaterial", {
            "client_token": TOKEN, "key": KEY, "encrypted_material": hexed(material),
            "encrypted_ephemeral_key": hexed(ephemeral), "token": hexed(fixed("import token", 96)),
            "expires_at": None if ephemeral else TIME + DAY})
    into = {"key_id": KEY, "key_version_id": VERSION}
    out.reply("imported inside the HSM", "ImportKeyMaterial", into | {
        "state": state("Enabled"), "material_expires_at": TIME + DAY, "through_memory": False})
    out.reply("imported through memory", "ImportKeyMaterial", into | {
        "state": state("Disabled"), "material_expires_at": None, "through_memory": True})
    out.request("delete imported material", "DeleteKeyMaterial", {"key": KEY})
    out.reply("it awaits it anew", "DeleteKeyMaterial", {"key_id": KEY, "state": state("PendingImport")})


def lists(out):
    out.request("keys with aliases", "ListAliasKeys", {"project": None, "limit": 0, "page": NO_PAGE})
    out.reply("one key by two aliases", "ListAliasKeys", {
        "keys": [{"alias": alias, "key": summary(aliases=["alias/a", "alias/b"])} for alias in ("alias/a", "alias/b")],
        "next_page": hexed(b"alias/b")})
    out.request("the next of a project", "ListAliasKeys", {
        "project": "team/a", "limit": 1000, "page": hexed(fixed("page", 255))})
    out.reply("no keys with aliases", "ListAliasKeys", {"keys": [], "next_page": NO_PAGE})
    out.request("symmetric keys", "ListSymmetricKeys", {"state": None, "project": None, "limit": 0, "page": NO_PAGE})
    out.reply("one of each spec", "ListSymmetricKeys", {
        "keys": [summary(), summary(key_id=OTHER_KEY, spec=spec("SM4"))], "next_page": hexed(fixed("page", 17))})
    out.request("deleted symmetric keys of a project", "ListSymmetricKeys", {
        "state": state("Deleted"), "project": "default", "limit": 1, "page": hexed(fixed("page", 64))})
    out.reply("no symmetric keys", "ListSymmetricKeys", {"keys": [], "next_page": NO_PAGE})


def names(out):
    for operation, changed in (("CreateAlias", True), ("UpdateAlias", False)):
        out.request(operation, operation, {"alias": "alias/pay/card", "key": KEY})
        out.reply(f"{operation}: where it points", operation, {
            "alias": "alias/pay/card", "key_id": KEY, "changed": changed})
    out.request("delete an alias", "DeleteAlias", {"alias": "alias/" + "a" * 249})
    out.reply("deleted", "DeleteAlias", {"alias": "alias/" + "a" * 249, "key_id": OTHER_KEY, "changed": True})
    out.request("every alias", "ListAlias", {"limit": 2, "page": NO_PAGE})
    out.reply("two aliases", "ListAlias", {
        "aliases": [{"alias": "alias/pay", "key_id": KEY}, {"alias": "alias/s3/default", "key_id": OTHER_KEY}],
        "next_page": hexed(b"alias/s3/default")})
    out.request("the aliases of a key", "ListAliasByUuid", {"key": KEY})
    out.reply("none", "ListAliasByUuid", {"aliases": [], "next_page": NO_PAGE})
    out.request("create a project", "CreateProject", {"project": "team/a:b-c_d", "description": "司钥"})
    out.reply("created", "CreateProject", {"project": "team/a:b-c_d"})
    out.request("delete a project", "DeleteProject", {"project": "p" * 255})
    out.reply("it is gone", "DeleteProject", {"project": "p" * 255})
    out.request("every project", "ListProjects", {"limit": 0, "page": NO_PAGE})
    out.reply("two projects", "ListProjects", {"projects": [
        {"project": "default", "description": "", "created_at": None},
        {"project": "team", "description": "司钥", "created_at": TIME}], "next_page": hexed(b"team")})
    out.request("move two keys", "MoveResource", {"keys": [KEY, "alias/b"], "project": "team"})
    out.reply("one is moved", "MoveResource", {"results": [
        done(KEY, "Enabled"), refused("alias/b", 21, "no such key")]})
    out.request("the default key of a service", "CreateDefaultKey", {"service": "s3"})
    out.reply("made, or there already", "CreateDefaultKey", {"key_id": KEY, "key_version_id": VERSION})


def errors(out):
    for operation, status, message in (
            ("RotateKey", 37, "an EXTERNAL key has one version"), ("ImportKeyMaterial", 41, "another key's"),
            ("ImportKeyMaterial", 42, "the import token has expired"), ("ImportKeyMaterial", 43, "can't be used"),
            ("ImportKeyMaterial", 44, "this is another"), ("CreateAlias", 45, "at most 50 aliases"),
            ("DeleteProject", 46, "it still holds keys"), ("ScheduleKeyDeletion", 38, "protected"),
            ("ScheduleKeyDeletion", 39, "in use")):
        out.request_id += 1
        out.reply(f"status {status}", operation, {"message": message, "retry_after_ms": 0}, status=status)


def life():
    out = Frames("The life of a key: deletion, tags, versions, import, lists, aliases, projects, default keys.")
    for part in (deletion, metadata, versions, imports, lists, names, errors):
        part(out)
    return out.family()


# What must be refused.

EACH_KEY = {"ScheduleKeyDeletion": b"\0\0", "CancelKeyDeletion": b"\0", "ProtectKey": b"", "UnprotectKey": b"",
            "TagResource": count(0), "UntagResource": count(1) + text("k"), "MoveResource": text("p")}


def several(out):
    for operation, rest in EACH_KEY.items():
        out.add(operation, "InvalidArgument", "no keys", count(0) + rest)
        out.add(operation, "InvalidArgument", "101 keys", count(101, text(KEY) * 101) + rest)
        out.add(operation, "InvalidArgument", "2^64 - 1 keys claimed, none there", count(2**64 - 1))
        out.add(operation, "InvalidArgument", "a key that is no key", count(1, text("pay")) + rest)
        out.add(operation, "Malformed", "a byte left over", count(1, text(KEY)) + rest + b"\0")
    one = count(1, text(KEY))
    for days in (1097, 65535):
        out.add("ScheduleKeyDeletion", "InvalidArgument", f"{days} days", one + b"\1" + struct.pack("<H", days) + b"\0")
    out.add("ScheduleKeyDeletion", "Malformed", "a force that is 2", one + b"\0\2")
    out.add("CancelKeyDeletion", "Malformed", "an enable that is 2", one + b"\2")
    for name, tags in (("a tag key twice", [["k", "1"], ["k", "2"]]), ("21 tags", [[f"k{i}", ""] for i in range(21)]),
                       ("a tag without key", [["", "v"]]), ("a tag value of 256", [["k", "v" * 256]])):
        out.add("TagResource", "InvalidArgument", name, one + encode("tags", tags))
    for name, keys in (("no tag keys", []), ("21 tag keys", [f"k{i}" for i in range(21)]), ("an empty tag key", [""]),
                       ("a tag key of 129", ["k" * 129]), ("a tag key with a tab", ["k\t"])):
        out.add("UntagResource", "InvalidArgument", name, one + encode("list<tag_key>", keys))
    out.add("UntagResource", "InvalidArgument", "2^64 - 1 tag keys claimed", one + count(2**64 - 1))
    for project in ("", "a b", "p" * 256):
        out.add("MoveResource", "InvalidArgument", f"project {project[:20]!r}", one + text(project))


def single(out):
    key = text(KEY)
    out.add("UpdateKeyDescription", "InvalidArgument", "256 characters", key + text("司" * 256))
    out.add("UpdateKeyDescription", "InvalidArgument", "two lines", key + text("two\nlines"))
    for days in (0, 6, 731):
        out.add("UpdateRotationPolicy", "InvalidArgument", f"every {days} days", key + b"\1" + struct.pack("<H", days))
    for operation in ("RotateKey", "CreateKeyVersion"):
        out.add(operation, "Malformed", "a client token of 15 bytes", bytes(15))
        out.add(operation, "InvalidArgument", "a key that is no key", bytes(16) + text("pay"))
    out.add("DescribeKeyVersion", "InvalidArgument", "a version of 15 bytes", key + count(15, bytes(15)))
    for number in (0, 6, 255):
        out.add("GetParametersForImport", "InvalidArgument", f"import algorithm number {number}",
                key + bytes([3, number]))
    for number in (0, 1, 2, 6, 7, 9, 255):
        out.add("GetParametersForImport", "InvalidArgument", f"wrapping key spec number {number}",
                key + bytes([number, 1]))
    head, empty = bytes(16) + key, count(0)
    for name, size, before, after in (("encrypted material", 8193, b"", empty + empty),
                                      ("an ephemeral key", 1025, empty, empty), ("a token", 257, empty + empty, b"")):
        out.add("ImportKeyMaterial", "InvalidArgument", f"{name} of {size} bytes",
                head + before + count(size, bytes(size)) + after + b"\0")
    out.add("ImportKeyMaterial", "Malformed", "no expiry's option", head + empty * 3)
    for service in ("", "a/b", "a b", "é", "s" * 65, "s3:x"):
        out.add("CreateDefaultKey", "InvalidArgument", f"service {service[:20]!r}", text(service))


def listed(out):
    for operation, filters, most in (("ListKeyVersions", text(KEY), 64), ("ListSymmetricKeys", b"\0\0", 64),
                                     ("ListAliasKeys", b"\0", 255), ("ListAlias", b"", 255),
                                     ("ListProjects", b"", 255)):
        out.add(operation, "InvalidArgument", "a page of 1001", filters + struct.pack("<H", 1001) + count(0))
        out.add(operation, "InvalidArgument", f"a page token of {most + 1} bytes",
                filters + b"\0\0" + count(most + 1, bytes(most + 1)))
    out.add("ListSymmetricKeys", "InvalidArgument", "key state number 6", b"\1\6\0" + b"\0\0" + count(0))
    for operation, rest in (("CreateAlias", text(KEY)), ("UpdateAlias", text(KEY)), ("DeleteAlias", b"")):
        for alias in ("", "pay", "alias/", "alias/s3/default", "alias/a b", "alias/" + "a" * 250, KEY):
            out.add(operation, "InvalidArgument", f"alias {alias[:40]!r}", text(alias) + rest)
    for operation, rest in (("CreateProject", text("")), ("DeleteProject", b"")):
        for project in ("", "a b", "p" * 256):
            out.add(operation, "InvalidArgument", f"project {project[:20]!r}", text(project) + rest)
    out.add("CreateProject", "InvalidArgument", "a description of two lines", text("p") + text("two\nlines"))


def life_refused():
    out = Bodies()
    for part in (several, single, listed):
        part(out)
    return {"about": "Request bodies of a key's life, and the code each must be refused with.", "bodies": out.cases}
