"""One run from start to end: open the data, build, train, evaluate, write down."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from hdkd_dist.config.load import Config
from hdkd_dist.config.settings import DataSettings
from hdkd_dist.data.local_copy import make_local_copy, read_local_copy
from hdkd_dist.data.manifest import EMBEDDED, Manifest, data_folder, read_manifest, sha256_of
from hdkd_dist.data.manifest import write as write_manifest
from hdkd_dist.data.preparing.digits import prepare_digits
from hdkd_dist.data.verified import verify_content
from hdkd_dist.distributed import ranks
from hdkd_dist.distributed.allocation import keep_freed_memory
from hdkd_dist.distributed.devices import describe_device, device_line, set_rounding
from hdkd_dist.distributed.heartbeat import Heartbeat
from hdkd_dist.distributed.signals import StopRequests
from hdkd_dist.distributed.watchdog import ProgressMark, Watchdog, backend_patience
from hdkd_dist.files.replacing import replace_file
from hdkd_dist.files.strict_json import to_json
from hdkd_dist.files.tensors import write_tensors
from hdkd_dist.method.objective import LossLayout
from hdkd_dist.models import exit_costs, network_name
from hdkd_dist.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    METRICS,
    RESULTS,
    STACKS,
    WEIGHTS,
    check_seen,
    hold,
    rename_aside,
    what_is_left,
)
from hdkd_dist.runs.results import Results, exit_rows, table, update_results
from hdkd_dist.training.build import Run, build_run
from hdkd_dist.training.checkpointing.resume import (
    Start,
    continue_folder,
    continue_metrics,
    find_start,
)
from hdkd_dist.training.checkpointing.saver import RunIdentity, Saver, Stopped
from hdkd_dist.training.checkpointing.state import read_snapshot
from hdkd_dist.training.engine import network_state
from hdkd_dist.training.figures import draw_figures
from hdkd_dist.training.gamma import gamma_record
from hdkd_dist.training.measure import Meter, Progress, note_gradients
from hdkd_dist.training.process_group import joined_ranks
from hdkd_dist.training.reporter import Reporter
from hdkd_dist.training.tracking import Tracker, tell
from hdkd_dist.training.trainer import evaluate, train


def finish(
    run: Run,
    data: VerifiedData,
    progress: Progress,
    test: Tensor | None,
    reporter: Reporter,
    folder: Path,
) -> None:
    """Write weights, results and pictures; collective.

    Raises:
        ValueError: if they cannot be written; the checkpoints are as they were.
    """
    network = run.engine.module
    state = network_state(network, run.average)
    replicas = ranks.gather_from_ranks(run.weights.gamma)  # [R, n]
    with ranks.agreement(), writable(folder):
        if ranks.rank() != 0:
            return
        write_tensors(state, folder / WEIGHTS)
        costs = exit_costs(network, run.image_size)
        rows = exit_rows(costs, progress.validation, test)
        settings = run.settings
        layout = LossLayout(network.num_exits, settings.loss.term_names)
        results: Results = {
            "method": settings.method,
            "dataset": data.manifest.name,
            "data": {"sha256": data.manifest.identity, "read_at": dict(data.read_at)},
            "preset": network_name(settings.model.model_dump()),
            "seed": settings.run.seed,
            "world_size": run.share.world_size,
            "hardware": describe_device(run.device),
            "exits": rows,
            "gamma": gamma_record(run.weights, layout, list(map(sha256_of_bits, replicas))),
            "train": {"steps": run.steps, **progress.pace.totals()},
            "weights": {"sha256": sha256_of(folder / WEIGHTS)},
        }
        if run.average is not None:
            results["ema_decay"] = run.average.decay
        update_results(folder, results)
        pictures = draw_figures(folder, data.manifest.splits["test"].samples)
        reporter.finish(run.steps, rows, pictures)
        print(table(rows))
        if run.average is not None:
            print(f"measured and saved: the weights' average with decay {run.average.decay}")
        if costs.uncounted:
            print(f"multiply-adds leave out {', '.join(costs.uncounted)}: no formula is known")
        print(f"{folder}: weights, {RESULTS}, {METRICS}, {', '.join(p.name for p in pictures)}")


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turn a folder that cannot be written into one line that says how to go on.

    Raises:
        ValueError: in place of ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be written ({error.strerror}): mend that, and the same "
            "command with --resume auto goes on from the last checkpoint"
        ) from None


@contextmanager
def enough_memory(micro_batch: int) -> Iterator[None]:
    """Turn a GPU whose memory is too small into one line that says how to go on.

    Raises:
        ValueError: in place of torch's error.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"the GPU's memory is too small for {micro_batch} images at once: lower "
            "train_micro_batch_size_per_gpu, or set hdkd.run.cuda_graphs to false, which takes "
            f"about 0.6 of it ({str(error).partition('. ')[0]})"
        ) from error


