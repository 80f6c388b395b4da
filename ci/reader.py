#!/usr/bin/env python3
"""A reader of Chronicle's files, written from docs/format.md alone; numbers in comments are its sections.

Usage: reader.py FILE...      every frame as a line of JSON: {seq, time_ns, type_id, flags, len, payload}
       reader.py --entries X  what an index (.idx), a cold file's tables, a cursor, control.meta, meta.json or a refinery's
                              checkpoint says

FILE is a segment, a partition, a recorded raw segment, or a cold file (its index beside it, if there, must agree); or a
segment of a WAL: {offset, seq, kind, len, payload} of every frame up to the first that is not valid.
Everything the page asks a verifying reader to check is checked; damage ends with exit 1 and its offset.
Needs Python 3.9 or newer and, for cold files, the module `zstandard` or the command `zstd`.
"""
import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import zlib

END = 0x80000000


class Damage(Exception):
    def __init__(self, offset, what):
        super().__init__(f"offset {offset}: {what}")


def expect(offset, name, found, expected):
    if found != expected:
        raise Damage(offset, f"{name} is {found!r}, expected {expected!r}")


def decompress(frame, size):
    """One zstd frame that becomes exactly `size` bytes."""
    try:
        import zstandard

        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=size)
    except ImportError:
        done = subprocess.run(["zstd", "-dcq"], input=frame, capture_output=True)
        if done.returncode:
            raise Damage(0, "zstd: " + done.stderr.decode(errors="replace").strip()) from None
        return done.stdout


# 2 Segment


def header(data):
    if len(data) < 128:
        raise Damage(0, f"128 bytes needed, {len(data)} there")
    names = "magic version clock checksum incompat ro_compat epoch queue_id segment_id predecessor_id created_ns"
    names += " predecessor_end segment_len salt crc"
    head = dict(zip(names.split(), struct.unpack_from("<8sHBBIII16sQQQIIII", data)))
    expect(0, "magic", head["magic"], b"CHRONLOG")
    expect(8, "version", head["version"], 1)
    expect(76, "header crc", head["crc"], zlib.crc32(data[:76]))
    expect(12, "incompat", head["incompat"], 0)
    if head["clock"] > 1 or head["checksum"] not in (1, 2):
        raise Damage(10, "unknown clock or checksum kind")
    length = head["segment_len"]
    if length and (length % 32 or not 512 <= length <= 1 << 30):
        raise Damage(68, f"segment_len is {length}")
    if len(data) < length:
        raise Damage(len(data), f"segment of {length} bytes, {len(data)} there")

    salt = head["salt"]
    first_seq, crc = struct.unpack_from("<QI", data, 80)
    begun = 0 < first_seq < 1 << 63 and crc == zlib.crc32(data[80:88], salt)
    head["first_seq"] = first_seq if begun else None
    *seal, crc = struct.unpack_from("<QQQQI", data, 92)
    sealed = seal[1] >= 128 and crc == zlib.crc32(data[92:124], salt)
    head["seal"] = tuple(seal) if sealed else None
    return head


# 3 Frames, 5 Reading a segment


def frames(data):
    head = header(data)
    salt, seal, expected = head["salt"], head["seal"], head["first_seq"]
    if expected is None:
        return
    at, count, times = 128, 0, []
    while True:
        end = head["segment_len"] - 32 if head["segment_len"] else len(data)
        if at + 32 > len(data):
            if seal or head["segment_len"]:
                raise Damage(at, "no End")
            return  # a partition that still grows ends behind its last whole frame
        commit, crc, seq, time_ns, type_id, flags, zero = struct.unpack_from("<IIQQHHI", data, at)
        if commit == 0:
            if seal:
                raise Damage(at, "open, but the segment is sealed")
            return
        expect(at + 8, "seq", seq, expected)
        size = 0 if commit == END else commit - 1
        whole = (32 + size + 31) // 32 * 32
        if commit != END and at + whole > end:
            if not seal and not head["segment_len"]:
                return  # torn tail
            raise Damage(at, f"frame claims {whole} bytes, {end - at} left")
        body = data[at + 8 : at + 32 + size]
        expect(at + 4, "crc", crc, zlib.crc32(body, salt ^ commit) if head["checksum"] == 1 else 0)
        expect(at + 28, "zero field", zero, 0)
        if commit == END:
            if seal:
                seen = (count, at, min(times, default=0), max(times, default=0))
                expect(92, "seal (count, end, min_time, max_time)", seal, seen)
                if not head["segment_len"]:
                    expect(at + 32, "end of the file", len(data), at + 32)
            return
        padding = data[at + 32 + size : at + whole]
        expect(at + 32 + size, "padding", padding, bytes(len(padding)))
        yield {
            "seq": seq,
            "time_ns": time_ns,
            "type_id": type_id,
            "flags": flags,
            "len": size,
            "payload": data[at + 32 : at + 32 + size].hex(),
        }
        times.append(time_ns)
        at, count, expected = at + whole, count + 1, expected + 1


