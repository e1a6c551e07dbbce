"""Whatever is wrong: one line that says so, and exit status 2."""

from __future__ import annotations

import json
import shutil

import pytest
from entry_points import call, write_config
from safetensors.torch import save_file

from hdkd_dist.data.preparing.digits import prepare_digits
from hdkd_dist.models import build


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    prepare_digits(folder)
    return folder


def refused(done):
    """The one line of a refusal."""
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def train(folder, *words, **config):
    return refused(
        call(
            "hdkd_dist/train.py", "--ds_config", write_config(folder, **config), *words, cwd=folder
        )
    )


SETTINGS = {  # others are refused in tests/config/test_load.py and tests/test_flags.py
    "unknown setting": (["--set", "hdkd.gama.lr=1"], "did you mean hdkd.gamma?"),
    "no data": (["--data", "nowhere"], "nowhere does not exist"),
    "flag and setting": (["--seed", "1", "--set", "hdkd.run.seed=2"], "given both by its flag and"),
}


@pytest.mark.parametrize("fault", SETTINGS)
def test_faulty_settings(tmp_path, fault):
    words, message = SETTINGS[fault]
    assert message in train(tmp_path, *words)
    assert not (tmp_path / "runs").exists()


def damage_missing(folder):
    (folder / "train.beton").unlink()


def damage_truncated(folder):
    file = folder / "metaval.beton"
    file.write_bytes(file.read_bytes()[:-100])


def damage_manifest(folder):
    file = folder / "manifest.json"
    content = json.loads(file.read_text())
    content["image"]["size"] = 32
    file.write_text(json.dumps(content))


DAMAGES = {
    "missing .beton": (damage_missing, "train.beton"),
    "truncated .beton": (damage_truncated, "metaval.beton"),
    "manifest of other images": (damage_manifest, "takes images of 16 px"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_data(tmp_path, digits, damage):
    change, message = DAMAGES[damage]
    folder = tmp_path / "digits"
    shutil.copytree(digits, folder)
    change(folder)
    assert message in train(tmp_path, "--data", folder)


def test_batch_larger_than_the_data(tmp_path, digits):
    message = train(tmp_path, "--data", digits, train_batch_size=4096)
    assert "fewer than one batch of 4096: lower train_batch_size" in message


def test_unwritable_run_folder(tmp_path, digits):
    (tmp_path / "file").write_text("in the way")
    message = train(tmp_path, "--data", digits, "--out", "file/run")
    assert "cannot write the run to file/run" in message


@pytest.fixture
def run(tmp_path, digits):
    """A run's folder with the weights of another network."""
    folder = tmp_path / "run"
    (folder / "checkpoints/final").mkdir(parents=True)
    model = {"preset": "msdnet-digits", "overrides": {}}
    section = {"model": model, "data": {"path": str(digits)}}
    (folder / "config.json").write_text(json.dumps({"hdkd": section}))
    state = build("resnet-digits", 10).state_dict()
    save_file(state, folder / "checkpoints/final/model.safetensors")
    return folder


def evaluate(folder, run):
    return refused(call("hdkd_dist/evaluate.py", "--run", run, cwd=folder))


def test_checkpoint_of_another_network(tmp_path, run):
    assert "does not hold the weights of msdnet-digits with 10 classes" in evaluate(tmp_path, run)


def test_damaged_and_missing_checkpoint(tmp_path, run):
    file = run / "checkpoints/final/model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert "damaged or of another network" in evaluate(tmp_path, run)
    file.unlink()
    assert "the run is not finished" in evaluate(tmp_path, run)
    assert "is not the folder of a run" in evaluate(tmp_path, tmp_path)
