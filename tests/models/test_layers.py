"""Sides of maps: the arithmetic of the checks against the real layers."""

import pytest
import torch

from hdkd_dist.models.layers import STEM_HALVINGS, Classifier, convolution, halved, stem


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("side", [1, 2, 7, 8, 9])
def test_a_strided_convolution_halves_the_side(side, kernel):
    maps = convolution(3, 5, kernel, stride=2)(torch.randn(2, 3, side, side))

    assert maps.shape == (2, 5, halved(side, 1), halved(side, 1))
    assert maps.min() >= 0


@pytest.mark.parametrize("kind", STEM_HALVINGS)
@pytest.mark.parametrize("side", [32, 33])
def test_a_stem_halves_the_side_as_often_as_it_says(side, kind):
    maps = stem(kind, 4, 4)(torch.randn(2, 3, side, side))

    assert maps.shape[1:] == (4, *[halved(side, STEM_HALVINGS[kind])] * 2)


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("images", "training", "divisor", "threads", "device", "last"),
    [
        (4, True, 6, 1, "cpu", True),
        (4, True, 6, 2, "cpu", False),
        (4, True, 16, 2, "cpu", True),
        (4, True, 6, 2, "meta", True),
        (4, False, 6, 2, "cpu", True),
        (1, False, 6, 2, "cpu", False),
        (1, False, 16, 1, "cpu", False),
    ],
)
def test_images_get_the_faster_format(request, images, training, divisor, threads, device, last):
    request.addfinalizer(lambda: torch.set_num_threads(1))
    torch.set_num_threads(threads)
    layer = stem("cifar", 4, divisor).train(training).to(device)
    given = []
    layer[0].register_forward_pre_hook(lambda _, arguments: given.extend(arguments))
    layer(torch.randn(images, 3, 8, 8, device=device))

    assert given[0].is_contiguous(memory_format=torch.channels_last) == last
    assert given[0].is_contiguous() != last


def test_halving_rounds_up():
    assert [halved(side, 2) for side in (4, 5, 8, 9, 224)] == [1, 2, 2, 3, 56]


@pytest.mark.parametrize(("channels", "width"), [(None, 6), (10, 10)])
def test_a_classifier_keeps_or_sets_its_width(channels, width):
    head = Classifier(6, num_classes=5, convolutions=2, channels=channels)

    assert head(torch.randn(2, 6, 8, 8)).shape == (2, 5)
    assert head.linear.in_features == width
    assert head.convolutions(torch.randn(2, 6, 8, 8)).shape == (2, width, 2, 2)


def test_on_the_papers_sizes_a_classifier_pools_two_by_two():
    head = Classifier(6, num_classes=5, convolutions=2, channels=None).eval()
    features = torch.randn(2, 6, 7, 7)
    pooled = torch.nn.functional.avg_pool2d(head.convolutions(features), 2).flatten(1)

    torch.testing.assert_close(head(features), head.linear(pooled))
