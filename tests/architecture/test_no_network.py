"""The guard of tests/conftest.py holds: a test that wants the internet fails at once, loopback and pipes work."""

import socket
import urllib.request

import pytest


def test_a_connection_out_is_refused():
    with pytest.raises(RuntimeError, match="no network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)  # an address reserved for documentation


def test_a_name_is_not_looked_up():
    with pytest.raises(RuntimeError, match="no network"):
        urllib.request.urlopen("http://example.invalid")


def test_no_datagram_leaves():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, pytest.raises(RuntimeError, match="no network"):
        sender.sendto(b"x", ("192.0.2.1", 53))


def test_loopback_and_socket_pairs_work():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
    one, other = socket.socketpair()
    with one, other:
        one.sendall(b"x")
        assert other.recv(1) == b"x"
