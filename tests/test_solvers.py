"""Solvers of higher order, and the times they visit, against exact denoisers: order, limit, calls, both ends."""

import math
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from test_classifier_guidance import CENTRES, Mixture
from test_estimate import planned, session_of

from genbench import DataSpec
from genbench.walks import end_of
from genbench_ddpm import DDPM, grids
from genbench_ddpm.diffusion import Diffusion, cosine_betas, erasing_betas, linear_betas
from genbench_ddpm.grids import GRIDS, LARGEST, grid_times
from genbench_ddpm.guidance import steered
from genbench_ddpm.samplers import SAMPLERS, ddim, dpm_solver, heun, respaced

SCHEDULES = {"linear": linear_betas(1000), "cosine": cosine_betas(1000), "erase": erasing_betas(200)}
FINE = linear_betas(8000, 1e-6, 3e-3)
ORDERS = {"ddim": (ddim, 1), "dpm_solver": (dpm_solver, 2), "heun": (heun, 2)}
each_schedule = pytest.mark.parametrize("betas", SCHEDULES.values(), ids=SCHEDULES)
each_grid = pytest.mark.parametrize("grid", GRIDS)
each_solver = pytest.mark.parametrize(("walk", "order"), ORDERS.values(), ids=ORDERS)
in_steps = pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if "steps" in sampler.options])


def gaussian(process, mean, deviation):
    """The exact denoiser of N(mean, deviation^2)."""

    def network(x, t):
        signal, noise = process.at(process.signal, t, x), process.at(process.noise, t, x)
        ratio = deviation**2 * signal / (deviation**2 * signal**2 + noise**2)
        return mean + ratio * (x - signal * mean)

    return process.denoiser(network)


def mixture(process, centres, deviation):
    """The exact denoiser of Gaussians of one deviation, equally likely."""

    def network(x, t):
        signal, noise = process.at(process.signal, t, x), process.at(process.noise, t, x)
        total = deviation**2 * signal**2 + noise**2
        shares = (-((x - signal * centres) ** 2) / total / 2).softmax(1)
        return (shares * (centres + deviation**2 * signal / total * (x - signal * centres))).sum(1, keepdim=True)

    return process.denoiser(network)


def slope(errors):
    """The order by which errors fall, of steps that double: that of the last ones."""
    falls = [math.log2(error / after) for error, after in pairwise(errors)]
    return sum(falls[-2:]) / 2


# Order and limit.


def errors_on_a_gaussian(walk, grid):
    """The largest error at the end, in 20, 40, 80 and 160 steps; the exact way keeps (x_t - alpha_t m) / sd(x_t)."""
    process, mean, deviation = Diffusion(FINE, "x0"), 0.3, 0.5
    noise = torch.linspace(-2, 2, 21, dtype=torch.float64)[:, None]
    signal, left = process.signal[-1], process.noise[-1]
    exact = mean + deviation * (noise - signal * mean) / (deviation**2 * signal**2 + left**2).sqrt()
    denoise = gaussian(process, mean, deviation)
    ends = [end_of(walk(process, denoise, noise, steps=steps, grid=grid)) for steps in (20, 40, 80, 160)]
    return [float((end - exact).abs().max()) for end in ends]


@each_solver
def test_the_error_on_a_gaussian_falls_with_the_order(walk, order):
    errors = errors_on_a_gaussian(walk, "log_snr")
    assert slope(errors) == pytest.approx(order, abs=0.35), errors
    assert errors[-1] < 0.05 / 10 ** (order - 1)


@pytest.mark.parametrize("walk", [dpm_solver, heun])
def test_at_even_times_a_higher_order_is_ahead_of_ddim_and_more_so_in_more_steps(walk):
    ahead = [other / own for other, own in zip(errors_on_a_gaussian(ddim, "time"), errors_on_a_gaussian(walk, "time"))]
    assert ahead[0] > 1.5 and ahead[-1] > 5 and ahead[-1] > 2 * ahead[0], ahead


