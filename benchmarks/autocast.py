"""What bf16 costs the hypergradient in accuracy, pass by pass, on a trained network and its data.

    python benchmarks/autocast.py --run runs/X [--data DIR] [--batches 8] [--json]

At the network's final parameters and γ, one hypergradient per pair of batches is computed with all
passes in float32, then with each of them in bf16. Beside the errors stands what batches differ by:
an error far below that cannot matter.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from hdkd_dist import cli
from hdkd_dist.data.augment import Augmentation
from hdkd_dist.data.manifest import Manifest
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.data.readers.opening import open_split
from hdkd_dist.data.streams import ReadOptions
from hdkd_dist.evaluation.evaluate_run import manifest_of
from hdkd_dist.method.functional import forward_of
from hdkd_dist.method.hypergradient import (
    Examples,
    Forward,
    jvp,
    look_ahead,
    metaval_gradient,
)
from hdkd_dist.method.meta_objective import MetaObjective
from hdkd_dist.method.objective import LossLayout, cross_entropies, loss_vector
from hdkd_dist.models import spec_of
from hdkd_dist.runs.network import load_network, read_run

CPU = torch.device("cpu")
RATES = (0.1, 0.001)  # ξ
PASSES = ("look_ahead", "validation", "forward_mode")
CHOICES = [(), *((name,) for name in PASSES), ("validation", "forward_mode"), PASSES]


@dataclass(frozen=True)
class Trained:
    """A finished run's network and weights of the losses."""

    forward: Forward
    half: Forward  # the same in bf16
    parameters: dict[str, Tensor]
    gamma: Tensor  # [n]
    names: list[str]  # of γ's entries
    exists: Tensor  # [n], bool
    temperature: Tensor
    alpha: float


def trained(folder: Path, manifest: Manifest) -> Trained:
    """The network as training would go on with it."""
    config = read_run(folder)
    network = load_network(folder, config, len(manifest.classes)).train()
    layout = LossLayout(network.num_exits)
    final = json.loads((folder / "results.json").read_text())["gamma"]
    gamma = layout.join(torch.tensor(final["ce"]), torch.tensor(final["kd"]))
    normalize = Normalize.of(manifest.image["mean"], manifest.image["std"], CPU)
    temperature = config["hdkd"]["loss"]["temperature"]
    return Trained(
        forward=forward_of(network, normalize),
        half=forward_of(network, normalize, autocast=torch.bfloat16),
        parameters=dict(network.named_parameters()),
        gamma=gamma,
        names=layout.names,
        exists=gamma != 0,
        temperature=torch.tensor(3.0 if temperature == "anneal" else float(temperature)),
        alpha=config["hdkd"]["gamma"]["alpha"],
    )


def read_batches(
    manifest: Manifest, split: str, size: int, count: int, side: int
) -> list[Examples]:
    """The first batches of a shuffled split, augmented."""
    reader = open_split(
        manifest,
        split,
        image_size=side,
        batch=size,
        reading=ReadOptions(CPU),
        augmentation=Augmentation.of(manifest),
    )
    order = torch.randperm(reader.samples, generator=torch.Generator().manual_seed(0))
    return [batch.examples for batch in reader.read(order[: size * count].numpy())]


def timed(seconds: dict[str, list[float]], name: str, call: Callable):
    """What ``call`` returns; its duration is noted."""
    start = time.perf_counter()
    result = call()
    seconds[name].append(time.perf_counter() - start)
    return result


