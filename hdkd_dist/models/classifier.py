"""The head of an exit, the same for both families."""

from __future__ import annotations

from torch import Tensor, nn

from hdkd_dist.models.layers import convolution, halved

SMALLEST_POOLED_SIDE = 2
"""Below 2×2 the head's strided convolutions would read little but their own padding."""


class Classifier(nn.Module):
    """From a feature map ``[B, in_channels, height, width]`` to logits ``[B, num_classes]``.

    Strided 3×3 convolutions, average pooling over the whole map, linear. On the input sizes of
    the MSDNet paper (Huang et al. 2017) two convolutions leave 2×2, so that this pooling is the
    paper's 2×2 pooling; pooling the whole map keeps any larger input possible.

    Args:
        in_channels: the width of the map.
        num_classes: C.
        convolutions: how many convolutions with stride 2.
        channels: their width; None keeps ``in_channels``.
    """

    def __init__(
        self, in_channels: int, num_classes: int, convolutions: int, channels: int | None
    ) -> None:
        super().__init__()
        self.convolutions = nn.Sequential()
        width = in_channels
        for _ in range(convolutions):
            self.convolutions.append(convolution(width, channels or width, kernel=3, stride=2))
            width = channels or width
        self.linear = nn.Linear(width, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Give the logits."""
        return self.linear(self.convolutions(features).mean(dim=(2, 3)))


def require_poolable(input_size: int, halvings: int) -> None:
    """Refuse an input that ``halvings`` strided layers shrink below what a head can pool.

    Raises:
        ValueError: naming the side that is left.
    """
    side = halved(input_size, halvings)
    if side < SMALLEST_POOLED_SIDE:
        raise ValueError(
            f"an input of {input_size}×{input_size} shrinks to {side}×{side} before the "
            f"classifiers' pooling, which needs at least "
            f"{SMALLEST_POOLED_SIDE}×{SMALLEST_POOLED_SIDE}: take a larger input_size or fewer "
            f"scales or groups"
        )
