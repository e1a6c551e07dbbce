"""Whether a gain of learned weights is harmony's, or comes from the size of the loss.

A control is the fixed sister with the size, but not the proportions, of the learned γ. The gain
over the sister is the sum of two parts: what the learned run gains over the control (harmony), and
what the control gains over the sister (size).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hdkd_dist.paper.statistics import Interval, Verdict

Part = Literal["harmony", "size"]


def origin_of(
    gain: Interval | None,
    verdict: Verdict,
    harmony: Sequence[Verdict],
    size: Sequence[tuple[Interval | None, Verdict]],
) -> str:
    """One sentence.

    Args:
        gain: of the learned method over its sister.
        verdict: on that gain.
        harmony: by control, that the learned run is better than it.
        size: by control, its own gain over the sister, and that this is above 0.
    """
    if gain is None or verdict != "confirmed":
        return "There is no confirmed gain whose origin could be asked for."
    own = [(found, stated) for found, stated in size if found is not None]
    if len(own) < len(size) or "not enough runs yet" in [*harmony, *(stated for _, stated in own)]:
        return "Where the gain comes from awaits controls."
    share = f"{max(found.mean for found, _ in own) / gain.mean:.0%}"
    gaining = [stated == "confirmed" for _, stated in own]
    better = [stated == "confirmed" for stated in harmony]
    if any(shares and not beaten for shares, beaten in zip(gaining, better, strict=True)):
        return f"The gain comes from the size of the loss: a control has {share} of it."
    if not all(better):
        return "Whether the gain is harmony's or the size's is undecided."
    if any(gaining):
        return f"The gain is harmony's in part: a control has {share} of it."
    return "The gain is harmony's: no control has been shown to share it."
