"""FFCV reads in a thread; an error there would end the thread and let the run wait for ever."""

from __future__ import annotations

import threading

from ffcv.loader.epoch_iterator import EpochIterator

_ERROR = "_hdkd_error"
_previous_hook = threading.excepthook


def _hand_over(failure: threading.ExceptHookArgs) -> None:
    """Keep a loader thread's error for :func:`raise_error` and end its queue of batches."""
    if isinstance(failure.thread, EpochIterator):
        setattr(failure.thread, _ERROR, failure.exc_value)
        failure.thread.output_queue.put(None)  # FFCV's sign of the end
    else:
        _previous_hook(failure)


threading.excepthook = _hand_over


def raise_error(batches: EpochIterator, file: str) -> None:
    """Raise what went wrong in the thread behind a pass that has ended, if anything did.

    Raises:
        RuntimeError: caused by the thread's error.
    """
    error = getattr(batches, _ERROR, None)
    if error is not None:
        raise RuntimeError(f"reading {file} failed: {error}") from error
