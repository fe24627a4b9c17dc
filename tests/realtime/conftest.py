"""What tests of sockets share."""

import pytest
import zmq


@pytest.fixture
def free_address():
    """An address of this machine at which nothing listens."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        return f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"
