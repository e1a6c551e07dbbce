"""Prepare scikit-learn's digits; training with "digits" does it by itself on first use.

python data_prep/digits.py --out data/digits
"""

from __future__ import annotations

from pathlib import Path

from hdkd_dist import cli
from hdkd_dist.data.staging import exit_on_signals


def prepare(
    out: Path,
    per_class: int | None = None,
    metaval_per_class: int = 30,
    seed: int = 0,
    workers: int = 1,
) -> None:
    """Write the digits to a folder, 16×16 RGB.

    Args:
        out: folder of the data set; appears complete or not at all.
        per_class: images per class for train and metaval together; default all, 134 to 143.
        metaval_per_class: images per class for meta-validation.
        seed: of the drawing.
        workers: processes; one is enough.
    """
    from hdkd_dist.data.preparing.digits import prepare_digits
    from hdkd_dist.data.preparing.write import say

    say(prepare_digits(out, per_class, metaval_per_class, seed, workers))


if __name__ == "__main__":
    exit_on_signals()
    cli.run(prepare)
