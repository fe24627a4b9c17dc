"""An address has one reading, and only what is on this machine for certain is local."""

import pytest

from realtime.feed.address import is_address, is_ipv6, is_local

HERE = ["tcp://127.0.0.1:5560", "tcp://127.9.9.9:1", "tcp://localhost:65535", "tcp://[::1]:5560"]
ELSEWHERE = [
    "tcp://0.0.0.0:5560", "tcp://192.168.1.2:5560", "tcp://[::]:5560", "tcp://[fe80::1]:5560", "tcp://scanner:5560",
    "tcp://localhost.example.org:5560", "tcp://127.0.0.1.example.org:5560", "tcp://127.1:5560", "tcp://eth0:5560",
]  # fmt: skip
NONE = [
    "", "x", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:", "tcp://127.0.0.1:0", "tcp://127.0.0.1:65536",
    "tcp://127.0.0.1:x", "tcp://:5560", "tcp://*:5560", "ipc:///tmp/x", "ipc://127.0.0.1:5560", "inproc://x",
    "TCP://127.0.0.1:5560", "tcp://127.0.0.1:5560/", "tcp://127.0.0.1:5560?x", "tcp://127.0.0.1:5560#x",
    "tcp://127.0.0.1:5560 ", "tcp://127.0.0.1:5560\n", "tcp://127.0.0.1\n:5560", "tcp://a@127.0.0.1:5560",
    "tcp://127.0.0.1:1;127.0.0.1:2", "tcp://::1:5560", "tcp://[::1]", "tcp://[::1%eth0]:5560",
    "tcp://127.0.0.1:5560@192.168.1.2:5560",
]  # fmt: skip


@pytest.mark.parametrize("text", HERE + ELSEWHERE)
def test_only_loopback_is_local(text):
    assert is_address(text)
    assert is_local(text) == (text in HERE)
    assert is_ipv6(text) == ("[" in text)


@pytest.mark.parametrize("text", NONE)
def test_what_could_be_read_in_two_ways_is_no_address(text):
    assert not is_address(text)


def test_who_listens_may_leave_the_port_to_the_system():
    assert is_address("tcp://127.0.0.1:*", listening=True)
    assert not is_address("tcp://127.0.0.1:*")
    assert is_local("tcp://127.0.0.1:*")