@each_solver
def test_the_error_on_a_mixture_falls_with_the_order(walk, order, monkeypatch):
    """Along a grid that begins at T: a first step from there to another level would not become shorter."""
    monkeypatch.setattr(grids, "LARGEST", math.inf)
    process, centres = Diffusion(FINE, "x0"), torch.tensor([-1.0, 0.1, 0.8], dtype=torch.float64)
    noise, denoise = torch.linspace(-2, 2, 40, dtype=torch.float64)[:, None], mixture(process, centres, 0.3)
    exact = end_of(heun(process, denoise, noise, steps=2000, grid="log_snr"))
    errors = []
    for steps in (32, 64, 128, 256):
        found = end_of(walk(process, denoise, noise, steps=steps, grid="log_snr"))
        errors.append(float((found - exact).abs().mean()))
    assert slope(errors) == pytest.approx(order, abs=0.35), errors


class Independent:
    """Noises as unit vectors: x holds how much there is of each, so that the variance of x is known exactly."""

    def __init__(self, count, monkeypatch):
        self.drawn, self.count = 0, count
        monkeypatch.setattr(torch, "randn_like", lambda x: self.draw())

    def draw(self):
        unit = torch.zeros(1, self.count, dtype=torch.float64)
        unit[0, self.drawn] = 1
        self.drawn += 1
        return unit


def end_deviation(walk, process, deviation, monkeypatch, **options):
    noises = Independent(options["steps"] + 1, monkeypatch)
    end = end_of(walk(process, gaussian(process, 0.0, deviation), noises.draw(), **options))
    return float(end.square().sum().sqrt())


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("deviation", [0.5, 1.0])
def test_with_noise_too_the_deviation_tends_to_the_exact_one_and_faster_by_the_solver(eta, deviation, monkeypatch):
    process, found = Diffusion(FINE, "x0"), {}
    for walk in (ddim, dpm_solver):
        found[walk] = [
            abs(end_deviation(walk, process, deviation, monkeypatch, eta=eta, steps=steps, grid="log_snr") - deviation)
            for steps in (20, 40, 80, 160)
        ]
    assert slope(found[ddim]) == pytest.approx(1, abs=0.3), found
    assert slope(found[dpm_solver]) > 1.6, found
    assert found[dpm_solver][1] < found[ddim][1] / 3 and found[dpm_solver][-1] < 1e-3


@pytest.mark.parametrize("betas", [linear_betas(1000), cosine_betas(1000)], ids=["linear", "cosine"])
@each_grid
@pytest.mark.parametrize("options", [("ddim", 0.0), ("dpm_solver", 0.0), ("dpm_solver", 1.0), ("heun", None)], ids=str)
def test_with_all_steps_mean_and_deviation_are_those_of_the_data(betas, grid, options):
    """On the process of 1,000 times as shipped, whose last step leaves out what noise of t = 1 hides."""
    (name, eta), process = options, Diffusion(betas, "x0")
    torch.manual_seed(0)
    noise = torch.randn(4000, 1, dtype=torch.float64)
    noise = (noise - noise.mean()) / noise.std()
    words = {"steps": 1000, "grid": grid} | ({} if eta is None else {"eta": eta})
    drawn = end_of(SAMPLERS[name].walk(process, gaussian(process, 0.4, 0.25), noise, **words))
    assert float(drawn.mean()) == pytest.approx(0.4, abs=0.015)
    assert float(drawn.std()) == pytest.approx(0.25, rel=0.04)


def test_at_the_limit_of_all_steps_all_solvers_go_the_way_of_ddim():
    process = Diffusion(cosine_betas(1000), "x0")
    denoise, noise = gaussian(process, -0.2, 0.3), torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    limit = end_of(ddim(process, denoise, noise, steps=1000))
    for walk in (dpm_solver, heun):
        torch.testing.assert_close(end_of(walk(process, denoise, noise, steps=1000)), limit, atol=5e-3, rtol=0)


@pytest.mark.parametrize("walk", [dpm_solver, heun])
def test_in_ten_steps_of_the_cosine_higher_order_is_nearer_than_ddim(walk):
    process = Diffusion(cosine_betas(1000), "x0")
    denoise, noise = gaussian(process, 0.3, 0.5), torch.linspace(-2, 2, 21, dtype=torch.float64)[:, None]
    exact, errors = 0.3 + 0.5 * noise, []
    for one in (ddim, walk):
        found = end_of(one(process, denoise, noise, steps=10, grid="log_snr"))
        errors.append(float((found - exact).abs().max()))
    assert errors[1] < errors[0] / 2, errors


