"""The flow against linear algebra, integrals and its own samples."""

import copy

import pytest
import torch

from genbench import Batch, Condition, ConditionSpec, DataSpec, Likelihood
from genbench.images import bits_per_dim, dequantize, to_float
from genbench_flow import Flow
from genbench_flow.glow import GlowNetwork, InvertibleConv
from genbench_flow.layers import ActNorm, Constant, Network
from genbench_flow.masked import Autoregression
from genbench_flow.transforms import Affine, LinearFront, Logistic, LogitFront, Spline

KINDS = [("lattice", "logistic"), ("lattice", "spline"), ("lattice", "affine"), ("conv", "spline"), ("conv", "affine")]
each_kind = pytest.mark.parametrize(("mixing", "coupling"), KINDS, ids=["-".join(kind) for kind in KINDS])


def stir(module, scale=0.4):
    """Move every parameter, so that nothing is an identity any more."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        fan = parameter[0].numel() if parameter.dim() > 1 else 1
        parameter.data += scale * torch.randn_like(parameter) / max(fan, 1) ** 0.5
    return module


def build(shape=(1, 8, 8), num_classes=0, scale=0.4, **config) -> Flow:
    """The preset `tiny`, prepared and stirred."""
    torch.manual_seed(0)
    model = Flow(DataSpec("toy", shape, num_classes), Flow.Config(**Flow.presets["tiny"] | {"width": 8} | config))
    model.prepare("train", Batch(images(32, shape), torch.arange(32) % num_classes if num_classes else None))
    return stir(model, scale).eval()


def images(n, shape=(1, 8, 8), seed=0):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed)) * 1.98 - 0.99


def log_det(function, x):
    """log |det| of the Jacobian at one point, by autograd."""
    jacobian = torch.autograd.functional.jacobian(lambda flat: function(flat.view(x.shape)).flatten(), x.flatten())
    return torch.linalg.slogdet(jacobian).logabsdet


def bits(model, x, labels=None):
    with torch.no_grad():
        return bits_per_dim(model.log_prob(x, labels), model.data.dims, model.discrete)


# The whole flow.


@each_kind
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 4)])
def test_log_determinant_of_the_flow(mixing, coupling, shape):
    model = build(shape, mixing=mixing, coupling=coupling).double()
    x = images(1, shape).double()

    def latents(value):
        return torch.cat([z.flatten() for z in model.encode(value)[0]])

    torch.testing.assert_close(model.encode(x)[1][0], log_det(latents, x), rtol=1e-9, atol=1e-9)


@each_kind
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (1, 28, 28), (3, 32, 32), (1, 64, 64)])
def test_round_trip_and_shapes(mixing, coupling, shape):
    model, x = build(shape, scale=0.2, mixing=mixing, coupling=coupling, levels=3), images(2, shape)
    with torch.no_grad():
        latents, log_det = model.encode(x)
        assert [z.shape for z in latents] == [z.shape for z in model.base_sample(2)]
        assert sum(z[0].numel() for z in latents) == model.data.dims and log_det.shape == (2,)
        torch.testing.assert_close(model.decode(latents), x, atol=1e-4, rtol=0)
        samples = model.sample(3)
    assert samples.shape == (3, *shape) and samples.isfinite().all() and samples.abs().max() <= 1


@pytest.mark.parametrize("shape", [(1, 7, 7), (1, 6, 10), (2, 1, 3)])
def test_the_lattice_takes_any_sides(shape):
    model, x = build(shape), images(2, shape)
    with torch.no_grad():
        torch.testing.assert_close(model.decode(model.encode(x)[0]), x, atol=1e-4, rtol=0)


@pytest.mark.parametrize("coupling", ["spline", "logistic"])
@pytest.mark.parametrize("shape", [(1, 9, 3), (2, 13, 10)])
def test_sides_that_do_not_divide_are_padded_and_the_padding_is_in_no_density(coupling, shape):
    model = build(shape, coupling=coupling, levels=0).double()
    x = images(1, shape).double()
    assert max(model.beyond) > 0

    def latents(value):
        return torch.cat([z.flatten() for z in model.encode(value)[0]])

    jacobian = torch.autograd.functional.jacobian(lambda flat: latents(flat.view(x.shape)), x.flatten())
    own = jacobian[jacobian.abs().sum(1) > 0]
    assert own.shape == (model.data.dims, model.data.dims)
    torch.testing.assert_close(model.encode(x)[1][0], torch.linalg.slogdet(own).logabsdet, rtol=1e-8, atol=1e-8)
    with torch.no_grad():
        torch.testing.assert_close(model.decode(model.encode(x)[0]), x)
        assert model.sample(2).shape == (2, *shape)
    plain = Flow(DataSpec("toy", shape), Flow.Config(width=4, coupling="spline"))
    torch.testing.assert_close(bits(plain, images(3, shape)), torch.full((3,), 8.0).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("sides", "coarsest"),
    [((28, 28), (7, 7)), ((32, 32), (4, 4)), ((64, 64), (8, 8)), ((105, 105), (7, 7)), ((256, 96), (8, 3))],
)
def test_pixels_that_are_drawn_one_by_one_are_few_whatever_the_sides(sides, coarsest):
    data = DataSpec("large", (3, *sides))
    assert Flow(data, Flow.Config(width=1)).nfe == 3 * coarsest[0] * coarsest[1]
    assert Flow.Config(levels=1).halvings_of(data) == (0 if sides[0] % 2 else 1)


def test_mixed_channels_need_even_sides():
    with pytest.raises(ValueError, match="odd"):
        build((1, 7, 7), mixing="conv")


@pytest.mark.parametrize("front", ["logit", "linear"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28)])
def test_an_untrained_flow_is_uniform(shape, front):
    model = Flow(DataSpec("toy", shape), Flow.Config(front=front, coupling="spline"))
    torch.testing.assert_close(bits(model, images(4, shape)), torch.full((4,), 8.0).double(), atol=1e-6, rtol=0)


def grid(n, dims):
    axis = (torch.arange(n, dtype=torch.double) + 0.5) / n * 2 - 1
    return torch.cartesian_prod(*[axis] * dims).view(-1, 1, 1, dims)


@pytest.mark.parametrize("coupling", ["logistic", "spline"])
@pytest.mark.parametrize("front", ["logit", "linear"])
@pytest.mark.parametrize(("dims", "n"), [(1, 4000), (2, 600)])
def test_density_integrates_to_one(dims, n, front, coupling):
    """A wide margin keeps the density smooth enough for the grid."""
    model = build((1, 1, dims), scale=0.7, alpha=0.1, front=front, coupling=coupling).double()
    with torch.no_grad():
        density = model.log_prob(grid(n, dims)).exp()
    assert density.max() > 1.5 * density.min(), "nearly uniform, so this tests nothing"
    assert density.mean().item() * 2**dims == pytest.approx(1, abs=2e-3)


def test_density_of_affine_couplings_integrates_to_one():
    """Where the margin of the logit is small; their latents are unbounded, so some mass may lie outside [-1, 1)."""
    model = build((1, 1, 2), coupling="affine", alpha=1e-5).double()
    with torch.no_grad():
        mass = model.log_prob(grid(300, 2)).exp().mean().item() * 4
    assert 0.97 < mass < 1.005


@pytest.mark.parametrize("channels", [1, 3])
def test_images_much_of_which_is_black_or_white_have_a_logit_in_front_unless_told_otherwise(channels):
    grays = images(40, (channels, 8, 8))
    ink = grays.where(torch.rand_like(grays) < 0.7, -torch.ones(()))
    for shown, kind in ((ink, LogitFront(1e-3)), (grays, LinearFront(LogitFront(1e-3).bound))):
        model = Flow(DataSpec("toy", (channels, 8, 8)), Flow.Config(levels=1, width=4, coupling="spline"))
        model.prepare("train", Batch(shown))
        assert torch.equal(model.front(shown)[0], kind(shown)[0]) and torch.equal(model.front(shown)[1], kind(shown)[1])
        torch.testing.assert_close(bits(model, grays), torch.full((40,), 8.0).double(), atol=1e-6, rtol=0)
        again = Flow(model.data, model.config)
        again.load_state_dict(model.state_dict())
        assert torch.equal(again.front(shown)[0], model.front(shown)[0]), "it is remembered with the weights"
    for front, kind in (("linear", LinearFront), ("logit", LogitFront)):
        assert type(Flow(model.data, Flow.Config(levels=1, width=4, front=front)).front) is kind


@pytest.mark.parametrize("coupling", ["logistic", "spline"])
@pytest.mark.parametrize("front", ["logit", "linear"])
def test_samples_follow_the_density(front, coupling):
    """Shares of 40,000 samples of two pixels in 8 x 8 cells against the integral of the density over each.

    Cells that hardly a sample falls into have no errors that are nearly normal.
    """
    model = build((1, 1, 2), scale=0.7, alpha=0.1, front=front, coupling=coupling)
    torch.manual_seed(0)
    with torch.no_grad():
        drawn = model.sample(40000).view(-1, 2)
        wanted = model.log_prob(grid(1200, 2).float()).exp().view(8, 150, 8, 150).mean((1, 3)) / 16
    cell = ((drawn + 1) * 4).long().clamp(0, 7)
    found = torch.bincount(cell[:, 0] * 8 + cell[:, 1], minlength=64).view(8, 8) / 40000
    error = ((found - wanted) / (wanted * (1 - wanted) / 40000).sqrt())[wanted * 40000 > 5]
    assert wanted.max() > 3 * wanted.min()
    assert error.square().mean() < 1.8, f"mean squared error of {error.square().mean():.2f} standard errors"


def test_entropy_of_samples():
    """The mean of log p over samples is the integral of p log p."""
    model = build((1, 1, 2), scale=0.7, alpha=0.1)
    torch.manual_seed(0)
    with torch.no_grad():
        log_density = model.log_prob(grid(250, 2).float())
        drawn = model.log_prob(model.sample(20000))
    wanted = (log_density.exp() * log_density).mean() * 4
    assert abs(drawn.mean() - wanted) < 4 * drawn.std() / 20000**0.5 + 1e-3


def entries(outputs, x):
    """Where x enters the outputs."""
    return torch.autograd.grad(outputs.sum(), x, retain_graph=True)[0] != 0


@pytest.mark.parametrize("colours", [1, 3])
def test_every_pixel_is_drawn_once_and_sees_pixels_drawn_before_alone(colours):
    level = build((colours, 8, 12), levels=1).levels[0]
    x = torch.ones(1, 4 * colours, 4, 6, requires_grad=True)
    drawn = torch.zeros_like(x, dtype=torch.bool)
    drawn[:, ::4] = True
    for layer in reversed(level.layers):
        target = entries(layer.parts(x, None)[0], x)
        assert target.any() and not (drawn & target).any() and not (entries(layer.seen(x), x) & ~drawn).any()
        drawn |= target
    assert drawn.all()


@pytest.mark.parametrize(("config", "wanted"), [({"steps": 2}, 2 * 3 * 4), ({"mixing": "conv"}, 1)])
def test_nfe_counts_the_calls_of_the_networks_that_wait_for_each_other(config, wanted, monkeypatch):
    model, calls, original = build((3, 8, 8), levels=2, **config), [], Autoregression.parameters_of
    monkeypatch.setattr(Autoregression, "parameters_of", lambda *given: calls.append(given) or original(*given))
    model.sample(2)
    assert model.nfe == wanted == max(len(calls), 1)


def test_samples_do_not_depend_on_the_finer_levels_first():
    """The coarsest pixels of a sample are those of the coarsest latents alone."""
    model = build((1, 8, 8))
    torch.manual_seed(0)
    with torch.no_grad():
        latents, other = model.base_sample(2), model.base_sample(2)
        coarse = model.decode(latents)[:, :, ::4, ::4]
        torch.testing.assert_close(model.decode([*other[:-1], latents[-1]])[:, :, ::4, ::4], coarse)
        assert not torch.allclose(model.decode([*latents[:-1], other[-1]])[:, :, ::4, ::4], coarse)


@each_kind
def test_labels_condition_density_and_samples(mixing, coupling):
    model, x = build(num_classes=3, mixing=mixing, coupling=coupling), images(2)
    first, second = (bits(model, x, torch.full((2,), label)) for label in (0, 2))
    assert (first - second).abs().min() > 1e-4
    drawn = []
    for label in (0, 0, 2):
        torch.manual_seed(4)
        drawn.append(model.sample(2, torch.full((2,), label)))
    assert torch.equal(drawn[0], drawn[1]) and not torch.allclose(drawn[0], drawn[2], atol=1e-3)


NETWORKS = {
    "residual": lambda: Network(2, 4, 6, 1, (2, 3), 3, 3),
    "glow": lambda: GlowNetwork(2, 4, 6, 3),
    "constant": lambda: Constant(4, 3),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_every_network_looks_at_the_label_of_its_image(make):
    network, context = stir(make()), torch.ones(3, 2, 2, 3)
    one, mixed = network(context, torch.zeros(3, dtype=torch.long)), network(context, torch.tensor([0, 1, 2]))
    assert one.shape == (3, 4, 2, 3)
    torch.testing.assert_close(one[1], one[0])
    torch.testing.assert_close(mixed[0], one[0])
    assert all((mixed[i] - one[i]).abs().max() > 1e-3 for i in (1, 2))


def test_one_image_has_one_density():
    model, x = build(num_classes=3), images(5)
    labels = torch.arange(5) % 3
    alone = torch.cat([bits(model, x[i : i + 1], labels[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(bits(model, x, labels), alone, atol=1e-5, rtol=0)


@each_kind
def test_bfloat16_reaches_only_the_networks(mixing, coupling):
    model, x = build(mixing=mixing, coupling=coupling), images(4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        latents, log_det = model.encode(x)
        assert all(z.dtype == torch.float32 for z in latents) and log_det.dtype == torch.float32
        rounded = bits(model, x)
    difference = (rounded - bits(model, x)).abs()
    assert 0 < difference.max() < 0.1


def test_temperature():
    spread, coarse = [], []
    for temperature in (0.3, 1.0, 3.0):
        model = build(temperature=temperature)
        torch.manual_seed(0)
        with torch.no_grad():
            *finer, coarsest = model.base_sample(50)
            spread.append(torch.cat([z.flatten() for z in finer]).std().item())
            coarse.append(coarsest.std().item())
            assert model.sample(4).isfinite().all()
    assert len(set(coarse)) == 1, "how it is drawn is cooled, not what"
    assert spread[0] == pytest.approx(0.3 * spread[1], rel=1e-4) and spread[1] < spread[2]
    assert max(z.abs().max() for z in model.base_sample(50)) <= model.front.bound


# Training.


def test_prepare_standardises():
    torch.manual_seed(0)
    model = Flow(DataSpec("toy", (1, 8, 8)), Flow.Config(mixing="conv", coupling="affine", steps=2, width=8))
    seen = []
    for module in model.modules():
        if isinstance(module, ActNorm):
            module.register_forward_hook(lambda *call: seen.append(call[2][0]))
    x = images(256) * 0.2 + 0.5
    model.prepare("train", Batch(x))
    assert not any(module.pending for module in model.modules() if isinstance(module, ActNorm))
    model.log_prob(x)
    assert len(seen) > 4
    for y in seen:
        assert y.mean((0, 2, 3)).abs().max() < 1e-4 and (y.std((0, 2, 3)) - 1).abs().max() < 1e-3


@pytest.fixture(scope="module")
def blobs():
    """256 images of one bright blob on black, 8x8, as levels."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(256, 2, 1, 1, generator=generator) * 4 + 1.5
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    distance = (y - centre[:, 0]).square() + (x - centre[:, 1]).square()
    return (255 * torch.exp(-distance / 3)).to(torch.uint8)[:, None]


