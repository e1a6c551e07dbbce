"""The benches are those that the data and the configurations have."""

from __future__ import annotations

import pytest

from hdkd_dist.config.load import load_config
from hdkd_dist.paper.scales import ROOT, SCALES, scale_named

BENCHES = [bench for scale in SCALES.values() for bench in scale.benches.values()]


@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.config)
def test_each_bench_has_a_configuration_that_loads(bench):
    assert load_config(ROOT / bench.config, {}, world_size=1).hdkd.schedule.epochs > 0
    assert bench.ablation_size in bench.sizes


def test_images_that_train_are_those_drawn_less_those_of_validation():
    cifar, imagenet = (SCALES["paper"].benches[name] for name in ("cifar100", "imagenet"))
    assert cifar.train_images(150) == 100 * (150 - 50)
    assert imagenet.train_images("full") == 1_281_167 - 1000 * 50
    assert (cifar.title(150), cifar.folder(150)) == ("CIFAR(150)", "cifar100-150")
    assert (imagenet.title("full"), imagenet.folder("full")) == ("ImageNet(full)", "imagenet")


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="must be paper, paper_cheap or small, not 'huge'"):
        scale_named("huge")
