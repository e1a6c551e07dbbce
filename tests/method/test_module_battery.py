"""γ's derivative through every kind of module, against double backward in float64."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from small_network import CLASSES, functional
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations, spectral_norm
from torch.utils.checkpoint import checkpoint

from hdkd_dist.method.hypergradient import jvp, second_order
from hdkd_dist.method.objective import loss_vector
from hdkd_dist.method.recording import Recording, repeating

SIZE, SIDE = 4, 4  # of the batch and the images
IMAGE_CHANNELS, CHANNELS = 4, 16  # 3×3 convolutions of 16 channels are worth recording
TEMPERATURE = torch.tensor(3.0, dtype=torch.float64)


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    return loss_vector(logits, labels, TEMPERATURE)


class ThreeExits(nn.Module):
    """The module on the images, which do not move; then twice convolution and module.

    After each an exit, and a linear layer back to a feature map [B, CHANNELS, SIDE, SIDE].

    Args:
        build: from the number of channels to a module on maps [B, channels, SIDE, SIDE].
    """

    num_exits = 3

    def __init__(self, build: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [Apply(torch.clone), *(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(2))]
        )
        self.modules_under_test = nn.ModuleList(
            build(channels) for channels in (IMAGE_CHANNELS, CHANNELS, CHANNELS)
        )
        self.back = nn.ModuleList(nn.LazyLinear(CHANNELS * SIDE**2) for _ in range(3))
        self.heads = nn.ModuleList(nn.Linear(CHANNELS * SIDE**2, CLASSES) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        logits = []
        parts = (self.convolutions, self.modules_under_test, self.back, self.heads)
        for convolution, module, back, head in zip(*parts, strict=True):
            features = back(module(convolution(x)).flatten(1))
            logits.append(head(F.softplus(features)))
            x = features.view(SIZE, CHANNELS, SIDE, SIDE)
        return torch.stack(logits)


class Apply(nn.Module):
    """A function of the input and of some modules."""

    def __init__(self, function: Callable[..., Tensor], *modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.parts)


def tokens(module: nn.Module, read: Callable[..., Tensor] = lambda module, x: module(x)) -> Apply:
    """A module on [B, H·W, C]."""
    return Apply(lambda x, inner: read(inner, x.flatten(2).mT), module)


def in_shape(shape: tuple[int, ...], module: nn.Module) -> Apply:
    """A module on the map in another shape."""
    return Apply(lambda x, inner: inner(x.reshape(SIZE, *shape)), module)


def conv(c: int, **arguments) -> nn.Conv2d:
    return nn.Conv2d(c, c, 3, padding=1, **arguments)


def channels_last(module: nn.Module) -> Apply:
    """A module on the map with each pixel's channels side by side."""
    return Apply(lambda x, inner: inner(x.contiguous(memory_format=torch.channels_last)), module)


def shared(c: int) -> nn.Module:
    one, other = conv(c), conv(c)
    other.weight = one.weight
    return nn.Sequential(one, nn.Softplus(), other, nn.Softplus(), one)


def attend(x: Tensor, projection: nn.Module) -> Tensor:
    q, k, v = projection(x.flatten(2).mT).chunk(3, dim=-1)
    return F.scaled_dot_product_attention(q, k, v)


def without_gradient(x: Tensor) -> Tensor:
    """Scaled by statistics that reverse mode takes for constants, written in three ways."""
    with torch.no_grad():
        rms = x.square().mean(dim=(2, 3), keepdim=True).sqrt()
        constant = x[:, :1].mul(2)  # a view of what moves
        x *= 2
    return x / rms + constant + x.detach().tanh() * x.data


