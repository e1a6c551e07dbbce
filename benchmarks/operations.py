"""Count the operations that a step starts on a device: what a GPU's host is busy with.

    python benchmarks/operations.py [--preset msdnet-imagenet-4] [--batch 2] [--top 12]

Every operation that torch dispatches is counted except views, which start nothing on a device. The
tensors are fake (shapes without values), so nothing is computed and no GPU is needed. The step is
the one of the shipped configurations: SGD with momentum in fused lists (``foreach``, torch's choice
on a GPU), bf16 autocast, the whole batch in one micro-batch, one rank. DeepSpeed's own part is not
in it.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from hdkd_dist import cli
from hdkd_dist.config.settings import Settings
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.method.algorithm import Algorithm
from hdkd_dist.method.engines import PlainEngine
from hdkd_dist.method.hypergradient import alone
from hdkd_dist.models import build, resolve
from hdkd_dist.training.engine import channels_last_weights
from hdkd_dist.training.gamma import build_algorithm, configured_weights

CPU = torch.device("cpu")  # of the fake tensors; the counts do not depend on it
RATE = 0.1
STEPS = 1000  # of the training whose step is counted


class Operations(TorchDispatchMode):
    """Count operations by name; views are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Count ``function``, and run it."""
        name = function.overloadpacket.__name__
        if not function.is_view and name not in FREE:
            self.counts[name] += 1
        return function(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        """All operations."""
        return self.counts.total()


# Questions about tensors, marks for a profiler, and memory that is taken but not filled.
FREE = {
    "device",
    "is_same_size",
    "_has_same_storage_numel",
    "_efficientzerotensor",
    "_record_function_enter_new",
    "_record_function_exit",
    "detach",
    "_make_dual",
    "empty",
    "empty_strided",
    "empty_like",
    "new_empty",
    "new_empty_strided",
}


class Autocasting(PlainEngine):
    """Run the network under autocast, as DeepSpeed's ``torch_autocast`` does."""

    def __call__(self, images: Tensor, **arguments: Any) -> Tensor:
        """Run the network: images → logits [K, B, C]."""
        with torch.autocast(images.device.type, torch.bfloat16):
            return super().__call__(images, **arguments)


@dataclass(frozen=True)
class Step:
    """What a step needs, on fake tensors."""

    algorithm: Algorithm
    batch: list[tuple[Tensor, Tensor]]

    def plain(self) -> None:
        """Move θ."""
        self.algorithm.train_step(self.batch)

    def gamma(self) -> None:
        """Move γ and θ."""
        self.algorithm.step(self.batch, self.batch, RATE)


@contextmanager
def fake_step(preset: str, batch: int, gamma: dict[str, Any] | None = None) -> Iterator[Step]:
    """Set up a step of HDKD whose tensors have shapes and no values.

    Args:
        preset: the network.
        batch: images of the only micro-batch; counts do not depend on it.
        gamma: settings of γ.
    """
    settings = Settings.model_validate(
        {
            "method": "hdkd",
            "model": {"preset": preset},
            "schedule": {"epochs": 1, "base_lr": RATE, "base_batch": 1},
            "gamma": gamma or {},
        }
    )
    side = resolve(preset, {}).input_size
    weights = configured_weights(settings, build_fake(preset).num_exits, STEPS, CPU)
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = build(preset).train()
        channels_last_weights(network)
        optimizer = torch.optim.SGD(
            network.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4, foreach=True
        )
        deepspeed = {
            "optimizer": {"params": {"momentum": 0.9}},
            "gradient_accumulation_steps": 1,
            "torch_autocast": {"enabled": True},
        }
        algorithm = build_algorithm(
            Autocasting(network, optimizer),
            weights,
            Normalize.of([0.5] * 3, [0.25] * 3, CPU),
            settings,
            deepspeed,
            mean=alone,
        )
        images = torch.empty(batch, side, side, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
        yield Step(algorithm, [(images, torch.zeros(batch, dtype=torch.int64))])


def build_fake(preset: str) -> Any:
    """Build a network without values."""
    with torch.device("meta"):
        return build(preset)


def counted(run: Callable[[], None]) -> Counter[str]:
    """Count the operations of a second run; the first one allocates what later ones reuse."""
    run()
    with Operations() as operations:
        run()
    return operations.counts


def count_steps(preset: str, batch: int = 2) -> dict[str, Counter[str]]:
    """Count a plain step, and one with γ's by each kind of look-ahead."""
    found: dict[str, Counter[str]] = {}
    with fake_step(preset, batch) as step:
        found["plain"] = counted(step.plain)
    for kind in ("online", "lookahead"):
        with fake_step(preset, batch, {"lookahead": kind}) as step:
            found[kind] = counted(step.gamma)
    return found


def main(preset: str = "msdnet-imagenet-4", batch: int = 2, top: int = 12) -> None:
    """Print the operations of each kind of step, the most frequent ones by name.

    Args:
        preset: the network.
        batch: images; the counts do not depend on it.
        top: how many names are shown.
    """
    found = count_steps(preset, batch)
    print(f"{preset}, operations per step (views are not counted), torch {torch.__version__}")
    for name, counts in found.items():
        print(f"{name:10} {counts.total():6,}")
    mean = statistics.mean([found["plain"].total(), found["online"].total()])
    print(f"{'every 2':10} {mean:6,.0f}  (the default: a step of each kind in turn)\n")
    names = [name for name, _ in sum(found.values(), Counter()).most_common(top)]
    print(f"{'':32}" + "".join(f"{kind:>11}" for kind in found))
    for name in names:
        print(f"{name:32}" + "".join(f"{counts[name]:11,}" for counts in found.values()))
    print(json.dumps({kind: counts.total() for kind, counts in found.items()}))


if __name__ == "__main__":
    cli.run(main)
