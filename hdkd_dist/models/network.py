"""Networks with several exits: the protocol, and stages in a row with a classifier after each."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from hdkd_dist.models.layers import MergedConv2d

State = list[Tensor]
"""Feature maps ``[B, channels, height, width]``, finest first; at the start ``[images]``.

A stage gives maps of its own, which its caller may overwrite.
"""


@runtime_checkable
class MultiExit(Protocol):
    """Any ``nn.Module`` with K exits: all that training needs."""

    @property
    def num_exits(self) -> int:
        """The number of exits, K; an attribute will do."""

    def __call__(self, images: Tensor) -> Tensor:
        """Give the logits of all exits, ``[K, B, C]``, for images ``[B, 3, height, width]``."""


@runtime_checkable
class Staged(MultiExit, Protocol):
    """A network with exits that also runs stage by stage, so that images can leave early."""

    def run_stage(self, k: int, state: State) -> tuple[State, Tensor]:
        """Run stage ``k`` (0-based) and its exit: the next state and logits ``[B, C]``.

        Args:
            k: the stages run in order from 0.
            state: what the stage before gave, at the start ``[images]``: tensors whose first
                dimension is the batch, from which the images that have left are removed.
        """


class MultiExitNetwork(nn.Module):
    """K stages in a row; classifier k reads the last map of the state after stage k.

    Args:
        stages: K modules, each from state to state.
        classifiers: K modules, each from one feature map to logits ``[B, C]``.
    """

    def __init__(self, stages: list[nn.Module], classifiers: list[nn.Module]) -> None:
        super().__init__()
        if not stages or len(stages) != len(classifiers):
            raise ValueError(
                f"a network needs one classifier per stage and at least one stage, "
                f"not {len(stages)} stages and {len(classifiers)} classifiers"
            )
        self.stages = nn.ModuleList(stages)
        self.classifiers = nn.ModuleList(classifiers)

    @property
    def num_exits(self) -> int:
        """The number of exits, K."""
        return len(self.stages)

    def run_stage(self, k: int, state: State) -> tuple[State, Tensor]:
        """Run stage ``k`` (0-based) and its classifier: the next state and logits ``[B, C]``."""
        state = self.stages[k](state)
        return state, self.classifiers[k](state[-1])

    def forward(self, images: Tensor, gradient_equilibrium: bool = False) -> Tensor:
        """Give the logits of all exits.

        Args:
            images: ``[B, 3, height, width]``.
            gradient_equilibrium: balance the gradients that the exits send into the stages (Li et
                al. 2019, "Improved Techniques for Training Adaptive Deep Networks"). On the
                features that feed classifier i the gradient is scaled by 1/(K-i) before the
                classifier branches off and by K-i-1 after it, which keeps its variance bounded.
                The logits do not change. An argument of the call and not of the network, for
                the look-ahead's validation pass needs the true gradient of the same network.

        Returns:
            logits ``[K, B, C]``.
        """
        state, logits = [images], []
        for k, (stage, classifier) in enumerate(zip(self.stages, self.classifiers, strict=True)):
            state = stage(state)
            remaining = self.num_exits - k
            if gradient_equilibrium:  # seen by the branch and by the stages that follow
                state = _rescale_last(state, 1 / remaining)
            logits.append(classifier(state[-1]))
            if gradient_equilibrium and remaining > 1:  # seen by the stages that follow
                state = _rescale_last(state, remaining - 1)
        return torch.stack(logits)


class AllExits(nn.Module):
    """The first stage of a network that cannot stop early: it computes every exit.

    Args:
        network: gives logits ``[K, B, C]``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, state: State) -> State:
        """Give one tensor, the logits as ``[B, K, C]``."""
        (images,) = state
        return [self.network(images).transpose(0, 1)]


