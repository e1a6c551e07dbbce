"""Gradient equilibrium (Li et al. 2019) against gradients scaled by hand."""

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from hdkd_dist.models import build, rescale_gradient


@pytest.fixture(params=["msdnet-digits", "resnet-digits"])
def network(request):
    torch.manual_seed(0)
    return build(request.param).double()


@pytest.fixture
def images():
    return torch.randn(4, 3, 16, 16, dtype=torch.float64, generator=torch.manual_seed(1))


LABELS = torch.tensor([3, 1, 4, 1])


def sum_of_losses(logits):
    return sum(cross_entropy(exit_logits, LABELS) for exit_logits in logits)


def gradients(network):
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def scaled_by_hand(network, images):
    """Backpropagate stage by stage and scale what arrives at each classifier's features."""
    state, tape = [images], []
    for stage, classifier in zip(network.stages, network.classifiers, strict=True):
        inputs = [feature_map.detach().requires_grad_() for feature_map in state]
        state = stage(inputs)
        features = state[-1].detach().requires_grad_()
        tape.append((inputs, state, features, cross_entropy(classifier(features), LABELS)))
    from_later = [torch.zeros_like(feature_map) for feature_map in state]
    for remaining, (inputs, outputs, features, loss) in enumerate(reversed(tape), start=1):
        loss.backward()
        arriving = (features.grad + (remaining - 1) * from_later[-1]) / remaining
        torch.autograd.backward(outputs, [*from_later[:-1], arriving])
        from_later = [feature_map.grad for feature_map in inputs]
    return gradients(network)


def test_logits_are_unchanged_to_the_bit(network, images):
    network, images = network.float(), images.float()

    assert torch.equal(network(images, gradient_equilibrium=True), network(images))


def test_gradients_equal_those_scaled_by_hand(network, images):
    expected = scaled_by_hand(network, images)
    network.zero_grad()
    sum_of_losses(network(images, gradient_equilibrium=True)).backward()

    torch.testing.assert_close(gradients(network), expected, rtol=1e-9, atol=1e-12)


def test_on_a_single_path_stage_i_gets_one_part_in_k_minus_i(images):
    """The scalings telescope: each of the K-i losses behind stage i weighs 1/(K-i) there."""
    torch.manual_seed(0)
    network = build("resnet-digits").double()
    sum_of_losses(network(images)).backward()
    plain = gradients(network)
    network.zero_grad()
    sum_of_losses(network(images, gradient_equilibrium=True)).backward()

    for name, gradient in gradients(network).items():
        part, k = name.split(".")[:2]
        share = 1 if part == "classifiers" else 1 / (3 - int(k))
        torch.testing.assert_close(gradient, plain[name] * share, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("equilibrium", [False, True])
def test_forward_mode_agrees_with_reverse_mode(network, images, equilibrium):
    generator = torch.manual_seed(2)
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    direction = {
        name: torch.randn(p.shape, dtype=p.dtype, generator=generator)
        for name, p in parameters.items()
    }
    sum_of_losses(network(images, gradient_equilibrium=equilibrium)).backward()
    reverse = sum((gradients(network)[name] * v).sum() for name, v in direction.items())

    with forward_ad.dual_level():
        duals = {name: forward_ad.make_dual(p, direction[name]) for name, p in parameters.items()}
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        logits = functional_call(network, (duals, buffers), (images, equilibrium))
        forward = forward_ad.unpack_dual(sum_of_losses(logits)).tangent

    torch.testing.assert_close(forward, reverse, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weight", [0, 1 / 3, 7])
def test_rescaling_keeps_the_value_and_scales_the_gradient(weight, dtype):
    x = torch.randn(1000, generator=torch.manual_seed(0)).to(dtype).requires_grad_()
    rescaled = rescale_gradient(x, weight)
    rescaled.sum().backward()

    assert torch.equal(rescaled, x)
    assert torch.equal(x.grad, torch.full_like(x, weight))
