"""Parts of gpu.py that can fail: what must hold on a GPU as it does on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path

import torch
from gpu_setup import (
    CPU,
    UNTIMED,
    algorithm_on,
    device_of,
    error,
    random_batch,
    say,
    wait,
)
from local_ranks import ROOT
from torch import Tensor

from hdkd_dist.method.functional import forward_of
from hdkd_dist.method.hypergradient import (
    Forward,
    Losses,
    Parameters,
    differentiable,
    jvp,
    metaval_gradient,
    second_order,
)
from hdkd_dist.method.meta_objective import MetaObjective
from hdkd_dist.method.objective import cross_entropies, loss_vector
from hdkd_dist.method.recording import Recording, repeating
from hdkd_dist.models import build, resolve
from hdkd_dist.training.measure import Meter


def agree(rehearse: bool) -> None:
    """γ's derivative: on the device against float64 on the CPU, and by two ways on the device."""
    device, faults = device_of(rehearse), []
    strict, cudnn = "float32 without TF32 (5e-7 to 1.3e-3 on a CPU)", torch.backends.cudnn
    for preset in ("msdnet-digits",) if rehearse else ("msdnet-digits", "msdnet-cifar-4"):
        side = resolve(preset, {}).input_size
        torch.manual_seed(0)
        original = build(preset, 10).double().train()
        generator = torch.Generator().manual_seed(1)
        train, metaval = (
            (
                torch.randn(16, 3, side, side, generator=generator, dtype=torch.float64),
                torch.randint(10, (16,), generator=generator),
            )
            for _ in range(2)
        )
        theta = dict(original.named_parameters())
        v, _ = metaval_gradient(
            forward_of(original), cross_entropies, theta, [metaval], MetaObjective()
        )

        def along_v(
            where: torch.device,
            dtype: torch.dtype,
            solver: Callable[..., Tensor] = jvp,
            autocast: torch.dtype | None = None,
            *,
            preset: str = preset,
            original: torch.nn.Module = original,
            v: dict[str, Tensor] = v,
            train: tuple[Tensor, Tensor] = train,
        ) -> Tensor:
            network = build(preset, 10).to(where, dtype).train()
            network.load_state_dict(original.state_dict())
            there = {name: value.to(where, dtype) for name, value in v.items()}
            own = {name: value.detach() for name, value in network.named_parameters()}
            temperature = torch.tensor(3.0, dtype=dtype, device=where)

            def losses(logits: Tensor, labels: Tensor) -> Tensor:
                return loss_vector(logits, labels, temperature)

            examples = train[0].to(where, dtype), train[1].to(where)
            forward = forward_of(network, autocast=autocast, casts_together=True)
            return solver(forward, losses, own, there, examples)

        exact = along_v(CPU, torch.float64)
        double = along_v(device, torch.float64)
        row = {
            "float64, device and CPU (below 1e-9)": error(double, exact),
            "float64, two ways on the device (below 1e-9)": error(
                double, along_v(device, torch.float64, second_order)
            ),
            "float64, after a recorded pass (below 1e-9)": error(
                along_v(device, torch.float64, after_recording), exact
            ),
        }
        faults += [key for key, value in row.items() if not value < 1e-9]
        cudnn.allow_tf32 = False
        row[strict] = error(along_v(device, torch.float32), exact)
        cudnn.allow_tf32 = True
        row["float32 as torch has it, TF32"] = error(along_v(device, torch.float32), exact)
        half = along_v(device, torch.float32, autocast=torch.bfloat16)
        row["bf16 autocast (0.07 to 0.11 on a CPU)"] = error(half, exact)
        say(preset=preset, **row)
    if faults:
        sys.exit(f"not exact: {', '.join(faults)}")


def after_recording(
    forward: Forward,
    losses: Losses,
    theta: Parameters,
    v: Parameters,
    examples: tuple[Tensor, Tensor],
) -> Tensor:
    """Give γ's derivative as a step of training does, which takes over what θ's pass has found."""
    record = Recording()
    with record:
        forward(differentiable(theta), examples[0])
    kept = {func: any(one is not None for one in found) for func, found in record.found.items()}
    assert kept.pop(torch.cat) == examples[0].is_cuda
    assert all(kept.values())
    return jvp(repeating(forward, record), losses, theta, v, examples)


def graphs(rehearse: bool) -> None:
    """Steps whose passes are graphs give what the same steps give without: to the bit.

    Both with cuDNN's deterministic algorithms; else two runs without graphs differ as well.
    """
    device, faults = device_of(rehearse), []
    preset = "msdnet-digits" if rehearse else "msdnet-imagenet-4"
    torch.backends.cudnn.deterministic = True
    for lookahead in ("online", "lookahead"):
        ends = {}
        for name, captured in (("eager", False), ("again", False), ("graphs", True)):
            algorithm = algorithm_on(device, preset, lookahead, graphs=captured)
            torch.manual_seed(1)
            for step in range(8):
                train, metaval = (random_batch(device, preset, 32) for _ in range(2))
                if step in (1, 6):
                    algorithm.train_step(train)
                else:
                    algorithm.step(train, metaval, 0.01)
            network = algorithm.engine.module
            theta = torch.cat([p.detach().flatten() for p in network.parameters()])
            statistics = torch.cat([b.double().flatten() for b in network.buffers()])
            ends[name] = (theta, statistics, algorithm.weights.gamma)
            passes = algorithm.graphs.passes if algorithm.graphs else {}
        found = {
            name: [error(own, eager) for own, eager in zip(ends[name], ends["eager"], strict=True)]
            for name in ("again", "graphs")
        }
        taken = {
            " ".join((name, kind.__name__)): p.captured is not None
            for (name, kind), p in passes.items()
        }
        say(
            lookahead=lookahead,
            **{f"{name}: θ, statistics, γ": row for name, row in found.items()},
            captured=taken,
        )
        if found["graphs"] != [0, 0, 0] and found["again"] == [0, 0, 0]:
            faults.append(lookahead)
        if device.type == "cuda" and not all(taken.values()):
            faults.append(f"{lookahead}: not captured")
    if faults:
        sys.exit(f"graphs give something else: {', '.join(faults)}")