# Steps: which times are asked, how often, and what the first and the last step are.


def asked(process, seen):
    """A denoiser that notes its times."""

    def denoise(x, t):
        seen.append(int(t[0]))
        return process.denoiser(lambda x, t: torch.tanh(2 * x) * torch.cos(t[:, None] / 300))(x, t)

    return denoise


@in_steps
@each_grid
@pytest.mark.parametrize(("start", "steps"), [(None, 7), (None, 1), (1, 5), (2, 2), (300, 4), (3, 50)])
def test_the_network_is_asked_at_the_times_of_the_grid_and_as_often_as_it_is_said(name, grid, start, steps):
    process, seen = Diffusion(cosine_betas(1000), "x0"), []
    walk = SAMPLERS[name].walk(process, asked(process, seen), torch.randn(2, 3), steps=steps, start=start, grid=grid)
    visited = [t for t, _ in walk]
    assert visited[0] == (start or 1000) and visited[-1] == 0 and len(visited) == min(steps, start or 1000) + 1
    assert len(seen) == SAMPLERS[name].calls(len(visited) - 1)
    if name != "respaced" or grid != "time":
        assert visited == grid_times(grid, process.levels, start or 1000, steps)
    wanted = visited[:-1]
    if name == "heun":
        wanted = [t for now, then in pairwise(visited) for t in ((now, then) if then else (now,))]
    assert seen == wanted


@in_steps
@each_schedule
def test_one_step_is_the_estimate_of_the_data(name, betas):
    process, noise = Diffusion(betas, "x0"), torch.randn(2, 3)
    denoise = asked(process, [])
    wanted = denoise(noise, torch.full((2,), len(betas))).x0
    torch.testing.assert_close(end_of(SAMPLERS[name].walk(process, denoise, noise, steps=1)), wanted)


@in_steps
@each_grid
def test_the_end_is_an_estimate_of_the_data_without_noise(name, grid):
    process = Diffusion(cosine_betas(1000), "x0")
    denoise = asked(process, [])
    walk = [*SAMPLERS[name].walk(process, denoise, torch.randn(2, 3), steps=5, grid=grid)]
    (last, x), (_, end) = walk[-2:]
    torch.testing.assert_close(end, denoise(x, torch.full((2,), last)).x0)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_first_step_of_the_multistep_solver_is_ddims(eta):
    process, noise, second = Diffusion(cosine_betas(1000), "x0"), torch.randn(2, 3), []
    for walk in (ddim, dpm_solver):
        torch.manual_seed(0)
        second.append([x for _, x in walk(process, asked(process, []), noise, steps=4, eta=eta)])
    assert torch.equal(second[0][1], second[1][1]) and not torch.equal(second[0][2], second[1][2])


def test_the_multistep_solver_extrapolates_the_estimates_in_lambda():
    """By hand: of two estimates, the line through them half-way to the next time."""
    process, noise = Diffusion(linear_betas(1000), "x0"), torch.randn(2, 3, dtype=torch.float64)
    said = {900: 0.1, 400: 0.7, 100: -0.3}
    denoise = process.denoiser(lambda x, t: torch.full_like(x, said[int(t[0])]))
    walk = [x for _, x in with_times(dpm_solver, [900, 400, 100, 0], process, denoise, noise)]
    level = [float((process.signal[t] / process.noise[t]).log()) for t in (900, 400, 100)]
    middle = said[400] + (said[400] - said[900]) / (level[1] - level[0]) * (level[2] - level[1]) / 2
    eps = (walk[1] - process.signal[400] * middle) / process.noise[400]
    torch.testing.assert_close(walk[2], process.signal[100] * middle + process.noise[100] * eps)