# 8 Cold files


def index(data):
    """x.q.zst.idx: (uncompressed_offset, compressed_offset, compressed_size, uncompressed_size) of each block."""
    if len(data) < 24:
        raise Damage(0, f"24 bytes needed, {len(data)} there")
    magic, version, header_len, block_size, count = struct.unpack_from("<8sHHIQ", data)
    expect(0, "magic", magic, b"QZSTIDX1")
    expect(8, "version, header_len, block_size", (version, header_len, block_size), (1, 24, 1 << 20))
    expect(16, "length", len(data), 24 + 24 * count)
    return list(struct.iter_unpack("<QQII", data[24:]))


def tables(data):
    """Blocks of a cold file, and length and SHA-256 of what they become."""
    if len(data) < 9:
        raise Damage(0, "no room for a seek table")
    count, descriptor, magic = struct.unpack_from("<IBI", data, len(data) - 9)
    expect(len(data) - 4, "seek table's magic", magic, 0x8F92EAB1)
    expect(len(data) - 5, "descriptor", descriptor, 0)
    seek_at = len(data) - 9 - 8 * count - 8
    at = seek_at - (80 + 36 * (count - 1) + 4)
    if count < 2 or at < 0:
        raise Damage(len(data) - 9, f"{count} frames do not fit the file")
    expect(seek_at, "seek table", struct.unpack_from("<II", data, seek_at), (0x184D2A5E, 8 * count + 9))
    expect(at, "tables", struct.unpack_from("<II", data, at), (0x184D2A50, seek_at - at - 8))
    expect(seek_at - 4, "tables' crc", struct.unpack_from("<I", data, seek_at - 4)[0], zlib.crc32(data[at : seek_at - 4]))
    name, version, entry_len, block_size, blocks = struct.unpack_from("<8sHHIQ", data, at + 8)
    expect(at + 8, "tables' head", (name, version, entry_len, block_size), (b"QZBLOCKS", 1, 32, 1 << 20))
    expect(at + 24, "block_count", blocks, count - 1)
    source_len, sha256, seek_crc, zero = struct.unpack_from("<Q32sII", data, at + 32)
    expect(at + 72, "seek_crc, zero", (seek_crc, zero), (zlib.crc32(data[seek_at:]), 0))

    rows, offset, compressed_offset = [], 0, 0
    for i in range(blocks):
        size, length = struct.unpack_from("<II", data, seek_at + 8 + 8 * i)
        first_seq, min_time, max_time, flags, crc = struct.unpack_from("<QQQII", data, at + 80 + 32 * i)
        (compressed_crc,) = struct.unpack_from("<I", data, at + 80 + 32 * blocks + 4 * i)
        if length > (1 << 30) + 256 or flags > 1:
            raise Damage(at + 80 + 32 * i, f"block {i}: {length} bytes, flags {flags}")
        rows.append(
            {
                "uncompressed_offset": offset,
                "compressed_offset": compressed_offset,
                "compressed_size": size,
                "uncompressed_size": length,
                "first_seq": first_seq,
                "min_time": min_time,
                "max_time": max_time,
                "flags": flags,
                "crc": crc,
                "compressed_crc": compressed_crc,
            }
        )
        offset, compressed_offset = offset + length, compressed_offset + size
    expect(at, "sum of compressed sizes", compressed_offset, at)
    expect(at + 32, "sum of uncompressed sizes", offset, source_len)
    last = struct.unpack_from("<II", data, seek_at + 8 + 8 * blocks)
    expect(seek_at + 8 + 8 * blocks, "the tables' own entry", last, (seek_at - at, 0))
    return rows, source_len, sha256


