"""What a user might pick instead: models from public packages under genbench's harness, so that one run compares all.

    pip install "genbench[peers]"
    genbench run benchmarks/peers.toml --plugin benchmarks/peers.py --data-root FOLDER_OF_MNIST --out runs-peers
    genbench run benchmarks/peers-colour.toml --plugin benchmarks/peers.py --data-root FOLDER_OF_CIFAR10 --out runs

Network, loss and sampler are the package's. The loop, batches, precision, learning-rate schedule and average of the
weights are those of genbench's models: a peer gets at least what its own training script would give it. If a flow's
inverse overflows, which would end the run as diverged, the sample is made finite.
"""

import os
from collections.abc import Callable
from typing import Any, Literal

import diffusers
import normflows
import pythae.models
import torch
import zuko
from denoising_diffusion_pytorch import GaussianDiffusion, Unet
from pythae.models.nn.benchmarks.cifar import Decoder_ResNet_AE_CIFAR, Encoder_ResNet_VAE_CIFAR
from pythae.models.nn.benchmarks.mnist import Decoder_ResNet_AE_MNIST, Encoder_ResNet_VAE_MNIST
from torch import Tensor, nn
from torch.nn import functional as F
from torchgan.losses import minimax_discriminator_loss, minimax_generator_loss
from torchgan.models import DCGANDiscriminator, DCGANGenerator

from genbench import Batch, Config, DataSpec, Model, Phase, adamw, field, hookimpl, warmup_cosine
from genbench_flow.transforms import LogitFront

os.environ.setdefault("TQDM_DISABLE", "1")


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    for model in (PythaeVAE, TorchganDCGAN, LucidrainsDDPM, DiffusersDDIM, DiffusersLDM, NormflowsGlow, ZukoMAF):
        register(model)


def centred(images: Tensor) -> Tensor:
    """[0, 1] to [-1, 1]."""
    return 2 * images - 1


def unit(images: Tensor) -> Tensor:
    """[-1, 1] to [0, 1]."""
    return (images + 1) / 2


def noise(model: nn.Module, *shape: int) -> Tensor:
    """Standard normal numbers on the model's device."""
    return torch.randn(shape, device=next(model.parameters()).device)


def margin(data: DataSpec) -> tuple[int, int, int, int]:
    """The padding, as `F.pad` takes it, that makes the sides equal powers of two, which several peers need."""
    _, height, width = data.shape
    side = 1 << (max(height, width) - 1).bit_length()
    return 0, side - width, 0, side - height


class PythaeVAE(Model):
    """pythae's VAE with the fully connected networks that it builds by default, or its residual ones."""

    class Config(Config):
        latent: int = field(16, "train", "dimensions of the latent vector")
        networks: Literal["default", "resnet", "resnet-cifar"] = field(
            "default", "train", "the package's encoder and decoder: built by default, or proposed for MNIST or CIFAR"
        )
        reconstruction: Literal["bce", "mse"] = field("bce", "train", "the package's loss of a reconstruction")

    name = "pythae-vae"
    config: Config
    bf16 = False  # its binary cross-entropy refuses autocast

    def __init__(self, data: DataSpec, config: Config) -> None:
        super().__init__(data, config)
        loss = config.reconstruction
        settings = pythae.models.VAEConfig(data.shape, latent_dim=config.latent, reconstruction_loss=loss)
        kinds = {
            "resnet": (Encoder_ResNet_VAE_MNIST, Decoder_ResNet_AE_MNIST),
            "resnet-cifar": (Encoder_ResNet_VAE_CIFAR, Decoder_ResNet_AE_CIFAR),
        }
        self.vae = pythae.models.VAE(settings, *(kind(settings) for kind in kinds.get(config.networks, ())))

    def loss(self, phase: str, batch: Batch) -> Tensor:
        found: Tensor = self.vae({"data": unit(batch.images)}).loss
        return found

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        z = noise(self, n, self.config.latent)
        return centred(self.vae.decoder(z)["reconstruction"].reshape(n, *self.data.shape))


class TorchganDCGAN(Model):
    """torchgan's DCGAN with its minimax loss, on images padded to the next power of two."""

    class Config(Config):
        learning_rate: float = field(2e-4, "train", "Adam's, as in the DCGAN paper")
        latent: int = field(64, "train", "dimensions of the latent vector")
        width: int = field(32, "train", "channels of the generator's finest and the critic's first layer")

    name = "torchgan-dcgan"
    config: Config

    def __init__(self, data: DataSpec, config: Config) -> None:
        super().__init__(data, config)
        channels, self.margin = data.shape[0], margin(data)
        side = data.shape[1] + self.margin[3]
        self.generator = DCGANGenerator(config.latent, side, channels, config.width)
        self.critic = DCGANDiscriminator(side, channels, config.width)

    def phases(self) -> list[Phase]:
        return [
            Phase(name, module, adamw(module, self.config.learning_rate, (0.5, 0.999)), schedule=None)
            for name, module in (("critic", self.critic), ("generator", self.generator))
        ]

    def loss(self, phase: str, batch: Batch) -> Tensor:
        fake = self.generator(noise(self, len(batch), self.config.latent))
        if phase == "generator":
            return minimax_generator_loss(self.critic(fake).float())
        real = F.pad(batch.images, self.margin, value=-1)
        return minimax_discriminator_loss(self.critic(real).float(), self.critic(fake.detach()).float())

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        images = self.generator(noise(self, n, self.config.latent))
        return images[..., : self.data.shape[1], : self.data.shape[2]]


