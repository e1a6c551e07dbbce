"""A picture of easy and hard images: those that leave first and last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hdkd_dist.inference.evaluation import Evaluation
from hdkd_dist.inference.figures import drawing
from hdkd_dist.inference.policy import exits_taken

COLUMNS = 8  # classes
EACH = 2  # images of a kind per class


def easy_and_hard(
    evaluation: Evaluation, thresholds: Sequence[float]
) -> list[tuple[int, list[int], list[int]]]:
    """Classes with test images of both kinds: label, places of the easy and of the hard ones.

    Easy images leave first, and are taken by their confidence there; hard ones leave last, and had
    the least confidence at the first exit. All are answered rightly where they leave.
    """
    outputs, test = evaluation.outputs["test"], evaluation.test
    taken = exits_taken(test.confidence, torch.tensor(thresholds))
    right = test.top1.gather(0, taken[None])[0]
    first = test.confidence[0]
    last = len(test.confidence) - 1
    found = []
    for label in outputs.labels.unique().tolist():
        own = (outputs.labels == label) & right
        easy = (own & (taken == 0)).nonzero()[:, 0]
        hard = (own & (taken == last)).nonzero()[:, 0]
        if len(easy) >= EACH and len(hard) >= EACH:
            easy = easy[first[easy].argsort(descending=True)[:EACH]]
            hard = hard[first[hard].argsort()[:EACH]]
            found.append((label, easy.tolist(), hard.tolist()))
    step = max(1, len(found) // COLUMNS)
    return found[::step][:COLUMNS]


def draw_easy_and_hard(
    evaluation: Evaluation,
    row: dict[str, Any],
    classes: Sequence[str],
    images_at: Callable[[Sequence[int]], Tensor],
    file: Path,
) -> bool:
    """Draw the grid.

    Args:
        evaluation: of the network.
        row: of the budgeted table.
        classes: their names.
        images_at: positions in the test split → images [B, 3, H, W] uint8.
        file: to draw to.

    Returns:
        False, and no picture, if no class has images of both kinds.
    """
    chosen = easy_and_hard(evaluation, row["thresholds"])
    if not chosen:
        return False
    indices = evaluation.outputs["test"].indices
    places = [place for _, easy, hard in chosen for place in (*easy, *hard)]
    images = images_at([int(indices[place]) for place in places])
    grid = {"nrows": 2 * EACH, "ncols": len(chosen), "squeeze": False}
    with drawing(file, 0.95 * len(chosen) + 0.5, 0.95 * 2 * EACH + 0.5, **grid) as (figure, axes):
        for number, image in enumerate(images):
            column, line = divmod(number, 2 * EACH)
            place = axes[line, column]
            place.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            place.set(xticks=[], yticks=[])
            place.grid(visible=False)
            for spine in place.spines.values():
                spine.set_visible(False)
        for column, (label, _, _) in enumerate(chosen):
            axes[0, column].set_title(classes[label].replace("_", " "), fontsize=8)
        last = len(evaluation.costs.mmac)
        for line, text in ((0, "leave at exit 1"), (EACH, f"leave at exit {last}")):
            axes[line, 0].set_ylabel(text, fontsize=8, loc="top" if EACH == 1 else "center")
        figure.suptitle(
            f"budget {row['budget_mmac']:.3g} million multiply-adds per image", fontsize=9
        )
    return True
