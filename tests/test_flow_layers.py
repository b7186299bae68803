"""The layers of the flow: inverses, log-determinants against the Jacobian that autograd finds, splines by hand."""

import math

import pytest
import torch
from test_flow import log_det, stir

from genbench_flow.glow import GlowNetwork, InvertibleConv
from genbench_flow.layers import ActNorm, Constant, Coupling, Level, Network, squeeze, unsqueeze
from genbench_flow.masked import Autoregression, Reversal
from genbench_flow.transforms import MIN_SLOPE, SCALE, Affine, LinearFront, Logistic, LogitFront, Spline


def coupling(transform, target=(1, 3), context=(0, 2), network=Network):
    outputs = len(target) * transform.parameters_each
    if network is Network:
        net = Network(len(context), outputs, 6, 1, (2, 3), 3, 0)
    elif network is GlowNetwork:
        net = GlowNetwork(len(context), outputs, 6, 0)
    else:
        net = Constant(outputs, 0)
    return Coupling(target, context, net, transform)


LAYERS = {
    "actnorm": lambda: ActNorm(4),
    "conv": lambda: InvertibleConv(4),
    "affine": lambda: coupling(Affine()),
    "spline": lambda: coupling(Spline(5, 2.0)),
    "logistic": lambda: coupling(Logistic(5, 6.0)),
    "glow": lambda: coupling(Affine(), network=GlowNetwork),
    "constant": lambda: coupling(Spline(4, 2.0), (0, 1, 2, 3), (), Constant),
}
each_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def layer_and_input(make):
    torch.manual_seed(0)
    layer = stir(make()).double()
    return layer, 1.3 * torch.randn(1, 4, 2, 3, dtype=torch.double)


@each_layer
def test_a_layer_and_its_inverse(make):
    layer, x = layer_and_input(make)
    y, _ = layer(x)
    assert (y - x).abs().max() > 0.05, "the layer does nothing, so this tests nothing"
    torch.testing.assert_close(layer.inverse(y), x)


@each_layer
def test_log_determinant_of_a_layer(make):
    layer, x = layer_and_input(make)
    y, change = layer(x)
    torch.testing.assert_close(change[0], log_det(lambda value: layer(value)[0], x))
    torch.testing.assert_close(change[0], -log_det(layer.inverse, y))


def test_log_determinants_are_an_image_each():
    for make in LAYERS.values():
        layer, _ = layer_and_input(make)
        x = torch.randn(3, 4, 2, 3, dtype=torch.double)
        alone = torch.cat([layer(one[None])[1] for one in x])
        torch.testing.assert_close(layer(x)[1], alone)


@pytest.mark.parametrize("transform", [Affine(), Spline(5, 2.0)], ids=["affine", "spline"])
@pytest.mark.parametrize("dims", [1, 2, 6])
def test_an_autoregression_sees_only_what_came_before(dims, transform):
    torch.manual_seed(0)
    layer = stir(Autoregression(dims, 12, transform, 0)).double()
    x = 1.3 * torch.randn(1, dims, 1, 1, dtype=torch.double)
    y, change = layer(x)
    slopes = torch.autograd.functional.jacobian(lambda v: layer(v.view_as(x))[0].flatten(), x.flatten())
    assert torch.equal(slopes, slopes.tril()) and (slopes.diagonal() > 0).all()
    assert dims == 1 or (slopes.tril(-1)[1:].abs().amax(1) > 1e-4).all(), "a value ignores all before it"
    torch.testing.assert_close(change[0], slopes.diagonal().log().sum())
    torch.testing.assert_close(layer.inverse(y), x)
    torch.testing.assert_close(change[0], -log_det(layer.inverse, y))


def test_every_value_of_an_autoregression_looks_at_the_label_of_its_image():
    layer = stir(Autoregression(4, 12, Affine(), 3))
    x, labels = torch.ones(3, 4, 1, 1), torch.tensor([0, 1, 2])
    mixed, one = layer.parameters_of(x, labels), layer.parameters_of(x, torch.zeros_like(labels))
    torch.testing.assert_close(mixed[0], one[0])
    assert ((mixed - one)[1:].abs().amax(2) > 1e-3).all()


