"""Gated PixelCNN against its definition: what may depend on what, probabilities that sum to 1, one way to sample."""

import pytest
import torch

from genbench import Batch, DataSpec, Likelihood
from genbench.images import bits_per_dim, to_float, to_uint8
from genbench_autoregressive import order
from genbench_autoregressive.gated import Before, groups_of
from genbench_autoregressive.pixelcnn import PixelCNN
from genbench_autoregressive.pixeliqn import PixelIQN

ORDERS = pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((3, 4, 4), {"patch": 1}),
        ((1, 6, 6), {"patch": 2}),
        ((3, 2, 4), {"patch": 2, "width": 96}),
        ((2, 3, 5), {"patch": 2}),
        ((3, 3, 3), {"patch": 1, "width": 40}),
        ((1, 5, 5), {"patch": 1, "kernel": 5, "first_kernel": 5}),
    ],
    ids=lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
EACH = pytest.mark.parametrize("kind", [PixelCNN, PixelIQN], ids=lambda kind: kind.name)


def build(kind, shape, num_classes=0, **options):
    """Small, in float64, with no weight at 0: neither those of the output layer nor masked ones."""
    torch.manual_seed(0)
    config = kind.Config(**{"width": 48, "layers": 3, "head": 16, **options})
    model = kind(DataSpec("toy", shape, num_classes), config).double().eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def levels(shape, n=2):
    return torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def sequence(model, values):
    """The values (h, w, G) of sub-pixels inside the image, in order."""
    return values[model.order.inside()]


def jacobian(model, output):
    """Greatest |d output(levels) / d levels| over 16 images, inputs and outputs in order; embeddings are linear.

    A ReLU may cut a dependence off in one image.
    """
    each = torch.randn(model.config.embedding, dtype=torch.double)
    model.trunk.embedder = lambda: lambda values: (values[..., None] * each).flatten(-2)
    values = model.order.fold(levels(model.data.shape, 16)).double() / 128 - 1
    found = torch.autograd.functional.jacobian(lambda x: sequence(model, output(x).sum(0)), values, vectorize=True)
    return torch.stack([sequence(model, row) for row in found.abs().amax(1)])


def outputs(model):
    """A function of all logits of each sub-pixel, or of its quantile."""
    if isinstance(model, PixelIQN):
        return lambda x: model.head(model.trunk(x), torch.full(x.shape, 0.3).double())
    some = torch.randn(256, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    return lambda x: model.head(model.trunk(x)) @ some


# What may depend on what


@EACH
@ORDERS
def test_each_sub_pixel_depends_on_all_before_it_and_on_nothing_else(kind, shape, options):
    model = build(kind, shape, **options)
    found = jacobian(model, outputs(model))
    count = torch.Size(shape).numel()
    before = torch.ones(count, count).tril(-1).bool()
    assert found.shape == (count, count) and torch.equal(found != 0, before)


def test_nothing_reaches_further_than_the_layers_do():
    """Two layers of 3x3 see the two rows above and, in its own row, the two places before."""
    model = build(PixelCNN, (1, 5, 9), patch=1, layers=2, first_kernel=3, width=4)
    seen = jacobian(model, outputs(model))[4 * 9 + 4].view(5, 9) != 0
    assert seen.int().tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 0, 0, 0, 0, 0],
    ]


def test_channels_are_shared_out_in_order_also_where_the_groups_do_not_divide_them():
    assert groups_of(8, 3).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert torch.bincount(groups_of(128, 3)).tolist() == [43, 43, 42]


@pytest.mark.parametrize("strictly", [False, True])
def test_masks_a_and_b(strictly):
    mask = Before(3, 6, 1, 3, strictly, halves=2).mask[:, :, 0, 0]
    assert torch.equal(mask, torch.ones(3, 3).tril(-1 if strictly else 0).repeat(2, 1))