class Exit(nn.Module):
    """The classifier of an exit whose logits are computed already.

    Args:
        k: 0-based.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, logits: Tensor) -> Tensor:
        """Take ``[B, C]`` from ``[B, K, C]``."""
        return logits[:, self.k]


def staged(network: nn.Module) -> Staged:
    """Return ``network`` as one that runs stage by stage: itself, if it can.

    Of any other network the first stage computes all exits and the others nothing: early exit
    works, and saves nothing.
    """
    if isinstance(network, Staged):
        return network
    exits = cast(MultiExit, network).num_exits
    later = [nn.Identity() for _ in range(exits - 1)]
    heads: list[nn.Module] = [Exit(k) for k in range(exits)]
    return MultiExitNetwork([AllExits(network), *later], heads).train(network.training)


def check_exits(network: object, input_size: int, num_classes: int) -> None:
    """Refuse what is no network with exits: two random images are run through it.

    Where it also runs stage by stage, that must give the same logits: thresholds are found on the
    one and used on the other.

    Args:
        network: what a factory has returned; is the same after the call.
        input_size: the side of the images.
        num_classes: C.

    Raises:
        ValueError: saying what it lacks.
    """
    if not isinstance(network, nn.Module) or not isinstance(network, MultiExit):
        raise ValueError(
            f"a network must be a torch.nn.Module with num_exits, not {type(network).__name__}"
        )
    exits, training = network.num_exits, network.training
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, 3, input_size, input_size, generator=generator)
        try:
            logits = network.eval()(images)
            by_stages = _last_by_stages(network, images) if isinstance(network, Staged) else None
        except Exception as error:  # whatever the network's own code raises
            raise ValueError(
                f"the network cannot run on images {list(images.shape)}: "
                f"{type(error).__name__}: {error}"
            ) from error
        finally:
            network.train(training)
    expected = (exits, len(images), num_classes)
    found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if found != expected:
        raise ValueError(
            f"the network's forward must give one tensor of logits [K, B, C], here "
            f"{list(expected)}, not {list(found) if isinstance(found, tuple) else found}: stack "
            "the exits' logits with torch.stack"
        )
    if by_stages is not None and not _nearly_equal(by_stages, logits[:, 1:]):
        raise ValueError(
            "the network's run_stage gives other logits than its forward, after an image has left "
            "the state: stages must compute what forward does, image by image"
        )


def _last_by_stages(network: Staged, images: Tensor) -> Tensor:
    """Give the logits [K, 1, C] of the second image alone; the first leaves after stage 0."""
    state, logits = [images], []
    for k in range(network.num_exits):
        state, exit_logits = network.run_stage(k, state)
        state, exit_logits = [tensor[-1:] for tensor in state], exit_logits[-1:]
        logits.append(exit_logits)
    return torch.stack(logits)


def _nearly_equal(found: Tensor, expected: Tensor) -> bool:
    """Tell whether logits agree to a thousandth of the largest."""
    scale = max(1.0, float(expected.abs().max()))
    return found.shape == expected.shape and bool((found - expected).abs().max() <= 1e-3 * scale)


def rescale_gradient(x: Tensor, weight: float) -> Tensor:
    """Return ``x`` with its derivative scaled by ``weight``, in reverse and in forward mode.

    The value is exactly that of ``x`` in any precision, since ``x - x`` is exactly 0; the
    shorter ``w*x + (1-w)*x.detach()`` would lose bits in bf16 when w is large.
    """
    constant = x.detach()
    return constant + weight * (x - constant)


def _rescale_last(state: State, weight: float) -> State:
    return [*state[:-1], rescale_gradient(state[-1], weight)]


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Set the weights of ``network`` in place, as MSDNet's and ResNet's authors do.

    Convolutions: normal with variance 2 / fan-out (He et al. 2015), of merged ones the fan-out of
    each; batch norm: 1 and 0; linear layers: bias 0, the weight keeps torch's default.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            parts = module.parts if isinstance(module, MergedConv2d) else [module.out_channels]
            for weight in module.weight.split(parts):
                nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
