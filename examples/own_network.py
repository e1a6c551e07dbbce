"""A network of one's own: a vision transformer with exits, made of torch's own layers.

deepspeed hdkd_dist/train.py --ds_config ds_configs/quickstart.json \
    --set hdkd.model.factory=examples.own_network:build --set hdkd.model.input_size=16
"""

import torch
from torch import Tensor, nn


class TransformerWithExits(nn.Module):
    """All that training needs is ``num_exits`` and ``forward``; ``run_stage`` is for early exit."""

    def __init__(self, num_classes: int, depth: int, width: int, patch: int, side: int) -> None:
        super().__init__()
        self.num_exits = depth
        self.patches = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.position = nn.Parameter(0.02 * torch.randn((side // patch) ** 2, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.heads = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_classes)) for _ in range(depth)
        )

    def run_stage(self, k: int, state: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Run block ``k``: the next state, and the logits [B, C] of its exit."""
        (tokens,) = state  # at the start the images
        if k == 0:
            tokens = self.patches(tokens).flatten(2).transpose(1, 2) + self.position
        tokens = self.blocks[k](tokens)
        return [tokens], self.heads[k](tokens.mean(dim=1))

    def forward(self, images: Tensor) -> Tensor:
        """Give the logits of all exits, [K, B, C]."""
        state, logits = [images], []
        for k in range(self.num_exits):
            state, exit_logits = self.run_stage(k, state)
            logits.append(exit_logits)
        return torch.stack(logits)


def build(num_classes: int, depth: int = 3, width: int = 48) -> nn.Module:
    """Build the network for images of 16 pixels: what ``hdkd.model.factory`` names."""
    return TransformerWithExits(num_classes, depth, width, patch=4, side=16)
