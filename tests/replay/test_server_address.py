"""Without keys a feed listens where this machine alone can reach it, and says so of any other address."""

import pytest
import zmq

from dynadiff.base.errors import UserError
from replay.server import serve
from support.runs import messages, timed
from support.served import consumer_of, drain


def test_a_port_in_use_is_one_sentence():
    with zmq.Context() as context, context.socket(zmq.ROUTER) as taken:
        address = f"tcp://127.0.0.1:{taken.bind_to_random_port('tcp://127.0.0.1')}"
        with pytest.raises(UserError, match=f"{address} is in use"):
            serve(timed(messages()), address)


@pytest.mark.parametrize(
    "bind",
    [
        "tcp://0.0.0.0:5560",
        "tcp://*:5560",
        "tcp://192.168.1.2:5560",
        "tcp://example.org:5560",
        "tcp://[::]:5560",
        "tcp://localhost.example.org:5560",
        "tcp://127.0.0.1.example.org:5560",
        "tcp://192.168.1.2:5560@127.0.0.1:5560",
        "tcp://127.0.0.1:5560@192.168.1.2:5560",
        "tcp://0.0.0.0:5560;127.0.0.1:5560",
        "tcp://eth0:5560",
        "tcp://127.0.0.1\n:5560",
        "ipc:///tmp/x",
        "ipc://127.0.0.1:5560",
        "inproc://x",
        "",
        "x",
    ],
)
def test_an_address_that_others_could_reach_is_refused(bind):
    with pytest.raises(UserError, match="a feed cannot listen at"):
        serve(timed(messages()), bind)


@pytest.mark.parametrize("bind", ["tcp://127.0.0.1", "tcp://127.0.0.1:x", "tcp://127.0.0.1:99999999"])
def test_an_address_without_a_port_is_refused(bind):
    with pytest.raises(UserError, match="cannot listen"):
        serve(timed(messages()), bind)


@pytest.mark.parametrize("bind", ["tcp://localhost:*", "tcp://127.0.0.2:*", "tcp://[::1]:*"])
def test_names_of_this_machine_need_no_keys(bind):
    try:
        served = consumer_of(timed(messages()), lambda feed: feed.confirm(drain(feed)), bind=bind)
    except UserError as error:
        if "[::1]" in bind and "cannot listen" in str(error):
            pytest.skip("this machine has no address of version 6")
        raise
    assert served == ("decoder",)
