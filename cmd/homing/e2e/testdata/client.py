"""A Homing client with Python's standard library only.

It is written from the package comment of region/wire and the .proto files of
region/homingv1, and from nothing else: what it cannot do is missing there.

    client.py '{"short": URL, "httpdns": URL, "zone": ZONE, "ca_cert": FILE,
                "ip": ADDRESS, "to": UIN, "text": TEXT, "via": HOST:PORT or null}'

Prints one JSON object per line, {"saw": ..., ...}, for each thing it saw.
After "waiting" it waits for a notice. "via" skips HTTPDNS's choice of endpoint.
"""

import base64
import hashlib
import json
import os
import random
import socket
import ssl
import struct
import sys
import time
import urllib.error
import urllib.request

CLIENT_VERSION = 80003
PLATFORM = "python"


def show(saw, **what):
    print(json.dumps({"saw": saw, **what}), flush=True)


# --- ed25519, RFC 8032 section 5.1 -----------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def point_add(a, b):
    """Section 5.1.4, extended homogeneous coordinates (X, Y, Z, T)."""
    m, n = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = n - m, d - c, d + c, n + m
    return e * f % P, g * h % P, f * g % P, e * h % P


def point_mul(scalar, point):
    total = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = point_add(total, point)
        point = point_add(point, point)
        scalar >>= 1
    return total


def base_point():
    y = 4 * pow(5, P - 2, P) % P
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if x * x % P != xx:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x & 1:
        x = P - x
    return x, y, 1, x * y % P


BASE = base_point()


