"""GAN: generative adversarial network (Goodfellow et al. 2014); with `bigan` Donahue et al. 2017.

Goodfellow et al. 2014, "Generative Adversarial Nets"; the hinge loss of Lim, Ye 2017 and Miyato et
al. 2018; Donahue, Krähenbühl, Darrell 2017, "Adversarial Feature Learning".
"""

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from unlabeled.core import Average, Batch, Method, Recipe
from unlabeled.encoders.heads import Discriminator, deconv
from unlabeled.modality import Images


class GAN(Method):
    """A generator maps latent vectors to images, a discriminator separates them from real ones.

    Both are trained alternately with the hinge loss; spectral normalization keeps the discriminator
    stable. The encoder inverts the generator. Without `bigan` it regresses the latent vector of
    generated images and is not part of the game (the paper's "latent regressor"); with it, the
    discriminator sees pairs of image and latent vector, and encoder and generator are both trained
    to fool it.

    Args:
        latent_dim: dimensions of the latent vector; 100 or fewer in the papers.
        width: channels of the generator's last layer and the discriminator's first.
        bigan: whether the encoder is trained as in BiGAN.
        momentum: of the moving average of the generator's weights, which is used for sampling.
        shape: channels, height and width of the images (default: the data set's).
    """

    modality = (Images,)
    optimized_modules = ("generator", "discriminator")
    recipe = Recipe(
        epochs=100, batch_size=64, optimizer="adam", lr=2e-4, weight_decay=0.0,
        schedule="constant", beta1=0.5,
    )  # fmt: skip
    recipes = {"fashion_mnist": {"epochs": 25, "lr": 4e-4}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        latent_dim: int = 64,
        width: int = 32,
        bigan: bool = False,
        momentum: float = 0.999,
        shape: tuple[int, int, int] = (3, 32, 32),
    ) -> None:
        super().__init__(encoder)
        decoder, latent = deconv(latent_dim, shape, width), nn.Linear(self.encoder.dim, latent_dim)
        self.generator = nn.ModuleDict({"decoder": decoder, "encoder": encoder, "latent": latent})
        self.discriminator = Discriminator(shape, width, latent_dim if bigan else 0)
        self.average = Average(self.generator["decoder"])
        self.latent_dim, self.bigan, self.momentum = latent_dim, bigan, momentum

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Real images (B, C, H, W), and latent vectors z for as many others (B, latent_dim)."""
        return batch.x, torch.randn(len(batch.x), self.latent_dim, device=batch.x.device)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """The loss of generator and encoder."""
        real, z = views
        fake = self.generate(z)
        if self.bigan:
            real_score, fake_score = self.discriminate(real, self.encode(real), fake, z)
            return real_score.mean() - fake_score.mean()
        regression = F.mse_loss(self.encode(fake.detach()), z)
        return regression - self.discriminator(fake).float().mean()

    def optimizer_steps(self, views: tuple[Tensor, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The generator, then the discriminator on images of the updated generator."""
        yield "generator", self.loss(views)
        real, z = views
        with torch.no_grad():
            fake = self.generate(z)
            z_real = self.encode(real) if self.bigan else None
        real_score, fake_score = self.discriminate(real, z_real, fake, z)
        yield "discriminator", (1 - real_score).relu().mean() + (1 + fake_score).relu().mean()

    def update(self) -> None:
        self.discriminator.update()
        self.average.update(self.generator["decoder"], self.momentum)

    def generate(self, z: Tensor) -> Tensor:
        """Latent vectors (B, latent_dim) -> images in [0, 1]."""
        return self.generator["decoder"](z).float().sigmoid()

    def encode(self, x: Tensor) -> Tensor:
        """Images -> latent vectors (B, latent_dim)."""
        return self.generator["latent"](self.encoder(x)).float()

    def discriminate(
        self, real: Tensor, z_real: Tensor | None, fake: Tensor, z_fake: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The discriminator's scores of real and of generated images, (B, 1) each."""
        z = None if z_real is None else torch.cat([z_real, z_fake])
        real_score, fake_score = self.discriminator(torch.cat([real, fake]), z).float().chunk(2)
        return real_score, fake_score

    @torch.no_grad()
    def sample(self, number: int) -> Tensor:
        """New images (number, C, H, W) in [0, 1], by the generator's moving average."""
        z = torch.randn(number, self.latent_dim, device=next(self.parameters()).device)
        return self.averaged_generator()(z).float().sigmoid()

    def averaged_generator(self) -> nn.Module:
        """The generator's moving average with BatchNorm statistics computed for its weights
        ("standing statistics", Brock, Donahue, Simonyan 2019).
        """
        net = copy.deepcopy(self.average.module)
        rng = torch.Generator().manual_seed(0)  # every call returns the same network
        batches = torch.randn(16, 64, self.latent_dim, generator=rng)
        update_bn(batches, net, device=next(net.parameters()).device)
        return net.eval()

    @torch.no_grad()
    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        reconstruction = self.averaged_generator()(self.encode(x)).float().sigmoid()
        return {
            "samples": self.sample(len(x))[:, None],
            "image and reconstruction": torch.stack([x, reconstruction], 1),
        }
