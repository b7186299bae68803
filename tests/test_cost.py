"""Cost: FLOPs with known answers, a clock that can be paused, and rates that follow from it."""

import json
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from genbench.metering.flops import FlopCounter
from genbench.metering.meter import Meter
from genbench.records.samples import Samples


def count(action):
    with FlopCounter() as counter:
        action()
    return counter


LINEAR, IMAGES = nn.Linear(10, 20), torch.randn(4, 10)
CONV, PICTURES = nn.Conv2d(3, 16, 3, padding=1), torch.randn(4, 3, 8, 8)
FORWARD = {
    "linear": (lambda: LINEAR(IMAGES), 2 * 4 * 10 * 20),
    "convolution": (lambda: CONV(PICTURES), 2 * 4 * 16 * 64 * 27),
    "grouped": (lambda: nn.Conv2d(6, 12, 3, padding=1, groups=3)(torch.randn(1, 6, 8, 8)), 2 * 12 * 64 * 2 * 9),
    "transposed": (lambda: nn.ConvTranspose2d(3, 16, 2, 2)(torch.randn(1, 3, 8, 8)), 24_576),
    "einsum": (lambda: torch.einsum("bij,bjk->bik", torch.randn(2, 3, 4), torch.randn(2, 4, 10)), 480),
    "encoder": (lambda: nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0)(torch.randn(8, 1, 16)), 36_864),
}


@pytest.mark.parametrize("name", FORWARD)
def test_forward_passes(name):
    action, flops = FORWARD[name]
    assert count(action).flops == flops


@pytest.mark.parametrize(("layer", "images"), [(LINEAR, IMAGES), (CONV, PICTURES)])
def test_a_backward_pass_is_one_more_for_the_weights_and_one_for_the_input(layer, images):
    forward = count(lambda: layer(images)).flops
    assert count(lambda: layer(images).sum().backward()).flops == 2 * forward
    assert count(lambda: layer(images.clone().requires_grad_()).sum().backward()).flops == 3 * forward


def test_a_composite_layer_counts_in_inference_mode_too():
    with torch.inference_mode():
        assert count(lambda: LINEAR(IMAGES)).flops == 1600


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_attention_on_a_cpu_counts(precision):
    q = torch.randn(2, 2, 16, 8, dtype=precision, requires_grad=True)
    k, v = (torch.randn(2, 2, 24, 8, dtype=precision, requires_grad=True) for _ in range(2))
    product = 2 * 2 * 2 * 16 * 24 * 8
    assert count(lambda: F.scaled_dot_product_attention(q, k, v)).flops == 2 * product
    backward = count(lambda: F.scaled_dot_product_attention(q, k, v).sum().backward()).flops
    assert backward == (2 + 4) * product


def penalty(layer, images):
    (gradient,) = torch.autograd.grad(layer(images).square().sum(), images, create_graph=True)
    gradient.square().sum().backward()


@pytest.mark.parametrize(("layer", "images"), [(LINEAR, IMAGES), (CONV, PICTURES)])
def test_a_gradient_penalty_is_six_passes(layer, images):
    """Forward, to the input, back through that to weights and scores, and from the scores to weights and input."""
    forward = count(lambda: layer(images)).flops
    assert count(lambda: penalty(layer, images.clone().requires_grad_())).flops == 6 * forward


def test_products_with_a_vector_are_two_a_number():
    matrix, vector = torch.ones(3, 5), torch.ones(5)
    sums = torch.ones(3)
    for product in (lambda: matrix @ vector, lambda: sums.addmv(matrix, vector), lambda: sums.addmv_(matrix, vector)):
        assert (found := count(product)).flops == 2 * 15 and not found.uncounted
    for product in (torch.dot, torch.vdot):
        assert count(lambda product=product: product(vector, vector)).flops == 2 * 5


def test_what_is_not_counted_is_named():
    matrix = torch.eye(3)
    assert "addr" in count(lambda: torch.addr(matrix, *matrix[:2])).uncounted
    assert count(lambda: torch.linalg.slogdet(matrix)).uncounted
    assert count(lambda: nn.LSTM(3, 4)(matrix[None])).uncounted
    assert count(lambda: nn.Bilinear(3, 3, 2)(matrix, matrix)).uncounted
    assert not count(lambda: nn.Linear(3, 3)(matrix)).uncounted


FEW = ["-d", "digits", "--samples", "100", "--likelihood-images", "4", "--device", "cpu"]


@pytest.mark.slow
def test_a_budget_in_flops_is_reached_and_exceeded_by_less_than_a_step(genbench, tmp_path):
    models = ["-m", "gan", "--set", "gan.preset=tiny", "-m", "ldm", "--set", "ldm.preset=tiny"]
    assert genbench("run", *models, *FEW, "--budget", "2e8flops").code == 0
    files = [*tmp_path.glob("runs/gan*/record.json"), *tmp_path.glob("runs/ldm*/record.json")]
    assert len(files) == 2
    for file in files:
        record = json.loads(file.read_text())
        train = record["cost"]["train"]
        last = sum(phase["flops"] / phase["updates"] for phase in train["phases"].values())
        assert record["job"]["budget"] == {"flops": 2e8} and 2e8 <= train["flops"] < 2e8 + last
        assert train["flops"] == sum(phase["flops"] for phase in train["phases"].values())
        assert all(phase["flops"] > 0 and phase["updates"] > 0 for phase in train["phases"].values())
        parts = sum(phase["device_seconds"] for phase in train["phases"].values())
        assert 0.5 * train["device_seconds"] < parts <= train["device_seconds"]
        assert set(train["phases"]) in ({"critic", "generator"}, {"autoencoder", "diffusion"})


def test_a_model_without_flops_cannot_spend_a_budget_in_them(genbench, tmp_path):
    result = genbench("run", "-m", "gaussian", *FEW, "--budget", "1e6flops")
    (file,) = tmp_path.glob("runs/gaussian*/record.json")
    assert result.code == 1 and "never be reached" in json.loads(file.read_text())["error"]["message"]


def test_the_clock_pauses():
    meter = Meter(torch.device("cpu"))
    with meter.training():
        time.sleep(0.05)
        with meter.pause():
            time.sleep(0.5)
        with meter.phase("a") as ledger:
            time.sleep(0.05)
            ledger.images += 8
    cost = meter.train_cost()
    assert 0.1 <= cost.seconds < 0.4 and 0.05 <= cost.phases["a"].seconds < 0.3
    assert cost.device_seconds == cost.seconds and cost.peak_bytes > 10**6


def test_a_crashed_training_still_has_a_cost():
    meter = Meter(torch.device("cpu"))
    with pytest.raises(RuntimeError), meter.training():
        time.sleep(0.05)
        raise RuntimeError
    assert meter.train_cost().seconds >= 0.05 and meter.train_cost().steps is None


def test_a_resumed_clock_counts_all_segments():
    first, second = Meter(torch.device("cpu")), Meter(torch.device("cpu"))
    with first.training():
        with first.phase("a") as ledger:
            ledger.images += 8
        time.sleep(0.1)
        state = first.state()
    with second.training():
        second.restore(state)
        time.sleep(0.05)
    assert second.train_seconds >= 0.15 and second.images == 8


def test_throughput_is_images_over_seconds():
    meter = Meter(torch.device("cpu"))
    with meter.sampling():
        time.sleep(0.1)
        meter.sampled = 50
    cost = meter.sample_cost(Samples(np.zeros((50, 1, 2, 2), np.uint8), batch=50, nfe=3))
    assert cost.images_per_second == pytest.approx(50 / cost.seconds) and cost.images_per_second < 500