def sha256_of_bits(tensor: Tensor) -> str:
    """Hash a tensor's bits."""
    return hashlib.sha256(tensor.cpu().numpy().tobytes()).hexdigest()


def execute(
    config: Config,
    requests: StopRequests,
    resume: str = "never",
    resume_changed: bool = False,
) -> None:
    """Train as configured; collective. Rank 0 writes the run folder and prints the result.

    Args:
        config: what to train.
        requests: to stop.
        resume: where to start, see :func:`find_start`.
        resume_changed: whether another configuration may continue a run.

    Raises:
        ValueError: in one line, for settings and data that do not fit, or a run that diverges.
        Stopped: as asked, after a checkpoint.
    """
    folder = Path(config.out)
    timeout = config.hdkd.run.hang_timeout_s
    set_rounding(config.hdkd.run.tf32, config.hdkd.run.deterministic)
    with (
        joined_ranks(backend_patience(timeout), min(timeout, ranks.MEETING)) as device,
        Watchdog(timeout) as watchdog,
        Heartbeat(watchdog.mark, tell if ranks.rank() == 0 else silent),
    ):
        requests.before_leaving = watchdog.tell_stop
        if device.type == "cpu":
            keep_freed_memory()  # a GPU's allocator does so by itself
        if ranks.rank() == 0:
            print(device_line(device), flush=True)
        if ranks.rank() == 0 and ranks.world_size() > 1:
            print(watchdog.summary, flush=True)
        data = open_data(config.hdkd.data, watchdog.mark)
        manifest = data.manifest
        start = ranks.from_leader(
            lambda: find_start(folder, resume, resume_changed, config, manifest)
        )
        if start.finished:
            if ranks.rank() == 0:
                print(f"{folder} is finished: nothing to do (--resume never trains it again)")
            return
        watchdog.mark.move("preparing: building the network and DeepSpeed's engine")
        run = build_run(config, manifest, device, fresh=start.checkpoint is None)
        try:
            train_and_report(config, run, data, folder, start, requests, watchdog)
        except Stopped as stop:
            if ranks.rank() == 0:
                print(stop.text, file=sys.stderr, flush=True)
            raise


def silent(_: str) -> None:
    """Say nothing: rank 0 speaks for all."""


@dataclass(frozen=True)
class VerifiedData:
    """A run's data, and when each split's file was read and found as it was prepared."""

    manifest: Manifest
    read_at: Mapping[str, str]  # split → ISO 8601; known to rank 0


