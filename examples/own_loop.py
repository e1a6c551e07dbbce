"""HDKD in a plain torch loop, no DeepSpeed, no FFCV: python examples/own_loop.py [--method hdkd]"""

import itertools

import fire
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset, random_split

from hdkd_dist import method as hdkd
from hdkd_dist.models import build


def train(method: str = "hdkd", epochs: int = 6, seed: int = 0) -> list[float]:
    """Train a small MSDNet on scikit-learn's digits.

    Args:
        method: one of the paper's seven.
        epochs: over the training images.
        seed: of the split, the initial parameters and the order.

    Returns:
        The test accuracy of each exit in percent, [K].
    """
    torch.manual_seed(seed)
    training, metaval, test = random_split(digits(), [1097, 300, 400])
    network = build("msdnet-digits").train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = CosineAnnealingLR(optimizer, epochs)
    weights = start(method, network.num_exits, steps=epochs * (len(training) // 64))
    engine = hdkd.PlainEngine(network, optimizer)
    algorithm = hdkd.Algorithm(engine, weights, lookahead="online")

    judges = itertools.cycle(DataLoader(metaval, batch_size=64, shuffle=True))
    for epoch in range(epochs):
        for batch in DataLoader(training, batch_size=64, shuffle=True, drop_last=True):
            if weights.learns:
                algorithm.step([batch], [next(judges)], optimizer.param_groups[0]["lr"])
            else:
                algorithm.train_step([batch])
        schedule.step()
        print(f"epoch {epoch + 1}: Σγ/Σγ₀ {weights.sum_ratio:.3f}", flush=True)
    return accuracies(network.eval(), DataLoader(test, batch_size=400))


def start(method: str, num_exits: int, steps: int) -> hdkd.LossWeights:
    """Start γ where every teacher teaches equally; it learns by Adam where the method says so.

    Adam's steps are about as large as its rate: all of them add up to about a half.
    """
    row = hdkd.METHODS[method]
    initial = hdkd.ds_like(row, num_exits, kd_weight=1.0, kd_share="per_pair")
    exists = hdkd.existing_entries(row, num_exits)
    optimizer = "adam" if row.learns else None
    return hdkd.start_weights(initial, exists, optimizer=optimizer, rate=0.5 / steps)


def digits() -> TensorDataset:
    """Load 1,797 digits: images [3, 16, 16] in 0..1, and classes."""
    pixels, classes = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    images = nn.Upsample(scale_factor=2)(images).expand(-1, 3, -1, -1)
    return TensorDataset(images, torch.tensor(classes))


@torch.no_grad()
def accuracies(network: nn.Module, batches: DataLoader) -> list[float]:
    """Measure every exit in percent, [K]."""
    right = [(network(x).argmax(dim=-1) == y).double() for x, y in batches]  # [K, B] each
    return (100 * torch.cat(right, dim=1).mean(dim=1)).tolist()


if __name__ == "__main__":
    fire.Fire(train)