def hypergradient(
    network: Trained, half: tuple[str, ...], train: Examples, metaval: Examples, rate: float
) -> tuple[Tensor, dict[str, float]]:
    """∂L_val/∂γ of the existing entries with some passes in bf16, and each pass's seconds."""
    forwards = {name: network.half if name in half else network.forward for name in PASSES}
    seconds: dict[str, list[float]] = {name: [] for name in PASSES}
    losses = partial(loss_vector, temperature=network.temperature)
    looked = partial(look_ahead, step_size=rate)
    ahead = timed(
        seconds,
        "look_ahead",
        lambda: looked(forwards["look_ahead"], losses, network.parameters, network.gamma, [train]),
    )
    v, _ = timed(
        seconds,
        "validation",
        lambda: metaval_gradient(
            forwards["validation"],
            cross_entropies,
            ahead,
            [metaval],
            MetaObjective(network.alpha),
        ),
    )
    theta = {name: value.detach() for name, value in network.parameters.items()}
    entries = timed(
        seconds,
        "forward_mode",
        lambda: jvp(forwards["forward_mode"], losses, theta, v, train),
    )
    return -rate * entries[network.exists], {name: value[0] for name, value in seconds.items()}


def measure(
    network: Trained, train: list[Examples], metaval: list[Examples], rate: float
) -> list[dict]:
    """A row for each choice of passes in bf16."""
    results = {
        half: [
            hypergradient(network, half, *pair, rate) for pair in zip(train, metaval, strict=True)
        ]
        for half in CHOICES
    }
    reference = torch.stack([gradient for gradient, _ in results[()]])
    mean = reference.mean(dim=0)
    names = [n for n, exists in zip(network.names, network.exists, strict=True) if exists]
    rows = []
    for half, found in results.items():
        gradients = torch.stack([gradient for gradient, _ in found])  # [batches, entries]
        difference = gradients - reference
        errors = (difference.abs() / reference.abs()).median(dim=0).values
        times = {name: statistics.median(seconds[name] for _, seconds in found) for name in PASSES}
        rows.append(
            {
                "rate": rate,
                "bf16": list(half),
                "relative_error": float((difference.norm(dim=1) / reference.norm(dim=1)).mean()),
                "entries": dict(zip(names, errors.tolist(), strict=True)),
                "wrong_signs": float((gradients.sign() != reference.sign()).float().mean()),
                "between_batches": float(((reference - mean).norm(dim=1) / mean.norm()).mean()),
                "seconds": times,
            }
        )
    return rows


def main(
    run: str,
    data: str | None = None,
    batch: int = 128,
    batches: int = 8,
    threads: int = 2,
    json: bool = False,
) -> None:
    """Measure at a learning rate from the start of a training and at one from its end.

    Args:
        run: the folder of a finished run.
        data: its data set's folder, if it is elsewhere now.
        batch: images of a batch.
        batches: pairs of batches.
        threads: of torch.
        json: print one JSON object as the last line.
    """
    torch.set_num_threads(threads)
    manifest = manifest_of(Path(run), data)
    network = trained(Path(run), manifest)
    model = read_run(Path(run))["hdkd"]["model"]
    side = spec_of(model).input_size
    train, metaval = (
        read_batches(manifest, split, batch, batches, side) for split in ("train", "metaval")
    )
    rows = [row for rate in RATES for row in measure(network, train, metaval, rate)]
    show(rows)
    if json:
        print_json({"rows": rows, "torch": torch.__version__, "threads": threads})


def show(rows: list[dict]) -> None:
    """For people; errors of entries are medians over the batches."""
    print(
        f"{'rate':>6} {'bf16':40} {'error':>8} {'median entry':>12} {'worst entry':>11} "
        f"{'wrong signs':>11} {'batches differ by':>17}   seconds: {', '.join(PASSES)}"
    )
    for row in rows:
        entries = sorted(row["entries"].values())
        shown = " ".join(f"{value:.2f}" for value in row["seconds"].values())
        print(
            f"{row['rate']:6g} {', '.join(row['bf16']) or 'none':40} {row['relative_error']:8.1e} "
            f"{statistics.median(entries):12.1e} {entries[-1]:11.1e} {row['wrong_signs']:11.1%} "
            f"{row['between_batches']:17.2f}   {shown}"
        )


def print_json(report: dict) -> None:
    """For machines."""
    print(json.dumps(report))


if __name__ == "__main__":
    cli.run(main)