def fit(levels, steps, **config):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = Flow(DataSpec("blobs", tuple(levels.shape[1:])), Flow.Config(**Flow.presets["tiny"] | config))
    model.prepare("train", Batch(dequantize(levels, generator)))
    (phase,) = model.phases()
    losses = []
    for step in range(steps):
        rows = torch.randint(0, len(levels), (32,), generator=generator)
        loss = model.loss("train", Batch(dequantize(levels[rows], generator)))
        phase.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(phase.module.parameters(), phase.clip)
        for group in phase.optimizer.param_groups:
            group["lr"] = model.config.learning_rate * phase.schedule(step / steps)
        phase.optimizer.step()
        losses.append(loss.item())
    return model.eval(), losses


@pytest.fixture(scope="module")
def trained(blobs):
    return fit(blobs, 90)


def test_training_lowers_the_loss(trained, blobs):
    model, losses = trained
    assert losses[0] == pytest.approx(8, abs=1e-3)
    assert sum(losses[-10:]) / 10 < 5
    real = dequantize(blobs, torch.Generator().manual_seed(9))
    assert bits(model, real).mean() == pytest.approx(sum(losses[-10:]) / 10, abs=0.5)


@pytest.mark.parametrize(
    "config",
    [
        {"coupling": "logistic"},
        {"coupling": "affine"},
        {"mixing": "conv"},
        {"mixing": "conv", "coupling": "affine"},
        {"mixing": "conv", "coupling": "affine", "front": "linear"},
        {"front": "linear"},
        {"dequantization": "variational"},
    ],
)
def test_training_lowers_the_loss_of_the_other_kinds(blobs, config):
    _, losses = fit(blobs, 40, learning_rate=2e-3, **config)
    assert sum(losses[-5:]) / 5 < losses[0] - 0.2