def test_masked_weights_have_no_effect_whatever_an_optimizer_makes_of_them():
    model, x = build(PixelCNN, (3, 4, 4), patch=1), to_float(levels((3, 4, 4)))
    before = model.log_prob(x)
    for layer in model.modules():
        if isinstance(layer, Before):
            layer.weight.data += 1e3 * (1 - layer.mask)
    torch.testing.assert_close(model.log_prob(x), before)


# Probabilities


@pytest.mark.parametrize("patch", [1, 2])
def test_the_probabilities_of_all_images_sum_to_one(patch):
    model = build(PixelCNN, (1, 1, 2), patch=patch, width=4, layers=2, head=4).float()
    images = torch.cartesian_prod(*[torch.arange(256)] * 2).view(-1, 1, 1, 2)
    with torch.no_grad():
        chances = torch.cat([model.log_prob(to_float(part)) for part in images.split(8192)]).exp()
    assert chances.max() > 2 * chances.min()
    assert chances.double().sum().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("shape", "patch"), [((1, 28, 28), 2), ((3, 5, 5), 2), ((3, 8, 8), 1)])
def test_before_training_all_images_are_as_likely(shape, patch):
    model = PixelCNN(DataSpec("toy", shape), PixelCNN.Config(patch=patch, layers=2))
    bits = bits_per_dim(model.log_prob(to_float(levels(shape))), model.data.dims, discrete=True)
    torch.testing.assert_close(bits, torch.full((2,), 8.0).double(), atol=1e-5, rtol=0)


def test_log_prob_is_of_the_levels_and_the_loss_is_its_bits():
    model, images = build(PixelCNN, (1, 5, 5)), levels((1, 5, 5))
    folded = model.order.fold(images)
    logits = model.head(model.trunk(folded)).log_softmax(-1)
    wanted = torch.stack([sequence(model, logits.gather(-1, folded[..., None])[n, ..., 0]).sum() for n in range(2)])
    torch.testing.assert_close(model.log_prob(to_float(images)), wanted)
    mean = -wanted.mean() / (25 * torch.tensor(2.0).log())
    torch.testing.assert_close(model.loss("train", Batch(to_float(images))), mean.double())


# Sampling


@EACH
@ORDERS
@torch.no_grad()
def test_cached_sampling_draws_what_the_whole_network_does(kind, shape, options):
    """From the same uniform values: the whole network is evaluated anew for every sub-pixel."""
    model, labels, shares = build(kind, shape, 3, **options), torch.tensor([0, 2, 2]), []
    model.report = shares.append
    torch.manual_seed(5)
    drawn = model.sample(3, labels)
    torch.manual_seed(5)
    uniform = torch.rand(3, *model.order.size, model.order.groups)

    def draw(known, place, at):
        return model.inverse()(model.trunk(known, labels)[(slice(None), *place)], place[2], at)

    whole = model.order.generate(uniform, draw, lambda share: None)
    assert torch.equal(to_uint8(drawn), whole.to(torch.uint8))
    assert len(whole.unique()) > 10 and len(shares) == model.order.size[0] * model.order.size[1]


@torch.no_grad()
def test_what_is_drawn_has_the_probabilities_of_log_prob():
    """Shares of 20,000 pairs of pixels in 4 x 4 cells against the sums of their probabilities."""
    model = build(PixelCNN, (1, 1, 2), patch=1, width=8, layers=2).float()
    model.head.levels.table.copy_(torch.randn(4, 16).repeat_interleave(64, 0))  # so that the cells differ
    pairs = torch.cartesian_prod(*[torch.arange(256)] * 2).view(-1, 1, 1, 2)
    chances = torch.cat([model.log_prob(to_float(part)) for part in pairs.split(8192)]).exp()
    wanted = chances.view(4, 64, 4, 64).sum((1, 3))
    torch.manual_seed(0)
    cell = to_uint8(model.sample(20000)).long().view(-1, 2) // 64
    found = torch.bincount(cell[:, 0] * 4 + cell[:, 1], minlength=16).view(4, 4) / 20000
    error = (found - wanted) / (wanted * (1 - wanted) / 20000).sqrt()
    assert wanted.max() > 1.5 * wanted.min() and error.square().mean() < 2.5


