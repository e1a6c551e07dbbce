"""Evaluating finished runs: their splits are read as in training, their folders get the results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor, nn

from hdkd_dist.data.manifest import (
    EXTRA,
    FILE_NAME,
    METAVAL,
    ImageFormat,
    Manifest,
    data_folder,
    read_manifest,
)
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.data.preparing.workers import progress_bar
from hdkd_dist.data.readers.opening import open_split
from hdkd_dist.data.streams import ReadOptions, SplitReader, evaluation_pass
from hdkd_dist.data.verified import verify_content
from hdkd_dist.evaluation import figures
from hdkd_dist.evaluation.figures import draw_easy_and_hard
from hdkd_dist.evaluation.measures import (
    COMPARED,
    Evaluation,
    anytime_rows,
    best_of_networks,
    budgeted_results,
    evaluate_outputs,
    latency_results,
)
from hdkd_dist.evaluation.thresholds import DEFAULT_SEARCH, SEARCHES
from hdkd_dist.files.replacing import replace_file
from hdkd_dist.files.strict_json import to_json
from hdkd_dist.inference.confidence import CONFIDENCES
from hdkd_dist.inference.latency import measure_stages, sizes_up_to
from hdkd_dist.inference.outputs import Outputs, collect_outputs, save_outputs
from hdkd_dist.inference.torch_stages import TorchStages, fold_where_equal
from hdkd_dist.models import exit_costs, network_name, spec_of
from hdkd_dist.runs.folder import FIGURES, LOGITS, RESULTS
from hdkd_dist.runs.network import load_network, read_run, trained_on
from hdkd_dist.runs.pictures import draw_accuracy
from hdkd_dist.runs.results import Results, budget_table, read_results, table, update_results

SPLITS = {"validation": "metaval", "test": "test"}
MEASURED = (*SPLITS.values(), EXTRA)


@dataclass(frozen=True)
class Options:
    """Options of ``evaluate.py``."""

    data: str | None  # the run's own where it is None
    batch: int
    workers: int
    confidence: str
    latency_batch: int
    save_logits: bool
    search: str = DEFAULT_SEARCH


def named_runs(run: Sequence[str] | str) -> list[Path]:
    """List the folders of ``--run A --run B`` or ``--run A,B``.

    Raises:
        ValueError: if one is named twice.
    """
    words = [run] if isinstance(run, str) else run
    names = [name.strip() for word in words for name in str(word).split(",")]
    if not all(names) or len(set(names)) != len(names):
        raise ValueError(f"--run needs the folders of different runs, not {', '.join(names)}")
    return [Path(name) for name in names]


def manifest_of(folder: Path, data: str | None) -> Manifest:
    """Read the data set that a run is evaluated on: its own, unless ``data`` names another."""
    if data is not None:
        return read_manifest(data_folder(str(data)))
    named = data_folder(read_run(folder)["hdkd"]["data"]["path"])
    if not (named / FILE_NAME).exists():
        raise ValueError(
            f"the data that {folder} was trained on are not at {named}: say with --data where they "
            "are now"
        )
    return read_manifest(named)


def is_own_data(folder: Path, measured: Manifest, data: str | None) -> bool:
    """Tell whether a run was trained on these very data, wherever they lie.

    Args:
        folder: of the run.
        measured: what it is evaluated on.
        data: the option; None takes what the run's configuration names.
    """
    own = trained_on(folder)
    return data is None if own is None else own.digest == measured.digest


def check_classes(folder: Path, own: Manifest, measured: Manifest) -> None:
    """Refuse data whose labels mean something else than those that a run was trained with."""
    if own.classes == measured.classes:
        return
    pairs = enumerate(zip_longest(own.classes, measured.classes), start=1)
    place, (ours, theirs) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
    raise ValueError(
        f"{measured.folder} has {len(measured.classes)} classes and {folder} was trained on "
        f"{len(own.classes)}; the first to differ is number {place}, {theirs!r} instead of "
        f"{ours!r}: give data with the same classes"
    )


def check_own_data(folder: Path, own: Manifest, found: Manifest) -> None:
    """Refuse to note results of other splits, which may hold what the run was trained on."""
    if own.digest != found.digest:
        raise ValueError(
            f"{found.folder} is no longer what {folder} was trained on (its splits have another "
            f"sha256): prepare it again as it was, or measure on it with --data {found.folder}"
        )


def check_validation(folder: Path, manifest: Manifest) -> None:
    """Refuse data on which no thresholds can be found."""
    if METAVAL not in manifest.splits:
        raise ValueError(
            f"{manifest.folder} has no validation split to find thresholds on (it was prepared "
            f"with --metaval_per_class 0): the accuracies of {folder} are in its {RESULTS}; for "
            "thresholds name data that have one with --data"
        )


def check_writable(folders: Sequence[Path]) -> None:
    """Refuse folders that results cannot be written to."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot write results to {folder}: {error.strerror}") from None
        if not os.access(folder, os.W_OK):
            raise ValueError(f"cannot write results to {folder}: you may not write there")


