"""Vector quantisation (van den Oord et al. 2017): a latent is replaced by the nearest of K vectors that are learned."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_LATENTS = 2**15
"""Those that the vectors are spread over, at most."""
MOST_DISTANCES = 2**26
"""Those between latents and vectors that are in memory at once, at most."""
TINY = 1e-12
"""Added to weights of which none may be above 0."""


def straight_through(latents: Tensor, vectors: Tensor) -> Tensor:
    """The vectors, whose gradient goes to the latents as it is (van den Oord et al. 2017, section 3.2)."""
    return latents + (vectors - latents).detach()


def codebook_terms(latents: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """|sg(z) - e|^2, which moves the vectors, and |z - sg(e)|^2, which commits the encoder to them: means over numbers.

    Source: van den Oord et al. 2017, equation 3, without weights.
    """
    return F.mse_loss(vectors, latents.detach()), F.mse_loss(latents, vectors.detach())


class Codebook(nn.Module):
    """K vectors of c numbers, each the sum of what is learned and of how far it was moved.

    Vectors that no latent is near are never learned. `revive` moves them onto latents. As a buffer, the way of a vector
    is neither averaged nor learned: a moved vector is at once where it should be in averaged weights too.
    """

    moved: Tensor
    idle: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.learned = nn.Parameter(torch.empty(size, channels).uniform_(-1 / size, 1 / size))
        self.register_buffer("moved", torch.zeros(size, channels))
        self.register_buffer("idle", torch.zeros(size, dtype=torch.long))

    @property
    def vectors(self) -> Tensor:
        """(K, c)."""
        return self.learned + self.moved

    @torch.no_grad()
    def nearest(self, latents: Tensor) -> Tensor:
        """The number of the vector that is nearest to each of the float32 latents (B, c, h, w), int64 (B, h, w)."""
        vectors, rows = self.vectors, rows_of(latents)
        norms = vectors.square().sum(1)
        with torch.autocast(latents.device.type, torch.bfloat16, enabled=False):
            found = [
                torch.addmm(norms, part, vectors.mT, alpha=-2).argmin(1)  # of squared distances, but for |z|^2
                for part in torch.split(rows, max(1, MOST_DISTANCES // len(vectors)))
            ]
        return torch.cat(found).view(len(latents), *latents.shape[2:])

    def look_up(self, codes: Tensor) -> Tensor:
        """The vectors (B, c, h, w) of codes (B, h, w)."""
        return F.embedding(codes, self.vectors).movedim(-1, 1)

    @torch.no_grad()
    def spread(self, latents: Tensor) -> None:
        """Put the vectors onto different ones of the latents (B, c, h, w), far from each other.

        The next one is drawn by its squared distance from those before (Arthur & Vassilvitskii 2007, "k-means++").
        """
        rows = rows_of(latents)
        rows = rows[torch.randperm(len(rows), device=rows.device)[:MOST_LATENTS]]
        place = torch.randint(len(rows), (1,), device=rows.device)
        distances, chosen = torch.full_like(rows[:, 0], torch.inf), []
        for _ in range(len(self.idle)):
            chosen.append(rows[place])
            distances = torch.minimum(distances, (rows - chosen[-1]).square().sum(1))
            place = (distances + TINY).multinomial(1)
        self.moved.copy_(torch.cat(chosen) - self.learned)

    @torch.no_grad()
    def revive(self, latents: Tensor, codes: Tensor, patience: int) -> None:
        """Put vectors that were in no code for `patience` updates in a row onto random ones of the latents.

        `codes` are those of this update's latents, which the vectors are moved after. Source: Dhariwal et al. 2020,
        "Jukebox: A generative model for music", section 3.1.
        """
        used = torch.zeros_like(self.idle, dtype=torch.bool)
        used[codes.flatten()] = True
        idle = torch.where(used, 0, self.idle + 1)
        dead = idle >= patience
        self.moved.copy_(torch.where(dead[:, None], self.drawn(latents) - self.learned, self.moved))
        self.idle.copy_(torch.where(dead, 0, idle))

    def drawn(self, latents: Tensor) -> Tensor:
        """K random rows of the latents, (K, c)."""
        rows = rows_of(latents)
        return rows[torch.randint(len(rows), (len(self.idle),), device=rows.device)]


def rows_of(latents: Tensor) -> Tensor:
    """Latents (B, c, h, w) as rows (B h w, c)."""
    return latents.movedim(1, -1).flatten(0, -2)
