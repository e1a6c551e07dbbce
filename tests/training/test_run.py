"""The folder of a run, before and after training; train.py itself is tried in test_train.py."""

from __future__ import annotations

import hashlib
import json
import struct

import pytest
import torch

from hdkd_dist.config.load import load_config
from hdkd_dist.data.manifest import read_manifest
from hdkd_dist.data.preparing.digits import prepare_digits
from hdkd_dist.training.checkpointing.resume import Start
from hdkd_dist.training.run import open_folder, sha256_of_bits


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "small.json"
    content = {
        "train_batch_size": 64,
        "optimizer": {"type": "SGD"},
        "hdkd": {
            "model": {"preset": "msdnet-digits"},
            "schedule": {"epochs": 1, "base_lr": 0.1, "base_batch": 64},
        },
    }
    file.write_text(json.dumps(content))
    return load_config(file, {"hdkd.run.out": str(tmp_path / "run")}, world_size=1)


def test_an_earlier_run_moves_aside_unless_it_is_being_trained(config, tmp_path):
    prepare_digits(tmp_path / "digits")
    manifest, folder = read_manifest(tmp_path / "digits"), tmp_path / "run"
    lock = open_folder(folder, config, manifest, Start())
    assert json.loads((folder / "config.json").read_text()) == config.as_json()
    with pytest.raises(ValueError, match="is being trained by another process"):
        open_folder(folder, config, manifest, Start())
    lock.close()
    (folder / "metrics.jsonl").write_text("an earlier run's")
    open_folder(folder, config, manifest, Start()).close()
    assert (tmp_path / "run.old-1/metrics.jsonl").exists()
    assert not (folder / "metrics.jsonl").exists()


def test_the_hash_is_of_the_bits():
    bits = struct.pack("<2f", 1.5, -0.0)
    found = sha256_of_bits(torch.tensor([1.5, -0.0]))
    assert found == hashlib.sha256(bits).hexdigest()
    assert found != sha256_of_bits(torch.tensor([1.5, 0.0]))
