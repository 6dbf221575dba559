"""Checks a topic of the sync queue, as the package comment of region/journal
describes it and with nothing but Python's standard library.

    kcat -b QUEUE -C -t TOPIC -o beginning -e -q -f '%p\\t%o\\t%k\\n%R%s' | journal.py TOPIC PARTITIONS

Prints one line of JSON that counts what was checked; or says what is wrong and
exits 1.
"""

import collections
import hashlib
import json
import struct
import sys

ROW, COMMAND, WATERMARK, POSITION, TERM = 1, 2, 3, 4, 5


class Wrong(Exception):
    pass


class Reader:
    def __init__(self, b):
        self.b, self.at = b, 0

    def raw(self, size):
        if self.at + size > len(self.b):
            raise Wrong("ends too early")
        self.at += size
        return self.b[self.at - size : self.at]

    def byte(self):
        return self.raw(1)[0]

    def uint(self):
        n = shift = 0
        while True:
            c = self.byte()
            n |= (c & 0x7F) << shift
            shift += 7
            if not c & 0x80:
                if (c == 0 and shift > 7) or n >> 64:
                    raise Wrong("a number in more bytes than it takes")
                return n

    def int(self):
        n = self.uint()
        return n >> 1 ^ -(n & 1)

    def text(self):
        return self.raw(self.uint())

    def name(self):
        return self.text().decode("ascii")

    def sum(self):
        return self.raw(16)

    def term(self):
        return {"counter": self.uint(), "raised": self.raw(8)}

    def done(self):
        return self.at == len(self.b)


def batch(value):
    r = Reader(value)
    if r.byte() != 1:
        raise Wrong("not format 1")
    out = {"links": [{"stream": r.name(), "prev": r.uint(), "chain": r.sum()} for _ in range(r.uint())]}
    out["body"] = value[r.at :]
    out["origin"], out["partition"], out["incarnation"] = r.name(), r.uint(), r.uint()
    out["owner"], out["home"] = r.uint(), r.name()
    out["moves"], out["term"], out["unix_milli"] = r.uint(), r.term(), r.int()
    if (out["owner"] == 0) != (out["home"] == ""):
        raise Wrong("an owner without a home, or a home without an owner")
    out["records"], sequence = [], 0
    for _ in range(r.uint()):
        one = Reader(r.text())
        sequence += one.uint()
        out["records"].append(record(one, sequence))
        if not one.done():
            raise Wrong("record %d is longer than its fields" % sequence)
    if not r.done():
        raise Wrong("bytes after the last record")
    return out


def record(r, sequence):
    kind = r.byte()
    out = {"sequence": sequence, "kind": kind}
    if kind == ROW:
        out.update(table=r.byte(), deleted=r.byte(), version=r.uint(), row=r.text(), value=r.text())
        out.update(before=r.sum(), after=r.sum())
    elif kind == COMMAND:
        out.update(id=r.raw(16), to=r.name(), target=r.uint(), method=r.uint(), payload=r.text())
    elif kind == WATERMARK:
        out.update(home=r.name(), shared=r.sum(), shared_rows=r.uint(), own=r.sum(), own_rows=r.uint())
    elif kind == POSITION:
        out.update(origin=r.name(), stream=r.name(), partition=r.uint(), incarnation=r.uint())
        out.update(sequence_there=r.uint(), chain=r.sum(), unix_milli=r.int())
    elif kind == TERM:
        out.update(home=r.name(), term=r.term(), what=r.byte())
    else:
        raise Wrong("record %d is of kind %d, which a replica must refuse" % (sequence, kind))
    return out


def partition_of(owner, partitions):
    hashed = 14695981039346656037
    for c in struct.pack(">Q", owner):  # FNV-1a 64
        hashed = (hashed ^ c) * 1099511628211 % 2**64
    return hashed % partitions


def row_sum(b, r):
    return hashlib.sha256(
        struct.pack(">QBI", b["owner"], r["table"], len(r["row"]))
        + r["row"]
        + struct.pack(">QQQ", r["version"], b["moves"], b["term"]["counter"])
        + b["term"]["raised"]
        + bytes([r["deleted"]])
        + r["value"]
    ).digest()[:16]


def belongs(stream, r):
    """Whether a record of stream "full" is in another stream as well."""
    if stream == "shared":
        return r["kind"] == WATERMARK or r["kind"] == ROW and r["table"] < 100
    return r["kind"] == COMMAND and stream == "to-" + r["to"]


