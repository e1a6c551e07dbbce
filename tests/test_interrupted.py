"""A run on two ranks that is killed and stopped at all the wrong moments, and loses nothing.

One chain of starts of the same command; ``benchmarks/faults.py`` is the long form.
"""

from __future__ import annotations

import json
import resource
import signal

import pytest
from chain_of_starts import (
    CONFIG,
    RUN,
    Attempt,
    account,
    interrupt_and_resume,
    last_step,
    read_events,
)
from chain_of_starts import without_times as events
from local_ranks import TRAIN, LocalRanks

from hdkd_dist.distributed.signals import LOST, STOPPED

RANKS = 2
SMALL_FILES = 300 << 10  # bytes; a checkpoint needs more


def prepare(folder, reader):
    content = json.loads(json.dumps(CONFIG))
    content["hdkd"]["data"]["reader"] = reader
    content["hdkd"]["schedule"] |= {"epochs": 2, "milestones": [1]}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def lines(output, start):
    return [line for line in output.splitlines() if line.startswith(start)]


@pytest.fixture(scope="module")
def peace(tmp_path_factory):
    """A run that nothing happens to; it reads with FFCV, and the other ends like it to the bit."""
    folder = prepare(tmp_path_factory.mktemp("runs") / "peace", "ffcv")
    interrupt_and_resume(folder, [RANKS], [], None)
    return folder


@pytest.fixture(scope="module")
def trouble(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("runs") / "trouble", "torch")


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILES, SMALL_FILES))


def test_killed_while_the_data_are_prepared(trouble):
    attempt = Attempt(trouble, RANKS)
    assert attempt.wait_until(attempt.preparing), attempt.ranks.output
    attempt.ranks.send(signal.SIGKILL, 0)
    assert attempt.ranks.wait(60) == [-signal.SIGKILL, LOST]  # the other ends by itself
    (error,) = lines(attempt.ranks.output, "error")
    assert error.startswith("error: rank 0 (on ")
    assert not (trouble / "data/digits").exists()


def test_killed_in_the_midst_of_a_save(trouble):
    attempt = Attempt(trouble, RANKS)
    assert attempt.wait_until(lambda: last_step(trouble) >= 5), attempt.ranks.output
    assert attempt.wait_until(attempt.saving), attempt.ranks.output
    attempt.ranks.send(signal.SIGKILL)
    attempt.ranks.wait()
    found = [path.name for path in (trouble / RUN / "checkpoints").glob("step-*")]
    assert "step-00000004" in found
    assert last_step(trouble) >= 8


def test_killed_in_an_evaluation_after_no_checkpoint_could_be_written(trouble):
    before = sorted(path.name for path in (trouble / RUN / "checkpoints").glob("step-*"))
    attempt = Attempt(trouble, RANKS, before=small_files)
    assert attempt.wait_until(attempt.evaluating), attempt.ranks.output
    attempt.ranks.send(signal.SIGKILL)
    attempt.ranks.wait()
    warnings = lines(attempt.ranks.output, "warning: no checkpoint")
    assert warnings
    assert "File too large" in warnings[0] or "write" in warnings[0]
    assert f"the last one is {before[-1]}; training goes on" in warnings[0]
    assert len(set(warnings)) == len(warnings)  # tried once at a step, however long that lasts
    after = sorted(path.name for path in (trouble / RUN / "checkpoints").glob("step-*"))
    assert after == before


def test_stop_that_cannot_be_saved_is_no_stop_in_good_order(trouble):
    attempt = Attempt(trouble, RANKS, before=small_files)
    assert attempt.wait_until(lambda: "warning: no checkpoint" in attempt.ranks.output), (
        attempt.ranks.output
    )
    attempt.ranks.send(signal.SIGTERM)
    assert attempt.ranks.wait(60) == [LOST, LOST]
    (said,) = lines(attempt.ranks.output, "stopped by SIGTERM at step")
    last = max(path.name for path in (trouble / RUN / "checkpoints").glob("step-*"))
    assert f"the last checkpoint is run/checkpoints/{last};" in said


def test_signal_to_one_rank_stops_the_evaluation_of_all_after_a_checkpoint(trouble):
    attempt = Attempt(trouble, RANKS)
    assert attempt.wait_until(attempt.evaluating), attempt.ranks.output
    attempt.ranks.send(signal.SIGUSR1, 1)
    assert attempt.ranks.wait(60) == [STOPPED, STOPPED]
    reached = 17  # the end of the first epoch, whose evaluation is to come
    (said,) = lines(attempt.ranks.output, "stopped by SIGUSR1 at step")
    assert f"the last checkpoint is run/checkpoints/step-{reached:08d};" in said
    assert read_events(trouble)[-1]["step"] == reached
    assert read_events(trouble)[-1]["event"] == "step"


def test_damaged_checkpoint_is_passed_over_and_the_run_ends_like_the_other(trouble, peace):
    checkpoints = trouble / RUN / "checkpoints"
    last = max(path for path in checkpoints.glob("step-*") if path.is_dir())
    file = last / "rank_00001.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    attempt = Attempt(trouble, RANKS)
    assert attempt.ranks.wait() == [0, 0], attempt.ranks.output
    assert f"{last.name} is damaged: rank_00001.pt has another sha256" in attempt.ranks.output

    weights = "checkpoints/final/model.safetensors"
    assert (trouble / RUN / weights).read_bytes() == (peace / RUN / weights).read_bytes()
    gamma = [json.loads((f / RUN / "results.json").read_text())["gamma"] for f in (trouble, peace)]
    assert gamma[0] == gamma[1]
    assert events(trouble) == events(peace)
    assert account(trouble, epochs=2) == (0, 0)


def test_data_that_have_gone_are_named_and_the_run_is_left_alone(peace):
    before = (peace / RUN / "metrics.jsonl").read_bytes()
    beton = peace / "data/digits/train.beton"
    beton.rename(beton.with_suffix(".away"))
    words = ["--ds_config", "config.json", "--out", RUN, "--resume", "auto", "--data", beton.parent]
    run = LocalRanks(TRAIN, words, 1, peace)
    assert run.wait() == [2]
    (error,) = lines(run.output, "error")
    assert "train.beton is missing" in error
    assert (peace / RUN / "metrics.jsonl").read_bytes() == before