@EACH
def test_labels_steer_samples_of_the_same_uniform_values(kind):
    model, drawn = build(kind, (1, 4, 4), 3), []
    for label in (0, 0, 2):
        torch.manual_seed(4)
        drawn.append(model.sample(2, torch.full((2,), label)))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_labels_condition_the_likelihood_in_every_layer():
    model, x = build(PixelCNN, (1, 4, 4), 3), to_float(levels((1, 4, 4)))
    for layer in model.trunk.layers:
        before = model.log_prob(x, torch.tensor([0, 2]))
        layer.label.table.weight.data[2] += 1
        after = model.log_prob(x, torch.tensor([0, 2]))
        assert after[0] == before[0] and after[1] != before[1]


@EACH
def test_one_network_evaluation_for_each_sub_pixel(kind):
    assert kind(DataSpec("toy", (1, 28, 28)), kind.Config(**kind.presets["tiny"])).nfe == 784


# Settings


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(ValueError, match="kernel: 4 is even"):
        PixelCNN.Config(kernel=4)
    with pytest.raises(ValueError, match=r"width: 8 channels .* 12 sub-pixels"):
        PixelCNN(DataSpec("toy", (3, 8, 8)), PixelCNN.Config(width=8))


def test_only_pixelcnn_has_a_likelihood():
    assert issubclass(PixelCNN, Likelihood) and not issubclass(PixelIQN, Likelihood)
    assert not hasattr(PixelIQN, "log_prob")


# Published sizes


def conv(inputs, outputs, places=1):
    """Weights, masked ones too, and biases."""
    return inputs * outputs * places + outputs


def layers(inputs, width, count, side, first):
    """Those above (rows of `side` places), across, before and out; the first layer's `above` is a row shorter."""

    def layer(inputs, above, before):
        return conv(inputs, 2 * width, above) + conv(2 * width, 2 * width) + conv(inputs, 2 * width, before)

    def each(inputs, above, before):
        return layer(inputs, above, before) + conv(width, width)

    half = side // 2
    return each(inputs, (first // 2) * first, first // 2 + 1) + (count - 1) * each(width, (half + 1) * side, half + 1)


@pytest.mark.parametrize(("kind", "wanted"), [(PixelCNN, 5_152_130), (PixelIQN, 5_299_449)], ids=["cnn", "iqn"])
def test_the_reading_of_the_paper_has_15_layers_of_128_channels(kind, wanted):
    with torch.device("meta"):
        model = kind(DataSpec("colour", (3, 32, 32)), kind.Config(**kind.presets["paper"]))
    trunk = layers(3, 128, count=15, side=3, first=7) + conv(128, 3 * 342)
    heads = {
        PixelCNN: 256 * 342 + 3 * 256,
        PixelIQN: conv(342, 2 * 342) + 2 * 342 + conv(342, 1),
    }
    assert sum(p.numel() for p in model.parameters()) == trunk + heads[kind] == wanted


@pytest.mark.slow
@EACH
def test_the_reading_of_the_paper_learns(kind):
    torch.manual_seed(0)
    model = kind(DataSpec("colour", (3, 16, 16)), kind.Config(**kind.presets["paper"]))
    batch, phase = Batch(to_float(levels((3, 16, 16)))), model.phases()[0]
    losses = []
    for _ in range(6):
        torch.manual_seed(1)  # the same values of tau
        phase.optimizer.zero_grad()
        loss = model.loss("train", batch)
        loss.backward()
        phase.optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_a_likelihood_does_not_depend_on_how_many_images_fit_into_memory(monkeypatch):
    model, images = build(PixelCNN, (1, 4, 4)), to_float(torch.randint(0, 256, (5, 1, 4, 4)).byte()).double()
    with torch.no_grad():
        whole = model.log_prob(images)
        monkeypatch.setattr(order, "LOGITS", 2 * 16 * 256)
        assert torch.allclose(model.log_prob(images), whole, atol=1e-10)