def test_no_density_beats_the_uniform_on_uniform_images(trained):
    noise = torch.randint(0, 256, (200, 1, 8, 8), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    found = bits(trained[0], dequantize(noise, torch.Generator().manual_seed(4)))
    assert found.isfinite().all() and found.mean() > 8.5


def test_a_trained_flow_inverts_and_draws_what_it_likes(trained, blobs):
    model, _ = trained
    real = dequantize(blobs, torch.Generator().manual_seed(9))
    torch.manual_seed(0)
    with torch.no_grad():
        torch.testing.assert_close(model.decode(model.encode(real)[0]), real, atol=1e-3, rtol=0)
        exact = real.double()
        torch.testing.assert_close(model.decode(model.encode(exact)[0]), exact, atol=1e-7, rtol=0)
        drawn = model.sample(200)
    assert drawn.isfinite().all() and drawn.abs().max() <= 1
    assert bits(model, drawn).mean() == pytest.approx(bits(model, real).mean(), abs=1.0)
    assert (drawn.mean(0) - real.mean(0)).abs().mean() < 0.15


@pytest.mark.parametrize("level", [0, 1, 254, 255])
def test_flat_and_saturated_images_have_finite_densities(trained, level):
    flat = torch.full((1, 1, 8, 8), level, dtype=torch.uint8)
    edges = to_float(flat).repeat(2, 1, 1, 1) + torch.tensor([-0.49, 0.49]).view(2, 1, 1, 1) / 128
    assert bits(trained[0], edges).isfinite().all()


@each_kind
def test_every_parameter_is_in_the_phase_and_gets_a_gradient(mixing, coupling):
    model = build(num_classes=3, mixing=mixing, coupling=coupling)
    (phase,) = model.phases()
    model.loss("train", Batch(images(4), torch.arange(4) % 3)).backward()
    optimised = {id(p) for group in phase.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in model.parameters()} == optimised
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_state_and_copies(trained):
    model, _ = trained
    other = Flow(model.data, model.config)
    other.load_state_dict(model.state_dict())
    drawn = []
    for each in (model, other, copy.deepcopy(model)):
        torch.manual_seed(0)
        drawn.append(each.sample(2))
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])