def check_request(folders: Sequence[Path], options: Options, out: Path) -> None:
    """Find what is wrong before the long work.

    Raises:
        ValueError: for impossible options, runs on different images or classes, weights or results
            that are damaged, or folders that cannot be written.
    """
    numbers = {
        "--batch": options.batch,
        "--workers": options.workers,
        "--latency_batch": options.latency_batch,
    }
    for flag, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"{flag} must be a whole number from 1 on, not {number!r}")
    for flag, value, known in (
        ("--confidence", options.confidence, CONFIDENCES),
        ("--search", options.search, SEARCHES),
    ):
        if value not in known:
            raise ValueError(f"{flag} must be {' or '.join(known)}, not {value!r}")
    manifests = [manifest_of(folder, options.data) for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        own = trained_on(folder) or manifest
        check_classes(folder, own, manifest)
        if options.data is None:
            check_own_data(folder, own, manifest)
        load_network(folder, read_run(folder), len(manifest.classes))
        read_results(folder)
        check_validation(folder, manifest)
    for split in SPLITS.values():
        if len({manifest.identity.get(split) for manifest in manifests}) > 1:
            raise ValueError(
                f"the runs have different {split} splits: one curve needs one data set, see --data"
            )
    for manifest in {manifest.folder: manifest for manifest in manifests}.values():
        verify_content(manifest, [name for name in MEASURED if name in manifest.splits])
    written = [
        folder
        for folder, manifest in zip(folders, manifests, strict=True)
        if is_own_data(folder, manifest, options.data)
    ]
    check_writable([*written, out] if len(folders) > 1 else written)


@dataclass(frozen=True)
class EvaluationData:
    """A prepared data set as one network reads it.

    Attributes:
        manifest: of the data set.
        trained: the image format, mean and standard deviation that the network was trained with.
        image_size: pixels per side.
        batch: images at a time.
        reading: where to, and with how many threads.
    """

    manifest: Manifest
    trained: ImageFormat
    image_size: int
    batch: int
    reading: ReadOptions

    _readers: dict[str, SplitReader] = field(default_factory=dict)

    def reader(self, split: str) -> SplitReader:
        """Open one split, without augmentation.

        Readers are cached: dropping one during a numba compilation prints a traceback.
        """
        if split not in self._readers:
            self._readers[split] = open_split(
                self.manifest,
                split,
                image_size=self.image_size,
                batch=self.batch,
                reading=self.reading,
            )
        return self._readers[split]

    def outputs(self, network: nn.Module, split: str) -> Outputs:
        """Collect every exit's logits on every image of a split, once each."""
        reader = self.reader(split)
        normalize = Normalize.of(self.trained["mean"], self.trained["std"], self.reading.device)
        with progress_bar(reader.samples, f"evaluating {split}") as progress:

            def batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
                for part in evaluation_pass(reader, rank=0, world_size=1):
                    yield part.images, part.labels, part.indices
                    progress.update(len(part.labels))

            return collect_outputs(lambda images: network(normalize(images)), batches())

    def images(self, split: str, positions: Sequence[int]) -> Tensor:
        """Read images of a split, [B, 3, H, W] uint8 on the CPU, in the order of ``positions``."""
        parts = self.reader(split).read(torch.tensor(positions).numpy())
        return torch.cat([part.images.cpu() for part in parts])


@dataclass(frozen=True)
class Evaluated:
    """A run and its results."""

    folder: Path
    manifest: Manifest
    results: Results


def evaluate_run(folder: Path, options: Options) -> Evaluated:
    """Evaluate one run; its folder gets the results and pictures unless the data are others.

    Raises:
        ValueError: for a folder, weights or data that do not fit.
    """
    config = read_run(folder)
    manifest = manifest_of(folder, options.data)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    network = load_network(folder, config, len(manifest.classes)).to(device)
    model = config["hdkd"]["model"]
    image_size = spec_of(model).input_size
    trained = (trained_on(folder) or manifest).image
    reader = config["hdkd"]["data"].get("reader", "ffcv")  # older runs do not say
    reading = ReadOptions(device, options.workers, reader=reader)
    data = EvaluationData(manifest, trained, image_size, options.batch, reading)
    outputs = {name: data.outputs(network, split) for name, split in SPLITS.items()}
    if EXTRA in manifest.splits:
        outputs["extra"] = data.outputs(network, EXTRA)
    evaluation = evaluate_outputs(
        exit_costs(network, image_size), **outputs, kind=options.confidence
    )
    stages = TorchStages(fold_where_equal(network, image_size))
    times = measure_stages(stages, image_size, sizes_up_to(options.latency_batch))
    budgeted = budgeted_results(evaluation, options.search)
    timed = latency_results(budgeted["budgeted"], times, device)
    results: Results = {"exits": anytime_rows(evaluation), **budgeted, **timed}
    drawn = []
    if is_own_data(folder, manifest, options.data):  # before printing: the reader may have left
        if options.save_logits:
            for name, each in outputs.items():
                save_outputs(each, folder / LOGITS / f"{name}.safetensors")
        update_results(folder, results)
        title = f"{config['hdkd']['method']}, {network_name(model)} on {manifest.name}"
        drawn = draw_evaluation(folder / FIGURES, title, evaluation, results, data)
    print(f"{folder}, {manifest.name}")
    print(table(results["exits"]))
    print(budget_table(results["budgeted"][COMPARED]))
    if drawn:
        print(f"{folder}: {RESULTS}, {', '.join(file.name for file in drawn)}")
    else:
        print(f"{folder}: unchanged, for it was trained on other data")
    return Evaluated(folder, manifest, results)


def draw_evaluation(
    folder: Path, title: str, evaluation: Evaluation, results: Results, data: EvaluationData
) -> list[Path]:
    """Draw a network's pictures; returns the files."""
    names = ("accuracy_vs_mmac", "budgeted", "exits_taken", "reliability", "easy_and_hard")
    anytime, budgeted, taken, reliability, grid = (folder / f"{name}.png" for name in names)
    images = evaluation.test.top1.shape[1]
    draw_accuracy(results["exits"], images, title, anytime)  # instead of the one from training
    figures.draw_budgeted(results, evaluation.test, title, budgeted)
    figures.draw_exits_taken(results["budgeted"], title, taken)
    drawn = [anytime, budgeted, taken]
    if figures.draw_reliability(evaluation, title, reliability):
        drawn.append(reliability)
    rows = results["budgeted"]
    if draw_easy_and_hard(
        evaluation,
        rows[len(rows) // 2],
        data.manifest.classes,
        lambda places: data.images("test", places),
        grid,
    ):
        drawn.append(grid)
    return drawn


def compare_runs(evaluated: Sequence[Evaluated], out: Path) -> None:
    """Write and draw one curve: for each budget the network that validation finds best."""
    names = short_names([each.folder for each in evaluated])
    networks = {name: each.results["budgeted"] for name, each in zip(names, evaluated, strict=True)}
    best = best_of_networks(networks)
    text = to_json({"networks": names, "budgeted": best}, indent=1) + "\n"
    replace_file(out / "curve.json", text)
    file = out / "networks.png"
    figures.draw_networks(networks, best, evaluated[0].manifest.name, file)
    print(budget_table(best[COMPARED]))
    print(f"{out}: curve.json, {file.name}")


def short_names(folders: Sequence[Path]) -> list[str]:
    """Return the folders' own names, or their paths where two have the same."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]
