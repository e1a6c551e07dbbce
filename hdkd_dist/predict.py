"""Use an exported network.

``python hdkd_dist/predict.py --model DIR --images DIR --budget_mmac 20``

Needs numpy, pillow, fire, and onnxruntime or torch with safetensors; no DeepSpeed, no FFCV.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hdkd_dist.inference.predictor import Batch, Predictor


def main(
    model: Path,
    images: Path,
    budget_mmac: float | None = None,
    deadline_ms: float | None = None,
    exit: int | None = None,
    batch: int = 32,
    runtime: str | None = None,
    threads: int | None = None,
    providers: Sequence[str] = (),
    factory: str | None = None,
) -> None:
    """Classify images under a budget; JSON lines on stdout, the last one a summary.

    Args:
        model: the folder that export.py has written.
        images: a folder, searched with its subfolders, or one file.
        budget_mmac: mean multiply-adds per image, in millions.
        deadline_ms: mean milliseconds per image, as measured on this machine before the start.
        exit: all images leave at this exit (1 is the first).
        batch: images at a time.
        runtime: onnx or torch; default the first that is installed.
        threads: of the runtime.
        providers: onnxruntime's execution providers by name; default the CPU's.
        factory: package.module:callable that builds the network in torch, where the one named in
            model.json is elsewhere.
    """
    from hdkd_dist.distributed.allocation import keep_freed_memory
    from hdkd_dist.files.strict_json import to_json
    from hdkd_dist.inference.predictor import Predictor, files_in

    keep_freed_memory()
    files = files_in(images)
    predictor = Predictor(
        str(model),
        budget_mmac=budget_mmac,
        deadline_ms=deadline_ms,
        exit=exit,
        runtime=runtime,
        threads=threads,
        providers=providers,
        factory=factory,
        batch=min(batch, len(files)),  # so are stages timed
    )
    tally = Tally([0] * len(predictor.exported.exits))
    for each in predictor.batches(files):
        tally.add(each)
        for result in each.results:
            line = result.as_json()
            print(to_json(line))
            if "skipped" in line:
                print(f"skipped {line['image']}: {line['skipped']}", file=sys.stderr)
    if not sum(tally.exits):
        raise ValueError(
            f"--images {images} holds no image that can be read ({tally.skipped} files skipped)"
        )
    summary = tally.summary(predictor)
    print(to_json({"summary": summary}))
    if deadline_ms is not None and summary["ms_per_image"] > deadline_ms:
        print(missed(deadline_ms, summary["ms_per_image"]), file=sys.stderr)


def missed(deadline_ms: float, ms_per_image: float) -> str:
    """Say that a deadline was missed, and what that comes from."""
    return (
        f"note: {ms_per_image:.3g} ms per image, and the deadline was {deadline_ms:g}: the machine "
        "was less busy when the stages were timed at the start, or these images are harder than "
        "those of validation; fewer --threads may be faster on a busy machine"
    )


@dataclass
class Tally:
    """What has come of the images so far.

    Attributes:
        exits: [K], how many have left at each.
        skipped: files.
        seconds: of each batch that had images, in the network.
    """

    exits: list[int]
    skipped: int = 0
    seconds: list[float] = field(default_factory=list)

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        for number in batch.exits:
            self.exits[number - 1] += 1
        self.skipped += len(batch.results) - len(batch.exits)
        if batch.exits:
            self.seconds.append(batch.seconds)

    def summary(self, predictor: Predictor) -> dict[str, Any]:
        """Sum up; at least one image was answered."""
        from hdkd_dist.inference.latency import percentiles_ms

        answered = sum(self.exits)
        costs = predictor.exported.mmac
        return {
            "images": answered,
            "skipped": self.skipped,
            "exits": self.exits,
            "thresholds": list(predictor.thresholds),
            "mmac": sum(m * n for m, n in zip(costs, self.exits, strict=True)) / answered,
            "runtime": predictor.runtime,
            "ms_per_image": 1000 * sum(self.seconds) / answered,
            "batch_ms": percentiles_ms(self.seconds),
        }


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # a checkout need not be installed
    from hdkd_dist import cli

    cli.run(main)
