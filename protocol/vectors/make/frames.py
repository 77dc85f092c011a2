"""Vectors of whole frames: for each operation at least one request and one reply, with their meaning."""

import sealed
from bodies import encode
from framing import body_type, frame, parse_header
from samples import CONTEXT, KEY, NIL, NO_CONTEXT, OTHER_KEY, OTHER_VERSION, PAIRS, TIME, VERSION, fixed, hexed, spec
from tables import ENUMS, OPERATIONS

NUMBERS = {name: number for number, (name, *_) in OPERATIONS.items()}


class Frames:
    """Collects frames; request ids count up, and a reply has its request's."""

    def __init__(self, about):
        self.about, self.frames, self.request_id = about, [], 0

    def add(self, direction, name, operation, body, **header):
        parts = {"status": 0} | header
        kind = body_type({"opcode": NUMBERS[operation], **parts}, direction == "reply")
        data = frame(NUMBERS[operation], self.request_id, encode(kind, body), **header)
        self.frames.append({"name": name, "direction": direction, "type": kind, "header": parse_header(data),
                            "body": body, "hex": data.hex()})

    def request(self, name, operation, body, **header):
        self.request_id += 1
        self.add("request", name, operation, body, **header)

    def reply(self, name, operation, body, **header):
        self.add("reply", name, operation, body, **header)

    def family(self):
        return {"about": self.about, "frames": self.frames}


def hello(**changes):
    return {"min_version": 1, "max_version": 1, "agent": "example/1.0", "auth_method": {"AuthMethod": "none"},
            "access_key": "", "client_nonce": hexed(bytes(32)), "proof": hexed(b""),
            "frame_authenticator": False} | changes


def hello_reply(**changes):
    return {"version": 1, "agent": "clavigerd/0.1.0", "endpoint": "app", "server_nonce": hexed(bytes(32)),
            "proof": hexed(b""), "complete": True, "max_body": 1048576, "max_in_flight": 1024, "max_batch": 1024,
            "max_plaintext": 6144} | changes


def control():
    out = Frames("Hello, ping, status, batch.")
    out.request("hello without an access key", "Hello", hello())
    out.reply("hello is complete", "Hello", hello_reply())
    out.request("hello of a client of several versions, longest agent", "Hello", hello(max_version=255, agent="a" * 64))
    out.reply("hello on the admin endpoint with narrow limits", "Hello", hello_reply(
        endpoint="admin", max_body=65536, max_in_flight=1, max_batch=1, max_plaintext=4096))
    keyed = {"auth_method": {"AuthMethod": "HMAC_SHA_256"}, "access_key": "AK0123456789",
             "client_nonce": hexed(fixed("client nonce", 32)), "frame_authenticator": True}
    out.request("hello with an access key, first round", "Hello", hello(**keyed))
    out.reply("the daemon's challenge", "Hello", hello_reply(
        complete=False, server_nonce=hexed(fixed("server nonce", 32))))
    out.request("hello with an access key, second round", "Hello", hello(
        **keyed, proof=hexed(fixed("client proof", 32))))
    out.reply("the daemon's proof", "Hello", hello_reply(
        server_nonce=hexed(fixed("server nonce", 32)), proof=hexed(fixed("server proof", 32))))
    out.request("hello with HMAC-SM3", "Hello", hello(
        auth_method={"AuthMethod": "HMAC_SM3"}, access_key="ak_sm-3", client_nonce=hexed(fixed("sm3 nonce", 32))))
    out.request("ping with a deadline", "Ping", {"payload": hexed(b"are you there?")}, deadline_ms=1500)
    out.reply("pong", "Ping", {"version": "0.1.0", "payload": hexed(b"are you there?")})
    out.request("ping of nothing", "Ping", {"payload": hexed(b"")})
    out.request("ping of the most", "Ping", {"payload": hexed(fixed("ping", 4096))}, deadline_ms=4294967295)
    out.request("status", "Status", {})
    out.reply("status of a serving domain", "Status", serving())
    out.request("status again", "Status", {})
    out.reply("status of a locked domain", "Status", locked("locked"))
    out.reply("status of a stopping domain", "Status", locked("stopping"))
    batches(out)
    return out.family()


def member(name, state, reason, specs, hardware=False):
    return {"name": name, "profile": "softhsm2", "state": {"MemberState": state}, "reason": reason, "epoch": 3,
            "hardware": hardware, "since": TIME, "specs": specs}