def by_hand(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    return F.batch_norm(x, None, None, bias=norm.bias, weight=norm.weight, training=True)


def standardised(x: Tensor, layer: nn.Conv2d) -> Tensor:
    w = layer.weight
    variance, mean = torch.var_mean(w, dim=(1, 2, 3), keepdim=True)
    return F.conv2d(x, (w - mean) / (variance + 1e-5).sqrt(), layer.bias, padding=1)


def layers(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(*modules)


KINDS: dict[str, Callable[[int], nn.Module]] = {
    # Convolutions and linear maps.
    "conv1d": lambda c: in_shape((c, 16), nn.Conv1d(c, 6, 3, padding=1)),
    "conv2d": conv,
    "conv2d, no bias": lambda c: conv(c, bias=False),
    "conv2d, grouped": lambda c: conv(c, groups=2),
    "conv2d, depthwise": lambda c: conv(c, groups=c),
    "conv2d, dilated and strided": lambda c: nn.Conv2d(c, 9, 3, stride=2, dilation=2, padding=2),
    "conv2d, 1×1": lambda c: nn.Conv2d(c, 9, 1),
    "conv2d, 1×1, channels last": lambda c: channels_last(nn.Conv2d(c, 9, 1)),
    "conv2d, 1×1, channels last, grouped": lambda c: channels_last(nn.Conv2d(c, 8, 1, groups=2)),
    "conv2d, 1×1, channels last, strided": lambda c: channels_last(nn.Conv2d(c, 9, 1, stride=2)),
    "conv2d, 1×1, channels last, as large by stride and border": lambda c: channels_last(
        nn.Conv2d(c, 9, 1, stride=2, padding=2)
    ),
    "conv2d, 1×1, channels last, of what does not move": lambda c: Apply(
        lambda x, layer: layer(x.detach()), channels_last(nn.Conv2d(c, 9, 1))
    ),
    "conv2d, reflected border": lambda c: conv(c, padding_mode="reflect"),
    "conv2d, padding same": lambda c: nn.Conv2d(c, c, 3, padding="same"),
    "conv2d, weight by keyword": lambda c: Apply(
        lambda x, layer: F.conv2d(x, weight=layer.weight, padding=1), conv(c)
    ),
    "conv2d, all by keyword": lambda c: Apply(
        lambda x, layer: F.conv2d(input=x, weight=layer.weight, bias=layer.bias), conv(c)
    ),
    "conv2d, single images": lambda c: Apply(
        lambda x, layer: torch.stack([layer(image) for image in x]), conv(c)
    ),
    "conv2d, standardised weight": lambda c: Apply(standardised, conv(c)),
    "conv2d, weight norm": lambda c: parametrizations.weight_norm(conv(c)),
    "conv2d, spectral norm": lambda c: parametrizations.spectral_norm(conv(c)),
    "conv2d, old spectral norm": lambda c: spectral_norm(conv(c)),
    "conv2d, then ReLU in place": lambda c: layers(conv(c), nn.ReLU(inplace=True)),
    "conv2d, then sum in place": lambda c: Apply(lambda x, layer: layer(x).add_(x), conv(c)),
    "conv2d, checkpointed": lambda c: Apply(
        lambda x, *inner: checkpoint(layers(*inner), x, use_reentrant=False),
        *(conv(c), nn.BatchNorm2d(c), nn.Softplus(), conv(c)),
    ),
    "conv2d, shared": shared,
    "conv3d": lambda c: in_shape((c, 2, 2, 4), nn.Conv3d(c, 6, 3, padding=1)),
    "conv transposed": lambda c: nn.ConvTranspose2d(c, 6, 2, stride=2),
    "linear": lambda c: tokens(nn.Linear(c, 7)),
    "bilinear": lambda c: tokens(nn.Bilinear(c, c, 7), lambda layer, x: layer(x, x.tanh())),
    "einsum": lambda c: tokens(
        nn.Linear(c, 7), lambda layer, x: torch.einsum("bnc,oc->bno", x, layer.weight)
    ),
    "embedding": lambda c: tokens(nn.Embedding(c, 7), lambda layer, x: layer(x.argmax(-1))),
    "unfold": lambda c: nn.Unfold(2),
    # Normalisation.
    "batch norm [B, C]": lambda c: in_shape((c * 16,), nn.BatchNorm1d(c * 16)),
    "batch norm [B, C, L], B = C": lambda c: in_shape((SIZE, c * 4), nn.BatchNorm1d(SIZE)),
    "batch norm [B, C, L], B ≠ C": lambda c: in_shape((c * 2, 8), nn.BatchNorm1d(c * 2)),
    "batch norm [B, C, H, W]": nn.BatchNorm2d,
    "batch norm [B, C, D, H, W]": lambda c: in_shape((c, 2, 2, 4), nn.BatchNorm3d(c)),
    "batch norm, not affine": lambda c: nn.BatchNorm2d(c, affine=False),
    "batch norm, no running statistics": lambda c: nn.BatchNorm2d(c, track_running_stats=False),
    "batch norm, cumulative average": lambda c: nn.BatchNorm2d(c, momentum=None),
    "batch norm, evaluation mode": lambda c: nn.BatchNorm2d(c).eval(),
    "batch norm, by hand": lambda c: Apply(by_hand, nn.BatchNorm2d(c)),
    "batch norm, synchronised, one process": nn.SyncBatchNorm,
    "group norm": lambda c: nn.GroupNorm(2, c),
    "layer norm": lambda c: tokens(nn.LayerNorm(c)),
    "instance norm": lambda c: nn.InstanceNorm2d(c, affine=True),
    "instance norm, running statistics": lambda c: nn.InstanceNorm2d(c, track_running_stats=True),
    "RMS norm": lambda c: tokens(nn.RMSNorm(c)),
    "local response norm": lambda c: nn.LocalResponseNorm(3),
    "statistics without gradient": lambda c: Apply(lambda x: without_gradient(x * 1)),
    # Activation, pooling, shape.
    "PReLU": nn.PReLU,
    "GELU": lambda c: nn.GELU(),
    "SiLU": lambda c: nn.SiLU(inplace=True),
    "Hardswish": lambda c: nn.Hardswish(),
    "GLU": lambda c: nn.GLU(dim=1),
    "softmax": lambda c: nn.Softmax(dim=1),
    "max pool": lambda c: nn.MaxPool2d(2),
    "average pool": lambda c: nn.AvgPool2d(3, stride=1, padding=1),
    "adaptive pools": lambda c: Apply(
        lambda x: F.adaptive_avg_pool2d(x, 2) + F.adaptive_max_pool2d(x, 2)
    ),
    "LP pool": lambda c: layers(nn.Softplus(), nn.LPPool2d(3, 2)),
    "pixel shuffle": lambda c: nn.PixelShuffle(2),
    "bilinear upsampling": lambda c: nn.Upsample(scale_factor=2, mode="bilinear"),
    "bicubic resizing": lambda c: Apply(
        lambda x: F.interpolate(x, size=(3, 3), mode="bicubic", antialias=True)
    ),
    "concatenation and residual sum": lambda c: Apply(
        lambda x, layer: torch.cat([x + layer(x), x.roll(1, dims=1)], dim=1), conv(c)
    ),
    "squeeze and excitation": lambda c: Apply(
        lambda x, gate: x * gate(x.mean(dim=(2, 3), keepdim=True)),
        layers(nn.Conv2d(c, 2, 1), nn.ReLU(), nn.Conv2d(2, c, 1), nn.Sigmoid()),
    ),
    # Sequences.
    "RNN": lambda c: tokens(nn.RNN(c, 5, batch_first=True), lambda layer, x: layer(x)[0]),
    "GRU": lambda c: tokens(nn.GRU(c, 5, batch_first=True), lambda layer, x: layer(x)[0]),
    "LSTM": lambda c: tokens(nn.LSTM(c, 5, batch_first=True), lambda layer, x: layer(x)[0]),
    "dot-product attention": lambda c: Apply(attend, nn.Linear(c, 3 * c)),
    "multi-head attention": lambda c: tokens(
        nn.MultiheadAttention(c, 2, batch_first=True), lambda layer, x: layer(x, x, x)[0]
    ),
    "multi-head attention, no weights": lambda c: tokens(
        nn.MultiheadAttention(c, 2, batch_first=True),
        lambda layer, x: layer(x, x, x, need_weights=False)[0],
    ),
    "transformer": lambda c: tokens(nn.TransformerEncoderLayer(c, 2, 9, 0.1, batch_first=True)),
    "transformer, evaluation mode": lambda c: tokens(
        nn.TransformerEncoderLayer(c, 2, 9, batch_first=True).eval()
    ),
    # Random numbers.
    "dropout": lambda c: layers(nn.Dropout(0.5), conv(c)),
    "dropout of probability 0": lambda c: nn.Dropout(0.0),
    "random leaky ReLU": lambda c: layers(nn.RReLU(), conv(c)),
    "stochastic depth by Python": lambda c: Apply(
        lambda x, a, b: a(x) if random.random() < 0.5 else b(x), conv(c), conv(c)
    ),
}


class Reversed(Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


def sampled(x: Tensor) -> Tensor:
    grid = torch.tanh(x[:, :2]).permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, align_corners=False)


# What torch cannot differentiate in forward mode, and the name that the fault must give.
REFUSED: dict[str, tuple[Callable[[int], nn.Module], str]] = {
    "autograd.Function without jvp": (
        lambda c: layers(nn.Tanh(), Apply(Reversed.apply)),
        "modules_under_test.1.1 (Apply)",
    ),
    "grid sample": (lambda c: Apply(sampled), "modules_under_test.1 (Apply)"),
    "embedding bag": (
        lambda c: tokens(nn.EmbeddingBag(c, 7), lambda layer, x: layer(x.argmax(-1))),
        "modules_under_test.0.parts.0 (EmbeddingBag)",
    ),
    "reentrant checkpoint": (
        lambda c: Apply(lambda x, layer: checkpoint(layer, x, use_reentrant=True), nn.Linear(4, 4)),
        "modules_under_test.1 (Apply)",
    ),
}


def seed(value: int) -> None:
    torch.manual_seed(value)
    random.seed(value)


def prepared(build: Callable[[int], nn.Module], frozen: str | None = None):
    """The network, a batch, θ and a direction; ``frozen`` is part of the names of what is."""
    seed(0)
    network = ThreeExits(build).double()
    images = torch.randn(SIZE, IMAGE_CHANNELS, SIDE, SIDE, dtype=torch.float64)
    functional(network)({}, images)  # lazy layers take their shapes
    for name, parameter in network.named_parameters():
        parameter.requires_grad = frozen is None or frozen not in name
    theta = {n: p.detach().clone() for n, p in network.named_parameters() if p.requires_grad}
    v = {name: torch.randn_like(value) for name, value in theta.items()}
    return network, (images, torch.arange(SIZE) % CLASSES), theta, v


def derivative(solver, forward, theta, v, examples) -> Tensor:
    seed(1)
    return solver(forward, losses, theta, v, examples)


def assert_exact(network, example, theta, v) -> None:
    """By forward mode as by double backward, after a recorded pass and without one."""
    forward = functional(network)
    with sdpa_kernel(SDPBackend.MATH):  # the others have no double backward
        expected = derivative(second_order, forward, theta, v, example)
    found = derivative(jvp, forward, theta, v, example)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    seed(1)
    with Recording(network.named_buffers()) as record:  # as the training step: buffers move
        network(example[0]).square().sum().backward()
    assert any(record.found[torch.conv2d])
    seed(2)
    with torch.random.fork_rng():
        found = jvp(repeating(forward, record), losses, theta, v, example)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # of torch where oneDNN is switched off
@pytest.mark.parametrize("kind", KINDS)
def test_exact(kind):
    assert_exact(*prepared(KINDS[kind]))


@pytest.mark.parametrize("kind", ["conv2d", "batch norm [B, C, H, W]", "conv2d, checkpointed"])
@pytest.mark.parametrize("frozen", ["weight", "bias", "modules_under_test.0", "modules_under_test"])
def test_exact_where_parameters_are_frozen(kind, frozen):
    def build(c):
        return layers(KINDS[kind](c), nn.Softplus())

    assert_exact(*prepared(build, frozen=frozen))


@pytest.mark.filterwarnings("ignore:None of the inputs")  # of the reentrant checkpoint
@pytest.mark.parametrize("kind", REFUSED)
def test_refused_by_name(kind):
    build, name = REFUSED[kind]
    network, example, theta, v = prepared(build)
    with pytest.raises(ValueError, match="no forward-mode derivative of") as fault:
        derivative(jvp, functional(network), theta, v, example)
    assert name in str(fault.value)
    assert "\n" not in str(fault.value)
