"""What clients know of themselves, held against what the server stored: a pure function, and its own tests are on forged histories.

Each message says in its body which session sent it, as which device, with which key, and its number in that session. Clients note
every CONNECT, every message before they send it, and every acknowledgement, in one order over all of them. None of it is the
server's word; all of the stamp is.
"""

import base64
import itertools
import json
import threading
from dataclasses import dataclass, field


@dataclass
class Session:
    """One CONNECT of one client, as the client knows it."""

    name: str
    device: str
    key: str
    # When CONNACK 0 was there, in the order of all notes; None: it never was.
    accepted: int | None = None
    # Number of each message -> when it was about to be sent.
    sent: dict[int, int] = field(default_factory=dict)
    # Numbers that were acknowledged.
    acknowledged: set[int] = field(default_factory=set)


class Notes:
    """All that clients note, in one order."""

    def __init__(self):
        self._lock = threading.Lock()
        self._order = itertools.count(1)
        self.sessions = {}

    def session(self, client, device, key):
        """A client is about to connect."""
        with self._lock:
            name = f"{client}#{sum(1 for other in self.sessions if other.startswith(client + '#'))}"
            session = self.sessions[name] = Session(name, device, key)
            return session

    def accepted(self, session):
        """CONNACK 0 came."""
        with self._lock:
            session.accepted = next(self._order)

    def sending(self, session, topic_device):
        """The body of the session's next message, to the topic of this device."""
        with self._lock:
            number = len(session.sent) + 1
            session.sent[number] = next(self._order)
        return body(session, number, topic_device)

    @property
    def acknowledged(self):
        """How many messages were acknowledged so far."""
        with self._lock:
            return sum(len(session.acknowledged) for session in self.sessions.values())


def body(session, number, topic_device):
    """A message's body."""
    said = {"session": session.name, "number": number, "device": session.device, "key": session.key}
    return json.dumps({**said, "topic": topic_device})


def number_of(text):
    """The number in a body."""
    return json.loads(text)["number"]


def said(record):
    """What the body of a stored record says."""
    return json.loads(base64.b64decode(record["body"]))


def check(records, sessions, keys):
    """What is wrong with a history, as (rule, what) pairs; nothing, if all is well.

    `records`: as `unicity tail --json` prints them, in the order of each partition. `sessions`: name -> Session. `keys`: name of a
    key -> (the device that it was given to, its fingerprint).
    """
    found = []
    found += _stamps(records, sessions, keys)
    found += _epochs(records)
    found += _owners_of_epochs(records)
    found += _numbers(records, sessions)
    found += _takeovers(records, sessions)
    return found


def _stamps(records, sessions, keys):
    """No message is stored under an identity whose key did not prove that session."""
    for record in records:
        message = said(record)
        session = sessions.get(message["session"])
        what = f"{message['session']}:{message['number']} at {record['partition']}/{record['offset']}"
        if session is None or message["number"] not in session.sent:
            yield "unknown", f"{what}: nobody sent it"
            continue
        if session.accepted is None:
            yield "unaccepted", f"{what}: its CONNECT was never accepted"
        if message["topic"] != record["device"]:
            yield "foreign topic", f"{what}: sent to {message['topic']}, stored for {record['device']}"
        given_to, fingerprint = keys[session.key]
        if record["device"] != session.device or given_to != session.device:
            yield "impersonated", f"{what}: key of {given_to}, as {session.device}, stored for {record['device']}"
        if record["key_fingerprint"] != fingerprint:
            yield "wrong key", f"{what}: proven with {fingerprint}, stamped {record['key_fingerprint']}"


def _by_identity(records):
    out = {}
    for record in records:
        out.setdefault((record["hub"], record["device"], record.get("module")), []).append(record)
    return out


def _epochs(records):
    """Epochs never interleave within an identity, its messages lie in one partition, and sequences have no gaps."""
    for identity, mine in _by_identity(records).items():
        if len({record["partition"] for record in mine}) > 1:
            yield "two partitions", f"{identity}"
        if len({record["generation"] for record in mine}) > 1:
            yield "two lives", f"{identity}"
        mine = sorted(mine, key=lambda record: record["offset"])
        for one, next_one in itertools.pairwise(mine):
            if one["offset"] == next_one["offset"]:
                yield "offset twice", f"{identity}: {one['offset']}"
            if next_one["epoch"] < one["epoch"]:
                yield "interleaved", f"{identity}: {next_one['epoch']} after {one['epoch']} at {next_one['offset']}"
        for epoch, of_epoch in itertools.groupby(sorted(mine, key=lambda it: it["epoch"]), lambda it: it["epoch"]):
            sequences = [record["sequence"] for record in of_epoch]
            if sequences != list(range(1, len(sequences) + 1)):
                yield "gap", f"{identity}: {epoch} has {sequences[:20]}"


def _owners_of_epochs(records):
    """One session, one epoch."""
    of_epoch, of_session = {}, {}
    for record in records:
        session = said(record)["session"]
        if of_epoch.setdefault(record["epoch"], session) != session:
            yield "shared epoch", f"{record['epoch']} is of {of_epoch[record['epoch']]} and of {session}"
        if of_session.setdefault(session, record["epoch"]) != record["epoch"]:
            yield "two epochs", f"{session} has {of_session[session]} and {record['epoch']}"


def _numbers(records, sessions):
    """Of each session a beginning is stored, once and in order, and all that was acknowledged is in it."""
    stored = {}
    for record in sorted(records, key=lambda record: (record["partition"], record["offset"])):
        message = said(record)
        stored.setdefault(message["session"], []).append(message["number"])
    for name, numbers in stored.items():
        if len(numbers) != len(set(numbers)):
            yield "stored twice", f"{name}: {numbers[:20]}"
        elif numbers != sorted(numbers):
            yield "reordered", f"{name}: {numbers[:20]}"
        elif numbers != list(range(1, len(numbers) + 1)):
            yield "hole", f"{name}: {numbers[:20]}"
    for name, session in sessions.items():
        if lost := session.acknowledged - set(stored.get(name, [])):
            yield "lost", f"{name}: {sorted(lost)[:20]} were acknowledged and are not there"


def _takeovers(records, sessions):
    """Nothing that a session sent after a newer one's CONNACK is stored."""
    for identity, mine in _by_identity(records).items():
        epoch_of = {said(record)["session"]: record["epoch"] for record in mine}
        accepted = sorted(
            (epoch, sessions[name].accepted)
            for name, epoch in epoch_of.items()
            if name in sessions and sessions[name].accepted is not None
        )
        for record in mine:
            message = said(record)
            session = sessions.get(message["session"])
            sent = session.sent.get(message["number"]) if session else None
            if sent is None:
                continue
            newer = [epoch for epoch, when in accepted if epoch > record["epoch"] and when < sent]
            if newer:
                yield "after a takeover", f"{identity}: {message['session']}:{message['number']} after {newer[0]}"