def point_bytes(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


class DeviceKey:
    def __init__(self, seed):
        digest = hashlib.sha512(seed).digest()
        self.scalar = int.from_bytes(digest[:32], "little") & (1 << 254) - 8 | 1 << 254
        self.prefix = digest[32:]
        self.public = point_bytes(point_mul(self.scalar, BASE))
        self.id = hashlib.sha256(self.public).digest()[:8]

    def sign(self, message):
        r = int.from_bytes(hashlib.sha512(self.prefix + message).digest(), "little") % L
        big_r = point_bytes(point_mul(r, BASE))
        k = int.from_bytes(hashlib.sha512(big_r + self.public + message).digest(), "little") % L
        return big_r + ((r + k * self.scalar) % L).to_bytes(32, "little")


# --- protobuf --------------------------------------------------------------
#
# A message is a dict. A schema maps a field's number to its name and type: a
# type is "uint", "int", "bool", "bytes", "str", a schema, or a list of one of
# them for a repeated field.


def put_varint(n):
    out = bytearray()
    n &= 2**64 - 1
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def get_varint(b, at):
    n = shift = 0
    while True:
        n |= (b[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not b[at - 1] & 0x80:
            return n, at


def encode(schema, message):
    out = b""
    for number, (name, kind) in schema.items():
        if name not in message:
            continue
        values, one = (message[name], kind[0]) if isinstance(kind, list) else ([message[name]], kind)
        for value in values:
            if one in ("uint", "int", "bool"):
                out += put_varint(number << 3) + put_varint(int(value))
                continue
            if isinstance(one, dict):
                value = encode(one, value)
            elif one == "str":
                value = value.encode()
            out += put_varint(number << 3 | 2) + put_varint(len(value)) + value
    return out


def decode(schema, b):
    message, at = {}, 0
    while at < len(b):
        tag, at = get_varint(b, at)
        wire = tag & 7
        if wire == 0:
            value, at = get_varint(b, at)
        elif wire == 2:
            size, at = get_varint(b, at)
            value, at = b[at : at + size], at + size
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, at = b[at : at + size], at + size
        else:
            raise ValueError("wire type %d" % wire)
        if tag >> 3 not in schema:
            continue  # an unknown field is skipped
        name, kind = schema[tag >> 3]
        one = kind[0] if isinstance(kind, list) else kind
        if isinstance(kind, list) and one == "uint" and wire == 2:  # packed
            at_value = 0
            while at_value < len(value):
                n, at_value = get_varint(value, at_value)
                message.setdefault(name, []).append(n)
            continue
        if isinstance(one, dict):
            value = decode(one, value)
        elif one == "str":
            value = value.decode()
        elif one == "int" and value >> 63:
            value -= 2**64
        elif one == "bool":
            value = bool(value)
        if isinstance(kind, list):
            message.setdefault(name, []).append(value)
        else:
            message[name] = value
    return message


EPOCH = {1: ("moves", "uint"), 2: ("counter", "uint"), 3: ("raised", "bytes")}
HELLO = {
    1: ("wire_version", "uint"),
    2: ("uin", "uint"),
    3: ("client_version", "uint"),
    4: ("platform", "str"),
    5: ("world_version", "uint"),
    6: ("device_key_id", "bytes"),
    7: ("ticket", "str"),
    8: ("connection_id", "bytes"),
}
HELLO_REPLY = {
    1: ("wire_version", "uint"),
    2: ("nonce", "bytes"),
    3: ("region", "str"),
    4: ("epoch", EPOCH),
    5: ("world_version", "uint"),
    6: ("pop", "str"),
}
REAUTH = {1: ("nonce", "bytes"), 2: ("signature", "bytes"), 3: ("ticket", "str")}
REAUTH_REPLY = {1: ("heartbeat_seconds", "uint"), 2: ("ticket_expires_unix", "int")}
HEARTBEAT = {1: ("world_version", "uint")}
HEARTBEAT_REPLY = {1: ("world_version", "uint"), 2: ("heartbeat_seconds", "uint")}
REDIRECT = {
    1: ("home", "str"),
    2: ("acting", "str"),
    3: ("endpoints", ["str"]),
    4: ("world_version", "uint"),
    5: ("epoch", EPOCH),
}
ERROR = {
    1: ("code", "uint"),
    2: ("name", "str"),
    3: ("message", "str"),
    4: ("hint", "str"),
    5: ("retryable", "bool"),
    6: ("world_version", "uint"),
    7: ("retry_after_milli", "uint"),
    8: ("redirect", REDIRECT),
}
SYSTEM = {1: ("event", "str"), 2: ("actor", "uint"), 3: ("members", ["uint"])}
BODY = {1: ("text", "str"), 2: ("system", SYSTEM)}
MESSAGE = {
    1: ("id", "bytes"),
    2: ("sequence", "uint"),
    3: ("sender", "uint"),
    4: ("to", "uint"),
    5: ("client_message_id", "str"),
    6: ("sent_unix_milli", "int"),
    7: ("body", BODY),
}
NOTICE = {1: ("sequence", "uint"), 2: ("message", MESSAGE)}
CHALLENGE_REQUEST = {1: ("uin", "uint"), 2: ("device_key_id", "bytes")}
CHALLENGE_RESPONSE = {1: ("nonce", "bytes"), 2: ("region", "str")}
LOGIN_REQUEST = {1: ("uin", "uint"), 2: ("device_key_id", "bytes"), 3: ("nonce", "bytes"), 4: ("signature", "bytes")}
LOGIN_RESPONSE = {1: ("ticket", "str"), 2: ("ticket_expires_unix", "int")}
SEND_REQUEST = {1: ("to", "uint"), 2: ("to_handle", "str"), 3: ("client_message_id", "str"), 4: ("body", BODY)}
SEND_RESPONSE = {1: ("id", "bytes"), 2: ("sequence", "uint"), 3: ("sent_unix_milli", "int"), 4: ("repeated", "bool")}
SYNC_REQUEST = {1: ("snapshot", "bytes"), 2: ("max_bytes", "uint")}
ACCOUNT = {
    1: ("uin", "uint"),
    2: ("nickname", "str"),
    3: ("handle", "str"),
    4: ("home", "str"),
    5: ("group", "bool"),
    6: ("members", ["uint"]),
}
CONTACT = {1: ("uin", "uint"), 2: ("remark", "str"), 3: ("removed", "bool")}
SYNC_RESPONSE = {
    1: ("snapshot", "bytes"),
    2: ("account", ACCOUNT),
    3: ("contacts", [CONTACT]),
    4: ("messages", [MESSAGE]),
    5: ("more", "bool"),
    6: ("full", "bool"),
}

# --- proofs ----------------------------------------------------------------


def sized(x):
    x = x.encode() if isinstance(x, str) else x
    return struct.pack(">I", len(x)) + x


def u64(n):
    return struct.pack(">Q", n)


def login_proof(region, uin, nonce):
    return b"homing.login.v1\0" + sized(region) + u64(uin) + sized(nonce)


def connection_proof(region, epoch, connection_id, nonce, uin):
    return (
        b"homing.connection.v1\0"
        + sized(region)
        + u64(epoch.get("moves", 0))
        + u64(epoch.get("counter", 0))
        + (epoch.get("raised") or bytes(8))
        + sized(connection_id)
        + sized(nonce)
        + u64(uin)
    )


def request_proof(procedure, unix_milli, uin, body):
    return b"homing.request.v1\0" + sized(procedure) + u64(unix_milli) + u64(uin) + hashlib.sha256(body).digest()


# --- errors ----------------------------------------------------------------


class Refused(Exception):
    def __init__(self, error):
        super().__init__(error.get("message"))
        self.error = {k: v for k, v in error.items() if k != "redirect"}
        self.redirect = error.get("redirect")


def patiently(call):
    """Calls again, after a growing, jittered pause, for as long as that may help."""
    pause, until = 0.2, time.monotonic() + 90
    while True:
        try:
            return call()
        except (Refused, EOFError, OSError) as failed:
            error = failed.error if isinstance(failed, Refused) else {"retryable": True}
            if not error.get("retryable") or time.monotonic() > until:
                raise
            show("retrying", why=str(failed))
            time.sleep(error.get("retry_after_milli", 0) / 1000 or pause * random.uniform(0.5, 1))
            pause = min(2 * pause, 5)


# --- the short connection --------------------------------------------------


def short_call(base, method, request, user=None, spoil=False):
    """Calls with JSON; user is (uin, ticket, key) for the methods that need it."""
    procedure = "/homing.v1.IM/" + method
    body = json.dumps(request).encode()
    headers = {"Content-Type": "application/json", "Homing-Version": str(CLIENT_VERSION), "Homing-Platform": PLATFORM}
    if user:
        uin, ticket, key = user
        now = int(time.time() * 1000)
        signature = key.sign(request_proof(procedure, now, uin, body + (b" " if spoil else b"")))
        headers["Authorization"] = "Homing " + ticket
        headers["Homing-Proof"] = "%d.%s" % (now, base64.b64encode(signature).decode())
        headers["Homing-Uin"] = str(uin)
    try:
        with urllib.request.urlopen(urllib.request.Request(base + procedure, body, headers), timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as failed:
        refused = json.load(failed)
        if not refused.get("details"):  # from before the region's logic
            retryable = refused["code"] == "unavailable" or failed.code in (502, 503, 504)
            raise Refused({"message": refused.get("message"), "retryable": retryable}) from None
        detail = refused["details"][0]
        assert detail["type"] == "homing.v1.Error", detail
        value = detail["value"]
        raise Refused(decode(ERROR, base64.b64decode(value + "=" * (-len(value) % 4)))) from None


# --- the long connection ---------------------------------------------------

M_HELLO, M_HEARTBEAT, M_REDIRECT, M_GOAWAY, M_REAUTH, M_NOTICE = 1, 2, 3, 4, 6, 16
M_CHALLENGE, M_LOGIN, M_SEND, M_SYNC = 33, 34, 35, 36
RESPONSE, PUSH, FAILED = 1, 2, 4


class Long:
    def __init__(self, endpoint, zone, ca_cert):
        host, port = endpoint.rsplit(":", 1)
        context = ssl.create_default_context(cafile=ca_cert)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        raw = socket.create_connection((host.strip("[]"), int(port)), timeout=60)
        self.socket = context.wrap_socket(raw, server_hostname="long." + zone)
        self.sequence = 0
        self.pushes = []

    def close(self):
        self.socket.close()

    def read(self, size):
        out = b""
        while len(out) < size:
            part = self.socket.recv(size - len(out))
            if not part:
                raise EOFError("the server closed")
            out += part
        return out

    def read_frame(self):
        length, method, flags, sequence = struct.unpack(">IHHQ", self.read(16))
        return method, flags, sequence, self.read(length)

    def write_frame(self, method, body):
        self.sequence += 1
        self.socket.sendall(struct.pack(">IHHQ", len(body), method, 0, self.sequence) + body)

    def call(self, method, schema, request, answer):
        """Returns the answer, or its redirect in place of a HelloReply."""
        self.write_frame(method, encode(schema, request))
        while True:
            got, flags, sequence, body = self.read_frame()
            if flags & PUSH:
                if got == M_GOAWAY and flags & FAILED:
                    raise Refused(decode(ERROR, body))
                self.pushes.append((got, body))
                continue
            assert flags & RESPONSE and sequence == self.sequence, (got, flags, sequence)
            if flags & FAILED:
                raise Refused(decode(ERROR, body))
            if got == M_REDIRECT:
                return {"redirect": decode(REDIRECT, body)}
            assert got == method, got
            return decode(answer, body)

    def wait_push(self, method):
        while True:
            for i, (got, body) in enumerate(self.pushes):
                if got == method:
                    del self.pushes[i]
                    return body
            got, flags, sequence, body = self.read_frame()
            assert flags & PUSH and sequence == 0, (got, flags, sequence)
            self.pushes.append((got, body))


class User:
    """Who the client is, and what it keeps between connections."""

    def __init__(self, config):
        self.config = config
        self.key = DeviceKey(os.urandom(32))
        self.connection_id = os.urandom(16)
        self.world_version = 0
        self.snapshot = b""

    def register(self):
        request = {
            "nickname": "Python",
            "deviceKey": base64.b64encode(self.key.public).decode(),
            "platform": PLATFORM,
            "idempotencyKey": os.urandom(8).hex(),
        }
        answer = patiently(lambda: short_call(self.config["short"], "Register", request))
        again = short_call(self.config["short"], "Register", request)
        assert again["uin"] == answer["uin"], (again, answer)
        assert base64.b64decode(answer["deviceKeyId"]) == self.key.id, answer
        self.uin, self.ticket = int(answer["uin"]), answer["ticket"]
        show("registered", uin=self.uin, region=answer["region"])

    def where(self):
        url = "%s/d?host=long.%s&uin=%d&ver=%d&ip=%s&platform=%s" % (
            self.config["httpdns"],
            self.config["zone"],
            self.uin,
            CLIENT_VERSION,
            self.config["ip"],
            PLATFORM,
        )
        with urllib.request.urlopen(url, timeout=60) as answer:
            found = json.load(answer)
        show("where", endpoints=found["endpoints"], acting=found["acting"])
        return found["endpoints"]

    def connect(self, endpoints, spoil=False):
        return patiently(lambda: self.connect_once(endpoints, spoil))

    def connect_once(self, endpoints, spoil):
        """Connects to the first endpoint that answers; follows redirects."""
        for _ in range(4):
            for endpoint in endpoints:
                try:
                    conn = Long(endpoint, self.config["zone"], self.config["ca_cert"])
                    break
                except OSError as failed:
                    show("dead-endpoint", endpoint=endpoint, why=str(failed))
            else:
                raise SystemExit("no endpoint answers")
            hello = conn.call(
                M_HELLO,
                HELLO,
                {
                    "wire_version": 1,
                    "uin": self.uin,
                    "client_version": CLIENT_VERSION,
                    "platform": PLATFORM,
                    "world_version": self.world_version,
                    "device_key_id": self.key.id,
                    "ticket": self.ticket,
                    "connection_id": self.connection_id,
                },
                HELLO_REPLY,
            )
            if "redirect" not in hello:
                break
            conn.close()
            to = hello["redirect"]
            show("redirect", by=endpoint, home=to["home"], acting=to["acting"], endpoints=to["endpoints"])
            endpoints, self.world_version = to["endpoints"], to["world_version"]
        else:
            raise SystemExit("redirected too often")
        self.world_version = hello["world_version"]
        proof = connection_proof(hello["region"], hello.get("epoch", {}), self.connection_id, hello["nonce"], self.uin)
        reply = conn.call(
            M_REAUTH,
            REAUTH,
            {"nonce": hello["nonce"], "signature": self.key.sign(proof + (b"!" if spoil else b""))},
            REAUTH_REPLY,
        )
        show("connected", endpoint=endpoint, tls=conn.socket.version(), region=hello["region"], pop=hello.get("pop", ""), **reply)
        return conn

    def login(self, conn, spoil=False):
        who = {"uin": self.uin, "device_key_id": self.key.id}
        challenge = conn.call(M_CHALLENGE, CHALLENGE_REQUEST, who, CHALLENGE_RESPONSE)
        proof = login_proof(challenge["region"], self.uin, challenge["nonce"])
        signature = self.key.sign(proof + (b"!" if spoil else b""))
        login = {**who, "nonce": challenge["nonce"], "signature": signature}
        self.ticket = conn.call(M_LOGIN, LOGIN_REQUEST, login, LOGIN_RESPONSE)["ticket"]

    def sync(self, conn):
        asked_with, messages, account, full = len(self.snapshot), [], None, False
        while True:
            answer = conn.call(M_SYNC, SYNC_REQUEST, {"snapshot": self.snapshot}, SYNC_RESPONSE)
            messages += answer.get("messages", [])
            account = answer.get("account", account)
            full = full or answer.get("full", False)
            self.snapshot = answer["snapshot"]
            if not answer.get("more"):
                break
        show(
            "synced",
            snapshot_bytes=asked_with,
            full=full,
            account=account and {"uin": account["uin"], "nickname": account["nickname"], "home": account["home"]},
            messages=[plain(m) for m in messages],
        )


def plain(message):
    return {
        "id": message["id"].hex(),
        "sequence": message["sequence"],
        "sender": message["sender"],
        "to": message["to"],
        "text": message["body"].get("text"),
    }


def expect_refusal(what, call):
    try:
        call()
    except Refused as refused:
        show("refused", what=what, **refused.error)
    else:
        show("accepted", what=what)


def main():
    config = json.loads(sys.argv[1])
    user = User(config)
    user.register()

    # The short connection, with the proof of a request.
    who = (user.uin, user.ticket, user.key)
    me = short_call(config["short"], "Resolve", {"uin": str(user.uin)}, who)
    show("resolved", account=me["account"])
    expect_refusal(
        "request-signature", lambda: short_call(config["short"], "Resolve", {"uin": str(user.uin)}, who, spoil=True)
    )

    endpoints = [config["via"]] if config.get("via") else user.where()
    expect_refusal("connection-signature", lambda: user.connect(endpoints, spoil=True))
    conn = user.connect(endpoints)

    show("heartbeat", **conn.call(M_HEARTBEAT, HEARTBEAT, {"world_version": user.world_version}, HEARTBEAT_REPLY))
    user.sync(conn)

    request = {"to": config["to"], "client_message_id": os.urandom(8).hex(), "body": {"text": config["text"]}}
    for _ in range(2):  # the second is the retry after a lost answer
        sent = conn.call(M_SEND, SEND_REQUEST, request, SEND_RESPONSE)
        show("sent", id=sent["id"].hex(), sequence=sent["sequence"], repeated=sent.get("repeated", False))
    user.sync(conn)

    # A new ticket, by the device key alone, on this very connection.
    expect_refusal("login-signature", lambda: user.login(conn, spoil=True))
    user.login(conn)
    show("logged-in")

    conn.pushes.clear()  # the notice of what it sent itself
    show("waiting")
    conn.socket.settimeout(120)
    while True:
        notice = decode(NOTICE, conn.wait_push(M_NOTICE))
        show("notice", sequence=notice["sequence"], message=plain(notice["message"]) if "message" in notice else None)
        if "message" not in notice or notice["message"]["sender"] == config["to"]:
            break
    user.sync(conn)
    user.sync(conn)
    conn.close()

    # The new ticket serves a new connection, the snapshot still serves it.
    conn = user.connect(endpoints)
    user.sync(conn)
    conn.close()
    show("done")


main()
