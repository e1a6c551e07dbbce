"""The table of methods, γ's starts, and how it moves."""

from __future__ import annotations

import pytest
import torch

from hdkd_dist.method.objective import LossLayout
from hdkd_dist.method.state import start_weights
from hdkd_dist.method.weights import (
    METHODS,
    OPTIMIZERS,
    TEACHERS,
    Method,
    dbt_like,
    ds_like,
    existing_entries,
    project,
    random_same_sum,
    random_weights,
    teaching_pairs,
)

K = 4
LAYOUT = LossLayout(K)
EXPECTED_TEACHERS = {  # teacher → its students, 1-based
    "none": {},
    "last": {4: [1, 2, 3]},
    "all_later": {2: [1], 3: [1, 2], 4: [1, 2, 3]},
}
TEACHERS_OF = {
    "msdnet": "none",
    "dbt": "last",
    "impr": "last",
    "naive_dkd": "all_later",
    "hmsdnet": "none",
    "hdbt": "last",
    "hdkd": "all_later",
}


@pytest.mark.parametrize("name", METHODS)
def test_existing_entries(name):
    expected = ["ce_1", "ce_2", "ce_3", "ce_4"]
    for teacher, students in EXPECTED_TEACHERS[TEACHERS_OF[name]].items():
        expected += [f"kd_{teacher}_to_{student}" for student in students]
    exists = existing_entries(METHODS[name], K)
    found = [entry for entry, there in zip(LAYOUT.names, exists, strict=True) if there]
    assert sorted(found) == sorted(expected)


def test_only_the_harmonised_methods_learn_and_only_impr_balances_gradients():
    assert [name for name, m in METHODS.items() if m.learns] == ["hmsdnet", "hdbt", "hdkd"]
    assert [name for name, m in METHODS.items() if m.gradient_equilibrium] == ["impr"]


@pytest.mark.parametrize(
    ("learned", "fixed"), [("hmsdnet", "msdnet"), ("hdbt", "dbt"), ("hdkd", "naive_dkd")]
)
@pytest.mark.parametrize("share", ["per_student", "per_pair"])
def test_learned_method_starts_where_its_sister_stands(learned, fixed, share):
    starts = [ds_like(METHODS[name], K, 0.7, share) for name in (learned, fixed)]
    assert torch.equal(*starts)


def test_per_student_gives_every_student_the_same_total():
    for name in ("dbt", "hdkd"):
        ce, kd = LAYOUT.split(ds_like(METHODS[name], K, 2.0, "per_student"))
        assert ce.tolist() == [1, 1, 1, 1]
        torch.testing.assert_close(kd.sum(dim=0), torch.tensor([2.0, 2.0, 2.0, 0.0]))


def test_per_pair_is_equation_4():
    _, kd = LAYOUT.split(ds_like(METHODS["naive_dkd"], K, 2.0, "per_pair"))
    assert torch.equal(kd, 2 * torch.ones(K, K).tril(-1))


def test_dbt_like_starts_with_the_last_teacher_alone():
    ce, kd = LAYOUT.split(dbt_like(METHODS["hdkd"], K, 2.0))
    assert ce.tolist() == [1, 1, 1, 1]
    assert kd[3].tolist() == [2, 2, 2, 0]
    assert kd[:3].abs().sum() == 0