def cold(data, path):
    """x.q out of x.q.zst, block by block."""
    rows, source_len, sha256 = tables(data)
    if os.path.exists(path + ".idx"):
        with open(path + ".idx", "rb") as file:
            entries = index(file.read())
        names = ("uncompressed_offset", "compressed_offset", "compressed_size", "uncompressed_size")
        expect(0, "index", entries, [tuple(row[name] for name in names) for row in rows])
    source = bytearray()
    for row in rows:
        at = row["compressed_offset"]
        frame = data[at : at + row["compressed_size"]]
        expect(at, "compressed crc", zlib.crc32(frame), row["compressed_crc"])
        block = decompress(frame, row["uncompressed_size"])
        expect(at, "uncompressed size", len(block), row["uncompressed_size"])
        expect(at, "crc", zlib.crc32(block), row["crc"])
        source += block
    expect(0, "sha256", hashlib.sha256(source).digest(), sha256)
    expect(0, "length", len(source), source_len)
    return bytes(source)


# 9 A queue's directory


def newest(data, places, size):
    """The valid slot with the highest generation."""
    slots = [data[at : at + size] for at in places]
    whole = [slot for slot in slots if struct.unpack_from("<I", slot, size - 4)[0] == zlib.crc32(slot[: size - 4])]
    return max(whole, key=lambda slot: struct.unpack_from("<Q", slot)[0], default=None)


def small(data, magic):
    expect(len(data), "length", len(data), 4096)
    expect(8, "version", struct.unpack_from("<H", data, 8)[0], 1)
    expect(60, "crc", struct.unpack_from("<I", data, 60)[0], zlib.crc32(data[:60]))
    if magic == b"CHRONCUR":
        for kind, places in (("committed", (512, 1024)), ("durable", (1536, 2048))):
            slot = newest(data, places, 64)
            if slot:
                names = ("generation", "queue_id", "epoch", "offset", "segment_id", "seq")
                values = list(struct.unpack_from("<Q16sIIQQ", slot))
                values[1] = values[1].hex()
                yield {"cursor": kind, **dict(zip(names, values))}
        return
    slot = newest(data, (1024, 2048), 1024)
    if slot is None:
        raise Damage(1024, "no valid slot")
    names = "generation boot_id epoch state seq_bound last_segment synced_segment synced_seq synced_offset segment_len"
    names += " max_bytes wake_mode checksum clock required_count segments_ahead"
    state = dict(zip(names.split(), struct.unpack_from("<Q16sIIQQQQIIQBBBBI", slot)))
    state["boot_id"] = state["boot_id"].hex()
    count = state.pop("required_count")
    state["required"] = [slot[88 + 64 * i : 152 + 64 * i].rstrip(b"\0").decode() for i in range(count)]
    yield {"queue_id": data[16:32].hex(), "created_ns": struct.unpack_from("<Q", data, 32)[0], **state}


