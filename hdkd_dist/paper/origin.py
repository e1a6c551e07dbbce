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
    beaten = [stated == "confirmed" for stated in harmony]
    gaining = [
        (found.mean, by)
        for (found, stated), by in zip(own, beaten, strict=True)
        if stated == "confirmed"
    ]
    if equal := [mean for mean, by in gaining if not by]:
        return (
            f"The gain is not shown to be more than that of a larger loss: a control has "
            f"{max(equal) / gain.mean:.0%} of it."
        )
    if not all(beaten):
        return "Whether the gain is harmony's or the size's is undecided."
    if gaining:
        share = max(mean for mean, _ in gaining) / gain.mean
        return f"The gain is harmony's in part: a control has {share:.0%} of it."
    return "The gain is harmony's: no control has been shown to share it."
