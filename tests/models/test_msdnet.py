"""The structure of MSDNet, worked out by hand from the paper."""

import torch

from hdkd_dist.models import PRESETS, MSDNetSpec, build
from hdkd_dist.models.msdnet import DenseLayer, scales_left


def test_widths_and_sides_of_every_state():
    """10 layers, 3 scales: one scale is dropped in layer 5 and one in layer 9.

    Width 16, plus 6 a layer: 22 | 28 34 | 40 46→23 29 | 35 41 47→23 29.
    """
    with torch.device("meta"):
        network = build("msdnet-cifar-4")
        state = [torch.empty(2, 3, 32, 32)]
    shapes = []
    for k in range(network.num_exits):
        state, _ = network.run_stage(k, state)
        shapes.append([(m.shape[1], m.shape[2]) for m in state])

    assert shapes == [
        [(22, 32), (44, 16), (88, 8)],
        [(34, 32), (68, 16), (136, 8)],
        [(58, 16), (116, 8)],
        [(116, 8)],
    ]


def test_scales_are_dropped_evenly_over_the_depth():
    deep, four_scales = PRESETS["msdnet-cifar-8"], PRESETS["msdnet-imagenet-4"]

    assert [scales_left(deep, depth) for depth in range(1, 37)] == [3] * 12 + [2] * 12 + [1] * 12
    assert [scales_left(four_scales, depth) for depth in (1, 5, 6, 10, 11, 15, 16, 20)] == [
        *(4, 4, 3, 3, 2, 2, 1, 1)
    ]


def test_no_preset_ends_with_a_finer_scale_that_nothing_reads():
    for spec in PRESETS.values():
        if isinstance(spec, MSDNetSpec):
            assert scales_left(spec, sum(spec.layers_per_block)) == 1


def test_a_layer_appends_half_of_its_features_from_the_finer_scale():
    torch.manual_seed(0)
    layer = DenseLayer(factors=(1, 2), kept=2, width=8, growth=4).eval()
    fine, coarse = torch.randn(2, 8, 8, 8), torch.randn(2, 16, 4, 4)
    with torch.no_grad():
        new_fine, new_coarse = layer([fine, coarse])
        _, without_fine = layer([torch.zeros_like(fine), coarse])
        without_coarse, _ = layer([fine, torch.zeros_like(coarse)])

    assert new_fine.shape == (2, 12, 8, 8)
    assert new_coarse.shape == (2, 24, 4, 4)
    assert torch.equal(new_fine[:, :8], fine)
    assert torch.equal(new_coarse[:, :16], coarse)
    assert torch.equal(without_coarse, new_fine), "the finest scale reads itself alone"
    from_fine = (without_fine != new_coarse).any(dim=(0, 2, 3))
    assert from_fine.tolist() == [False] * 16 + [True] * 4 + [False] * 4


def test_a_dropped_scale_still_feeds_the_finest_that_remains():
    torch.manual_seed(0)
    layer = DenseLayer(factors=(1, 2), kept=1, width=8, growth=4).eval()
    fine, coarse = torch.randn(2, 8, 8, 8), torch.randn(2, 16, 4, 4)
    with torch.no_grad():
        (result,) = layer([fine, coarse])
        (without_fine,) = layer([torch.zeros_like(fine), coarse])

    assert result.shape == (2, 24, 4, 4)
    from_fine = (without_fine != result).any(dim=(0, 2, 3))
    assert from_fine.tolist() == [False] * 16 + [True] * 4 + [False] * 4


def test_the_bottleneck_is_capped_by_its_input_and_by_the_factor_of_the_scale_it_reads():
    layer = DenseLayer(factors=(1, 2), kept=2, width=8, growth=6)
    fine, coarse = layer.scales

    assert fine.inner == [min(8, 1 * 6), min(8, 1 * 6)], "for itself, for the coarser scale"
    assert coarse.inner == [min(16, 2 * 6), 0]
    assert fine.bottlenecks[0].out_channels == 12


def test_an_odd_number_of_features_is_shared_out_whole():
    layer = DenseLayer(factors=(1, 3), kept=2, width=4, growth=3)
    _, coarse = layer([torch.randn(2, 4, 4, 4), torch.randn(2, 12, 2, 2)])

    assert coarse.shape[1] == 12 + 9
