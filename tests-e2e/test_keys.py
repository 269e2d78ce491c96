"""Shared access policies: keys are rotated, added and removed, at once and for good."""

import json
import ssl
import urllib.error
import urllib.request

import sas

OWNER = "provisioningserviceowner"


def parts(string):
    """The fields of a connection string."""
    return dict(part.split("=", 1) for part in string.split(";"))


def answer(server, string, path):
    """What a back end with this connection string is told, as SDKs ask: a token for the host, over TLS."""
    fields = parts(string)
    token = sas.token(fields["HostName"], fields["SharedAccessKey"], policy=fields["SharedAccessKeyName"])
    request = urllib.request.Request(f"https://{server.https}{path}", headers={"Authorization": token})
    request.add_header("Host", fields["HostName"])
    context = ssl.create_default_context(cafile=str(server.ca))
    with urllib.request.urlopen(request, context=context, timeout=20) as answered:
        return answered.read().decode()


def status(server, string, path="/enrollments/none?api-version=2021-10-01"):
    """The status that it gets; 404 for what is not there means that it was let in."""
    try:
        answer(server, string, path)
        return 200
    except urllib.error.HTTPError as error:
        return error.code


def mode(server):
    """Who may read connection-strings.json."""
    return (server.data / "connection-strings.json").stat().st_mode & 0o777


def test_rotation_lets_back_ends_follow(server):
    """Catches an old key that ends too early or too late, a file that is not rewritten, and a restart that forgets."""
    first = server.dps_connection_string
    assert status(server, first) == 404
    rotated = server.object("key", "rotate", OWNER)
    second = server.dps_connection_string
    assert second == rotated["primaryConnectionString"] != first
    assert rotated["secondaryConnectionString"] == first
    assert mode(server) == 0o600
    assert status(server, second) == 404 and status(server, first) == 404
    # The command line goes on with the new one.
    server.enroll("dev-1")

    server.command("key", "rotate", OWNER)
    third = server.dps_connection_string
    assert status(server, first) == 401, "it has left both slots"
    assert status(server, second) == 404 and status(server, third) == 404
    server.stop()
    # Made again, it must not bring back the keys of the beginning.
    server.init()
    server.start()
    assert server.dps_connection_string == third
    assert [status(server, string) for string in (first, second, third)] == [401, 404, 404]

    server.command("key", "rotate", OWNER, "--both")
    server.kill()
    server.start()
    fifth = server.dps_connection_string
    assert [status(server, string) for string in (second, third, fifth)] == [401, 401, 404]
    assert server.object("key", "show", OWNER)["generation"] == 4
    assert server.command("key", "show", OWNER, "--string").strip() == fifth
    log = answer(server, fifth, "/unicity/audit/leaves?event=policyRotated")
    events = [item["leaf"] for item in json.loads(log)["items"]]
    assert [event["generation"] for event in events] == [4, 2, 1], log
    assert all(event["actor"] == {"Policy": OWNER} and event["policy"] == OWNER for event in events), log
    assert not any(parts(string)["SharedAccessKey"] in log for string in (first, second, third, fifth))


def test_policies_are_made_and_removed(server):
    """Catches a policy that has more rights than it was given, or a key that outlives it."""
    made = server.command("key", "add", "line-1", "--rights", "EnrollmentRead,EnrollmentWrite").strip()
    assert status(server, made) == 404
    assert status(server, made, "/unicity/policies") == 401
    assert "--replace" in server.fails("key", "add", "line-1", "--rights", "EnrollmentRead")
    hub = server.object("key", "add", "twins", "--rights", "ServiceConnect", "--hub", "default")
    string = hub["primaryConnectionString"]
    assert status(server, string, "/twins/none?api-version=2021-04-12") == 404
    assert status(server, string, "/devices/none?api-version=2021-04-12") == 401
    listed = {(policy["audience"], policy["name"]) for policy in server.objects("key", "list")}
    assert {("dps", OWNER), ("dps", "line-1"), ("default", "iothubowner"), ("default", "twins")} <= listed
    assert "line-1" in server.command("key", "list")
    assert "SharedAccessKey" not in server.command("key", "list")
    assert "last one" in server.fails("key", "remove", OWNER)
    server.command("key", "remove", "line-1", "--yes")
    assert status(server, made) == 401
    server.kill()
    server.start()
    assert status(server, made) == 401
    assert status(server, string, "/twins/none?api-version=2021-04-12") == 404
    again = server.object("key", "add", "line-1", "--rights", "EnrollmentRead")
    assert again["primaryConnectionString"] != made
    assert status(server, made) == 401


def test_a_hubs_owner_rotates_its_own_key(server):
    """Catches a hub's file entry that is not rewritten, and an SDK-like client that cannot go on."""
    before = server.hub_connection_string
    rotated = server.object("key", "rotate", "iothubowner", "--hub", "default", "--both")
    after = server.hub_connection_string
    assert after == rotated["primaryConnectionString"] != before
    path = "/devices?api-version=2021-04-12"
    assert status(server, before, path) == 401 and status(server, after, path) == 200
    assert server.objects("device", "list") == []
    policies = "/unicity/policies?audience=default"
    assert status(server, after, policies) == 200 and status(server, after, "/unicity/policies") == 401
    assert json.loads((server.data / "connection-strings.json").read_text())["id_scope"] == server.id_scope