class Partition:
    """What a follower of a stream knows of one partition."""

    def __init__(self):
        self.last, self.chain = 0, bytes(16)
        self.others = {}  # stream -> last sequence in it, as the links of "full" have it
        self.seen = {}  # key -> hash of the value
        self.rows = {}  # (owner, table, row) -> sum
        self.sums = collections.Counter()  # (home, "shared" or "own") -> sum of the rows
        self.counts = collections.Counter()

    def follow(self, stream, key, value, count):
        digest = hashlib.sha256(value).digest()
        if key in self.seen:
            if self.seen[key] != digest:
                raise Wrong("is repeated with other bytes")
            count["repeats"] += 1
            return
        self.seen[key] = digest
        b = batch(value)
        sequences = [r["sequence"] for r in b["records"]]
        if key != "%d-%d" % (sequences[0], sequences[-1]):
            raise Wrong("has sequences %d to %d" % (sequences[0], sequences[-1]))
        link, others = b["links"][0], b["links"][1:]
        if link["stream"] != stream or others and stream != "full":
            raise Wrong("has links %s" % b["links"])
        for other in others:  # what a reader of that stream gets of this batch
            has = [r["sequence"] for r in b["records"] if belongs(other["stream"], r)]
            if not has or other["prev"] != self.others.get(other["stream"], 0):
                raise Wrong("has link %s after %d" % (other, self.others.get(other["stream"], 0)))
            self.others[other["stream"]] = has[-1]
        if link["prev"] != self.last:
            raise Wrong("follows %d, but the last one here is %d" % (link["prev"], self.last))
        want = list(range(self.last + 1, sequences[-1] + 1))
        if stream == "full" and sequences != want or sorted(set(sequences)) != sequences:
            raise Wrong("has sequences %s after %d" % (sequences, self.last))
        self.chain = hashlib.sha256(self.chain + b["body"]).digest()[:16]
        if link["chain"] != self.chain:
            raise Wrong("has chain %s, computed is %s" % (link["chain"].hex(), self.chain.hex()))
        self.last = sequences[-1]
        count["batches"] += 1
        count["origin " + b["origin"]] += 1
        for r in b["records"]:
            self.check(stream, b, r, count)
        return b

    def check(self, stream, b, r, count):
        count["records"] += 1
        count["kind %d" % r["kind"]] += 1
        if r["kind"] == COMMAND:
            if stream not in ("full", "to-" + r["to"]):
                raise Wrong("carries a command to " + r["to"])
            count["to " + r["to"]] += 1
        if stream == "shared" and not (r["kind"] == WATERMARK or r["kind"] == ROW and r["table"] < 100):
            raise Wrong("carries a record that is not shared: %s" % r)
        if r["kind"] == ROW:
            which = (b["owner"], r["table"], r["row"])
            if r["before"] != self.rows.get(which, bytes(16)):
                raise Wrong("row %s was %s before, not %s" % (which, self.rows.get(which), r["before"]))
            if r["after"] != row_sum(b, r):
                raise Wrong("row %s has sum %s, computed is %s" % (which, r["after"].hex(), row_sum(b, r).hex()))
            total = (b["home"], "shared" if r["table"] < 100 else "own")
            self.counts[total] += which not in self.rows
            self.rows[which] = r["after"]
            change = int.from_bytes(r["after"], "big") - int.from_bytes(r["before"], "big")
            self.sums[total] = (self.sums[total] + change) % 2**128
        if r["kind"] == WATERMARK:
            for kind in ["shared"] if stream == "shared" else ["shared", "own"]:
                total = (r["home"], kind)
                here = (self.sums[total].to_bytes(16, "big"), self.counts[total])
                if here != (r[kind], r[kind + "_rows"]):
                    raise Wrong("watermark %s says %s of %d rows, here are %s of %d" % (total, r[kind].hex(), r[kind + "_rows"], here[0].hex(), here[1]))
            if stream == "shared" and (r["own"], r["own_rows"]) != (bytes(16), 0):
                raise Wrong("tells own sums in the shared stream")
            count["watermarks compared"] += 1


def main():
    topic, number, count, partitions = sys.argv[1], int(sys.argv[2]), collections.Counter(), collections.defaultdict(Partition)
    _, origin, stream = topic.split(".")
    while header := sys.stdin.buffer.readline():
        partition, offset, key = header.decode().rstrip("\n").split("\t")
        value = sys.stdin.buffer.read(struct.unpack(">i", sys.stdin.buffer.read(4))[0])
        try:
            b = partitions[partition].follow(stream, key, value, count)
            if b and (b["origin"], b["partition"]) != (origin, int(partition)):
                raise Wrong("is of %s, partition %d" % (b["origin"], b["partition"]))
            if b and b["owner"] and partition_of(b["owner"], number) != int(partition):
                raise Wrong("owner %d belongs to partition %d" % (b["owner"], partition_of(b["owner"], number)))
        except Wrong as wrong:
            sys.exit("%s partition %s offset %s key %s: %s" % (topic, partition, offset, key, wrong))
    print(json.dumps({"last": {p: s.last for p, s in partitions.items()}, "count": count}))


main()