def test_random_is_seeded_and_stays_within_the_method():
    one, again, other = (random_weights(METHODS["hdbt"], K, seed) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    exists = existing_entries(METHODS["hdbt"], K).bool()
    assert (one[exists] > 0).all()
    assert (one < 1).all()
    assert (one[~exists] == 0).all()


def test_random_with_the_same_sum_keeps_the_proportions_of_the_draw():
    initial = ds_like(METHODS["hdbt"], K, 1.0, "per_pair")
    plain = random_weights(METHODS["hdbt"], K, 1)
    rescaled = random_same_sum(METHODS["hdbt"], K, initial, 1)
    assert rescaled.sum() == pytest.approx(float(initial.sum()))
    torch.testing.assert_close(rescaled / rescaled.sum(), plain / plain.sum())


def started(method, **how):
    initial = ds_like(METHODS[method], K, 1.0, "per_student")  # of unequal entries
    return start_weights(initial, existing_entries(METHODS[method], K), **how)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("constraint", ["none", "nonnegative", "fixed_sum", "fixed_norm"])
def test_steps_respect_constraint_and_method(optimizer, constraint):
    weights = started("hdbt", optimizer=optimizer, rate=0.4, constraint=constraint)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        weights.step(1 + torch.randn(len(LAYOUT), generator=generator))
    gamma, initial = weights.gamma, weights.initial
    assert not torch.allclose(gamma, initial, atol=0.1)
    assert (gamma[weights.exists == 0] == 0).all()
    if constraint == "none":
        assert (gamma < 0).any()
    else:
        assert (gamma >= 0).all()
    if constraint == "fixed_sum":
        torch.testing.assert_close(gamma.sum(), initial.sum())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_wish_for_a_larger_sum_alone_moves_nothing_under_fixed_sum(optimizer):
    weights = started("hdkd", optimizer=optimizer, rate=0.1, constraint="fixed_sum")
    weights.step(-torch.ones(len(LAYOUT)))
    torch.testing.assert_close(weights.gamma, weights.initial, rtol=0, atol=1e-6)


def test_plain_descent_is_algorithm_1():
    weights = started("hdkd", optimizer="sgd", rate=0.25, constraint="none")
    gradient = torch.linspace(-1, 1, len(LAYOUT))
    weights.step(gradient)
    torch.testing.assert_close(weights.gamma, weights.initial - 0.25 * gradient)


def test_weights_that_do_not_learn_refuse_a_step():
    with pytest.raises(ValueError, match="does not learn"):
        started("naive_dkd", optimizer=None).step(torch.ones(len(LAYOUT)))


def test_projection_of_a_vanished_gamma_stays_finite():
    projected = project(torch.full((3,), -1.0), torch.ones(3), "fixed_sum")
    assert torch.isfinite(projected).all()


PATTERNS = {
    "none": [[0, 0, 0], [0, 0, 0], [0, 0, 0]],
    "last": [[0, 0, 0], [0, 0, 0], [1, 1, 0]],
    "next": [[0, 0, 0], [1, 0, 0], [0, 1, 0]],
    "all_later": [[0, 0, 0], [1, 0, 0], [1, 1, 0]],
}


def test_every_pattern_of_teachers_is_in_the_table():
    assert list(TEACHERS) == list(PATTERNS)
    for name, expected in PATTERNS.items():
        assert teaching_pairs(name, 3).tolist() == expected


def test_a_matrix_multiplies_the_weight_and_tells_which_entries_exist():
    method = Method("own", [[0, 0, 0], [2, 0, 0], [0.5, 0, 0]], learns=True)

    ce, kd = LossLayout(3).split(ds_like(method, 3, 4.0, "per_pair"))
    assert ce.tolist() == [1, 1, 1]
    assert kd.tolist() == [[0, 0, 0], [8, 0, 0], [2, 0, 0]]
    _, shared = LossLayout(3).split(ds_like(method, 3, 4.0, "per_student"))
    assert shared.tolist() == [[0, 0, 0], [4, 0, 0], [1, 0, 0]]
    assert existing_entries(method, 3).tolist() == [1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[0, 0], [1, 0]], "a matrix of 3×3"),
        ([[0, 0, 0], [1, 0], [1, 1, 0]], "a matrix of 3×3"),
        ([[0, 1, 0], [0, 0, 0], [0, 0, 0]], "only a later exit can teach"),
        ([[1, 0, 0], [0, 0, 0], [0, 0, 0]], "only a later exit can teach"),
    ],
)
def test_a_matrix_that_no_network_has_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        teaching_pairs(matrix, 3)
