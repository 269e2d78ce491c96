"""The helpers themselves: a wrong one would make every other test say something untrue."""

import io

import loopback
import sas
from server import READY, Lines


def test_a_reserved_address_is_not_given_twice():
    with loopback.reserved() as one, loopback.reserved() as other:
        assert one != other


def test_a_listening_port_is_not_free():
    with loopback.reserved() as address:
        with loopback.listening(address, loopback.MQTT_PORT):
            assert not loopback.is_free(address, loopback.MQTT_PORT)
        assert loopback.is_free(address, loopback.MQTT_PORT)


def test_a_token_is_signed_over_its_encoded_resource():
    key = "aGVsbG8gd29ybGQgaGVsbG8gd29ybGQ="
    token = sas.token("0ne1/registrations/dev-1", key)
    assert sas.fields(token)["sr"] == "0ne1%2Fregistrations%2Fdev-1"
    assert sas.is_signed_by(token, key)
    assert not sas.is_signed_by(token, "b3RoZXI=")


def test_lines_end_with_none_again_and_again():
    lines = Lines(io.StringIO("one\ntwo"))
    assert [lines.next(5) for _ in range(4)] == ["one", "two", None, None]


def test_the_ready_line_has_its_one_form():
    assert READY.match("unicity ready mqtt=127.0.0.9:8883 https=127.0.0.9:41 admin=127.0.0.9:42").groups() == (
        "127.0.0.9:8883",
        "127.0.0.9:41",
        "127.0.0.9:42",
    )
