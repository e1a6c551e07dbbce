"""Evaluation over ranks; the training loop is tried from end to end in test_train.py."""

from __future__ import annotations

from pathlib import Path

import torch
from ranks_harness import on_ranks
from test_state import TWO_MICRO_BATCHES, Training

from hdkd_dist.data.manifest import read_manifest
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.data.preparing.digits import prepare_digits
from hdkd_dist.data.readers.opening import open_split
from hdkd_dist.data.streams import ReadOptions
from hdkd_dist.distributed.signals import StopRequests
from hdkd_dist.distributed.watchdog import ProgressMark


def counts_of_the_split(folder):
    """Right answers by ``evaluate``, and those of one network that sees the whole split."""
    from hdkd_dist.training.checkpointing.saver import RunIdentity, Saver
    from hdkd_dist.training.engine import averaged_buffers
    from hdkd_dist.training.trainer import evaluate

    training = Training(TWO_MICRO_BATCHES)
    run, network = training.run, training.run.engine.module
    run.normalize = Normalize.of([0.5] * 3, [0.25] * 3, torch.device("cpu"))
    manifest = read_manifest(Path(folder))
    reader = open_split(
        manifest,
        "metaval",
        image_size=16,
        batch=run.share.micro_batch,
        reading=ReadOptions(run.device, 1),
    )
    identity = RunIdentity(config={}, data={}, records=dict)
    saver = Saver(run, training.progress, Path(folder), identity, StopRequests(), ProgressMark())
    found = evaluate(run, reader, saver)
    network.load_state_dict(averaged_buffers(network), strict=False)
    network.eval()
    parts = list(reader.read(torch.arange(reader.samples).numpy()))
    with torch.no_grad():
        logits = torch.cat([network(run.normalize(part.images)) for part in parts], dim=1)
    right = logits.argmax(dim=2) == torch.cat([part.labels for part in parts])
    return found, right.sum(dim=1), reader.samples


def test_each_image_counts_once_whatever_the_number_of_ranks(tmp_path):
    prepare_digits(tmp_path / "digits")
    for found, right, samples in on_ranks(2, counts_of_the_split, str(tmp_path / "digits")):
        assert torch.equal(found[0], right)
        assert found[2].tolist() == [samples] * 3