def seek_index(data):
    expect(60, "crc", struct.unpack_from("<I", data, 60)[0], zlib.crc32(data[:60]))
    salt, slots = struct.unpack_from("<II", data, 40)
    expect(64, "length", len(data), 64 + 32 * slots)
    for at in range(64, len(data), 32):
        seq, low, high, offset, crc = struct.unpack_from("<QQQII", data, at)
        if crc == zlib.crc32(data[at : at + 28], salt):
            yield {"slot": (at - 64) // 32, "seq": seq, "min_time": low, "max_time": high, "offset": offset}


# 11 meta.json


def meta(data):
    """The content, and that it is written in the only way there is."""
    tail = re.fullmatch(rb'"crc32": "([0-9a-f]{8})"\n}\n', data[-22:])
    if not tail:
        raise Damage(max(len(data) - 22, 0), "no crc32 at the end")
    expect(len(data) - 12, "crc32", int(tail[1], 16), zlib.crc32(data[:-22]))
    content = json.loads(data)
    # Python escapes no DEL either, and writes \b \t \n \f \r and \u00xx as the page says.
    expect(0, "spelling", (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode(), data)
    names = "venue symbol_id symbol_version_id symbol_code raw_symbol date source ingest_time event_time_range completeness"
    names += " late_policy sealed counts crc32"
    expect(0, "members", list(content), names.split())
    expect(0, "counts", list(content["counts"]), sorted(content["counts"]))
    if 0 in content["counts"].values():
        raise Damage(0, "a count of 0")
    time = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
    gaps = content["completeness"]["gaps"]
    ranges = [found for found in (content["ingest_time"], content["event_time_range"]) if found]
    for text in [found[end] for found in ranges for end in ("first", "last")] + [gap["time"] for gap in gaps]:
        if not time.fullmatch(text):
            raise Damage(0, f"{text!r} is no time")
    return content


# 12 A refinery's checkpoint


class Postcard:
    """The types of the body, read one after another."""

    def __init__(self, data):
        self.data, self.at = data, 24

    def take(self, size):
        if self.at + size > len(self.data):
            raise Damage(self.at, f"{size} bytes needed")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self):
        value = shift = 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def signed(self):
        value = self.number()
        return value >> 1 ^ -(value & 1)

    def byte(self):
        return struct.unpack("<b", self.take(1))[0]

    def bool(self):
        return {b"\0": False, b"\1": True}[self.take(1)]

    def bytes(self):
        return self.take(self.number()).hex()

    def text(self):
        return self.take(self.number()).decode()

    def option(self, read):
        return read() if self.bool() else None

    def many(self, read):
        return [read() for _ in range(self.number())]

    def map(self, key, read):
        return {key(): read() for _ in range(self.number())}

    def fields(self, **readers):
        return {name: read() for name, read in readers.items()}

    def pair(self):
        return self.number(), self.number()

    def policy(self):
        return ("reject", "late_stream")[self.number()]

    def stream(self):
        return ("book", "trades", "quotes", "opaque", "late")[self.number()]

    def cursor(self):
        return self.fields(created_ns=self.number, queue_id=lambda: self.take(16).hex(), seq=self.number)

    def source(self):
        return self.fields(name=self.text, sha256=lambda: self.option(lambda: self.take(32).hex()))

    def partition(self):
        counts = "events applied dropped_before_snapshot duplicates not_applied late snapshots".split()
        counts += "crossed crossed_ns locked locked_ns unknown_removals repeated_prices time_back out_of_order".split()
        counts += "unknown_orders repeated_orders over_cancels".split()
        return self.fields(exists=self.bool, sealed=self.bool, **{name: self.number for name in counts})

    def gap(self):
        numbers = "after next missing_from missing_to time_ns".split()
        return self.fields(**{name: self.number for name in numbers}, cause=self.text, carried=self.bool)

    def listing(self):
        return self.fields(code=self.text, raw=self.text, version_id=self.number)

    def day(self):
        return self.fields(
            listing=lambda: self.option(self.listing),
            late_policy=self.policy,
            sealed=self.bool,
            partitions=lambda: self.map(self.stream, self.partition),
            gaps=lambda: self.many(self.gap),
            sources=lambda: self.many(self.number),
            ingest_ns=lambda: self.option(self.pair),
            event_ns=lambda: self.option(self.pair),
        )

    def kept(self):
        source = lambda: self.option(self.number)
        number = self.number
        return self.fields(
            ingest_ns=number, type_id=number, source=source, turn=number, time_ns=number, payload=self.bytes
        )

    def waiting(self):
        return self.fields(records=lambda: self.many(self.kept), len=self.number)

    def spelling(self):
        return self.fields(exp=self.byte, trimmed=self.bool, mixed=self.bool, surely_trimmed=self.bool)

    def book(self):
        side = lambda: self.many(lambda: (self.signed(), self.signed()))
        return self.fields(bids=side, asks=side, price=self.spelling, qty=self.spelling, blank=self.bool)

    def touch(self):
        return ("apart", "locked", "crossed")[self.number()]

    def orders(self):
        scale = lambda: (self.byte(), self.bool())
        side = lambda: self.many(lambda: (self.number(), self.signed(), self.signed()))
        worth = lambda: ("book", "old", "spoiled")[self.number()]
        run = lambda: self.fields(date=self.text, worth=worth, stamped_ns=self.number, sequence=self.number)
        return self.fields(
            blank=self.bool,
            price=scale,
            qty=scale,
            bids=side,
            asks=side,
            received_ns=self.number,
            run=lambda: self.option(run),
            event=lambda: self.option(lambda: self.fields(date=self.text, count=self.number)),
        )

    def met(self):
        return self.fields(turn=self.number, last=lambda: self.option(self.number), recent=lambda: self.many(self.number))

    def symbol(self):
        number, optional = self.number, lambda: self.option(self.number)
        return self.fields(
            code=self.text,
            raw=self.text,
            id=optional,
            is_unresolved=self.bool,
            book_turn=number,
            clock=number,
            days=lambda: self.map(self.text, self.day),
            next_seal=number,
            untimed=self.waiting,
            overdue=number,
            absurd_time=number,
            trades=self.met,
            quotes=self.met,
            seen=optional,
            book=self.book,
            valid=self.bool,
            last_id=number,
            last_event_ns=number,
            touch=self.touch,
            touched_ns=number,
            floor=lambda: self.option(self.text),
            next_minute=number,
            waiting=self.waiting,
            pending=lambda: self.option(self.kept),
            gap=lambda: self.option(self.gap),
            missing=lambda: self.option(self.pair),
            raw_lost=self.bool,
            late_ids=lambda: self.option(self.pair),
            orders=lambda: self.option(self.orders),
        )

    def version(self):
        return self.fields(
            venue=self.text,
            raw_symbol=self.text,
            symbol_id=self.number,
            symbol_code=self.text,
            symbol_version_id=self.number,
            valid_from=self.text,
            valid_to=lambda: self.option(self.text),
        )

    def used(self):
        return self.fields(event=lambda: self.option(self.pair), receipt=lambda: self.option(self.pair))

    def roster(self):
        return self.fields(
            venue=self.text,
            versions=lambda: self.many(self.version),
            sha256=lambda: self.take(32).hex(),
            unresolved=lambda: ("error", "unresolved")[self.number()],
            used=lambda: self.map(self.number, self.used),
            texts=lambda: self.map(self.text, self.used),
            others=self.used,
        )

    def place(self):
        return self.fields(symbol=self.number, date=self.text, stream=self.stream)

    def committed(self):
        numbers = "len next_seq running_crc min_time max_time".split()
        return self.place() | self.fields(**{name: self.number for name in numbers}, sealed=self.bool)

    def body(self):
        return self.fields(
            cursor=lambda: self.option(self.cursor),
            venue=self.text,
            symbols=lambda: self.many(self.symbol),
            sources=lambda: self.many(self.source),
            source=lambda: self.option(self.number),
            late_policy=self.policy,
            roster=lambda: self.option(self.roster),
            committed=lambda: self.many(self.committed),
            sealing=lambda: self.many(lambda: (self.number(), self.text())),
        )


def checkpoint(data):
    if len(data) < 24:
        raise Damage(0, f"24 bytes needed, {len(data)} there")
    version, zero, crc, size = struct.unpack_from("<HHIQ", data, 8)
    expect(8, "version, zero", (version, zero), (5, 0))
    expect(16, "len", size, len(data) - 24)
    expect(12, "crc", crc, zlib.crc32(data[24:], size & 0xFFFFFFFF))
    reader = Postcard(data)
    body = reader.body()
    expect(reader.at, "end of the body", len(data), reader.at)
    return body


# 21 The WAL

KINDS = {1: "data", 2: "batch", 3: "pad", 4: "truncate", 5: "vote", 6: "meta"}


def wal_header(data):
    if len(data) < 128:
        raise Damage(0, f"128 bytes needed, {len(data)} there")
    names = "magic version zero incompat wal_id segment_id predecessor_id predecessor_end durable_segment durable_offset"
    names += " durable_seq first_seq segment_len created_ns block_size batch_len epoch salt zero_2 crc"
    head = dict(zip(names.split(), struct.unpack_from("<8sHHI16sQQQQQQQQQIIIIII", data)))
    expect(8, "version", head["version"], 1)
    expect(124, "header crc", head["crc"], zlib.crc32(data[:124]))
    expect(10, "zero, incompat", (head["zero"], head["incompat"], head["zero_2"]), (0, 0, 0))
    block, batch, length = head["block_size"], head["batch_len"], head["segment_len"]
    if not 512 <= block <= 65536 or block & (block - 1):
        raise Damage(104, f"block_size is {block}")
    if not 0 < batch <= 1 << 26 or batch % block:
        raise Damage(108, f"batch_len is {batch}")
    if not 2 * block + 2 * batch <= length <= 1 << 40 or length % block or length > len(data):
        raise Damage(88, f"segment_len is {length}, the file has {len(data)} bytes")
    if head["segment_id"] <= head["predecessor_id"] or (head["predecessor_id"] == 0) != (head["predecessor_end"] == 0):
        raise Damage(32, "segment and predecessor do not follow one another")
    if head["durable_segment"] > head["segment_id"] or not 0 < head["first_seq"] < 1 << 63:
        raise Damage(56, "durable_segment or first_seq has a value that no writer stores")
    if any(data[128:block]):
        raise Damage(128, "the header block is not zero behind the header")
    return head


def wal_frame(data, at, end, salt):
    """(seq, kind, payload, end of the frame)"""
    seq, size, flags = struct.unpack_from("<QIB", data, at)
    if flags not in KINDS or size > end - at - 17:
        raise Damage(at, f"flags {flags}, {size} bytes")
    behind = at + 13 + size
    expect(at, "crc", struct.unpack_from("<I", data, behind)[0], zlib.crc32(data[at:behind], salt))
    return seq, KINDS[flags], data[at + 13 : behind], behind + 4


def wal_batch(data, at, head, expected):
    """Its frames, and where it ends."""
    limit, salt = head["segment_len"], head["salt"]
    if at + 57 > limit:
        raise Damage(at, "the segment ends")
    seq, kind, payload, inside = wal_frame(data, at, limit, salt)
    if kind != "batch" or len(payload) != 40 or seq != expected:
        raise Damage(at, f"{kind} frame with seq {seq}, a batch frame with seq {expected} expected")
    segment, offset, durable_seq, own, size, flags = struct.unpack("<QQQQII", payload)
    if own != at or size % head["block_size"] or not 0 < size <= min(head["batch_len"], limit - at) or flags > 1:
        raise Damage(at, f"a batch of {size} bytes for offset {own}, flags {flags}")
    if (segment, offset) > (head["segment_id"], at) or durable_seq >= seq:
        raise Damage(at, "it calls durable what is behind it")
    end = at + size
    yield {"offset": at, "seq": seq, "kind": kind, "len": 40, "payload": payload.hex(), "closed": flags == 1, "end": end}
    opens = at == head["block_size"]
    while end - inside >= 17:
        begin = inside
        seq, kind, payload, inside = wal_frame(data, inside, end, salt)
        expect(begin, "seq", seq, expected)
        if kind == "batch" or opens and kind != "meta":
            raise Damage(begin, f"a {kind} frame here")
        if kind == "pad":
            if any(payload) or inside != end:
                raise Damage(begin, "the padding is not zero or does not end the batch")
            return
        opens = False
        expected += kind == "data"
        yield {"offset": begin, "seq": seq, "kind": kind, "len": len(payload), "payload": payload.hex()}
    if any(data[inside:end]):
        raise Damage(inside, "the batch does not end with zeros")


def wal(data):
    head = wal_header(data)
    at, expected = head["block_size"], head["first_seq"]
    try:
        while True:
            for frame in wal_batch(data, at, head, expected):
                end = frame.get("end", None) or end
                expected += frame["kind"] == "data"
                yield frame
            at = end
    except Damage:
        # Torn or damaged: that is for the whole log to say.
        return


def read(path, entries):
    with open(path, "rb") as file:
        data = file.read()
    magic = data[:8]
    if entries:
        if magic == b"QZSTIDX1":
            names = ("uncompressed_offset", "compressed_offset", "compressed_size", "uncompressed_size")
            return (dict(zip(names, entry)) for entry in index(data))
        if magic[:4] == b"\x28\xb5\x2f\xfd":
            return tables(data)[0]
        if magic in (b"CHRONCTL", b"CHRONCUR"):
            return small(data, magic)
        if magic == b"CHRONIDX":
            return seek_index(data)
        if magic == b"QREFINE1":
            return [checkpoint(data)]
        if magic[:1] == b"{":
            return [meta(data)]
        raise Damage(0, f"{magic!r} has no entries")
    if magic == b"CHRONWAL":
        return wal(data)
    return frames(cold(data, path) if magic[:4] == b"\x28\xb5\x2f\xfd" else data)


def main(arguments):
    entries = arguments[:1] == ["--entries"]
    paths = arguments[entries:]
    if not paths or paths[0].startswith("-"):
        print(__doc__.strip())
        return 0 if arguments in (["-h"], ["--help"]) else 2
    for path in paths:
        try:
            for row in read(path, entries):
                print(json.dumps(row))
        except (Damage, OSError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
