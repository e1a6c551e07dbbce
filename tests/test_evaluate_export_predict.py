"""A trained network from evaluation to prediction, by the command lines that users type."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from entry_points import ROOT, call
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

from hdkd_dist import cli, export, predict
from hdkd_dist.data.manifest import read_manifest
from hdkd_dist.data.manifest import write as write_manifest
from hdkd_dist.data.preparing.digits import MEAN, STD, prepare_digits
from hdkd_dist.evaluation.evaluate_run import Options, check_request, evaluate_run, named_runs
from hdkd_dist.inference.outputs import load_outputs
from hdkd_dist.inference.predictor import RUNTIMES
from hdkd_dist.models import build

BEFORE = {"method": "hdkd", "exits": [], "gamma": {"ce": [1.0]}}


def pictures():
    """All digits as the data set holds them, made another way: [N, 16, 16] uint8, and labels."""
    bunch = load_digits()
    gray = np.round(bunch.images * 255 / 16).astype(np.uint8)
    return np.kron(gray, np.ones((1, 2, 2), np.uint8)), bunch.target


def as_input(gray):
    images = torch.from_numpy(gray)[:, None].expand(-1, 3, -1, -1)
    return (images.float() / 255 - MEAN) / STD


def write_run(folder, preset, data, steps=40):
    """A run of a network that has been trained a little, in plain torch."""
    torch.manual_seed(0)
    network = build(preset, 10).train()
    gray, labels = pictures()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for step in range(steps):
        part = np.random.default_rng(step).integers(0, 1000, 64)
        target = torch.from_numpy(labels[part])
        loss = sum(cross_entropy(z, target) for z in network(as_input(gray[part])))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    (folder / "checkpoints/final").mkdir(parents=True)
    save_file(network.state_dict(), folder / "checkpoints/final/model.safetensors")
    model = {"preset": preset, "overrides": {}}
    reading = {"path": str(data), "reader": "torch"}  # which need not compile
    section = {"method": "hdkd", "model": model, "data": reading}
    (folder / "config.json").write_text(json.dumps({"hdkd": section}))
    (folder / "results.json").write_text(json.dumps(BEFORE))
    return network.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two evaluated runs, a and b, in a folder with their data."""
    folder = tmp_path_factory.mktemp("use")
    prepare_digits(folder / "digits")
    for name, preset in (("a", "msdnet-digits"), ("b", "resnet-digits")):
        write_run(folder / "runs" / name, preset, folder / "digits")
    done = call(
        "hdkd_dist/evaluate.py", "--run", "runs/a", "--run", "runs/b", "--save_logits", cwd=folder
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "budget MMAC" in done.stdout
    return folder


@pytest.fixture(scope="module")
def results(folder):
    return json.loads((folder / "runs/a/results.json").read_text())


@pytest.fixture(scope="module")
def test_outputs(folder):
    return load_outputs(folder / "runs/a/logits/test.safetensors")


@pytest.fixture(scope="module")
def exported(folder):
    out = folder / "exported"
    with contextlib.redirect_stdout(io.StringIO()):
        export.main(folder / "runs/a", out)
    return out


@pytest.fixture(scope="module")
def test_images(folder, test_outputs):
    """The test split as PNG files, named by position."""
    images = folder / "images"
    images.mkdir()
    start, size = 2 << 20, 400 * 16 * 16 * 3  # behind the first page, one raw image after the other
    content = (folder / "digits/test.beton").read_bytes()[start : start + size]
    pixels = np.frombuffer(content, np.uint8).reshape(400, 16, 16, 3)
    gray, labels = pictures()
    known = {image.tobytes(): label for image, label in zip(gray, labels, strict=True)}
    for place, (image, label) in enumerate(zip(pixels, test_outputs.labels, strict=True)):
        assert known[image[..., 0].tobytes()] == label
        Image.fromarray(image[..., 0]).save(images / f"{place:03}.png")
    return images


def test_results_add_keys_and_drop_none(results):
    assert results["gamma"] == BEFORE["gamma"]
    assert {"exits", "budgeted", "budgeted_geometric", "budgeted_ms"} <= set(results)
    needed = {"budget_mmac", "mmac", "val_top1", "val_top5", "top1", "top5", "thresholds"}
    assert needed <= set(results["budgeted"][0])
    assert len(results["latency"]["ms_per_image"]) == 3
    assert results["exits"][0]["top1"] > 30  # chance is 10


def test_rows_follow_from_the_saved_outputs(results, test_outputs):
    """Everything anew in numpy."""
    logits, labels = test_outputs.logits.numpy().astype(np.float64), test_outputs.labels.numpy()
    guesses = logits.argmax(axis=2)
    temperatures = np.array(results["confidence"]["temperatures"])[:, None, None]
    powers = np.exp((logits - logits.max(axis=2, keepdims=True)) / temperatures)
    confidence = (powers / powers.sum(axis=2, keepdims=True)).max(axis=2)
    costs = np.array([row["mmac"] for row in results["exits"]])
    for row, right in zip(results["exits"], guesses == labels, strict=True):
        assert row["top1"] == pytest.approx(100 * right.mean())
    for row in [*results["budgeted"][::5], *results["budgeted_geometric"][::5]]:
        leaves = confidence >= np.array(row["thresholds"])[:, None]
        taken = leaves.argmax(axis=0)
        right = guesses[taken, np.arange(400)] == labels
        assert row["top1"] == pytest.approx(100 * right.mean(), abs=0.51)  # ties of rounding
        assert row["mmac"] == pytest.approx(costs[taken].mean(), rel=0.01)
        assert row["val_mmac"] <= row["budget_mmac"] * 1.01


def test_saved_outputs_are_the_networks(folder, test_outputs, test_images):
    network = write_run(folder / "again", "msdnet-digits", folder / "digits")
    gray = np.stack([np.asarray(Image.open(f)) for f in sorted(test_images.glob("*.png"))])
    with torch.no_grad():
        torch.testing.assert_close(
            test_outputs.logits, network(as_input(gray)), rtol=1e-3, atol=1e-3
        )


def test_pictures_and_the_curve_of_both_networks(folder):
    for name in ("accuracy_vs_mmac", "budgeted", "exits_taken", "reliability", "easy_and_hard"):
        assert (folder / f"runs/a/figures/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "runs/networks/networks.png").exists()
    curve = json.loads((folder / "runs/networks/curve.json").read_text())
    tables = {n: json.loads((folder / f"runs/{n}/results.json").read_text()) for n in ("a", "b")}
    for row in curve["budgeted"]:
        affordable = [
            each
            for table in tables.values()
            for each in table["budgeted"]
            if each["budget_mmac"] <= row["budget_mmac"] + 1e-9
        ]
        assert row["val_top1"] == max(each["val_top1"] for each in affordable)
        assert row["thresholds"] in [r["thresholds"] for r in tables[row["network"]]["budgeted"]]


def lines_of(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_predictions_are_the_evaluations(
    exported, test_images, test_outputs, results, capsys, runtime
):
    for k in range(3):
        predict.main(exported, test_images, exit=k + 1, runtime=runtime)
        *lines, last = lines_of(capsys)
        expected = test_outputs.logits[k].argmax(dim=1).tolist()
        assert [line["index"] for line in lines] == expected
        assert [line["class"] for line in lines] == [str(label) for label in expected]
        assert last["summary"]["mmac"] == pytest.approx(results["exits"][k]["mmac"])
    row = results["budgeted"][20]
    budget = row["budget_mmac"]
    predict.main(exported, test_images, budget_mmac=budget, runtime=runtime)
    *lines, last = lines_of(capsys)
    assert last["summary"]["mmac"] == pytest.approx(row["mmac"], rel=1e-6)
    right = np.array([line["index"] for line in lines]) == test_outputs.labels.numpy()
    assert 100 * right.mean() == pytest.approx(row["top1"])
    assert last["summary"]["runtime"] == runtime
    assert set(last["summary"]["batch_ms"]) == {"p50", "p95", "p99"}


def test_a_missed_deadline_is_one_line_with_both_times():
    said = predict.missed(5.0, 11.93)
    assert said.startswith("note: 11.9 ms per image, and the deadline was 5:")
    assert "\n" not in said


BLOCKED = """
import sys, runpy
for name in ("deepspeed", "ffcv", "numba", "cv2", "pydantic", "wandb", "matplotlib", "sklearn",
             "tqdm", "scipy", "onnx", "onnxscript", *sys.argv[1].split()):
    sys.modules[name] = None  # any import of it now fails
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("runtime", "others"), [("onnx", "torch safetensors"), ("torch", "onnxruntime")]
)
def test_predict_needs_few_packages_and_names_what_it_skips(
    exported, test_images, tmp_path, runtime, others
):
    shutil.copy(test_images / "000.png", tmp_path / "good.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "lost.png").symlink_to("nowhere")
    (tmp_path / "cut.png").write_bytes((test_images / "001.png").read_bytes()[:60])
    words = ["--model", exported, "--images", tmp_path, "--deadline_ms", "1000"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", BLOCKED, others, ROOT / "hdkd_dist/predict.py", *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    skipped = {Path(line["image"]).name: line["skipped"] for line in lines if "skipped" in line}
    assert set(skipped) == {"notes.txt", "cut.png", "lost.png"}
    assert skipped["notes.txt"] == "not an image"
    assert lines[-1]["summary"]["skipped"] == 3
    assert lines[-1]["summary"]["images"] == 1
    assert lines[-1]["summary"]["runtime"] == runtime  # the one that is left
    assert "skipped" in done.stderr


def test_torch_export_takes_any_batch(exported, test_images, test_outputs):
    program = torch.export.load(exported / "full.pt2").module()
    files = sorted(test_images.glob("*.png"))[:5]
    batch = as_input(np.stack([np.asarray(Image.open(file)) for file in files]))
    for size in (1, 5):
        torch.testing.assert_close(
            program(batch[:size]), test_outputs.logits[:, :size], rtol=1e-3, atol=1e-3
        )


def test_onnx_stages_in_a_row_give_every_exit(exported, test_images, test_outputs):
    import onnxruntime

    files = sorted(test_images.glob("*.png"))[:7]
    batch = as_input(np.stack([np.asarray(Image.open(file)) for file in files])).numpy()
    full = onnxruntime.InferenceSession(exported / "onnx/full.onnx")
    np.testing.assert_allclose(
        full.run(None, {"images": batch})[0], test_outputs.logits[:, :7], rtol=1e-3, atol=1e-3
    )
    state, expected, given = [batch], test_outputs.logits[:, :7], ["images"]
    for k in range(3):
        stage = onnxruntime.InferenceSession(exported / f"onnx/stage_{k + 1}.onnx")
        names = [each.name for each in stage.get_inputs()]
        assert names == given
        assert {each.shape[0] for each in stage.get_inputs()} == {"batch"}
        *state, logits = stage.run(None, dict(zip(names, state, strict=True)))
        given = [each.name for each in stage.get_outputs()][:-1]
        np.testing.assert_allclose(logits, expected[k], rtol=1e-3, atol=1e-3)
        state, expected = [each[2:] for each in state], expected[:, 2:]  # two leave


def refused(main, *words, **flags):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        main(*map(Path, words), **flags)
    assert "\n" not in str(error.value)
    return str(error.value)


def change(*path, value):
    """Set one value in model.json, which may be one that is no JSON."""

    def edit(folder):
        file = folder / "model.json"
        content = json.loads(file.read_text())
        place = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        file.write_text(json.dumps(content))

    return edit


def own(*names):
    """Let model.json list the files as they are now."""

    def edit(folder):
        for name in names:
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            change("sha256", name, value=digest)(folder)

    return edit


def weights(values):
    return lambda folder: save_file(values(), folder / "model.safetensors")


def not_finite():
    values = build("msdnet-digits", 10).state_dict()
    values["classifiers.1.linear.bias"][3] = math.nan
    return values


def other_stage(folder):
    shutil.copy(folder / "onnx/stage_1.onnx", folder / "onnx/stage_2.onnx")


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


NAN = math.nan
WEIGHTS, STAGE = "model.safetensors", "onnx/stage_2.onnx"
DAMAGES = {  # on both runtimes
    "no description": ([lambda folder: (folder / "model.json").unlink()], "cannot read"),
    "no JSON": ([write("model.json", b"{")], "cannot read"),
    "deep JSON": ([write("model.json", b"[" * 100_000)], "cannot read"),
    "other format": ([change("format", value=9)], "format 9"),
    "other exits": ([change("temperatures", value=[1, 1])], "for 2 exits, the network has 3"),
    "temperatures in words": ([change("temperatures", value=["a"] * 3)], "are not numbers"),
    "temperature 0": ([change("temperatures", 1, value=0)], "temperatures must be above 0"),
    "temperature NaN": ([change("temperatures", 1, value=NAN)], "temperatures.1 is nan"),
    "threshold NaN": ([change("budgets", 3, "thresholds", 0, value=NAN)], "thresholds.0 is nan"),
    "threshold true": ([change("budgets", 3, "thresholds", 0, value=True)], "are not numbers"),
    "std 0": ([change("preprocessing", "std", 1, value=0.0)], "std must be above 0"),
    "mean": ([change("preprocessing", "mean", value=3)], "describes no network"),
    "no budgets": ([change("budgets", value=[])], "or of budgets is empty"),
    "falling costs": ([change("exits", 0, "mmac", value=1e6)], "mmac must be above 0 and rise"),
    "twin classes": ([change("classes", value=["0"] * 10)], "classes must be different names"),
}
ONLY_TORCH = {
    "no weights": ([lambda folder: (folder / WEIGHTS).unlink()], "has no model.safetensors"),
    "unknown preset": ([change("preset", value="msdnet-digit")], "did you mean msdnet-digits"),
    "a thousand million layers": (
        [change("overrides", value={"layers_per_block": [10**9]})],
        "more than its weights hold",
    ),
    "other preset": ([change("preset", value="resnet-digits")], "does not match the weights"),
    "other classes": ([change("classes", value=["0", "1"])], "does not match the weights"),
    "other run": ([weights(lambda: build("msdnet-digits", 10).state_dict())], "sha256 is another"),
    "other network": (
        [weights(lambda: build("resnet-digits", 10).state_dict()), own(WEIGHTS)],
        "does not match the weights",
    ),
    "truncated": ([write(WEIGHTS, b"12345678"), own(WEIGHTS)], "does not match the weights"),
    "weights NaN": ([weights(not_finite), own(WEIGHTS)], "(classifiers.1.linear.bias): train"),
}
ONLY_ONNX = {
    "no stage": ([lambda folder: (folder / STAGE).unlink()], "has no onnx/stage_2.onnx"),
    "not listed": ([change("sha256", value={})], "does not list onnx/stage_1.onnx"),
    "other stage": ([other_stage], "sha256 is another"),
    "stages in disorder": ([other_stage, own(STAGE)], "does not run as"),
    "truncated": ([write(STAGE, b"12345678"), own(STAGE)], "onnxruntime cannot load"),
    "other classes": ([change("classes", value=["0", "1"])], "logits of the shape [1, 10]"),
}
CASES = [
    *((runtime, *case) for runtime in RUNTIMES for case in DAMAGES.items()),
    *(("torch", *case) for case in ONLY_TORCH.items()),
    *(("onnx", *case) for case in ONLY_ONNX.items()),
]


@pytest.mark.parametrize(("runtime", "name", "case"), CASES, ids=[" ".join(c[:2]) for c in CASES])
def test_damaged_exports(exported, test_images, tmp_path, runtime, name, case):
    steps, said = case
    folder = tmp_path / "exported"
    shutil.copytree(exported, folder)
    for act in steps:
        act(folder)
    assert said in refused(predict.main, folder, test_images, exit=1, runtime=runtime)


REQUESTS = {
    "none": ({}, "exactly one of"),
    "two": ({"budget_mmac": 0.5, "exit": 1}, "exactly one of"),
    "below": ({"budget_mmac": 0.1}, "below what the first exit costs"),
    "above": ({"budget_mmac": 1.5}, "above what the last exit costs"),
    "no exit": ({"exit": 4}, "there is no exit 4"),
    "hurry": ({"deadline_ms": 1e-9}, "not enough for the first exit"),
    "word": ({"budget_mmac": "much"}, "must be a number"),
    "batch": ({"exit": 1, "batch": 0}, "batch must be"),
    "no number": ({"budget_mmac": float("nan")}, "must be a number"),
    "threads": ({"exit": 1, "threads": 1.5}, "threads must be"),
    "runtime": ({"exit": 1, "runtime": "jax"}, "runtime must be one of onnx, torch"),
    "provider": ({"exit": 1, "providers": ["TPU"]}, "has no provider TPU"),
    "torch's provider": ({"exit": 1, "runtime": "torch", "providers": ["TPU"]}, "onnxruntime's"),
}


@pytest.mark.parametrize("request_", REQUESTS)
def test_impossible_requests(exported, test_images, request_):
    flags, said = REQUESTS[request_]
    assert said in refused(predict.main, exported, test_images, **flags)


def test_missing_folders_and_no_images(exported, test_images, tmp_path):
    assert "does not exist" in refused(predict.main, tmp_path / "no", test_images, exit=1)
    assert "does not exist" in refused(predict.main, exported, tmp_path / "no", exit=1)
    assert "is empty" in refused(predict.main, exported, tmp_path, exit=1)
    (tmp_path / "text").write_text("no image")
    assert "can be read (1 files skipped" in refused(predict.main, exported, tmp_path, exit=1)


def test_budgets_as_they_are_printed(exported, test_images, results):
    costs = [f"{row['mmac']:.2f}" for row in results["exits"]]
    for cost in (costs[0], costs[-1]):
        with contextlib.redirect_stdout(io.StringIO()):
            predict.main(exported, test_images, budget_mmac=float(cost))


def test_runs_that_cannot_be_exported(folder, tmp_path):
    assert "not the folder of a run" in refused(export.main, tmp_path, tmp_path / "x")
    run = tmp_path / "run"
    shutil.copytree(folder / "runs/a", run)
    assert "is there already" in refused(export.main, run, run)
    for content, said in (
        ("[1]", "results.json is damaged (it holds no JSON object)"),
        ('{"exits": [', "results.json is damaged (it is not JSON (Expecting value"),
        ('{"budgeted": [1]}', "results.json is damaged or of another version ('confidence')"),
        ("{}", "has no thresholds yet: run hdkd_dist/evaluate.py"),
    ):
        (run / "results.json").write_text(content)
        assert said in refused(export.main, run, tmp_path / "x")
    (run / "results.json").unlink()
    assert "run hdkd_dist/evaluate.py" in refused(export.main, run, tmp_path / "x")
    config = (run / "config.json").read_text()
    for content in ("[1]", "{}", '{"hdkd": {"model": 3}}', "{"):
        (run / "config.json").write_text(content)
        assert "is not the folder of a run" in refused(export.main, run, tmp_path / "x")
    (run / "config.json").write_text(config)
    (run / "checkpoints/final/model.safetensors").unlink()
    assert "not finished" in refused(export.main, run, tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # no half of an export


def test_runs_that_cannot_be_compared(folder, tmp_path):
    prepare_digits(tmp_path / "other", seed=3)
    write_run(tmp_path / "run", "msdnet-digits", tmp_path / "other", steps=0)
    options = Options(None, 256, 1, "calibrated", 32, False)
    runs = [folder / "runs/a", tmp_path / "run"]
    curve = tmp_path / "curve"
    assert "one curve needs one data set" in refused_paths(check_request, runs, options, curve)
    assert named_runs("a, b") == named_runs(["a", "b"]) == [Path("a"), Path("b")]
    with pytest.raises(ValueError, match="different runs, not a, a"):
        named_runs(["a", "a"])
    for changed in (
        {"batch": 0},
        {"workers": -1},
        {"latency_batch": "x"},
        {"confidence": "entropy"},
        {"search": "greedy"},
    ):
        wrong = Options(**{**vars(options), **changed})
        assert next(iter(changed)) in refused_paths(check_request, runs[:1], wrong, curve)
    curve.write_text("")
    same = [folder / "runs/a", folder / "runs/b"]
    said = refused_paths(check_request, same, options, curve)
    assert said == f"cannot write results to {curve}: File exists"


def test_data_with_other_labels_or_other_splits_are_refused(folder, tmp_path):
    run, options = tmp_path / "run", Options(None, 256, 1, "calibrated", 32, False)
    shutil.copytree(folder / "runs/a", run)
    own = read_manifest(folder / "digits")
    check_request([run], options, tmp_path)  # an older run has not noted its data
    write_manifest(replace(own, classes=own.classes[::-1]), run)
    said = refused_paths(check_request, [run], options, tmp_path)
    assert "the first to differ is number 1, '0' instead of '9'" in said
    fewer = {name: replace(s, per_class=(s.samples, 0, 0)) for name, s in own.splits.items()}
    write_manifest(replace(own, classes=own.classes[:3], splits=fewer), run)
    said = refused_paths(check_request, [run], options, tmp_path)
    assert "has 10 classes and" in said
    assert "number 4, '3' instead of None" in said
    prepare_digits(tmp_path / "other", seed=3)
    write_manifest(read_manifest(tmp_path / "other"), run)
    said = refused_paths(check_request, [run], options, tmp_path)
    assert "is no longer what" in said
    check_request([run], replace(options, data=str(folder / "digits")), tmp_path)


def test_the_extra_split_is_measured_as_the_others_are(folder, tmp_path, results):
    run, data = tmp_path / "run", tmp_path / "digits"
    shutil.copytree(folder / "runs/a", run)
    shutil.copytree(folder / "digits", data)
    own = read_manifest(folder / "digits")
    write_manifest(own, run)  # trained on data that had no extra split
    shutil.copy(data / "metaval.beton", data / "extra.beton")  # its accuracy is known
    extra = replace(own.splits["metaval"], file="extra.beton")
    write_manifest(replace(own, folder=data, splits={**own.splits, "extra": extra}))
    config = json.loads((run / "config.json").read_text())
    config["hdkd"]["data"]["path"] = str(data)
    (run / "config.json").write_text(json.dumps(config))
    options = Options(None, 256, 1, "calibrated", 1, False)
    check_request([run], options, tmp_path)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        evaluate_run(run, options)
    found = json.loads((run / "results.json").read_text())["exits"]
    for row, before in zip(found, results["exits"], strict=True):
        assert "extra_top1" not in before
        assert row == {
            **before,
            "extra_top1": before["val_top1"],
            "extra_top5": before["val_top5"],
        }
    assert "extra top-5" in printed.getvalue()


def test_moved_data_are_the_runs_own_normalised_as_its_network_has_learned(
    folder, tmp_path, results
):
    run, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(folder / "runs/a", run)
    shutil.copytree(folder / "digits", other)
    own = read_manifest(folder / "digits")
    write_manifest(own, run)
    image = {**own.image, "mean": [0.9, 0.1, 0.5], "std": [0.1, 0.2, 0.3]}
    write_manifest(replace(read_manifest(other), image=image))
    config = json.loads((run / "config.json").read_text())
    config["hdkd"]["data"]["path"] = "data/where-it-was"
    (run / "config.json").write_text(json.dumps(config))
    (run / "results.json").unlink()
    options = Options(None, 256, 1, "calibrated", 1, False)
    said = refused_paths(check_request, [run], options, tmp_path)
    assert "are not at data/where-it-was: say with --data where they are now" in said
    options = replace(options, data=str(other))
    check_request([run], options, tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):
        found = evaluate_run(run, options).results["exits"]
    assert [row["top1"] for row in found] == [row["top1"] for row in results["exits"]]
    assert json.loads((run / "results.json").read_text())["exits"] == found


def test_the_search_that_is_asked_for_fills_the_table_of_budgets(folder, results):
    options = Options(str(folder / "digits"), 256, 1, "calibrated", 1, False, "geometric")
    with contextlib.redirect_stdout(io.StringIO()):
        found = evaluate_run(folder / "runs/a", options).results
    assert found["search"]["default"] == "geometric"
    assert found["budgeted"] == results["budgeted_geometric"]
    assert found["budgeted_direct"] == results["budgeted"]


def test_damaged_results_are_found_before_the_evaluation(folder, tmp_path):
    write_run(tmp_path / "run", "msdnet-digits", folder / "digits", steps=0)
    (tmp_path / "run/results.json").write_text("{")
    options = Options(None, 256, 1, "calibrated", 32, False)
    said = refused_paths(check_request, [tmp_path / "run"], options, tmp_path)
    assert "results.json is damaged" in said


def refused_paths(function, *arguments):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        function(*arguments)
    return str(error.value)


def test_several_runs_on_the_command_line(capsys):
    def main(run: Sequence[str], data: str | None = None) -> None:
        print(run, data)

    cli.run(main, ["--run", "a", "--data", "d", "--run=12"])
    assert capsys.readouterr().out == "['a', '12'] d\n"
