"""Loopback addresses for servers that must all have port 8883."""

import contextlib
import fcntl
import os
import socket
import tempfile

MQTT_PORT = 8883
FIRST, LAST = 10, 250


@contextlib.contextmanager
def reserved():
    """Gives an address 127.0.0.X whose port 8883 is free, and keeps other runs of these tests off it."""
    count = LAST - FIRST + 1
    for step in range(count):
        # Runs side by side begin at different places.
        address = f"127.0.0.{FIRST + (os.getpid() * 7 + step) % count}"
        with open(os.path.join(tempfile.gettempdir(), f"unicity-e2e-{address}.lock"), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if is_free(address, MQTT_PORT):
                yield address
                return
    raise RuntimeError(f"port {MQTT_PORT} is taken on all of 127.0.0.{FIRST} to 127.0.0.{LAST}")


def is_free(address, port):
    """Whether a server could listen there now."""
    try:
        listening(address, port).close()
    except OSError:
        return False
    return True


def listening(address, port):
    """A socket that listens there."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(1)
    except OSError:
        sock.close()
        raise
    return sock