def conv(inputs, outputs, side):
    return inputs * outputs * side**2 + outputs


def test_paper_preset_is_glow_layer_by_layer():
    """CIFAR-10's of Kingma & Dhariwal 2018: table 1's layers, networks of 512 channels, 3 levels of 32 steps."""

    def step(channels):
        half, outputs = channels // 2, channels  # a log-scale and a shift for each of the other half
        network = conv(half, 512, 3) + conv(512, 512, 1) + conv(512, outputs, 3)
        return 2 * channels + channels**2 + network

    levels = [32 * step(channels) for channels in (12, 24, 48)]
    splits = [conv(6, 12, 3), conv(12, 24, 3)]
    model = Flow(DataSpec("cifar10", (3, 32, 32)), Flow.Config(**Flow.presets["paper"]))
    convs = [m for m in model.modules() if isinstance(m, InvertibleConv)]
    assert [len(conv.weight) for conv in convs] == [12] * 32 + [24] * 32 + [48] * 32
    assert sum(p.numel() for p in model.parameters()) == sum(levels) + sum(splits) + 2 * 48 == 43_951_788


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 28, 28)])
def test_paper_preset_runs_forward_and_backward_on_small_images(shape):
    """Two levels are what 28 allows: its halves are even once more."""
    torch.manual_seed(0)
    config = Flow.Config(**Flow.presets["paper"] | ({"steps": 2} if shape[1] > 8 else {}))
    model = Flow(DataSpec("small", shape), config)
    assert len(model.levels) == (3 if shape[1] == 8 else 2)
    batch = Batch(images(2, shape))
    model.prepare("train", batch)
    loss = model.loss("train", batch)
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in model.parameters())
    assert model.sample(1).shape == (1, *shape)


