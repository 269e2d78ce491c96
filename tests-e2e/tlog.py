"""A second verifier of the audit log, written from the specifications alone and sharing nothing with the program under test:
RFC 6962 (the tree and its proofs), C2SP signed-note, tlog-checkpoint, tlog-tiles and tlog-proof. SHA-256 is Python's, Ed25519 that of
the package `cryptography`.

Two of the terms: a *tile* holds 256 hashes of one level (level 0: those of the entries; level n+1: each the root over a full tile of
level n), an *entry bundle* the 256 entries below a tile of level 0. The last of each may be partial.
"""

import base64
import hashlib
import struct
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

WIDTH = 256
ED25519 = 1


class Wrong(Exception):
    """What is wrong, and the first place where it is: a file below the log's directory and, if it is about one, an entry."""

    def __init__(self, what, file=None, entry=None):
        super().__init__(f"{file or ''}{'' if entry is None else f', entry {entry}'}: {what}")
        self.file, self.entry = file, entry


# Hashes.


def leaf_hash(entry):
    """RFC 6962, 2.1."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left, right):
    """RFC 6962, 2.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(hashes):
    """The tree's root over leaf hashes (RFC 6962, 2.1: MTH)."""
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return node_hash(root_of(hashes[:split]), root_of(hashes[split:]))


def _take(proof):
    if not proof:
        raise Wrong("the proof is too short")
    return proof.pop(0)


def check_inclusion(leaf, index, size, proof, root):
    """RFC 9162, 2.1.3.2."""
    if index >= size:
        raise Wrong("the index is outside of the tree")
    proof, number, last, found = list(proof), index, size - 1, leaf
    while last > 0:
        if number % 2 == 1 or number == last:
            if number % 2 == 1:
                found = node_hash(_take(proof), found)
            # Without a sibling on the right the node is its parent.
        else:
            found = node_hash(found, _take(proof))
        number, last = number >> 1, last >> 1
    if proof or found != root:
        raise Wrong("the proof does not lead to the root")


def check_consistency(old_size, old_root, size, root, proof):
    """RFC 9162, 2.1.4.2."""
    if not 0 < old_size <= size:
        raise Wrong("the older tree is empty or larger")
    proof = list(proof)
    if old_size == size:
        if proof or old_root != root:
            raise Wrong("two trees of one size differ")
        return
    number, last = old_size - 1, size - 1
    while number % 2 == 1:
        number, last = number >> 1, last >> 1
    first = old_root if number == 0 and old_size & (old_size - 1) == 0 else _take(proof)
    old, new = first, first
    while last > 0:
        if number % 2 == 1:
            sibling = _take(proof)
            old, new = node_hash(sibling, old), node_hash(sibling, new)
        elif number < last:
            new = node_hash(new, _take(proof))
        number, last = number >> 1, last >> 1
    if proof or old != old_root or new != root:
        raise Wrong("the older tree is not the beginning of the newer one")


# Signed notes.


class Key:
    """A verifier key: `<name>+<id>+<base64 of algorithm and public key>`."""

    def __init__(self, text):
        self.name, key_id, encoded = text.strip().split("+", 2)
        data = base64.b64decode(encoded, validate=True)
        if data[0] != ED25519 or len(data) != 33:
            raise Wrong("the key is not of Ed25519")
        self.id = hashlib.sha256(self.name.encode() + b"\n" + data).digest()[:4]
        if self.id.hex() != key_id:
            raise Wrong("the key's id is not that of its name and key")
        self.public = Ed25519PublicKey.from_public_bytes(data[1:])

    def open(self, note):
        """The text of a note that this key signed."""
        text, _, signatures = note.rpartition("\n\n")
        if not signatures.endswith("\n"):
            raise Wrong("it is no signed note")
        text += "\n"
        signed = False
        for line in signatures[:-1].split("\n"):
            dash, name, encoded = line.split(" ")
            signature = base64.b64decode(encoded, validate=True)
            if dash != "\u2014" or len(signature) < 5:
                raise Wrong("a line is no signature")
            if (name, signature[:4]) != (self.name, self.id):
                continue
            try:
                self.public.verify(signature[4:], text.encode())
            except InvalidSignature:
                raise Wrong("the signature does not verify") from None
            signed = True
        if not signed:
            raise Wrong("it is not signed by the key")
        return text


def sign(name, private, text):
    """A note of `text` by a private key, as the signer makes it: for logs that a test forges."""
    assert isinstance(private, Ed25519PrivateKey)
    public = bytes([ED25519]) + private.public_key().public_bytes_raw()
    key_id = hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]
    signature = base64.b64encode(key_id + private.sign(text.encode())).decode()
    return f"{text}\n\u2014 {name} {signature}\n"


def checkpoint(note, key):
    """Size and root of a checkpoint that the key signed."""
    try:
        origin, size, root, *_ = key.open(note).split("\n")
        if origin != key.name or str(int(size)) != size:
            raise Wrong("it is a checkpoint of another log")
        root = base64.b64decode(root, validate=True)
    except ValueError as error:
        raise Wrong(f"it is no checkpoint: {error}") from None
    if len(root) != 32:
        raise Wrong("its root is no hash")
    return int(size), root


