"""INT and TERM: whatever the moment, a command ends within seconds, in one line."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["Told", "heard_of"]

SECONDS = 4.0  # for tidying up; what is left after that goes with the next run
ENDS = (signal.SIGINT, signal.SIGTERM)
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
DONE = b"\0"  # no signal's number


class Told:
    """What signal a command was told to end by.

    Attributes:
        number: of the signal; SIGINT where none came, and something else interrupted it.
        came: whether one came.
        ended: the command has said that it ends.
    """

    def __init__(self) -> None:
        self.number, self.ended = int(signal.SIGINT), threading.Event()
        self.came = False

    @property
    def word(self) -> str:
        """What the signal did."""
        return WORDS[signal.Signals(self.number)]

    @property
    def code(self) -> int:
        """The exit code that says so, as shells have it."""
        return 128 + self.number

    def hear(self, number: int, _: FrameType | None = None) -> None:
        """The first signal interrupts; those that follow would interrupt what it has begun to tidy up."""
        if not self.came:
            self.number, self.came = number, True
            raise KeyboardInterrupt

    def watch(self, pipe: int) -> None:
        """End the process where it was told to, and has not done so in time: in a long product, or while it waits."""
        while (heard := os.read(pipe, 1)) not in (DONE, b""):
            if heard[0] in ENDS:
                if not self.ended.wait(SECONDS):
                    self.number = heard[0]
                    said = f"{self.word}; what is half done goes with the next run of the same command\n"
                    with suppress(OSError):
                        os.write(2, said.encode())
                    os._exit(self.code)
                return


@contextmanager
def heard_of() -> Iterator[Told]:
    """Inside, INT and TERM raise KeyboardInterrupt, once; `Told` says which it was.

    A signal that is ignored stays so, as nohup has it. In a thread nothing can be heard.
    """
    told = Told()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = {number: signal.getsignal(number) for number in ENDS}
    wanted = [number for number in ENDS if before[number] != signal.SIG_IGN]
    read, write = os.pipe()
    os.set_blocking(write, False)  # as set_wakeup_fd wants it
    earlier = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    _forked_go_without.append(before)
    watching = threading.Thread(target=told.watch, args=(read,), daemon=True)
    watching.start()
    try:
        for number in wanted:
            signal.signal(number, told.hear)
        yield told
    finally:
        for number in wanted:
            signal.signal(number, before[number])
        signal.set_wakeup_fd(earlier)
        _forked_go_without.remove(before)
        told.ended.set()
        os.write(write, DONE)
        watching.join()
        os.close(read)
        os.close(write)


#: What the handlers were, of the commands that run now.
_forked_go_without: list[Mapping[signal.Signals, object]] = []


def _in_a_fork() -> None:
    """A process that is forked ends as it would without us: it has not our thread, and our pipe is not its own."""
    if _forked_go_without:
        signal.set_wakeup_fd(-1)
        for number, handler in _forked_go_without[0].items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        _forked_go_without.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_fork)
