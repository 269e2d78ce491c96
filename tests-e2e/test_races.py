"""Many devices ask in the same moment for what only one may have: one id, one key, one device id. Real sockets, so that the requests
meet in the server as they meet in the field: some in one batch of the registry, some in several."""

import json
import threading

import pytest

import sas
from openssl import Factory
from server import primary_key

RIVALS = 12


def all_at_once(calls):
    """Lets all calls go together, each in a thread; their results in order."""
    start, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(place, call):
        start.wait()
        results[place] = call()

    threads = [threading.Thread(target=run, args=numbered) for numbered in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def register_all_at_once(clients):
    """Registers over connections that are all open before the first asks; gives the status and body of each answer."""
    for client in clients:
        client.connect()
        assert client.subscribe("$dps/registrations/res/#") == 1

    def registration(client):
        def run():
            client.publish("$dps/registrations/PUT/iotdps-register/?$rid=1", b"")
            topic, body = client.wait_message()
            return int(topic.split("/")[3]), json.loads(body)

        return run

    return all_at_once([registration(client) for client in clients])


def assert_one_winner(answers):
    """One is assigned, the others are told that it cannot be; gives the winner's place."""
    winners = [place for place, (status, _) in enumerate(answers) if status == 200]
    assert len(winners) == 1, answers
    for place, (status, body) in enumerate(answers):
        assert place in winners or (400 <= status < 500 and body["errorCode"]), answers
    return winners[0]


def test_one_id_registered_over_many_connections_is_one_device(server, devices):
    key = primary_key(server.enroll("sensor-1"))
    token = devices.raw_dps_token("sensor-1", key)
    answers = register_all_at_once([devices.raw_dps("sensor-1", token) for _ in range(RIVALS)])
    assert {status for status, _ in answers} == {200}, answers
    states = [body["registrationState"] for _, body in answers]
    assert len({(state["deviceId"], state["assignedHub"], state["createdDateTimeUtc"]) for state in states}) == 1
    assert [one["deviceId"] for one in server.objects("device", "list")] == ["sensor-1"]
    assert len(server.objects("registration", "list")) == 1
    devices.hub("sensor-1", key).send_message("it is one device")
    assert [record["generation"] for record in server.tail()] == [server.object("device", "show", "sensor-1")["generationId"]]


@pytest.mark.deadline(120)
def test_one_key_under_many_ids_is_one_device(server, devices, tool, tmp_path):
    # What a factory does that images one flash chip: each certificate has a name of its own, over one key.
    factory = Factory(tool, tmp_path / "factory")
    factory.authority("root")
    server.command("enroll", "add-group", "--group-id", "line", "--ca", str(factory.pem("root")))
    key = factory.key("shared")
    names = [f"dev-{number}" for number in range(RIVALS)]
    clients = [devices.raw_dps_x509(name, *factory.device(name, "root", key=key)) for name in names]
    answers = register_all_at_once(clients)
    winner = names[assert_one_winner(answers)]
    assert [one["registrationId"] for one in server.objects("registration", "list")] == [winner]
    assert [one["deviceId"] for one in server.objects("device", "list")] == [winner]
    # The devices are not told whose key it is; the operator is, for each.
    assert all(winner not in json.dumps(body) for status, body in answers if status != 200)
    refusals = [record for record in server.objects("why") if record["errorName"] == "KeyInUse"]
    assert len(refusals) == RIVALS - 1
    assert all(winner in json.dumps(record) for record in refusals)


def test_one_device_id_for_many_registrations_is_one_device(server, devices):
    names = [f"sensor-{number}" for number in range(RIVALS)]
    keys = [primary_key(server.enroll(name, "--device-id", "pump")) for name in names]
    clients = [devices.raw_dps(name, devices.raw_dps_token(name, key)) for name, key in zip(names, keys)]
    winner = assert_one_winner(register_all_at_once(clients))
    assert [one["registrationId"] for one in server.objects("registration", "list")] == [names[winner]]
    assert [one["deviceId"] for one in server.objects("device", "list")] == ["pump"]
    devices.hub("pump", keys[winner]).send_message("from the winner")
    assert [record["device"] for record in server.tail()] == ["pump"]


def test_one_key_enrolled_by_many_operators_at_once_is_enrolled_once(server):
    key = sas.device_key(primary_key(server.enroll_group("line")), "of nobody yet")
    names = [f"sensor-{number}" for number in range(1, RIVALS + 1)]
    command = ("enroll", "add", "--symmetric-key", key, "--registration-id")
    done = all_at_once([lambda name=name: server.run(*command, name) for name in names])
    winners = [name for name, process in zip(names, done) if process.returncode == 0]
    assert len(winners) == 1, [process.stderr for process in done]
    for process in done:
        assert process.returncode == 0 or (process.returncode == 1 and winners[0] in process.stderr), process.stderr
    enrolled = [one["registrationId"] for one in server.objects("enroll", "list") if "registrationId" in one]
    assert enrolled == winners
