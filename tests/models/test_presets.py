"""Building by name: overrides, and one-line errors for what cannot be built."""

import pytest
import torch

from hdkd_dist.models import PRESETS, build, resolve


def test_overrides_reach_the_network_and_lists_serve_as_tuples():
    network = build(
        "msdnet-digits", 5, layers_per_block=[1, 2], scale_factors=[1, 1], classifier_channels=None
    )

    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 2, 5)
    assert network.classifiers[0].linear.in_features == 8 + 4


def test_a_preset_has_its_own_number_of_classes():
    assert build("msdnet-digits").classifiers[0].linear.out_features == 10
    assert resolve("resnet-imagenet-4", {}).num_classes == 1000


def test_overrides_leave_the_table_alone():
    build("resnet-digits", 3, channels=[4, 4, 4])

    assert PRESETS["resnet-digits"].channels == (8, 16, 32)
    assert PRESETS["resnet-digits"].num_classes == 10


def test_the_smallest_input_works_and_one_below_is_refused():
    assert build("msdnet-digits", input_size=9)(torch.randn(2, 3, 9, 9)).shape == (3, 2, 10)
    with pytest.raises(ValueError, match="8×8 shrinks to 1×1"):
        build("msdnet-digits", input_size=8)


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("msdnet-digit", {}, "unknown preset 'msdnet-digit': did you mean msdnet-digits"),
        ("resnet-digits", {"clases": 3}, "unknown setting of resnet-digits 'clases'"),
        ("msdnet-digits", {"chanels": 3}, "did you mean channels"),
        ("msdnet-digits", {"scale_factors": [1, 2, 4]}, "16×16 shrinks to 1×1 .* at least 2×2"),
        ("resnet-digits", {"input_size": 4}, "4×4 shrinks to 1×1"),
        ("resnet-imagenet-4", {"input_size": 32}, "32×32 shrinks to 1×1"),
        ("msdnet-digits", {"growth": 1}, "growth must be at least 2"),
        ("msdnet-digits", {"channels": "16"}, "channels must be a positive integer, not '16'"),
        ("msdnet-digits", {"channels": True}, "channels must be a positive integer, not True"),
        ("msdnet-digits", {"num_classes": 0}, "num_classes must be a positive integer, not 0"),
        ("msdnet-digits", {"layers_per_block": []}, "layers_per_block must be a list of positive"),
        ("msdnet-digits", {"layers_per_block": [1, 0]}, r"positive integers, not \(1, 0\)"),
        ("msdnet-digits", {"layers_per_block": 3}, "layers_per_block must be a list"),
        ("msdnet-digits", {"reduction": 0}, "reduction must be a number above 0 and at most 1"),
        ("msdnet-digits", {"classifier_channels": 0}, "a positive integer or none, not 0"),
        (
            "msdnet-digits",
            {"stem": "mnist"},
            "stem must be 'cifar', 'halving' or 'imagenet', not 'mnist'",
        ),
        ("resnet-digits", {"exits": [1, 2]}, "end at the last block, 3"),
        ("resnet-digits", {"exits": [2, 1, 3]}, "exits must rise"),
        ("resnet-digits", {"channels": [8, 16]}, "differ in length"),
    ],
)
def test_errors_are_one_line_and_say_what_is_wrong(preset, overrides, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(preset, **overrides)
    assert "\n" not in str(caught.value)


def test_a_reduction_never_leaves_nothing():
    network = build("msdnet-digits", channels=1, growth=2, reduction=0.01)

    assert network(torch.randn(2, 3, 16, 16)).shape == (3, 2, 10)
