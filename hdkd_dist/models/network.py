"""The network with several exits: stages in a row, a classifier after each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hdkd_dist.models.layers import MergedConv2d

State = list[Tensor]
"""Feature maps ``[B, channels, height, width]``, finest first; at the start ``[images]``.

A stage gives maps of its own, which its caller may overwrite.
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
                classifier branches off and by K-i-1 behind it, which keeps its variance bounded.
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
