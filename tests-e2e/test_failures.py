"""What an operator is told about those who could not get in, by their address."""

import socket
import ssl

import pytest

from devices import Refused


def failures(server, *extra):
    """`doctor --last-failures`, newest first."""
    return server.objects("doctor", "--last-failures", "50", *extra)


def wait_for(server, code):
    """The newest failed handshake of this code, once the server has seen the end of the connection."""
    while True:
        found = [item for item in failures(server) if item.get("code") == code]
        if found:
            return found[0]


def test_handshakes_that_failed_are_told_with_peer_cause_and_remedy(server, devices):
    host, port = server.mqtt.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as plain:
        peer = plain.getsockname()
        plain.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
        plain.recv(100)
    told = wait_for(server, "not_tls")
    assert (told["stage"], told["listener"], told["count"]) == ("handshake", "mqtt", 1)
    assert told["peer"] == f"{peer[0]}:{peer[1]}" and told["peerNetwork"] == peer[0]
    assert "TLS" in told["remedy"] and told["detail"] and told["timestampUtc"] > "2026"

    distrusts = ssl.create_default_context()
    for _ in range(2):
        with pytest.raises(ssl.SSLError), socket.create_connection((host, int(port))) as raw:
            distrusts.wrap_socket(raw, server_hostname=host)
    told = wait_for(server, "alert")
    assert "pki/ca.pem" in told["remedy"]

    with pytest.raises(Refused):
        devices.raw_dps("nobody", "AAAA").connect()
    everything = failures(server)
    assert everything[0]["stage"] == "identity" and everything[0]["trackingId"]
    assert len(failures(server, "--peer", f"{peer[0]}/24")) == len(everything)
    assert failures(server, "--peer", "203.0.113.1") == []
    said = server.run("doctor", "--last-failures", "--peer", peer[0]).stdout
    assert "not_tls" in said and "remedy:" in said
