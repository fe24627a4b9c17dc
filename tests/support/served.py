"""A feed that is served to consumers in threads, for the tests of the server."""

import threading
from queue import Queue

from realtime.feed.connection import Feed
from realtime.feed.wire import RunEnd
from replay.server import serve
from support.runs import messages, timed


def consumer_of(source, take, over=None, bind="tcp://127.0.0.1:*", **options):
    """Serve to a consumer in a thread, which is given its feed; ``over`` is set when ``serve`` is."""
    addresses = Queue()

    def consume():
        if address := addresses.get():
            with Feed(address, "decoder") as feed:
                take(feed)

    thread = threading.Thread(target=consume)
    thread.start()
    try:
        return serve(source, bind, ready=addresses.put, **options)
    finally:
        addresses.put("")  # if it never listened
        if over:
            over.set()
        thread.join()


def drain(feed):
    while not isinstance(message := feed.receive(5), RunEnd):
        assert message is not None
    return message


def serve_in_thread(ready, **options):
    """``ready`` is run beside the feed."""
    threads = []

    def begin(address):
        threads.append(threading.Thread(target=ready, args=(address,)))
        threads[0].start()

    try:
        return serve(timed(messages()), "tcp://127.0.0.1:*", ready=begin, **options)
    finally:
        threads[0].join()
