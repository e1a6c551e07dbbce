"""Learn the weights of several losses (digit, odd digit, random label) from that of the first.

python examples/multi_task.py
"""

from importlib.util import find_spec
from statistics import fmean

import fire
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam

from hdkd_dist.method import forward_of
from hdkd_dist.method.hypergradient import hypergradient, look_ahead, mean_gradient

RATE = 0.1


def task_losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """Give the losses of digit, odd and random label, [3]: outputs [B, 22], targets [B, 2]."""
    digit, odd, noise = outputs.split([10, 2, 10], dim=1)
    labels = targets[:, 0], targets[:, 0] % 2, targets[:, 1]
    return torch.stack([*map(F.cross_entropy, (digit, odd, noise), labels)])


def splits() -> list[tuple[Tensor, Tensor]]:
    """Draw 150 digits to train on, 300 to judge by, 1,347 to test: images [N, 64], targets."""
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32) / 16
    targets = torch.stack([torch.tensor(digits), torch.randint(10, digits.shape)], dim=1)
    rows = torch.randperm(len(images)).split([150, 300, 1347])
    return [(images[each], targets[each]) for each in rows]


def train(how: str, seed: int, steps: int) -> tuple[float, Tensor]:
    """Train with "uniform" or "learned" weights or by "torchjd": test accuracy, weights [3]."""
    torch.manual_seed(seed)
    (train_x, train_y), (val_x, val_y), (test_x, test_y) = splits()
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 22))
    theta, forward = dict(network.named_parameters()), forward_of(network)
    gamma, task_alone = torch.ones(3), torch.eye(3)[0]
    optimizer, gamma_optimizer = SGD(theta.values(), RATE), Adam([gamma], 0.02)
    for _ in range(steps):
        rows, others = torch.randint(150, (50,)), torch.randint(300, (50,))
        batch, judge = [(train_x[rows], train_y[rows])], [(val_x[others], val_y[others])]
        if how == "learned":
            ahead = look_ahead(forward, task_losses, theta, gamma, batch, step_size=RATE)
            v = mean_gradient(forward, task_losses, ahead, task_alone, judge)
            gamma.grad = hypergradient(forward, task_losses, theta, v, batch, step_size=RATE)
            gamma_optimizer.step()
        gamma.clamp_(min=0)
        losses = task_losses(network(train_x[rows]), train_y[rows])
        by_upgrad(losses, network) if how == "torchjd" else gamma.dot(losses).backward()
        optimizer.step()
        optimizer.zero_grad()
    right = (network(test_x)[:, :10].argmax(dim=1) == test_y[:, 0]).double()
    return 100 * right.mean().item(), gamma


def by_upgrad(losses: Tensor, network: nn.Module) -> None:
    """Set the gradient that lets no loss rise (UPGrad, Quinton & Rey 2024)."""
    from torchjd import aggregation, autojac

    autojac.backward(losses)
    autojac.jac_to_grad(network.parameters(), aggregation.UPGrad(torch.ones(3)))


def main(seeds: int = 3, steps: int = 400) -> None:
    """Compare the ways over some seeds; torchjd where it is installed."""
    for how in ["uniform", "learned"] + ["torchjd"] * bool(find_spec("torchjd")):
        accuracies, gammas = zip(*(train(how, s, steps) for s in range(seeds)), strict=True)
        print(f"{how}: {fmean(accuracies):.1f} %, γ {torch.stack(gammas).mean(dim=0)}")


if __name__ == "__main__":
    fire.Fire(main)
