"""Find the known name that a misspelt one is nearest to."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], similarity: float = 0.6) -> str:
    """Ask ``: did you mean …?`` with the nearest known name; "" where none is near.

    Args:
        word: as it was written; its case makes no difference.
        known: the names that exist.
        similarity: of the nearest name at least, from 0 to 1; see ``difflib``.
    """
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=similarity)
    return f": did you mean {by_lower[near[0]]}?" if near else ""
