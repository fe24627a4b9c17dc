"""What the tests of what receives a feed share."""

import pytest


@pytest.fixture(autouse=True)
def brief_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer's last word may answer a feed that is gone: on one machine it needs no two seconds to leave."""
    monkeypatch.setattr("realtime.feed.connection.FLUSH_MS", 100)