def test_the_papers_optimizer():
    model = Flow(DataSpec("toy", (1, 8, 8)), Flow.Config(**Flow.presets["paper"] | {"width": 8, "steps": 1}))
    (phase,) = model.phases()
    (group,) = phase.optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-3, (0.9, 0.999), 0)
    ten_epochs = 10 * 50_000 / 512
    assert phase.factor(0.0, 0) == pytest.approx(1 / ten_epochs, rel=1e-3)
    assert (
        phase.factor(0.01, round(ten_epochs) - 2) < 1 == phase.factor(0.01, round(ten_epochs)) == phase.factor(1, 10**6)
    )


def test_only_pixels_in_colour_have_logistics_unless_asked_for():
    def kinds(channels, **config):
        model = Flow(DataSpec("toy", (channels, 8, 8)), Flow.Config(levels=1, width=4, **config))
        return {type(module) for module in model.modules() if isinstance(module, (Logistic, Affine))} or {Spline}

    assert kinds(1) == kinds(3, coupling="spline") == {Spline}
    assert kinds(3) == kinds(1, coupling="logistic") == {Logistic}


def test_logistics_are_for_values_in_a_box():
    with pytest.raises(ValueError, match=r"coupling: logistic needs mixing = lattice"):
        Flow.Config(mixing="conv", coupling="logistic")