def serving():
    specs = [{"spec": spec(name), "available": name == "AES_256", "reason": "" if name == "AES_256" else "not yet"}
             for name in ENUMS["KeySpec"].values()]
    counts = [("Enabled", "AES_256", 1000000), ("Disabled", "AES_256", 2), ("PendingImport", "SM2", 1),
              ("PendingDeletion", "RSA_4096", 1), ("Deleted", "HMAC_SM3", 18446744073709551615)]
    return {"version": "0.1.0", "state": {"ServiceState": "serving"}, "reason": "", "domain_id": KEY,
            "root_generation": 2, "uptime_ms": 86400000,
            "pool": [member("a", "up", "", specs, True), member("b", "down", "no such token", [])],
            "keys": [{"state": {"KeyState": state}, "spec": spec(kind), "count": count}
                     for state, kind, count in counts],
            "recovery_recipients": 1, "warnings": ["no recovery recipient", "钥匙"]}


def locked(state):
    pool = [member("a", "pin-refused", "the token refused the PIN", []),
            member("b", "no-root", "the token doesn't hold this domain's root", [])]
    return {"version": "0.1.0", "state": {"ServiceState": state}, "reason": "no HSM can open the domain",
            "domain_id": NIL, "root_generation": 0, "uptime_ms": 0, "pool": pool, "keys": [],
            "recovery_recipients": 0, "warnings": []}


def batches(out):
    item = {"key": "alias/pay", "plaintext": hexed(b"one"), "context": NO_CONTEXT}
    done = {"key_id": KEY, "key_version_id": VERSION, "ciphertext_blob": hexed(sealed_blob(b"one", []))}
    refused = {"message": "a ping isn't for batches", "retry_after_ms": 0}
    out.request("batch of an encrypt and a ping", "Batch", {"items": [
        {"opcode": NUMBERS["Encrypt"], "body": hexed(encode("EncryptRequest", item))},
        {"opcode": NUMBERS["Ping"], "body": hexed(encode("PingRequest", {"payload": hexed(b"")}))}]})
    out.reply("the encrypt's reply and the ping's refusal", "Batch", {"results": [
        {"status": 0, "body": hexed(encode("EncryptReply", done))},
        {"status": 10, "body": hexed(encode("ErrorBody", refused))}]})
    out.request("batch of nothing", "Batch", {"items": []})
    out.reply("results of nothing", "Batch", {"results": []})
    out.request("batch whose reply doesn't fit", "Batch", {"items": [
        {"opcode": NUMBERS["GetRandom"], "body": hexed(b"\x00\x10")}]})
    out.reply("an item's reply too large", "Batch", {"results": [
        {"status": 7, "body": hexed(encode("ErrorBody", {"message": "", "retry_after_ms": 0}))}]})


def create(**changes):
    return {"client_token": hexed(fixed("client token", 16)), "spec": spec("AES_256"), "usage": None,
            "protection": {"Protection": "HSM"}, "origin": {"KeyOrigin": "KMS"}, "project": "default", "alias": None,
            "description": "", "tags": [], "rotation_days": None, "sm2_user_id": None} | changes


def described(**changes):
    return {"key_id": KEY, "spec": spec("AES_256"), "usage": {"KeyUsage": "ENCRYPT_DECRYPT"},
            "state": {"KeyState": "Enabled"}, "protection": {"Protection": "HSM"}, "origin": {"KeyOrigin": "KMS"},
            "project": "default", "description": "", "aliases": [], "tags": [], "created_at": TIME,
            "created_by": "uid:1000", "primary_version_id": VERSION, "version_count": 1, "rotation": None,
            "deletion_date": None, "erased_at": None,
            "deletion_protection": False, "material_expires_at": None, "sm2_user_id": None,
            "assurance": {"hardware": False, "members": ["embedded"]}} | changes


def summary(**changes):
    kept = ("key_id", "spec", "usage", "state", "protection", "origin", "project", "description", "aliases",
            "created_at")
    return {name: value for name, value in described(**changes).items() if name in kept}