# Tiles.


def tile_path(level, index, width=WIDTH):
    """Where a tile lies: groups of three digits, all but the last with an `x`."""
    digits = f"{index:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    path = "/".join(["x" + group for group in groups[:-1]] + groups[-1:])
    return f"tile/{level}/{path}" + ("" if width == WIDTH else f".p/{width}")


def read_bundle(data, file, first):
    """The entries of a bundle, each with its length in 16 bits before it."""
    entries, at = [], 0
    while at < len(data):
        end = at + 2 + (struct.unpack_from(">H", data, at)[0] if at + 2 <= len(data) else 0)
        if at + 2 > len(data) or end > len(data):
            raise Wrong("an entry is cut off", file, first + len(entries))
        entries.append(data[at + 2 : end])
        at = end
    return entries


def _read(directory, level, index, width):
    """A tile's file; once the full one is there, the partial one may be gone."""
    for path in (tile_path(level, index, width), tile_path(level, index)):
        file = Path(directory) / path
        if file.exists():
            return path, file.read_bytes()
    raise Wrong("the file is missing", tile_path(level, index, width), index * WIDTH if level in (0, "entries") else None)


def _widths(count):
    """Index and width of the tiles of `count` nodes."""
    return [(at // WIDTH, min(WIDTH, count - at)) for at in range(0, count, WIDTH)]


def verify(directory, key, older=None):
    """Verifies a whole log, and that it goes on from an older checkpoint (a note) if there is one; gives its entries."""
    note = (Path(directory) / "checkpoint").read_bytes().decode(errors="replace")
    try:
        size, root = checkpoint(note, key)
    except Wrong as wrong:
        raise Wrong(str(wrong), "checkpoint") from None
    old_size, old_root = checkpoint(older, key) if older is not None else (0, root_of([]))
    if old_size > size:
        raise Wrong("the log was longer once", "checkpoint")
    entries, hashes = [], []
    for index, width in _widths(size):
        first = index * WIDTH
        file, data = _read(directory, "entries", index, width)
        bundle = read_bundle(data, file, first)
        tile_file, tile = _read(directory, 0, index, width)
        if len(bundle) < width:
            raise Wrong("entries are missing", file, first + len(bundle))
        if file == tile_path("entries", index, width) and len(bundle) > width:
            raise Wrong("there are more entries than were logged", file, first + width)
        if len(tile) < 32 * width:
            raise Wrong("hashes are missing", tile_file, first + len(tile) // 32)
        for at, entry in enumerate(bundle[:width]):
            if leaf_hash(entry) != tile[32 * at : 32 * at + 32]:
                raise Wrong("entry and hash disagree", file, first + at)
            hashes.append(leaf_hash(entry))
        entries += bundle[:width]
    level, nodes = 0, hashes
    while len(nodes) >= WIDTH:
        level += 1
        nodes = [root_of(nodes[at : at + WIDTH]) for at in range(0, len(nodes) // WIDTH * WIDTH, WIDTH)]
        for index, width in _widths(len(nodes)):
            file, tile = _read(directory, level, index, width)
            if tile[: 32 * width] != b"".join(nodes[index * WIDTH :][:width]):
                raise Wrong("a hash is not the one over the tile below", file)
    if root_of(hashes) != root:
        raise Wrong("the entries do not lead to the signed root", "checkpoint")
    if root_of(hashes[:old_size]) != old_root:
        raise Wrong("the log was forked", "checkpoint")
    return entries


def write(directory, entries, name, private):
    """Writes a log of these entries: what a forger with the private key could do."""
    directory = Path(directory)

    def put(path, data):
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)

    for index, width in _widths(len(entries)):
        bundle = entries[index * WIDTH :][:width]
        put(tile_path("entries", index, width), b"".join(struct.pack(">H", len(e)) + e for e in bundle))
    level, nodes = 0, [leaf_hash(entry) for entry in entries]
    root = root_of(nodes)
    while nodes:
        for index, width in _widths(len(nodes)):
            put(tile_path(level, index, width), b"".join(nodes[index * WIDTH :][:width]))
        nodes = [root_of(nodes[at : at + WIDTH]) for at in range(0, len(nodes) // WIDTH * WIDTH, WIDTH)]
        level += 1
    put("checkpoint", sign(name, private, f"{name}\n{len(entries)}\n{base64.b64encode(root).decode()}\n").encode())


def check_proof(text, key):
    """Checks a proof that stands alone (tlog-proof); gives index and entry."""
    head, _, note = text.partition("\n\n")
    version, extra, index, *hashes = head.split("\n")
    if version != "c2sp.org/tlog-proof@v1" or not extra.startswith("extra ") or not index.startswith("index "):
        raise Wrong("it is no proof with its entry")
    entry = base64.b64decode(extra[len("extra ") :], validate=True)
    size, root = checkpoint(note, key)
    number = int(index[len("index ") :])
    check_inclusion(leaf_hash(entry), number, size, [base64.b64decode(line) for line in hashes], root)
    return number, entry