def test_values_that_move_with_their_neighbours_are_learned_in_a_few_updates():
    """Ramps, each pixel its neighbour's value and a little: a logistic is where they are long before a spline is."""
    start = torch.randint(0, 200, (256, 1, 1, 1), generator=torch.Generator().manual_seed(0))
    ramps = (start + 3 * torch.arange(8) + 3 * torch.arange(8)[:, None]).to(torch.uint8)
    reached = [sum(fit(ramps, 60, front="linear", coupling=kind)[1][-5:]) / 5 for kind in ("logistic", "spline")]
    assert reached[0] < reached[1] - 0.3


def test_what_it_says_of_itself():
    assert issubclass(Flow, Likelihood) and Flow.likelihood == "exact" and not Flow.discrete and Flow.conditional
    for preset in Flow.presets.values():
        Flow.Config(**preset)
    assert Flow.Config.role("temperature") == "sample" and Flow.Config.role("coupling") == "train"


def test_steps_of_adam_move_what_networks_see_of_a_condition_a_little():
    """However many pixels it shows: their weights all move alike, and soon nothing else would count."""
    torch.manual_seed(0)
    model = Flow(DataSpec("toy", (1, 28, 28), 0, ConditionSpec("hole", (1, 28, 28))), Flow.Config())
    hole = torch.zeros(8, 1, 28, 28, dtype=torch.bool)
    hole[..., 14:] = True
    given = Condition({"image": -torch.ones(8, 1, 28, 28).masked_fill(hole, 0), "hole": hole})
    (phase,), seen = model.phases(), []
    shown = [layer for name, layer in model.named_modules() if name.endswith(".shown")]
    for layer in shown:
        layer.register_forward_hook(lambda layer, given, out: seen.append(out.detach()))
    for _ in range(3):
        model.loss("train", Batch.of(dequantize(torch.zeros(8, 1, 28, 28, dtype=torch.uint8)), given)).backward()
        phase.optimizer.step()
        phase.optimizer.zero_grad()
    first, last = seen[: len(shown)], seen[-len(shown) :]
    change = [float((after - before).abs().max()) for before, after in zip(first, last)]
    assert len(shown) > 1 and min(change) > 0 and max(change) < 0.5
