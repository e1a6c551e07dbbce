"""Answers of the predictor, the same from both runtimes, without torch where it is not needed."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_network import pixels, write_exported
from PIL import Image

from hdkd_dist.inference import Answer, Predictor, Skipped
from hdkd_dist.inference.exported import load_exported
from hdkd_dist.inference.onnx_stages import OnnxStages
from hdkd_dist.inference.predictor import files_in
from hdkd_dist.inference.runtime import EarlyExitRunner
from hdkd_dist.inference.torch_stages import TorchStages, load_network

IMAGES = 10_000
RUNTIMES = ("onnx", "torch")
NEAR = 5e-5  # of a threshold: rounding may decide


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_exported(tmp_path_factory.mktemp("use") / "exported")


@pytest.fixture(scope="module")
def middle(folder) -> float:
    rows = load_exported(folder).budgets
    return rows[len(rows) // 2]["budget_mmac"]


def test_both_runtimes_give_the_same_answers_for_ten_thousand_images(folder, middle):
    images = pixels(IMAGES, seed=2)
    given = {
        name: Predictor(folder, budget_mmac=middle, runtime=name, batch=250) for name in RUNTIMES
    }
    onnx, of_torch = (given[name](images) for name in RUNTIMES)
    exported = given["torch"].exported
    network = load_network(exported).double()
    with torch.no_grad():
        normal = torch.from_numpy(exported.preprocessing.normalize(images)).double()
        logits = network(normal)
    temperatures = torch.tensor(exported.temperatures)[:, None, None]
    confidence = (logits / temperatures).softmax(dim=-1).amax(dim=-1).numpy()
    thresholds = np.array(given["torch"].thresholds)[:, None]
    near = (np.abs(confidence - thresholds)[:-1] <= NEAR).any(axis=0)
    assert near.mean() < 0.05
    seen = set()
    for place in np.flatnonzero(~near):
        a, b = onnx[place], of_torch[place]
        assert (a.image, a.index, a.exit) == (b.image, b.index, b.exit)
        assert a.confidence == pytest.approx(confidence[a.exit - 1, place], abs=NEAR)
        assert b.confidence == pytest.approx(a.confidence, abs=NEAR)
        seen.add(a.exit)
    assert seen == {1, 2, 3}


def test_stages_of_onnx_see_only_who_is_left(folder, middle):
    """Ten that leave among ten that stay: as if these had been alone; 32 at a time."""
    exported = load_exported(folder)
    stages = OnnxStages(exported, threads=1)
    images = exported.preprocessing.normalize(pixels(60, seed=3))
    thresholds = Predictor(folder, budget_mmac=middle, runtime="onnx").thresholds
    sizes = []
    run = stages.run
    stages.run = lambda k, state: (sizes.append(len(state[0])), run(k, state))[1]
    together = EarlyExitRunner(stages, thresholds, exported.temperatures)(images)
    parts = [together.exit[:32], together.exit[32:]]
    assert sizes == [int((exits > k).sum()) for exits in parts for k in range(3)]
    assert 32 > sizes[1] > sizes[2] > 0
    for place in range(0, 60, 7):
        alone = EarlyExitRunner(stages, thresholds, exported.temperatures)(images[place, None])
        assert alone.exit[0] == together.exit[place]
        assert alone.prediction[0] == together.prediction[place]
        assert alone.confidence[0] == pytest.approx(together.confidence[place], abs=1e-6)


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    pictures = tmp_path_factory.mktemp("pictures")
    (pictures / "more").mkdir()
    for place, array in enumerate(pixels(5, seed=4)):
        (pictures / ("more" if place == 4 else "") / f"{place}.png").write_bytes(png(array))
    return pictures


def test_whatever_the_images_come_as(folder, middle, pictures):
    predictor = Predictor(str(folder), budget_mmac=middle, batch=2)
    files = [*(pictures / f"{place}.png" for place in range(4)), pictures / "more/4.png"]
    arrays = pixels(5, seed=4)
    expected = predictor(arrays)
    assert [answer.image for answer in expected] == [0, 1, 2, 3, 4]
    assert all(answer.name == f"class {answer.index}" for answer in expected)

    def core(answers):
        return [(a.index, a.exit, round(a.confidence, 4)) for a in answers]

    for images in (
        files,
        [str(file) for file in files],
        [Image.open(file) for file in files],
        list(arrays),
        pictures,
        str(pictures),
    ):
        assert core(predictor(images)) == core(expected)
    assert [answer.image for answer in predictor(pictures)] == [str(file) for file in files]
    for one in (arrays[0], files[0], Image.open(files[0]), [arrays[0]], arrays[:1]):
        assert core(predictor(one)) == core(expected[:1])
    assert predictor([]) == []
    assert predictor(arrays[:0]) == []


def test_what_cannot_be_read_keeps_its_place(folder, pictures, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    os.mkfifo(tmp_path / "pipe")
    given = [pictures / "0.png", tmp_path / "notes.txt", tmp_path / "lost", tmp_path / "pipe"]
    first, *others = Predictor(folder, exit=1)(given)
    assert isinstance(first, Answer)
    assert all(isinstance(each, Skipped) for each in others)
    assert [each.image for each in others] == [str(file) for file in given[1:]]
    assert others[0].reason == "not an image"
    assert "No such file" in others[1].reason
    assert "no regular file" in others[2].reason
    assert Predictor(folder, exit=1)(given[1:2]) == [others[0]]


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((2, 8, 8, 3)), "must be .* uint8, RGB, not .2, 8, 8, 3. float64"),
        (np.zeros((2, 3, 8, 8), np.uint8), "must be .* RGB, not .2, 3, 8, 8. uint8"),
        (np.zeros((2, 0, 8, 3), np.uint8), "has no pixels"),
        ([np.zeros((2, 8, 8, 3), np.uint8)], "a list holds single images"),
        ("nowhere", "nowhere does not exist"),
    ],
)
def test_what_are_no_images_is_refused(folder, images, said):
    with pytest.raises(ValueError, match=said):
        Predictor(folder, exit=1)(images)


def test_a_deadline_is_kept_by_the_stages_of_the_runtime_in_use(folder):
    last = Predictor(folder, deadline_ms=1e6, runtime="onnx", batch=4)
    assert last.thresholds == load_exported(folder).budgets[-1]["thresholds"]
    measured = last.measure()
    assert measured.rounds.shape[2] == 3
    with pytest.raises(ValueError, match="not enough for the first exit"):
        Predictor(folder, deadline_ms=1e-9, runtime="onnx", batch=4)


def test_without_onnx_files_the_default_is_torch(folder, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    shutil.rmtree(bare / "onnx")
    assert Predictor(folder, exit=1).runtime == "onnx"
    predictor = Predictor(bare, exit=1)
    assert predictor.runtime == "torch"
    assert isinstance(predictor.stages, TorchStages)


WITHOUT_TORCH = """
import sys
for name in ("torch", "safetensors", "onnx", "scipy", "sklearn", "cv2", "matplotlib"):
    sys.modules[name] = None  # any import of it now fails