class LucidrainsDDPM(Model):
    """denoising-diffusion-pytorch with its defaults except the width: v-prediction, sigmoid schedule, DDIM."""

    class Config(Config):
        learning_rate: float = field(1e-3, "train", "peak learning rate")
        width: int = field(16, "train", "channels of the finest resolution")
        multiples: tuple[int, ...] = field((1, 2, 4), "train", "channels of each resolution, as multiples of width")
        steps: int = field(50, "sample", "network calls of the sampler")

    name = "lucidrains-ddpm"
    config: Config

    def __init__(self, data: DataSpec, config: Config) -> None:
        super().__init__(data, config)
        net = Unet(config.width, dim_mults=config.multiples, channels=data.shape[0])
        self.diffusion = GaussianDiffusion(net, image_size=data.shape[1:], sampling_timesteps=config.steps)

    @property
    def nfe(self) -> int:
        return self.config.steps

    def loss(self, phase: str, batch: Batch) -> Tensor:
        found: Tensor = self.diffusion(unit(batch.images))
        return found

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        return centred(self.diffusion.sample(n))


class DiffusersConfig(Config):
    learning_rate: float = field(1e-3, "train", "peak learning rate")
    widths: tuple[int, ...] = field((32, 64), "train", "channels of each resolution")
    blocks: int = field(1, "train", "residual blocks of each resolution")
    attention: tuple[int, ...] = field((), "train", "the resolutions with attention, 0 for the finest")
    head: int = field(8, "train", "channels of a head of attention, also of that in the middle; 0 for a single head")
    groups: int = field(8, "train", "groups of the normalisation")
    steps: int = field(50, "sample", "network calls of the sampler")


def diffusers_unet(channels: int, size: tuple[int, int], config: DiffusersConfig) -> nn.Module:
    """diffusers' UNet2DModel."""
    kinds = ["Attn" * (level in config.attention) for level in range(len(config.widths))]
    return diffusers.UNet2DModel(
        sample_size=size, in_channels=channels, out_channels=channels, layers_per_block=config.blocks,
        block_out_channels=config.widths, down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)), norm_num_groups=config.groups,
        attention_head_dim=config.head or None,
    )  # fmt: skip


def noise_loss(unet: nn.Module, x0: Tensor) -> Tensor:
    """Mean squared error of the predicted noise, on the default schedule of diffusers' DDPM."""
    schedule = diffusers.DDPMScheduler()
    count = schedule.config.num_train_timesteps
    eps, t = torch.randn_like(x0), torch.randint(0, count, (len(x0),), device=x0.device)
    return F.mse_loss(unet(schedule.add_noise(x0, eps, t), t).sample.float(), eps)


def ddim_sample(unet: nn.Module, shape: tuple[int, ...], steps: int, clip: bool) -> Tensor:
    """Samples of diffusers' DDIM."""
    schedule = diffusers.DDIMScheduler(clip_sample=clip)
    schedule.set_timesteps(steps)
    x = noise(unet, *shape)
    for t in schedule.timesteps:
        x = schedule.step(unet(x, t).sample.float(), t, x).prev_sample
    return x


class DiffusersDDIM(Model):
    """diffusers' unconditional example: UNet2DModel, noise prediction, linear schedule, DDIM."""

    name = "diffusers-ddim"
    Config = DiffusersConfig
    config: DiffusersConfig

    def __init__(self, data: DataSpec, config: DiffusersConfig) -> None:
        super().__init__(data, config)
        self.unet = diffusers_unet(data.shape[0], data.shape[1:], config)

    @property
    def nfe(self) -> int:
        return self.config.steps

    def loss(self, phase: str, batch: Batch) -> Tensor:
        return noise_loss(self.unet, batch.images)

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        return ddim_sample(self.unet, (n, *self.data.shape), self.config.steps, clip=True)


