"""DeepSpeed's part: batch sizes, the look-ahead that the optimiser allows, names."""

from __future__ import annotations

import pytest
import torch

from hdkd_dist.config.deepspeed import (
    check_optimizer,
    look_ahead_for,
    resolve_batch,
    torch_optimizers,
)


@pytest.mark.parametrize(("ranks", "most"), [(1, 64), (2, 10), (4, 5), (8, 3)])
def test_batch_is_micro_times_accumulation_times_ranks(ranks, most):
    given = {"train_batch_size": 64, "train_micro_batch_size_per_gpu": most}
    found = resolve_batch(given, ranks, "file")
    micro, steps = found["train_micro_batch_size_per_gpu"], found["gradient_accumulation_steps"]
    assert micro * steps * ranks == 64
    assert micro <= most
    larger = [m for m in range(micro + 1, most + 1) if 64 // ranks % m == 0]
    assert not larger  # as few accumulation steps as fit


@pytest.mark.parametrize(
    ("optimizer", "clipping", "found"),
    [
        ({"type": "SGD", "params": {"momentum": 0.9}}, 0, "online"),
        ({"type": "SGD", "params": {"dampening": 0.1}}, 0, "lookahead"),
        ({"type": "SGD"}, 1.0, "lookahead"),
        ({"type": "Adam"}, 0, "lookahead"),
    ],
)
def test_auto_is_online_only_for_plain_sgd(optimizer, clipping, found):
    deepspeed = {"optimizer": optimizer, "gradient_clipping": clipping}
    assert look_ahead_for("auto", deepspeed) == found
    if found == "lookahead":
        with pytest.raises(ValueError, match=r'set hdkd\.gamma\.lookahead to "auto"'):
            look_ahead_for("online", deepspeed)


def test_every_optimizer_of_torch_is_known_with_its_arguments():
    assert torch_optimizers()["SGD"] is torch.optim.SGD
    check_optimizer({"optimizer": {"type": "RMSprop", "params": {"weight_decay": 0.1}}}, "file")
    with pytest.raises(
        ValueError, match=r"params\.centred is no argument of RMSprop: did you mean centered"
    ):
        check_optimizer({"optimizer": {"type": "RMSprop", "params": {"centred": 1}}}, "file")
