"""A vision transformer with exits (Dosovitskiy et al. 2021, arXiv 2010.11929).

The third family has no convolution but the one that cuts the images into patches, and no batch
norm. Its state is one tensor of tokens [B, N, width]; an exit averages over the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdkd_dist.models.layers import check_fields
from hdkd_dist.models.network import MultiExitNetwork, State


@dataclass(frozen=True)
class ViTSpec:
    """What there is to choose about a ViT with exits.

    Attributes:
        blocks: the number of blocks before each exit, counted from the exit before.
        width: of a token.
        heads: of attention; they share the width.
        hidden: the width between the two layers of a block's perceptron.
        patch: the side of the patches, in pixels.
        input_size: the side of the images.
        num_classes: C.
    """

    blocks: tuple[int, ...]
    width: int
    heads: int
    hidden: int
    patch: int
    input_size: int
    num_classes: int

    def __post_init__(self) -> None:
        """Raise ValueError for values that give no network."""
        check_fields(self)
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be shared by {self.heads} heads")
        if self.input_size % self.patch:
            raise ValueError(
                f"images of {self.input_size} pixels cannot be cut into patches of {self.patch}"
            )

    @property
    def tokens(self) -> int:
        """Return N, the number of patches."""
        return (self.input_size // self.patch) ** 2


def vit(spec: ViTSpec) -> MultiExitNetwork:
    """Build the network that ``spec`` describes; initialise it with :func:`initialise_vit`."""
    stages: list[nn.Module] = []
    for number, blocks in enumerate(spec.blocks):
        first: list[nn.Module] = [] if number else [Patches(spec)]
        stages.append(TokenStage(*first, *(Block(spec) for _ in range(blocks))))
    heads: list[nn.Module] = [TokenClassifier(spec) for _ in spec.blocks]
    return MultiExitNetwork(stages, heads)


class TokenStage(nn.Sequential):
    """Modules in a row, as a map from a state of one tensor to the next."""

    def forward(self, state: State) -> State:
        """Give a state of one tensor, [B, N, width]."""
        (features,) = state
        return [super().forward(features)]


class Patches(nn.Module):
    """Cut images [B, 3, side, side] into tokens [B, N, width] that know where they come from."""

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, spec.width, kernel_size=spec.patch, stride=spec.patch)
        self.position = nn.Parameter(torch.zeros(spec.tokens, spec.width))

    def forward(self, images: Tensor) -> Tensor:
        """Give the tokens, row by row."""
        return self.projection(images).flatten(2).transpose(1, 2) + self.position


class Block(nn.Module):
    """Self-attention and a perceptron, each added to its input and normalised before."""

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(spec.width)
        self.attention = Attention(spec.width, spec.heads)
        self.perceptron_norm = nn.LayerNorm(spec.width)
        self.perceptron = nn.Sequential(
            nn.Linear(spec.width, spec.hidden), nn.GELU(), nn.Linear(spec.hidden, spec.width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Give as many tokens, [B, N, width]."""
        tokens = tokens + self.attention(self.attention_norm(tokens))
        return tokens + self.perceptron(self.perceptron_norm(tokens))


class Attention(nn.Module):
    """Self-attention of several heads (Vaswani et al. 2017).

    Args:
        width: of a token.
        heads: which share the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Give as many tokens, [B, N, width]."""
        split = self.queries_keys_values(tokens).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = split.permute(2, 0, 3, 1, 4)  # each [B, heads, N, width of a head]
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        return self.output(mixed.transpose(1, 2).flatten(2))


class TokenClassifier(nn.Module):
    """From tokens [B, N, width] to logits [B, C]: normalise, average, linear."""

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(spec.width)
        self.linear = nn.Linear(spec.width, spec.num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Give the logits."""
        return self.linear(self.norm(tokens).mean(dim=1))


@torch.no_grad()
def initialise_vit(network: nn.Module) -> None:
    """Set the weights of ``network`` in place, as the paper's code does.

    Linear layers: uniform after Glorot & Bengio (2010), bias 0; the patches' projection like the
    linear layer that it is; positions: normal, standard deviation 0.02.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight.flatten(1))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, Patches):
            nn.init.normal_(module.position, std=0.02)
