"""On a GPU: the promises, exact repetition and resumption, the CPU's densities, FLOPs and scores, and compiled code."""

import copy

import numpy as np
import pytest
import torch
from finished import essence, numbers, record_of, run_of
from shipped import MODELS
from test_compile import losses, trained
from test_resume import weights
from torch.nn.attention import SDPBackend, sdpa_kernel

from genbench.devices import exact_arithmetic, one_device
from genbench.images import dequantize
from genbench.nets import Attention
from genbench.planning.config import ModelChoice, configure
from genbench.running.defaults import load_plugins
from genbench.support.errors import BadInput
from genbench.testing import check_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

FAMILIES = ["gaussian", "vae", "gan", "flow", "ldm", "ddpm"]
PRESETS = [
    (name, preset)
    for name in FAMILIES
    for preset in load_plugins().model(name)[0].presets
    if preset.startswith("paper")
]
OTHERS = sorted(set(MODELS) - set(FAMILIES))
SMALL = ["-d", "digits", "--budget", "20steps", "--samples", "100", "--likelihood-images", "40"]


@pytest.fixture(autouse=True)
def exact():
    exact_arithmetic()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_promise_is_kept(name):
    check_model(load_plugins().model(name)[0], device="cuda")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", OTHERS)
def test_every_promise_is_kept_by_the_other_models(name):
    check_model(load_plugins().model(name)[0], device="cuda")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_every_promise_is_kept_at_the_size_of_the_papers(name, preset):
    """In ten steps of sampling, where there are steps: the papers' hundreds are as many calls of the same networks."""
    kind, _ = load_plugins().model(name)
    few = {"sampler": "ddim", "steps": 10} if "sampler" in kind.Config.model_fields else {}
    check_model(kind, preset, device="cuda", **few)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_killed_twice_is_the_undisturbed_one_and_counts_as_a_cpu_does(tmp_path, digits, monkeypatch, name):
    whole = weights(tmp_path / "whole", name, digits, device="cuda")
    monkeypatch.setattr("genbench.training.loop.CHECKPOINT_SECONDS", -1.0)
    kills = ("train.update:3", "checkpoint.rotated:3", "train.kept:1", "train.end")
    assert weights(tmp_path / "killed", name, digits, kills, device="cuda") == whole
    assert weights(tmp_path / "cpu", name, digits)[2:] == whole[2:]


@pytest.mark.parametrize("name", ["gaussian", "flow"])
def test_an_exact_likelihood_is_the_cpu_s(digits, name):
    kind, _ = load_plugins().model(name)
    torch.manual_seed(0)
    model = kind(digits.spec(False), configure(kind, ModelChoice(name=name))).eval()
    images = dequantize(torch.from_numpy(digits.test.images[:50]), torch.Generator().manual_seed(0))
    with torch.inference_mode():
        here = model.log_prob(images)
        there = model.cuda().log_prob(images.cuda()).cpu()
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-3)


def test_a_run_repeats_to_the_bit_and_says_where_it_ran(genbench, tmp_path):
    models = [word for name in ("vae", "gan", "flow", "ddpm") for word in ("-m", name, "--set", f"{name}.preset=tiny")]
    for out in ("one", "two"):
        assert genbench("run", *models, *SMALL, "--device", "cuda", "--out", out).code == 0
    assert essence(tmp_path / "one") == essence(tmp_path / "two")
    record = record_of(run_of(tmp_path / "one", "vae"))
    assert record["environment"]["device"] == torch.cuda.get_device_name() and record["job"]["precision"] == "bf16"
    cost = record["cost"]
    assert cost["train"]["peak_source"] == "torch.cuda.max_memory_allocated" and cost["train"]["peak_bytes"] > 0
    assert {rate["batch"] for rate in cost["sample"]["throughput"]} == {1, 16, 64, 1000}
    pytest.importorskip("pynvml")
    assert "NVML" in cost["train"]["energy"]["source"] and cost["train"]["energy"]["joules"] > 0


def test_scores_are_the_cpu_s(genbench, digits, tmp_path):
    noise = np.random.default_rng(0).integers(0, 30, (200, *digits.shape), dtype=np.uint8)  # none is an image's twin
    np.save(tmp_path / "some.npy", digits.test.images[:200] // 2 + noise)
    found = []
    for device in ("cpu", "cuda"):
        words = ["evaluate", "some.npy", "-d", "digits", "--name", device, "--device", device]
        assert genbench(*words).code == 0
        measured = numbers(record_of(run_of(tmp_path / "runs", device)))
        found.append({what: value for what, value in measured.items() if value is not None})
    counts = {what for what in found[0] if what[0] in ("precision", "recall", "density", "coverage", "two_sample")}
    smooth = [{what: value for what, value in values.items() if what not in counts} for values in found]
    assert smooth[1] == pytest.approx(smooth[0], rel=1e-4) and len(smooth[0]) > 6
    for what in counts:  # of neighbours, of which two may be as far away but for the last digit
        assert found[1][what] == pytest.approx(found[0][what], abs=0.02)


@pytest.mark.parametrize("name", FAMILIES)
def test_bfloat16_learns_what_float32_learns(tmp_path, digits, name):
    (full, _), (half, samples) = (trained(tmp_path / p, name, digits, "cuda", precision=p) for p in ("fp32", "bf16"))
    assert losses(half) == pytest.approx(losses(full), rel=0.1, abs=0.05)
    assert samples.images.shape == (20, *digits.shape) and samples.images.std() > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FAMILIES[1:])
def test_compiled_networks_learn_what_the_eager_ones_learn(tmp_path, digits, name):
    (eager, _), (fast, samples) = (trained(tmp_path / str(c), name, digits, "cuda", compile=c) for c in (False, True))
    assert losses(fast) == pytest.approx(losses(eager), rel=1e-2, abs=1e-3)
    assert samples.images.shape == (20, *digits.shape) and samples.images.std() > 0


@pytest.mark.parametrize(("side", "heads"), [(1, 1), (1, 2), (5, 2), (16, 4)])
def test_attention_takes_a_fused_kernel_for_any_map(side, heads):
    attention = Attention(32, heads).cuda()
    torch.nn.init.normal_(attention.out.weight)
    x = torch.randn(3, 32, side, side)
    here = copy.deepcopy(attention).cpu()(x)
    with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.FLASH_ATTENTION]):
        there = attention(x.cuda())
        there.sum().backward()
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-4)
    assert all(p.grad.isfinite().all() for p in attention.parameters())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is only one GPU here")
def test_a_job_on_the_second_gpu_leaves_the_first_alone(genbench, tmp_path):
    words = ["-m", "vae", "--set", "vae.preset=tiny", *SMALL]
    for device in ("cuda:0", "cuda:1"):
        assert genbench("run", *words, "--device", device, "--out", device.replace(":", "")).code == 0
    first, second = (essence(tmp_path / name)["vae"] for name in ("cuda0", "cuda1"))
    assert first[1:] == second[1:], "the same samples and weights"


def test_one_device_is_one():
    assert one_device("cuda") == torch.device("cuda:0")
    with pytest.raises(BadInput, match="one device"):
        one_device("cuda:0,cpu")