from hdkd_dist.inference import Predictor
for request in ({"exit": 2}, {"deadline_ms": 1e6}):
    predictor = Predictor(sys.argv[1], threads=1, **request)
    print(predictor.runtime, len(predictor(sys.argv[2])))
try:
    Predictor(sys.argv[1], exit=1, runtime="torch")
except ValueError as error:
    print(error)
"""


def test_onnx_needs_no_torch(folder, pictures):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, folder, pictures],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "onnx 5",
        "onnx 5",
        "the runtime torch needs torch: pip install torch",
    ]


def test_the_example_needs_nothing_but_the_files(folder, middle, tmp_path):
    """Its own 25 lines of numpy give the predictor's answers."""
    images = pixels(40, seed=5)
    np.save(tmp_path / "images.npy", images)
    runner = Path(__file__).parents[2] / "examples/early_exit_runner.py"
    words = [folder / "onnx", tmp_path / "images.npy", str(middle)]
    done = subprocess.run([sys.executable, "-I", runner, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = Predictor(folder, budget_mmac=middle)(images)
    assert len({answer.exit for answer in expected}) == 3
    for line, answer in zip(done.stdout.splitlines(), expected, strict=True):
        name, confidence, number = line.split(", ")
        assert (name, number) == (answer.name, f"exit {answer.exit}")
        assert float(confidence.split()[1]) == pytest.approx(answer.confidence, abs=2e-4)


def test_links_to_folders_are_followed_once_and_never_upwards(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "real/one.png").write_bytes(b"an image")
    (tmp_path / "real/again").symlink_to(tmp_path / "real")
    for name in ("a", "b", ".hidden"):
        (images / name).symlink_to(tmp_path / "real")
    (images / "up").symlink_to(tmp_path)
    (images / "dead.png").symlink_to(tmp_path / "nowhere")
    found = [str(file.relative_to(images)) for file in files_in(images)]
    assert found == ["a/one.png", "dead.png"]
