"""What a consumer of a feed knows and says: every message of a run exactly once and in order, however the link behaves.

It knows no sockets and no clock, which ``realtime.feed.connection`` gives it, and not what a volume means.
"""

from collections.abc import Sequence

from dynadiff.base.errors import UserError
from realtime.feed.order import Position
from realtime.feed.wire import (
    Ack,
    Bye,
    Control,
    Done,
    Frame,
    Hello,
    Message,
    Refusal,
    RunEnd,
    RunStart,
    Status,
    WireError,
    digest_of,
    unpack,
)

PATIENCE = 16  # messages in a row that cannot be used before one gives up, without a sign of life between them


class Consumer:
    """What a consumer has received, and what it answers.

    A message that is missing or damaged is asked for again, and so is all that came after it. ``position`` is
    what another process needs to go on in its place.
    """

    def __init__(
        self, role: str, position: Position | None = None, *, name: str = "", patience: int = PATIENCE
    ) -> None:
        """``name`` is no other consumer's, so that the feed knows this one again on another connection."""
        self.role = role
        self.name = name
        self.position = position or Position()
        self.duplicates = 0  # messages that had come before
        self.gaps = 0  # times a message was found missing
        self.damaged = 0  # messages that were not as realtime.feed.wire says
        self._heard: set[str] = set()  # runs of which something came on this connection
        self._asked = False  # for the next message, which has not come yet
        self._confirmed = False
        self.acknowledged = False  # the feed has heard that the run was received whole
        self._useless = 0  # messages in a row
        self._patience = patience

    @property
    def muddled(self) -> bool:
        """Whether more than one run was heard on this connection.

        A link may hold things back, so which of them is the newer cannot be told here, nor what is still on its way:
        a new connection is free of the older one, and what the feed says there first is the run that it has.
        """
        return len(self._heard) > 1

    def dial(self) -> Control:
        """What to say on a new connection."""
        self._heard.clear()
        return self.hello()

    def hello(self) -> Control:
        """What to say to have everything from the next message on sent again."""
        here = self.position
        return Hello(role=self.role, consumer=self.name, run_uid=here.run_uid, next_seq=here.next_seq)

    def confirm(self, end: RunEnd) -> Control:
        """What to say when the run that ``end`` ended was received whole."""
        if self.position.end != end:
            raise UserError(f"run {end.run_uid} was not received up to its end: it cannot be confirmed.")
        self._confirmed = True
        return Done(run_uid=end.run_uid, n_volumes=self.position.n_volumes, digest=self.position.digest)

    def receive(self, frames: Sequence[Frame]) -> tuple[Message | None, list[Control]]:
        """The next message of the run, if these frames are it, and what to answer."""
        try:
            said = unpack(frames)
        except WireError as error:
            self.damaged += 1
            self._give_up_on(str(error))
            return None, self._ask()
        match said:
            case Status():
                self._useless = 0
                self._heard.add(said.run_uid)
                return None, [] if self.muddled else [self._answer(said)]
            case Refusal():
                self._give_up_on(said.reason)
                return None, []
            case Hello() | Ack() | Done() | Bye():
                self._give_up_on("it speaks as a consumer does.")
                return None, []
        here = self.position
        self._heard.add(said.run_uid)
        if self.muddled:
            return None, []
        if isinstance(said, RunStart) and said.run_uid != here.run_uid:
            here = Position()
        elif said.run_uid != here.run_uid or said.seq > here.next_seq:
            self.gaps += not self._asked
            return None, self._ask()
        elif said.seq < here.next_seq:
            self.duplicates += 1
            return None, []
        try:
            self.position = here.after(said, said.came[0] if said.came else digest_of(frames))
        except WireError as error:
            raise UserError(f"the feed broke the order of its run, start the run again: {error}") from None
        self._asked, self._confirmed, self._useless, self.acknowledged = False, False, 0, False
        return said, [Ack(next_seq=self.position.next_seq)]

    def _ask(self) -> list[Control]:
        """Once: what is on its way will show whether it helped, and else the next Status."""
        answer = [] if self._asked else [self.hello()]
        self._asked = True
        return answer

    def _answer(self, status: Status) -> Control:
        """A Status says what must have come by now. Answering it repairs an answer that was lost."""
        same = status.run_uid == self.position.run_uid
        if status.sent > (self.position.next_seq if same else 0):
            self.gaps += not self._asked
            self._asked = True
            return self.hello()
        if same and self._confirmed and self.position.end:
            self.acknowledged = status.confirmed
            if not self.acknowledged:
                return self.confirm(self.position.end)
        return Ack(next_seq=self.position.next_seq)

    def _give_up_on(self, reason: str) -> None:
        self._useless += 1
        if self._useless >= self._patience:
            raise UserError(f"the feed cannot be understood, look at what serves it: {reason}")