def keys():
    out = Frames("Keys and their lives.")
    out.request("create, as little as possible", "CreateKey", create())
    out.reply("created", "CreateKey", {"key_id": KEY, "key_version_id": VERSION})
    out.request("create, with everything", "CreateKey", create(
        spec=spec("SM2"), usage={"KeyUsage": "SIGN_VERIFY"}, protection={"Protection": "SOFTWARE"},
        origin={"KeyOrigin": "EXTERNAL"}, project="team/a:b-c_d", alias="alias/pay/card", description="司钥 holds it",
        tags=[["cost centre", "42"], ["env", ""], ["钥", "匙"]], rotation_days=730,
        sm2_user_id=hexed(b"1234567812345678")))
    out.reply("created, awaiting material", "CreateKey", {"key_id": KEY, "key_version_id": None})
    out.request("describe by id", "DescribeKey", {"key": KEY})
    out.reply("described, as little as possible", "DescribeKey", described())
    out.request("describe by alias", "DescribeKey", {"key": "alias/s3/default"})
    out.reply("described, with everything", "DescribeKey", described(
        spec=spec("HMAC_512"), usage={"KeyUsage": "GENERATE_VERIFY_MAC"}, state={"KeyState": "PendingDeletion"},
        protection={"Protection": "SOFTWARE"}, origin={"KeyOrigin": "EXTERNAL"}, aliases=["alias/a", "alias/b"],
        description="x", tags=[["env", "prod"]], primary_version_id=None, version_count=4294967295,
        rotation={"days": 7, "last": TIME, "next": None}, deletion_date=TIME, erased_at=TIME,
        deletion_protection=True,
        material_expires_at=-1, sm2_user_id=hexed(b""), assurance={"hardware": True, "members": ["a", "b"]}))
    out.request("list everything", "ListKeys", {
        "state": None, "spec": None, "project": None, "tag": None, "limit": 0, "page": hexed(b"")})
    out.reply("two keys, more to come", "ListKeys", {
        "keys": [summary(), summary(key_id=OTHER_KEY, spec=spec("EC_P384"), aliases=["alias/z"])],
        "next_page": hexed(fixed("page", 16))})
    out.request("list by everything", "ListKeys", {
        "state": {"KeyState": "Disabled"}, "spec": spec("RSA_2048"), "project": "default", "tag": ["env", "prod"],
        "limit": 1000, "page": hexed(fixed("page", 64))})
    out.reply("an empty last page", "ListKeys", {"keys": [], "next_page": hexed(b"")})
    out.request("enable two keys", "EnableKey", {"keys": [KEY, "alias/pay"]})
    out.reply("one was enabled, one isn't there", "EnableKey", {"results": [
        {"key": KEY, "status": 0, "key_id": KEY, "state": {"KeyState": "Enabled"}, "changed": True, "message": ""},
        {"key": "alias/pay", "status": 21, "key_id": None, "state": None, "changed": False,
         "message": "no such key"}]})
    out.request("disable a key", "DisableKey", {"keys": [KEY]})
    out.reply("it was disabled already", "DisableKey", {"results": [
        {"key": KEY, "status": 0, "key_id": KEY, "state": {"KeyState": "Disabled"}, "changed": False, "message": ""}]})
    return out.family()


def sealed_blob(plaintext, pairs, suite=1):
    return sealed.seal(suite, plaintext, pairs)


def data():
    out = Frames("Use of keys. The blobs are real: their key is blobs.json's.")
    blob = hexed(sealed_blob(b"attack at dawn", PAIRS))
    used = {"key_id": KEY, "key_version_id": VERSION}
    out.request("encrypt", "Encrypt", {"key": KEY, "plaintext": hexed(b"attack at dawn"), "context": CONTEXT})
    out.reply("encrypted", "Encrypt", used | {"ciphertext_blob": blob})
    out.request("encrypt nothing", "Encrypt", {"key": "alias/a", "plaintext": hexed(b""), "context": NO_CONTEXT})
    out.request("decrypt", "Decrypt", {"key": None, "ciphertext_blob": blob, "context": CONTEXT})
    out.reply("decrypted", "Decrypt", used | {"plaintext": hexed(b"attack at dawn")})
    out.request("decrypt with the key expected", "Decrypt", {
        "key": "alias/pay", "ciphertext_blob": hexed(b"not a blob"), "context": NO_CONTEXT})
    out.request("re-encrypt", "ReEncrypt", {
        "source_key": KEY, "ciphertext_blob": blob, "source_context": CONTEXT, "destination_key": OTHER_KEY,
        "destination_context": NO_CONTEXT})
    out.reply("re-encrypted", "ReEncrypt", {
        "source_key_id": KEY, "source_key_version_id": VERSION, "key_id": OTHER_KEY,
        "key_version_id": OTHER_VERSION, "ciphertext_blob": blob})
    out.request("describe a blob", "DescribeBlob", {"ciphertext_blob": blob})
    for suite in (1, 2, 3):
        out.reply(f"described, suite {suite}", "DescribeBlob", used | {
            "spec": spec("AES_256"), "suite": {"Suite": ENUMS["Suite"][suite]}, "plaintext_len": 14})
    for suite in (4, 5):
        out.reply(f"described, suite {suite}", "DescribeBlob", used | {
            "spec": spec("SM4"), "suite": {"Suite": ENUMS["Suite"][suite]}, "plaintext_len": 14})
    wrapped = hexed(sealed_blob(fixed("data key", 32), [], 2))
    for name, size in (("AES_256", ("AES_256", 0)), ("AES_128", ("AES_128", 0)), ("SM4", ("SM4", 0)),
                       ("1 byte", (0, 1)), ("1024 bytes", (0, 1024))):
        kind = size[0] and {"DataKeySpec": size[0]}
        body = {"key": KEY, "size": {"spec": kind, "bytes": size[1]}, "context": NO_CONTEXT}
        out.request(f"data key, {name}", "GenerateDataKey", body)
    out.reply("data key", "GenerateDataKey", used | {
        "plaintext": hexed(fixed("data key", 32)), "ciphertext_blob": wrapped})
    out.request("data key, wrapped only", "GenerateDataKeyWithoutPlaintext", {
        "key": KEY, "size": {"spec": {"DataKeySpec": "AES_256"}, "bytes": 0}, "context": CONTEXT})
    out.reply("wrapped data key", "GenerateDataKeyWithoutPlaintext", used | {"ciphertext_blob": wrapped})
    out.request("random", "GetRandom", {"length": 4096})
    out.request("one random byte", "GetRandom", {"length": 1})
    out.reply("one random byte", "GetRandom", {"random": hexed(b"\x2a")})
    return out.family()


