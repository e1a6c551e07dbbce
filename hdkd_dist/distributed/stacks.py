"""Stacks of a rank's threads, written to a file of its own when the watchdog ends the run."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
import traceback
from pathlib import Path

WRITING = 5.0  # seconds after which a file system that does not answer is left alone


class StackFile:
    """File that a rank's stacks are appended to; none before :meth:`open_in`."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._path = Path()
        self._descriptor = -1

    def open_in(self, folder: Path, rank: int) -> None:
        """Open ``rank_<rank>.txt`` in ``folder``; earlier verdicts' stacks stay in it.

        Where it cannot be written there are no stacks: a run does not end for that.
        """
        self._path = folder / f"rank_{rank:05d}.txt"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, flags, 0o666)
            self.folder = folder

    def arm(self, seconds: float) -> None:
        """Write the stacks after so many seconds, unless armed again or closed by then.

        A thread of faulthandler's does it, without Python's lock: where code in C keeps that, no
        other thread can.
        """
        if self.folder is not None:
            faulthandler.dump_traceback_later(seconds, file=self._descriptor)

    def write(self, reason: str) -> None:
        """Append the stacks of all threads but the calling one, under a line that says why."""
        if self.folder is None:
            return
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        text = f"{now} {' '.join(reason.split())}\n\n{stacks()}\n"
        writer = threading.Thread(target=os.write, args=(self._descriptor, text.encode()))
        writer.daemon = True
        writer.start()
        writer.join(WRITING)

    def close(self) -> None:
        """Disarm; a file without stacks is removed, and the folder with the last of them."""
        if self.folder is None:
            return
        faulthandler.cancel_dump_traceback_later()
        with contextlib.suppress(OSError):  # other ranks' files are in there, or it has gone
            if os.fstat(self._descriptor).st_size == 0:
                self._path.unlink()
                self.folder.rmdir()
        os.close(self._descriptor)
        self.folder = None


def stacks() -> str:
    """Describe where every other thread of this process is; the main thread first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    main, own = threading.main_thread().ident, threading.get_ident()
    frames = sys._current_frames()
    order = sorted((ident for ident in frames if ident != own), key=lambda ident: ident != main)
    return "\n".join(
        f"{names.get(ident, 'a thread not of Python')}:\n"
        + "".join(traceback.format_stack(frames[ident]))
        for ident in order
    )