class DiffusersLDM(Model):
    """diffusers' AutoencoderKL, trained first on padded images, and its UNet2DModel on the latents."""

    name = "diffusers-ldm"
    Config = DiffusersConfig
    config: DiffusersConfig
    scale: Tensor

    def __init__(self, data: DataSpec, config: DiffusersConfig) -> None:
        super().__init__(data, config)
        levels, self.margin = len(config.widths) + 1, margin(data)
        side = data.shape[1] + self.margin[3]
        self.autoencoder = diffusers.AutoencoderKL(
            data.shape[0], data.shape[0], ("DownEncoderBlock2D",) * levels, ("UpDecoderBlock2D",) * levels,
            (*config.widths, config.widths[-1]), latent_channels=4, norm_num_groups=config.groups, sample_size=side,
        )  # fmt: skip
        self.latent_shape = (4, side >> (levels - 1), side >> (levels - 1))
        self.unet = diffusers_unet(4, self.latent_shape[1:], config)
        self.register_buffer("scale", torch.ones(()))

    @property
    def nfe(self) -> int:
        return self.config.steps + 1

    def phases(self) -> list[Phase]:
        def phase(name: str, module: nn.Module, span: tuple[float, float]) -> Phase:
            optimizer = adamw(module, self.config.learning_rate)
            return Phase(name, module, optimizer, span=span, schedule=warmup_cosine, clip=1.0)

        return [phase("autoencoder", self.autoencoder, (0, 0.4)), phase("diffusion", self.unet, (0.4, 1))]

    def encode(self, images: Tensor) -> Any:
        """The distribution of the latents of images."""
        return self.autoencoder.encode(F.pad(images, self.margin, value=-1)).latent_dist

    def decode(self, latents: Tensor) -> Tensor:
        decoded: Tensor = self.autoencoder.decode(latents).sample.float()
        return decoded[..., : self.data.shape[1], : self.data.shape[2]]

    def prepare(self, phase: str, batch: Batch) -> None:
        if phase == "diffusion":
            self.scale.copy_(1 / self.encode(batch.images).sample().std())

    def loss(self, phase: str, batch: Batch) -> Tensor:
        if phase == "autoencoder":
            posterior = self.encode(batch.images)
            return F.mse_loss(self.decode(posterior.sample()), batch.images) + 1e-6 * posterior.kl().float().mean()
        with torch.no_grad():
            latents = self.scale * self.encode(batch.images).sample().float()
        return noise_loss(self.unet, latents)

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        latents = ddim_sample(self.unet, (n, *self.latent_shape), self.config.steps, clip=False)
        return self.decode(latents / self.scale)


class LogitConfig(Config):
    learning_rate: float = field(1e-3, "train", "peak learning rate")
    alpha: float = field(1e-3, "train", "margin that keeps the logit finite")


class BehindLogit(Model):
    """A package's flow over logits: their `log_density`, nats (B,), and `draw`."""

    config: LogitConfig
    bf16 = False

    def __init__(self, data: DataSpec, config: LogitConfig) -> None:
        super().__init__(data, config)
        self.front = LogitFront(config.alpha)

    def log_prob(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        x, log_det = self.front(images)
        return self.log_density(x) + log_det

    def loss(self, phase: str, batch: Batch) -> Tensor:
        return -self.log_prob(batch.images).mean() / self.data.dims

    def sample(self, n: int, labels: Tensor | None = None) -> Tensor:
        return self.front.inverse(self.draw(n).nan_to_num().reshape(n, *self.data.shape))


class NormflowsGlow(BehindLogit):
    """normflows' multi-scale Glow after a logit."""

    class Config(LogitConfig):
        levels: int = field(2, "train", "halvings of the resolution")
        steps: int = field(8, "train", "blocks a level")
        width: int = field(64, "train", "channels of the coupling networks")

    name = "normflows-glow"
    config: Config

    def __init__(self, data: DataSpec, config: Config) -> None:
        super().__init__(data, config)
        (c, h, w), levels = data.shape, config.levels
        bases, merges, flows = [], [], []
        for level in range(levels):
            channels, halvings = c * 2 ** (levels + 1 - level), levels - level
            blocks = [normflows.flows.GlowBlock(channels, config.width) for _ in range(config.steps)]
            flows.append([*blocks, normflows.flows.Squeeze()])
            kept = channels if level == 0 else channels // 2
            if level:
                merges.append(normflows.flows.Merge())
            bases.append(normflows.distributions.DiagGaussian((kept, h >> halvings, w >> halvings)))
        self.flow = normflows.MultiscaleFlow(bases, flows, merges, class_cond=False)

    def prepare(self, phase: str, batch: Batch) -> None:
        self.log_prob(batch.images)

    def log_density(self, x: Tensor) -> Tensor:
        found: Tensor = self.flow.log_prob(x, None)
        return found

    def draw(self, n: int) -> Tensor:
        found: Tensor = self.flow.sample(n)[0]
        return found


class ZukoMAF(BehindLogit):
    """zuko's masked autoregressive flow after a logit."""

    class Config(LogitConfig):
        transforms: int = field(3, "train", "autoregressive transforms")
        width: int = field(512, "train", "units of the two hidden layers of each")

    name = "zuko-maf"
    config: Config

    def __init__(self, data: DataSpec, config: Config) -> None:
        super().__init__(data, config)
        hidden = (config.width, config.width)
        self.flow: Any = zuko.flows.MAF(data.dims, transforms=config.transforms, hidden_features=hidden)

    @property
    def nfe(self) -> int:
        return self.config.transforms * self.data.dims

    def log_density(self, x: Tensor) -> Tensor:
        found: Tensor = self.flow().log_prob(x.flatten(1))
        return found

    def draw(self, n: int) -> Tensor:
        found: Tensor = self.flow().sample((n,))
        return found
