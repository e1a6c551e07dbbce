"""The order of samples is the run's, whatever ranks and accumulation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hdkd_dist.data.order import (
    BatchShare,
    evaluation_order,
    metaval_order,
    metaval_steps,
    permutation,
    train_order,
)

SAMPLES, BATCH = 103, 24
LAYOUTS = [(1, 1), (1, 4), (2, 1), (2, 2), (3, 2)]


def global_batches(order_of_rank, ranks, accumulation):
    """[steps, B]: what all ranks together see, micro-step by micro-step, rank by rank."""
    parts = [
        order_of_rank(BatchShare(BATCH, accumulation, rank, ranks)).reshape(
            -1, accumulation, BATCH // (ranks * accumulation)
        )
        for rank in range(ranks)
    ]
    return np.stack(parts, axis=2).reshape(-1, BATCH)


@pytest.mark.parametrize(("ranks", "accumulation"), LAYOUTS)
def test_train_order_does_not_depend_on_the_machines(ranks, accumulation):
    for epoch in (0, 5):
        batches = global_batches(
            lambda share, epoch=epoch: train_order(7, epoch, SAMPLES, share), ranks, accumulation
        )
        whole = SAMPLES // BATCH * BATCH
        expected = np.random.default_rng([7, 0, epoch]).permutation(SAMPLES)[:whole]
        assert np.array_equal(batches, expected.reshape(-1, BATCH))


@pytest.mark.parametrize(("ranks", "accumulation"), LAYOUTS)
@pytest.mark.parametrize("samples", [SAMPLES, 10])  # larger and smaller than the batch
def test_metaval_stream_is_endless_permutations(ranks, accumulation, samples):
    rounds = 6
    batches = np.concatenate(
        [
            global_batches(
                lambda share, r=r: metaval_order(7, r, samples, share), ranks, accumulation
            )
            for r in range(rounds)
        ]
    )
    assert len(batches) == rounds * metaval_steps(samples, BATCH)
    passes = [permutation(7, 1, p, samples) for p in range(batches.size // samples + 1)]
    assert np.array_equal(batches.ravel(), np.concatenate(passes)[: batches.size])
    counts = Counter(batches.ravel().tolist()).values()
    assert max(counts) - min(counts) <= 1


def test_streams_epochs_and_seeds_have_their_own_orders():
    orders = [permutation(*key, SAMPLES) for key in [(0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0)]]
    for i, one in enumerate(orders):
        assert sorted(one) == list(range(SAMPLES))
        assert all(not np.array_equal(one, other) for other in orders[:i])


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_evaluation_counts_each_sample_once(ranks):
    seen = np.concatenate([evaluation_order(SAMPLES, rank, ranks) for rank in range(ranks)])
    assert sorted(seen) == list(range(SAMPLES))


def test_batch_that_ranks_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"batch of 24 cannot be divided among 5 rank\(s\)"):
        BatchShare(24, world_size=5)
