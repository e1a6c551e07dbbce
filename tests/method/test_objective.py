"""ℓ against the sums that Eqs. 1 and 2 write out, and its derivative against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional as F

from hdkd_dist.method.objective import LossLayout, anneal, confidence, loss_vector

K, B, C, T = 4, 6, 5, 3.0


@pytest.fixture
def example():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(K, B, C, generator=generator, dtype=torch.float64)
    return logits, torch.randint(C, (B,), generator=generator)


def written_out(logits, labels, temperature):
    """The losses entry by entry, in plain Python."""

    def softmax(row, t):
        powers = [math.exp(z / t) for z in row]
        return [p / sum(powers) for p in powers]

    z = logits.tolist()
    entries = [
        -sum(math.log(softmax(z[k][b], 1.0)[labels[b]]) for b in range(B)) / B for k in range(K)
    ]
    for i in range(K):
        for j in range(i):
            total = 0.0
            for b in range(B):
                teacher, student = softmax(z[i][b], temperature), softmax(z[j][b], temperature)
                total -= sum(p * math.log(q) for p, q in zip(teacher, student, strict=True))
            entries.append(temperature**2 * total / B)
    return torch.tensor(entries, dtype=torch.float64)


def test_losses_are_those_of_the_paper(example):
    logits, labels = example
    expected = written_out(logits, labels.tolist(), T)
    torch.testing.assert_close(loss_vector(logits, labels, T), expected, rtol=1e-12, atol=0)


def test_layout_names_and_matrices():
    layout = LossLayout(3)
    assert layout.names == ["ce_1", "ce_2", "ce_3", "kd_2_to_1", "kd_3_to_1", "kd_3_to_2"]
    assert len(layout) == 6
    entries = torch.arange(6.0)
    ce, kd = layout.split(entries)
    assert kd.tolist() == [[0, 0, 0], [3, 0, 0], [4, 5, 0]]
    assert torch.equal(layout.join(ce, kd), entries)


def test_teacher_gets_no_gradient(example):
    logits, labels = example
    logits.requires_grad_()
    losses = loss_vector(logits, labels, T)
    names = LossLayout(K).names
    (gradient,) = torch.autograd.grad(losses[names.index("kd_4_to_2")], logits)
    moved = gradient.abs().amax(dim=(1, 2)) > 0
    assert moved.tolist() == [False, True, False, False]


def closed_form(logits, tangents, labels, temperature):
    """dℓ [n] for logits that move along ``tangents``, [K, B, C], the teachers being constants.

    dCE_k = mean_b (softmax(z_k) − onehot)·dz_k;
    dKD_{i→j} = T · mean_b (softmax(z_j/T) − softmax(z_i/T))·dz_j.
    """
    onehot = F.one_hot(labels, C).to(logits)
    d_ce = ((F.softmax(logits, dim=-1) - onehot) * tangents).sum(dim=-1).mean(dim=1)
    softened = F.softmax(logits / temperature, dim=-1).flatten(1)
    products = softened @ tangents.flatten(1).T  # [i, j] = Σ_b softmax(z_i/T)·dz_j
    d_kd = temperature * (products.diagonal() - products) / B
    return LossLayout(K).join(d_ce, d_kd)


def test_dual_numbers_through_the_losses_give_the_closed_form(example):
    logits, labels = example
    tangents = torch.randn(
        logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    with forward_ad.dual_level():
        losses = loss_vector(forward_ad.make_dual(logits, tangents), labels, T)
        found = forward_ad.unpack_dual(losses).tangent
    torch.testing.assert_close(found, closed_form(logits, tangents, labels, T), rtol=1e-12, atol=0)


def test_closed_form_agrees_with_finite_differences(example):
    logits, labels = example
    tangents = torch.randn(
        logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    step = 1e-6

    def student_side(moved):  # KD's teacher stays where it is
        ce = loss_vector(moved, labels, T)[:K]
        teachers = torch.softmax(logits / T, -1)
        students = torch.log_softmax(moved / T, -1)
        kd = -(T**2) * torch.einsum("ibc,jbc->ij", teachers, students) / B
        return LossLayout(K).join(ce, kd)

    difference = (
        student_side(logits + step * tangents) - student_side(logits - step * tangents)
    ) / (2 * step)
    derivative = closed_form(logits, tangents, labels, T)
    torch.testing.assert_close(derivative, difference, rtol=1e-7, atol=1e-8)


def test_half_precision_logits_give_float32_losses(example):
    logits, labels = example
    half = logits.bfloat16()
    losses = loss_vector(half, labels, T)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, loss_vector(half.float(), labels, T), rtol=0, atol=0)


def test_confidence_is_of_the_last_exit_at_the_temperature():
    logits = torch.tensor([[[9.0, 0.0]], [[2.0, 0.0]]])  # K = 2, B = 1, C = 2
    expected = torch.sigmoid(torch.tensor(2.0 / 4))
    torch.testing.assert_close(confidence(logits, torch.tensor(4.0)), expected)


@pytest.mark.parametrize(("seen", "factor"), [(0.51, 1.05), (0.5, 1.0), (0.2, 1.0)])
def test_temperature_rises_only_with_confidence(seen, factor):
    assert float(anneal(torch.tensor(2.0), torch.tensor(seen))) == pytest.approx(2 * factor)


def test_label_smoothing_is_that_of_torch_and_leaves_distillation_alone():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 6, 5, dtype=torch.float64), torch.randint(5, (6,))
    expected = [F.cross_entropy(z, labels, label_smoothing=0.1) for z in logits]

    smoothed = loss_vector(logits, labels, 2.0, label_smoothing=0.1)

    torch.testing.assert_close(smoothed[:3], torch.stack(expected))
    assert torch.equal(smoothed[3:], loss_vector(logits, labels, 2.0)[3:])