def open_data(settings: DataSettings, mark: ProgressMark) -> VerifiedData:
    """Open the run's data set, prepared or copied to this node where that is asked; collective.

    Its content is compared with the manifest's sha256: by rank 0, or on each node its own copy.
    """
    folder = data_folder(settings.path)
    mark.move(f"preparing: opening the data set {settings.path}")
    with ranks.agreement():
        if settings.path == EMBEDDED and ranks.local_rank() == 0:
            prepare_digits(folder)
    with ranks.agreement():
        manifest = read_manifest(folder)
    if settings.local_copy is not None:
        local = Path(settings.local_copy)
        mark.move(f"preparing: copying the data set to {local}")
        with ranks.agreement():
            if ranks.local_rank() == 0:  # once per node
                make_local_copy(manifest, local)
        with ranks.agreement():
            manifest = read_local_copy(manifest, local)
    mark.move(f"preparing: verifying the data set in {manifest.folder}")
    with ranks.agreement():
        read_at = verify_content(manifest) if ranks.rank() == 0 else {}
    if ranks.rank() == 0:
        first = min(read_at.values())
        print(f"data {manifest.folder}: sha256 as prepared (read {first})", flush=True)
    return VerifiedData(manifest, read_at)


def train_and_report(
    config: Config,
    run: Run,
    data: VerifiedData,
    folder: Path,
    start: Start,
    requests: StopRequests,
    watchdog: Watchdog,
) -> None:
    """Train, evaluate and write everything down; collective."""
    leader = ranks.rank() == 0
    with ranks.agreement():
        lock = open_folder(folder, config, data.manifest, start) if leader else None
    with ranks.agreement():
        check_seen(folder)
        watchdog.keep_stacks_in(folder / STACKS)
    progress, records = begin(run, start)
    if leader and run.weights.learns:
        print(f"γ learns at a rate of {run.weights.rate:.3g}", flush=True)
    tracker = None
    with ranks.agreement():
        if leader:
            continue_metrics(folder, start, records.get("metrics_bytes", 0))
            wandb_id = records.get("wandb_id") if start.in_place else None
            tracker = Tracker(folder, config.hdkd.run, config.as_json(), wandb_id)
    identity = RunIdentity(
        config=config.as_json(),
        data=data.manifest.identity,
        records=tracker.sync if tracker else dict,
    )
    sharded = config.deepspeed.get("zero_optimization", {}).get("stage", 0) > 0
    shards = ranks.world_size() if sharded else 1
    note_gradients(run.engine.lr_scheduler.optimizer, progress.meter, shards)
    saver = Saver(run, progress, folder / CHECKPOINTS, identity, requests, watchdog.mark)
    reporter = Reporter(run, tracker, progress)
    try:
        with requests.patience(), enough_memory(run.share.micro_batch):
            train(run, progress, reporter, saver)
            test = evaluate(run, run.readers.test, saver) if run.settings.run.test else None
            watchdog.mark.move("finishing")
            finish(run, data, progress, test, reporter, folder)
    finally:
        run.readers.close()
        reporter.close()
        if lock is not None:
            lock.close()


def begin(run: Run, start: Start) -> tuple[Progress, Mapping[str, Any]]:
    """Return the position at which training starts, and where its records end; collective."""
    if start.checkpoint is None:
        return Progress(
            Meter(run.engine.module.num_exits, run.device, run.settings.loss.term_names)
        ), {}
    progress, records = read_snapshot(run, start.checkpoint, start.world_size, start.changed)
    if ranks.rank() == 0:
        print(f"going on from {start.checkpoint}: step {progress.step} of {run.steps}", flush=True)
    return progress, records


def open_folder(folder: Path, config: Config, manifest: Manifest, start: Start) -> TextIO:
    """Make the run's folder: its configuration, its data's manifest; an earlier run moves aside.

    Returns:
        A file that reserves the folder for this process while it is open.
    """
    try:
        if not start.in_place and what_is_left(folder):
            hold(folder).close()  # no other process is training it
            aside = rename_aside(folder, "old")
            print(f"{folder} held an earlier run, which is now {aside}")
        folder.mkdir(parents=True, exist_ok=True)
        lock = hold(folder)
        if start.in_place:
            continue_folder(folder, start)
        (folder / WEIGHTS.parent).mkdir(parents=True, exist_ok=True)
        replace_file(folder / CONFIG, to_json(config.as_json(), indent=2) + "\n")
        write_manifest(manifest, folder)
    except OSError as error:
        raise ValueError(
            f"cannot write the run to {folder}: {error}; choose another --out"
        ) from None
    return lock