def test_a_reversal_undoes_itself():
    x = torch.randn(2, 3, 1, 1)
    y, change = Reversal()(x)
    assert torch.equal(y[:, 0], x[:, 2]) and (change == 0).all()
    assert torch.equal(Reversal().inverse(y), x)


def test_logit_front():
    front = LogitFront(0.01)
    x = torch.tensor([-1.0, -0.3, 0.0, 0.999], dtype=torch.double).view(1, 1, 2, 2)
    y, change = front(x)
    assert y[0, 0, 0, 0] == pytest.approx(math.log(0.01 / 0.99)) and y[0, 0, 1, 0] == 0
    assert -front.bound == pytest.approx(float(y.min()))
    torch.testing.assert_close(change[0], log_det(lambda value: front(value)[0], x))
    torch.testing.assert_close(front.inverse(y), x)


def test_linear_front():
    front, x = LinearFront(), torch.tensor([-1.0, -0.3, 0.0, 1.0], dtype=torch.double).view(1, 1, 2, 2)
    y, change = front(x)
    assert y.min() == -front.bound and y.max() == front.bound
    torch.testing.assert_close(change[0], log_det(lambda value: front(value)[0], x))
    torch.testing.assert_close(front.inverse(y), x)


@pytest.mark.parametrize("front", [LogitFront(0.01), LinearFront()], ids=["logit", "linear"])
def test_a_uniform_image_has_the_density_that_the_front_says(front):
    """-log 2 a pixel, less the log of the slope."""
    x = torch.linspace(-0.99, 0.99, 30, dtype=torch.double).view(1, 1, 5, 6)
    y, change = front(x)
    assert (front.uniform_log_prob(y).sum() + change).item() == pytest.approx(-30 * math.log(2))


def test_level_keeps_and_lets_go():
    level = stir(Level((2, 3), 6, [0, 4], [coupling(Affine()), InvertibleConv(6)])).double()
    level.layers[0].network.place.data = torch.zeros(6, 1, 1, dtype=torch.double)
    x = torch.randn(2, 1, 4, 6, dtype=torch.double)
    kept, latents, change = level(x)
    assert kept.shape == (2, 2, 2, 2) and latents.shape == (2, 4, 2, 2) and change.shape == (2,)
    torch.testing.assert_close(level.inverse(kept, latents), x)


def test_squeeze_keeps_neighbours_together():
    x = torch.arange(24.0).view(1, 1, 4, 6)
    y = squeeze(x, (2, 2))
    torch.testing.assert_close(y, torch.nn.functional.pixel_unshuffle(x, 2))
    torch.testing.assert_close(unsqueeze(y, (2, 2)), x)
    z = torch.arange(48.0).view(2, 2, 2, 6)
    torch.testing.assert_close(unsqueeze(squeeze(z, (1, 3)), (1, 3)), z)


# Transforms.


def test_spline_by_hand():
    """Two equal bins with slopes 1, 2, 1 between (-1, -1), (0, 0), (1, 1): y(1/2) by equation 4 of the paper."""
    spline = Spline(2, 1.0)
    raw = torch.zeros(1, 7, dtype=torch.double)
    raw[0, 5] = math.log(math.expm1(2 - MIN_SLOPE)) - math.log(math.expm1(1 - MIN_SLOPE))
    y, log_slope = spline(torch.tensor([0.5], dtype=torch.double), raw)
    s, t, d0, d1 = 1.0, 0.5, 2.0, 1.0
    bend = s + (d0 + d1 - 2 * s) * t * (1 - t)
    assert y.item() == pytest.approx((s * t * t + d0 * t * (1 - t)) / bend, rel=1e-6)
    slope = s * s * (d1 * t * t + 2 * s * t * (1 - t) + d0 * (1 - t) ** 2) / bend**2
    assert log_slope.item() == pytest.approx(math.log(slope), rel=1e-6)


