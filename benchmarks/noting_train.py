"""``hdkd_dist/train.py`` that also notes which samples each step is given; for faults.py.

Each rank appends to ``samples<rank>.jsonl`` in its working folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from hdkd_dist import cli, train


def noting(stream: Callable[..., Iterator], kind: str) -> Callable[..., Iterator]:
    """The stream, with a line for every step's samples as it hands them out."""

    def wrapped(reader, share, *, seed, epoch=0, first_step=0):
        place = {"epoch": epoch} if kind == "train" else {}
        batches = stream(reader, share, seed=seed, first_step=first_step, **place)
        with open(f"samples{share.rank}.jsonl", "a", encoding="utf-8") as notes:
            for step, batch in enumerate(batches, start=first_step):
                samples = [micro.indices.tolist() for micro in batch]
                line = {"kind": kind, "epoch": epoch, "step": step, "samples": samples}
                notes.write(json.dumps(line) + "\n")
                notes.flush()
                yield batch

    return wrapped


if __name__ == "__main__":
    with cli.leaving_at_once():
        from hdkd_dist.distributed import ranks
        from hdkd_dist.training import trainer

        ranks.complete_environment()
        trainer.train_epoch = noting(trainer.train_epoch, "train")
        trainer.metaval_stream = noting(trainer.metaval_stream, "metaval")
        cli.run(train.main)