def with_times(walk, times, *words):
    """The states of a walk along these times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genbench_ddpm.samplers.grid_times", lambda *_: times)
        return [*walk(*words, steps=len(times) - 1, start=times[0])]


@each_schedule
@each_grid
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@in_steps
def test_from_pure_noise_all_stays_finite_in_the_type_of_the_images(betas, grid, dtype, name):
    """At t = T there is next to no signal, or none at all: lambda is as good as, or is, minus infinity."""
    process = Diffusion(betas, "v")
    denoise = process.denoiser(lambda x, t: torch.sin(3 * x), clip=True)
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    for _, x in SAMPLERS[name].walk(process, denoise, noise, steps=6, grid=grid):
        assert x.dtype == dtype and x.isfinite().all() and x.abs().max() < 30


def test_estimates_of_pure_noise_hardly_count_in_any_solver():
    """What the network says at T, where lambda is -10, moves the sample no more than it moves that of DDIM."""
    process, noise, moved = Diffusion(cosine_betas(1000), "x0"), torch.randn(50, 1, dtype=torch.float64), {}
    exact = gaussian(process, 0.0, 0.5)
    for name, (walk, _) in ORDERS.items():
        ends = []
        for fault in (0.0, 1.0):

            def denoise(x, t, fault=fault):
                found = exact(x, t)
                return found._replace(x0=found.x0 + fault * (t[:, None] == 1000))

            ends.append(end_of(walk(process, denoise, noise, steps=10, grid="log_snr")))
        moved[name] = float((ends[1] - ends[0]).abs().max())
    assert max(moved["dpm_solver"], moved["heun"]) < 1.5 * moved["ddim"] < 0.1, moved


# Grids.


@each_schedule
@each_grid
def test_every_grid_falls_from_the_start_to_0_for_any_start_and_steps(betas, grid):
    levels = Diffusion(betas).levels
    for total in (*range(1, 40), 100, len(betas)):
        for steps in (*range(1, 45), 99, 100, 101, 2000):
            times = grid_times(grid, levels, total, steps)
            assert len(times) == min(steps, total) + 1 and times[0] == total and times[-1] == 0
            assert all(isinstance(t, int) for t in times) and all(now > then for now, then in pairwise(times))


def test_evenly_in_time_is_what_it_was():
    for total, steps in ((1000, 50), (999, 7), (50, 50), (9, 1)):
        assert grid_times("time", (), total, steps) == [round(total * k / steps) for k in range(steps, -1, -1)]


def test_evenly_in_the_root_of_time_by_hand():
    assert grid_times("quadratic", (), 1000, 4) == [1000, 562, 250, 62, 0]
    assert grid_times("quadratic", (), 10, 6) == [10, 7, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("betas", [linear_betas(8000, 1e-6, 3e-3), cosine_betas(8000)], ids=["linear", "cosine"])
@pytest.mark.parametrize(("grid", "of"), [("log_snr", lambda s: math.log(s)), ("karras", lambda s: s ** (1 / 7))])
def test_what_a_grid_is_even_in_is_even(betas, grid, of):
    process = Diffusion(betas)
    sigma = [math.exp(-level) for level in process.levels]
    times = grid_times(grid, process.levels, 8000, 12)
    assert times[-2:] == [1, 0]
    places = [of(min(sigma[times[0]], LARGEST)), *(of(sigma[t]) for t in times[1:-1])]
    gaps = [now - then for now, then in pairwise(places)]
    assert max(gaps) - min(gaps) < 0.2 * max(gaps)


def test_hardly_a_step_is_spent_where_there_is_no_signal():
    process = Diffusion(cosine_betas(1000))
    assert math.exp(-process.levels[1000]) > 10_000
    for grid in ("log_snr", "karras"):
        times = grid_times(grid, process.levels, 1000, 20)
        assert math.exp(-process.levels[times[1]]) < LARGEST


def test_the_levels_are_those_of_the_tables_and_a_shorter_process_keeps_them():
    process = Diffusion(linear_betas(100))
    assert process.levels[0] == math.inf and len(process.levels) == 101
    for t in (1, 50, 100):
        wanted = math.log(float(process.signal[t] / process.noise[t]))
        assert process.levels[t] == pytest.approx(wanted, rel=1e-9)
    shorter = process.respaced([1, 50, 100])
    assert shorter.levels == [process.levels[t] for t in (0, 1, 50, 100)]
    again = ((shorter.alpha_bar.log() - (1 - shorter.alpha_bar).log()) / 2).tolist()
    assert shorter.levels[1:] == pytest.approx(again[1:])
    assert Diffusion(erasing_betas(10)).levels[-1] == -math.inf


# Models.


@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("name", ORDERS)
def test_led_by_the_classifier_they_draw_what_the_conditional_model_draws(name, label):
    shapes = Mixture()
    process, drawn = shapes.process, []
    guided = steered(process, process.denoiser(shapes.unconditional), shapes.guide(label, 300, 1.0))
    for denoise in (guided, process.denoiser(shapes.conditional(label))):
        torch.manual_seed(0)
        noise = torch.randn(300, 1, dtype=torch.float64)
        drawn.append(end_of(SAMPLERS[name].walk(process, denoise, noise, steps=20, grid="log_snr")))
    torch.testing.assert_close(*drawn, rtol=1e-6, atol=1e-6)
    assert float(drawn[0].mean()) == pytest.approx(float(CENTRES[label]), abs=0.1)


def tiny(**options):
    torch.manual_seed(0)
    model = DDPM(DataSpec("toy", (1, 8, 8)), DDPM.Config(**DDPM.presets["tiny"] | options)).eval()
    for parameter in model.net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("name", ["dpm_solver", "heun"])
@each_grid
def test_a_model_draws_by_them_its_samples_chains_and_interpolations(name, grid):
    model, calls = tiny(sampler=name, grid=grid, steps=6), []
    model.net.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        assert model.sample(2).shape == (2, 1, 8, 8) and len(calls) == model.nfe == (11 if name == "heun" else 6)
        times, states = model.reverse_chain(2, 4)
        assert times[0] == 50 and times[-1] == 0 and len(times) == len(states) and states.isfinite().all()
        between = model.interpolate(*torch.zeros(2, 2, 1, 8, 8), torch.tensor([0.0, 1.0]))
    assert between.shape == (2, 2, 1, 8, 8)
    torch.testing.assert_close(between[0], between[1])


def test_a_model_reads_its_grid():
    drawn = []
    for grid in GRIDS:
        model = tiny(grid=grid)
        torch.manual_seed(1)
        drawn.append(model.sample(2))
    assert not any(torch.equal(drawn[i], drawn[j]) for i in range(len(drawn)) for j in range(i))


def test_a_shorter_process_reads_the_grid_and_is_a_process_on_its_times():
    process, seen = Diffusion(cosine_betas(1000), "x0", "beta"), []
    walk = respaced(process, asked(process, seen), torch.randn(2, 3), steps=6, grid="log_snr")
    assert [t for t, _ in walk][:-1] == seen == grid_times("log_snr", process.levels, 1000, 6)[:-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "dpm_solver", "steps": 51}, "51 is more than the 50 timesteps"),
        ({"sampler": "heun", "steps": 0}, "greater than or equal to 1"),
        ({"grid": "even"}, "'time'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        tiny(**options)


def test_a_sampler_has_its_own_times_unless_others_are_asked_for():
    own = {name: DDPM.Config(sampler=name).sampler_options["grid"] for name in SAMPLERS if name != "ancestral"}
    assert own == {"ddim": "time", "respaced": "time", "dpm_solver": "karras", "heun": "log_snr"}
    assert DDPM.Config(sampler="dpm_solver", grid="log_snr").sampler_options["grid"] == "log_snr"


def test_options_that_change_nothing_are_told():
    assert DDPM.Config(sampler="ancestral").unused("grid") == "sampler = ancestral"
    assert DDPM.Config(sampler="heun").unused("eta") == "sampler = heun"
    assert not DDPM.Config(sampler="dpm_solver").unused("eta") and not DDPM.Config(sampler="respaced").unused("grid")


@pytest.mark.parametrize("model", ["ddpm", "ldm", "cascade"])
@in_steps
def test_a_plan_counts_every_grid_without_the_values_of_the_tables(model, name):
    flops = [
        planned(session_of(model, "preset=tiny", f"sampler={name}", "steps=5", f"grid={grid}")).sample_flops_per_image
        for grid in ("time", "karras")
    ]
    assert flops[0] and flops[0] == flops[1]