def backups():
    out = Frames("Backups: begin, read, end, verify, list; tombstones.")
    name = {"backup_id": KEY}
    head, chunk = hexed(b"CLAVBKUP\x01\x00" + fixed("backup header", 66)), hexed(fixed("backup chunk", 48))
    out.request("begin a backup", "BeginBackup", {})
    out.reply("a backup has begun", "BeginBackup", name | {"header": head, "keys": 3, "recovery_recipients": 1})
    out.request("the first chunk", "ReadBackup", name | {"index": 0})
    out.reply("a chunk", "ReadBackup", {"chunk": chunk, "last": False, "puts": 9, "deletes": 0})
    out.request("the last chunk", "ReadBackup", name | {"index": 4294967295})
    out.reply("the end", "ReadBackup", {"chunk": chunk, "last": True, "puts": 18446744073709551615, "deletes": 1})
    out.request("the file is whole", "EndBackup", name | {"complete": True})
    out.reply("ended", "EndBackup", {})
    out.request("the file was given up", "EndBackup", name | {"complete": False})
    out.request("is this the last chunk?", "VerifyBackup", {"header": head, "index": 1, "last": True, "chunk": chunk})
    out.reply("it is", "VerifyBackup", {"puts": 0, "deletes": 0, "total_puts": 9, "total_deletes": 1})
    out.request("list every backup", "ListBackups", {"key": None, "limit": 0, "page": hexed(b"")})
    out.reply("two, more to come", "ListBackups", {
        "backups": [name | {"created_at": TIME, "holds_deleted": 0},
                    {"backup_id": OTHER_KEY, "created_at": -1, "holds_deleted": 4294967295}],
        "next_page": hexed(fixed("backups", 24))})
    out.request("those that hold a key", "ListBackups", {
        "key": "alias/pay", "limit": 1000, "page": hexed(fixed("backups", 24))})
    out.reply("none", "ListBackups", {"backups": [], "next_page": hexed(b"")})
    out.request("list tombstones", "ListTombstones", {"limit": 2, "page": hexed(fixed("tombstones", 16))})
    out.reply("two tombstones", "ListTombstones", {
        "domain_id": NIL, "next_page": hexed(b""),
        "tombstones": [{"key_id": KEY, "created_at": 0, "deleted_at": TIME, "erased_at": TIME},
                       {"key_id": OTHER_KEY, "created_at": -1, "deleted_at": TIME, "erased_at": None}]})
    return out.family()


def errors():
    out = Frames("Refusals: one for each code.")
    messages = {
        0x0201: [(10, "a name has 1 to 255 bytes"), (11, "7000 bytes; at most 6144"), (20, "not allowed"),
                 (30, "the key is Disabled; enable it"), (31, "the key signs"), (35, "rotate the key"),
                 (50, "too much at once"), (51, "over the rate limit"), (52, "the deadline passed"),
                 (60, "no HSM can be reached"), (62, "the audit log can't be written"), (99, "see the daemon's log"),
                 (1, "it ends early"), (6, "flag 0x01"), (53, "the daemon is stopping")],
        0x0202: [(40, "the ciphertext can't be decrypted with this context")],
        0x0101: [(32, "no HSM of this domain can hold SM4: use SOFTWARE"), (33, "alias/pay is taken"),
                 (34, "the client token belongs to another request"), (61, "the store can't be written"),
                 (63, "the disk is full: nothing was changed"),
                 (70, "rotation comes later")],
        0x0102: [(21, "no such key"), (5, "a connection starts with one hello")],
        0x0103: [(7, "ask for less")],
        0x0001: [(2, "versions 2 to 3; this daemon speaks 1"), (22, "the endpoint asks for an access key"),
                 (4, "70000 bytes; at most 65536")],
        0x0002: [(3, "")],
        0x020C: [(36, "the key has 2 versions; name the one that is meant")],
    }
    for opcode, list_of in messages.items():
        for status, message in list_of:
            out.request_id += 1
            retry = 250 if status in (50, 51) else 0
            out.reply(f"status {status}", OPERATIONS[opcode][0], {"message": message, "retry_after_ms": retry},
                      status=status)
    return out.family()
