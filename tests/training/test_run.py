"""The folder of a run, before and after training; train.py itself is tried in test_train.py."""

from __future__ import annotations

import hashlib
import json
import struct

import pytest
import torch

from hdkd_dist.config.load import load_config
from hdkd_dist.config.settings import RunSettings
from hdkd_dist.data.manifest import read_manifest
from hdkd_dist.data.preparing.digits import prepare_digits
from hdkd_dist.training.checkpointing.resume import Start, continue_metrics
from hdkd_dist.training.run import enough_memory, open_folder, sha256_of_bits
from hdkd_dist.training.tracking import Tracker


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


@pytest.mark.parametrize(
    "left", ["metrics.jsonl", "results.json", "checkpoints/step-00000004/checkpoint.json"]
)
def test_an_earlier_run_without_its_configuration_moves_aside_too(config, tmp_path, left):
    prepare_digits(tmp_path / "digits")
    file = tmp_path / "run" / left
    file.parent.mkdir(parents=True)
    file.write_text("an earlier run's")
    open_folder(tmp_path / "run", config, read_manifest(tmp_path / "digits"), Start()).close()
    assert (tmp_path / "run.old-1" / left).exists()
    assert not file.exists()


def test_no_file_of_a_run_is_written_through_a_link(config, tmp_path):
    prepare_digits(tmp_path / "digits")
    folder, victim = tmp_path / "run", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("precious")
    for name in ("config.json", "manifest.json", "metrics.jsonl"):
        (folder / name).symlink_to(victim)
    start = Start(in_place=True)
    open_folder(folder, config, read_manifest(tmp_path / "digits"), start).close()
    continue_metrics(folder, start, 0)
    Tracker(folder, RunSettings(wandb="disabled"), {}).close()
    assert victim.read_text() == "precious"
    assert not any((folder / name).is_symlink() for name in ("config.json", "manifest.json"))


def test_the_hash_is_of_the_bits():
    bits = struct.pack("<2f", 1.5, -0.0)
    found = sha256_of_bits(torch.tensor([1.5, -0.0]))
    assert found == hashlib.sha256(bits).hexdigest()
    assert found != sha256_of_bits(torch.tensor([1.5, 0.0]))


def test_gpu_with_too_little_memory_is_one_line_that_says_how_to_go_on():
    told = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB"
    with (
        pytest.raises(ValueError, match="too small for 256 images at once: lower train_micro") as e,
        enough_memory(256),
    ):
        raise torch.OutOfMemoryError(told)
    assert str(e.value).endswith("(CUDA out of memory)")
    assert "\n" not in str(e.value)
