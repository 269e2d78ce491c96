"""The history checker on forged histories: it finds what it is there to find."""

import base64
import copy

import pytest

import history

KEYS = {"dev-1/primary": ("dev-1", "aa" * 32), "dev-1/secondary": ("dev-1", "bb" * 32), "dev-2/primary": ("dev-2", "cc" * 32)}


def record(session, number, epoch, sequence, offset, topic=None, partition=0):
    """A stored record of a message."""
    return {
        "hub": "default",
        "device": session.device,
        "generation": "1",
        "partition": partition,
        "offset": offset,
        "sequence": sequence,
        "epoch": epoch,
        "key_fingerprint": KEYS[session.key][1],
        "body": base64.b64encode(history.body(session, number, topic or session.device).encode()).decode(),
    }


def good():
    """The owner sends three messages, a thief takes over and sends two; of the owner's fourth nothing is stored. Another device."""
    notes = history.Notes()
    owner = notes.session("owner", "dev-1", "dev-1/primary")
    notes.accepted(owner)
    for _ in range(3):
        notes.sending(owner, "dev-1")
    thief = notes.session("thief", "dev-1", "dev-1/secondary")
    notes.accepted(thief)
    notes.sending(owner, "dev-1")
    for _ in range(2):
        notes.sending(thief, "dev-1")
    other = notes.session("other", "dev-2", "dev-2/primary")
    notes.accepted(other)
    notes.sending(other, "dev-2")
    owner.acknowledged, thief.acknowledged, other.acknowledged = {1, 2}, {1}, {1}
    records = [record(owner, n, "1-1", n, n) for n in (1, 2, 3)]
    records += [record(thief, n, "1-2", n, n + 4) for n in (1, 2)]
    records += [record(other, 1, "1-3", 1, 9, partition=1)]
    return records, notes.sessions


def rules(records, sessions):
    """The rules that are broken."""
    return {rule for rule, _ in history.check(records, sessions, KEYS)}


def test_a_good_history_is_good():
    assert history.check(*good(), KEYS) == []


def impersonate(records, sessions):
    records[0]["device"] = "dev-2"
    return "impersonated"


def connect_with_a_foreign_key(records, sessions):
    sessions["owner#0"].key = "dev-2/primary"
    return "impersonated"


def stamp_another_key(records, sessions):
    records[1]["key_fingerprint"] = "bb" * 32
    return "wrong key"


def store_a_foreign_topic(records, sessions):
    session = sessions["owner#0"]
    records[2] = record(session, 3, "1-1", 3, 3, topic="dev-2")
    return "foreign topic"


def invent(records, sessions):
    del sessions["other#0"].sent[1]
    return "unknown"


def store_what_a_refused_client_sent(records, sessions):
    sessions["other#0"].accepted = None
    return "unaccepted"


def interleave(records, sessions):
    records[2]["offset"], records[3]["offset"] = records[3]["offset"], records[2]["offset"]
    return "interleaved"


def store_after_a_takeover(records, sessions):
    # Before the newer session's first message, so that no epochs interleave: only the clients' order shows it.
    records.append(record(sessions["owner#0"], 4, "1-1", 4, 4))
    return "after a takeover"


def leave_a_gap(records, sessions):
    records[2]["sequence"] = 4
    return "gap"


def lose_an_acknowledged_message(records, sessions):
    del records[-1]
    return "lost"


def store_twice(records, sessions):
    records.append(record(sessions["other#0"], 1, "1-3", 2, 10, partition=1))
    return "stored twice"


def reorder(records, sessions):
    for field in ("offset", "sequence"):
        records[0][field], records[1][field] = records[1][field], records[0][field]
    return "reordered"


def skip_a_message(records, sessions):
    del records[1]
    records[1]["sequence"] = 2
    sessions["owner#0"].acknowledged = {1}
    return "hole"


def share_an_epoch(records, sessions):
    for one, sequence in zip(records[3:5], (4, 5), strict=True):
        one["epoch"], one["sequence"] = "1-1", sequence
    return "shared epoch"


def change_the_epoch(records, sessions):
    records[4]["epoch"], records[4]["sequence"] = "1-9", 1
    return "two epochs"


def change_the_partition(records, sessions):
    records[0]["partition"] = 3
    return "two partitions"


def change_the_generation(records, sessions):
    records[4]["generation"] = "2"
    return "two lives"


def give_an_offset_twice(records, sessions):
    records[1]["offset"] = records[0]["offset"]
    return "offset twice"


FORGERIES = [
    impersonate,
    connect_with_a_foreign_key,
    stamp_another_key,
    store_a_foreign_topic,
    invent,
    store_what_a_refused_client_sent,
    interleave,
    store_after_a_takeover,
    leave_a_gap,
    lose_an_acknowledged_message,
    store_twice,
    reorder,
    skip_a_message,
    share_an_epoch,
    change_the_epoch,
    change_the_partition,
    change_the_generation,
    give_an_offset_twice,
]


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forged_history_is_found(forge):
    records, sessions = copy.deepcopy(good())
    rule = forge(records, sessions)
    assert rule in rules(records, sessions)