def test_spline_keeps_its_box_and_is_monotone():
    torch.manual_seed(0)
    spline, x = Spline(8, 3.0), torch.linspace(-4, 4, 4001, dtype=torch.double)
    y, log_slope = spline(x, (4 * torch.randn(25, dtype=torch.double)).expand(4001, 25))
    assert (y.diff() > 0).all()
    outside = x.abs() > 3
    assert torch.equal(y[outside], x[outside]) and (log_slope[outside] == 0).all()
    assert y[~outside].abs().max() <= 3 + 1e-9


def test_extreme_parameters_stay_finite_and_invertible():
    x = torch.linspace(-2.9, 2.9, 101)
    for transform in (Affine(), Spline(8, 3.0), Logistic(8, 3.0)):
        for size in (1e3, -1e3):
            parameters = size * torch.sin(torch.arange(transform.parameters_each) * 2.0).expand(101, -1)
            y, log_slope = transform(x, parameters)
            assert y.isfinite().all() and log_slope.isfinite().all()
            assert transform.inverse(y, parameters).isfinite().all()


def test_zero_parameters_are_the_identity():
    x = torch.linspace(-2.9, 2.9, 101)
    for transform in (Affine(), Spline(8, 3.0)):
        y, log_slope = transform(x, torch.zeros(101, transform.parameters_each))
        torch.testing.assert_close(y, x, atol=1e-6, rtol=0)
        torch.testing.assert_close(log_slope, torch.zeros(101), atol=1e-5, rtol=0)


def test_logistic_by_hand():
    """Without a bend: the logit of (F(x) - F(-2)) / (F(2) - F(-2)), where F is of centre 0.5."""
    transform, x = Logistic(4, 2.0), torch.linspace(-1.99, 1.99, 9, dtype=torch.double)
    raw = torch.zeros(9, transform.parameters_each, dtype=torch.double)
    raw[:, 0], raw[:, 1] = 0.5 * SCALE, 0.1
    scale = 2 / 3 * math.exp(6 * math.tanh(0.1 / 6))
    low, at, high = (torch.sigmoid((value - 0.5) / scale) for value in (x.new_tensor(-2), x, x.new_tensor(2)))
    wanted = torch.logit((at - low) / (high - low))
    z, log_slope = transform(x, raw)
    torch.testing.assert_close(z, wanted, atol=1e-6, rtol=1e-6)
    numeric = torch.autograd.functional.jacobian(lambda value: transform(value, raw)[0], x).diagonal().log()
    torch.testing.assert_close(log_slope, numeric)


def test_a_logistic_inverts_far_from_its_centre():
    """Where its distribution function is 1 to every digit of float32."""
    transform, x = Logistic(4, 6.0), torch.linspace(-5.99, 5.99, 41)
    raw = torch.zeros(41, transform.parameters_each)
    raw[:, 0], raw[:, 1] = -5 * SCALE, -4.0
    z, log_slope = transform(x, raw)
    assert z.max() > 100 and log_slope.isfinite().all()
    torch.testing.assert_close(transform.inverse(z, raw), x, atol=1e-4, rtol=0)


def test_a_coupling_may_not_see_its_target():
    with pytest.raises(ValueError, match="overlap"):
        Coupling([0, 1], [1, 2], Constant(4, 0), Affine())


def test_determinants_under_bfloat16_are_those_of_the_map():
    """A coupling with rounded parameters is still a coupling: its determinant is exact for what it computes."""
    layer = stir(coupling(Spline(5, 2.0)))
    x = torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        _, change = layer(x)
        target, parameters = layer.parts(x, None)
    exact = log_det(lambda value: layer.transform(value, parameters.double())[0], target.double())
    torch.testing.assert_close(change[0].double(), exact, atol=1e-4, rtol=0)
