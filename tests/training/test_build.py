"""How a batch is divided."""

from __future__ import annotations

import pytest

from hdkd_dist.config.settings import DataSettings
from hdkd_dist.data.order import BatchShare
from hdkd_dist.training.build import share_of_metaval


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("size", [None, 32, 64, 96])
def test_a_metaval_batch_is_divided_in_micro_batches_no_larger_than_trainings(ranks, size):
    train = BatchShare(64, 2, world_size=ranks)
    share = share_of_metaval(DataSettings(metaval_batch_size=size), train)
    assert share.batch == (size or 64)
    assert share.micro_batch * share.accumulation * ranks == share.batch
    assert share.micro_batch <= train.micro_batch


def test_a_metaval_batch_that_ranks_do_not_divide_is_refused():
    train = BatchShare(64, 1, world_size=4)
    with pytest.raises(ValueError, match="metaval_batch_size 30 cannot be divided among 4 ranks"):
        share_of_metaval(DataSettings(metaval_batch_size=30), train)
