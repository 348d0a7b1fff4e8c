#!/usr/bin/env python3
"""A second reader and writer of VMA archives, made from the description of the
bytes alone, for tests to hold against the package's own.

  vma.py write ARCHIVE SEED ID:NAME=DISK... [-- NAME=CONFIG...]
  vma.py read  ARCHIVE DIR      disks as NAME.disk, configurations as NAME.config

The writer puts clusters, empty slots and extents of all lengths in an order that
follows from SEED, as a backup of a running VM may. The reader takes nothing for
granted.
"""
import hashlib, math, os, random, struct, sys

CLUSTER, BLOCK = 65536, 4096


def digest(data, at):
    return hashlib.md5(data[:at] + bytes(16) + data[at + 16:]).digest()


class Blobs:
    """The buffer after the header's tables; places count from its first byte."""

    def __init__(self):
        self.data = b"\0"

    def add(self, data):
        place = len(self.data)
        self.data += struct.pack("<H", len(data)) + data
        return place


def header(uuid, devices, configs, rng):
    head, blobs = bytearray(12288), Blobs()
    struct.pack_into(">4sI16sQ", head, 0, b"VMA\0", 1, uuid, 1700000000)
    for slot, (name, data) in zip(sorted(rng.sample(range(256), len(configs))), configs):
        struct.pack_into(">I", head, 3068 + 4 * slot, blobs.add(data))
        struct.pack_into(">I", head, 2044 + 4 * slot, blobs.add(name.encode() + b"\0"))
    for ident, name, disk in devices:
        struct.pack_into(">IIQ", head, 4096 + 32 * ident, blobs.add(name.encode() + b"\0"), 0, len(disk))
    size = math.ceil((12288 + len(blobs.data)) / 512) * 512
    struct.pack_into(">III", head, 48, 12288, len(blobs.data), size)
    head += blobs.data
    head += bytes(size - len(head))
    head[32:48] = digest(bytes(head), 32)
    return bytes(head)


def extent(uuid, slots):
    """slots: None, or (device, cluster, bytes of the cluster)."""
    head, data = bytearray(512), b""
    for i, slot in enumerate(slots):
        if slot is None:
            continue
        ident, number, content = slot
        mask = 0
        for bit in range(math.ceil(len(content) / BLOCK)):
            block = content[bit * BLOCK:(bit + 1) * BLOCK]
            if block.count(0) != len(block):
                mask |= 1 << bit
                data += block + bytes(BLOCK - len(block))
        struct.pack_into(">Q", head, 40 + 8 * i, mask << 48 | ident << 32 | number)
    struct.pack_into(">4sHH16s", head, 0, b"VMAE", 0, len(data) // BLOCK, uuid)
    head[24:40] = digest(bytes(head), 24)
    return bytes(head) + data


def write(path, seed, devices, configs):
    rng = random.Random(seed)
    uuid = bytes(rng.randrange(256) for _ in range(16))
    todo = [(ident, n, disk[n * CLUSTER:(n + 1) * CLUSTER])
            for ident, _, disk in devices for n in range(math.ceil(len(disk) / CLUSTER))]
    rng.shuffle(todo)
    with open(path, "wb") as out:
        out.write(header(uuid, devices, configs, rng))
        while todo:
            used = rng.randint(1, 59)
            slots, todo = todo[:used], todo[used:]
            slots += [None] * rng.randint(0, 59 - len(slots))
            rng.shuffle(slots)
            out.write(extent(uuid, slots))


def read(path, folder):
    data = open(path, "rb").read()
    magic, version, uuid, _ = struct.unpack_from(">4sI16sQ", data, 0)
    offset, used, size = struct.unpack_from(">III", data, 48)
    assert (magic, version, offset) == (b"VMA\0", 1, 12288)
    assert 12288 < size <= 524288 and size % 512 == 0 and 12288 + used <= size
    head = data[:size]
    assert head[32:48] == digest(head, 32), "checksum of the header"
    assert head[12288 + used:] == bytes(size - 12288 - used)

    def blob(place):
        assert 1 <= place < used
        length, = struct.unpack_from("<H", head, 12288 + place)
        assert place + 2 + length <= used
        return head[12288 + place + 2:][:length]

    def name(place):
        text = blob(place)
        assert text.endswith(b"\0") and text.count(0) == 1
        return text[:-1].decode()

    for i in range(256):
        at, content = struct.unpack_from(">I", head, 2044 + 4 * i)[0], struct.unpack_from(">I", head, 3068 + 4 * i)[0]
        assert bool(at) == bool(content)
        if at:
            with open(os.path.join(folder, name(at) + ".config"), "wb") as out:
                out.write(blob(content))
    disks, missing = {}, set()
    for ident in range(256):
        at, zero, length = struct.unpack_from(">IIQ", head, 4096 + 32 * ident)
        assert zero == 0 and head[4096 + 32 * ident + 16:4096 + 32 * ident + 32] == bytes(16)
        assert bool(at) == bool(length)
        if at:
            assert 1 <= ident <= 254
            disks[ident] = name(at), bytearray(b"\xee" * length)
            missing |= {(ident, n) for n in range(math.ceil(length / CLUSTER))}
    pos = size
    while pos < len(data):
        head = data[pos:pos + 512]
        magic, zero, blocks, owner = struct.unpack_from(">4sHH16s", head, 0)
        assert (magic, zero, owner) == (b"VMAE", 0, uuid)
        assert head[24:40] == digest(head, 24), "checksum of an extent"
        pos += 512
        end = pos + BLOCK * blocks
        for info in struct.unpack_from(">59Q", head, 40):
            mask, ident, number = info >> 48, info >> 32 & 0xffff, info & 0xffffffff
            if ident == 0:
                assert info == 0
                continue
            missing.remove((ident, number))
            disk = disks[ident][1]
            for bit in range(16):
                at = number * CLUSTER + bit * BLOCK
                room = max(0, min(BLOCK, len(disk) - at))
                block = bytes(BLOCK)
                if mask >> bit & 1:
                    assert room > 0, "a block beyond the end"
                    block, pos = data[pos:pos + BLOCK], pos + BLOCK
                    assert block.count(0) != BLOCK, "a block of zeros"
                    assert block[room:] == bytes(BLOCK - room), "padding"
                disk[at:at + room] = block[:room]
        assert pos == end, "blocks of an extent"
    assert pos == len(data), "the end"
    assert not missing, "missing clusters"
    for label, disk in disks.values():
        with open(os.path.join(folder, label + ".disk"), "wb") as out:
            out.write(disk)


def main():
    if sys.argv[1] == "read":
        return read(sys.argv[2], sys.argv[3])
    rest = sys.argv[4:]
    cut = rest.index("--") if "--" in rest else len(rest)
    devices = []
    for text in rest[:cut]:
        label, path = text.split("=", 1)
        ident, label = label.split(":", 1)
        devices.append((int(ident), label, open(path, "rb").read()))
    configs = [(n, open(p, "rb").read()) for n, p in (t.split("=", 1) for t in rest[cut + 1:])]
    write(sys.argv[2], sys.argv[3], devices, configs)


main()