def no_sync(rehearse: bool) -> None:
    """No step waits for the device: torch raises an error where one does."""
    device = device_of(rehearse)
    preset = "msdnet-digits" if rehearse else "msdnet-imagenet-4"
    for lookahead, captured in product(("online", "lookahead"), (True, False)):
        algorithm = algorithm_on(device, preset, lookahead, graphs=captured)
        meter = Meter(algorithm.engine.module.num_exits, device)
        batch = random_batch(device, preset, 16)
        for _ in range(UNTIMED):  # memory is allocated, algorithms are chosen, graphs captured
            algorithm.step(batch, batch, 0.01)
        wait(device)
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        for step in range(1, 4):
            seen, gradient = algorithm.step(batch, batch, 0.01)
            meter.add_gamma_step(step, gradient, gradient.norm() * 0)
            meter.add(step, seen, algorithm.weights.gamma, images=16)
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
        say(lookahead=lookahead, graphs=captured, steps=3, waits=0)


def stream(rehearse: bool) -> None:
    """The loader's race: batches on a busy GPU are those on the CPU, to the bit.

    And no pass takes memory that the ones before it have not taken.
    """
    from typing import get_args

    from hdkd_dist.data.augment import Augmentation
    from hdkd_dist.data.preparing.digits import prepare_digits
    from hdkd_dist.data.readers.opening import open_split
    from hdkd_dist.data.streams import MicroBatch, ReaderName, ReadOptions, SplitReader

    device = device_of(rehearse)
    with tempfile.TemporaryDirectory() as folder:
        manifest = prepare_digits(Path(folder, "digits"))

        def reader(where: torch.device, name: ReaderName) -> SplitReader:
            size, reading = manifest.image["size"], ReadOptions(where, workers=2, reader=name)
            return open_split(
                manifest,
                "train",
                image_size=size,
                batch=64,
                reading=reading,
                augmentation=Augmentation.of(manifest),
            )

        order = torch.randperm(manifest.splits["train"].samples).numpy()
        different, grows = 0, False
        for name in get_args(ReaderName):
            wanted = list(reader(CPU, name).read(order, seed=3, epoch=1))
            own, batches, before, taken = reader(device, name), 0, different, []
            for _ in range(5):
                found: list[MicroBatch] = []
                for batch in own.read(order, seed=3, epoch=1):
                    if device.type == "cuda":
                        torch.cuda._sleep(20_000_000)  # about 10 ms of work before the next batch
                    found.append(batch)
                for one, other in zip(found, wanted, strict=True):
                    batches += 1
                    different += not all(
                        torch.equal(a.cpu(), b) for a, b in zip(one, other, strict=True)
                    )
                taken.append(torch.cuda.memory_reserved(device) if device.type == "cuda" else 0)
            say(reader=name, batches=batches, different=different - before, taken=taken)
            grows = grows or taken[-1] > taken[1]
    if different:
        sys.exit("batches have been overwritten on their way")
    if grows:
        sys.exit("each pass takes more memory")


def resume(rehearse: bool) -> None:
    """Training as users train, killed and resumed: equal to the bit with run.deterministic."""
    words = [sys.executable, str(ROOT / "benchmarks/faults.py")]
    words += ["--ranks", "1", "--zero", "0", "--at", "evaluation"]
    done = subprocess.run(words, capture_output=True, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    say(status=done.returncode, **(rows[-1] if rows else {"said": done.stderr[-500:]}))
    if done.returncode or not rows[-1]["resumes"]:
        sys.exit("the resumed run is another one, or has not gone on from a checkpoint")


def two_ranks(rehearse: bool) -> None:
    """Two ranks on one device, by gloo: the order of collectives, and equal replicas of γ."""
    sys.path.append(str(ROOT / "tests"))
    from ranks_harness import on_ranks

    gammas = on_ranks(2, rank_of_two, rehearse, start_method="spawn")
    say(ranks=2, equal=bool(torch.equal(*gammas)))
    if not torch.equal(*gammas):
        sys.exit("the ranks hold different γ")


def rank_of_two(rehearse: bool) -> Tensor:
    """Take three steps on this rank's own images; γ."""
    from dataclasses import replace

    from hdkd_dist.distributed import ranks
    from hdkd_dist.training.gamma import replicate

    device = device_of(rehearse)
    algorithm = replace(algorithm_on(device, "msdnet-digits"), mean=ranks.mean_over_ranks)
    torch.manual_seed(ranks.rank())
    for _ in range(3):
        batch = random_batch(device, "msdnet-digits", 8)
        algorithm.step(batch, batch, 0.01)
        assert float(replicate(algorithm.weights)) == 0
    return algorithm.weights.gamma.cpu()
