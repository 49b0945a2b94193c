"""CPC: representation learning with contrastive predictive coding (van den Oord et al. 2018).

Van den Oord, Li, Vinyals 2018, "Representation Learning with Contrastive Predictive Coding"; for
patches also Hénaff et al. 2020, "Data-Efficient Image Recognition with CPC" (v2).
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.errors import UserError
from unlabeled.modality import Images
from unlabeled.objectives import predictive
from unlabeled.parallel import gather

DIRECTIONS: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((0, 1),),
    4: ((0, 1), (0, -1), (1, 1), (1, -1)),
}
"""Of positions (B, D, R, S): whether rows and columns are transposed, and the sign of the order."""


class CPC(Method):
    """A context c_t predicts the latents z_{t+k} of later steps by W_k c_t, against negatives.

    Audio goes forward in time, from the states of a GRU. Patches of an image are predicted
    downwards from a context of their row and the two above, where v2's sees all rows above, or in
    four directions with a context network each (v2).

    A context never sees a pixel of the patches that it predicts: of patches that overlap by half,
    the nearest rows are skipped, as in v2's code. Of audio no frame is skipped, as in the paper,
    though the receptive fields of the next two share samples with the context's last frame.

    Args:
        prediction_steps: K, the farthest step that is predicted; each one that is not skipped has
            its W_k; the paper's 12 for audio.
        skip_steps: nearest steps that are not predicted (default: those of patches that share
            pixels with the context's, none of audio).
        negatives: from other positions of the "same" recording or image, from the same position of
            "others", or "both".
        objective: InfoNCE over all negatives, or a hinge with one of them.
        directions: 1 (downwards, forward) or 4.
        crop_length: samples of a random crop of each recording; 0 takes all; the paper's 20480, of
            16 kHz (default: 32 of the encoder's frames, 0.32 seconds).
        patch_augment: augmentation of every patch by itself, as in v2 (default: none).
        weak: augmentation of images or recordings (default: horizontal flips of images).
    """

    default_encoder = {Images: "patches"}
    by_stage = True
    recipe = Recipe(epochs=50, batch_size=64, optimizer="adam", lr=1e-3, weight_decay=0.0)
    recipes = {
        "spoken_digits": MINUTES | {"epochs": 40, "lr": 2e-3, "prediction_steps": 12},
        "cifar10": MINUTES | {"epochs": 4},
        "fashion_mnist": MINUTES | {"epochs": 4},
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        prediction_steps: int = 8,
        skip_steps: int | None = None,
        negatives: predictive.NegativeSource = "others",
        objective: Literal["info_nce", "hinge"] = "info_nce",
        directions: Literal[1, 4] = 1,
        crop_length: int | None = None,
        patch_augment: Augmentation | None = None,
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        if not hasattr(encoder, "latents_and_context"):
            raise UserError("cpc predicts audio or patches: use --encoder wave or patches")
        skip = getattr(encoder, "overlap", 0) if skip_steps is None else skip_steps
        predictive.check_steps(prediction_steps, skip)
        z_dim, c_dim = self.encoder.latent_dims
        self.directions = DIRECTIONS[directions]
        self.contexts = nn.ModuleList(self.encoder.make_context() for _ in self.directions)
        steps = range(prediction_steps - skip)
        self.predictors = nn.ModuleList(
            nn.ModuleList(nn.Linear(c_dim, z_dim, bias=False) for _ in steps)
            for _ in self.directions
        )
        self.skip_steps, self.negatives = skip, negatives
        own = getattr(encoder, "crop_length", 0)
        self.crop_length = own if crop_length is None else crop_length
        info_nce, hinge = predictive.predictive_info_nce, predictive.predictive_hinge
        self.objective = info_nce if objective == "info_nce" else hinge
        self.patch_augment, self.weak = patch_augment, weak or self.encoder.default_augmentation()

    def views(self, batch: Batch) -> Tensor:
        """Crops of audio (B, 1, 1, T), or patches (B, C, p, P·p), side by side."""
        return self.encoder.segments(self.weak(batch.x), self.crop_length, self.patch_augment)

    def loss(self, views: Tensor) -> Tensor:
        """The mean over directions and prediction steps."""
        z, c = self.encoder.latents_and_context(views)  # (B, D, R, S), rows lead to later steps
        losses = []
        parts = zip(self.directions, self.contexts, self.predictors, strict=True)
        for direction, context, predictors in parts:
            context_states = context(oriented(c, direction))
            losses += self.step_losses(oriented(z, direction), context_states, predictors)
        # Predictors beyond the last row get a gradient of 0, since DDP waits for all.
        unused = 0 * torch.stack([w.sum() for w in self.predictors.parameters()]).sum()
        return torch.stack(losses).mean() + unused

    def step_losses(self, z: Tensor, c: Tensor, predictors: Any) -> list[Tensor]:
        """The loss of each step k: c of row r predicts z of row r + k."""
        losses = []
        # The last step of a single sequence has one position, so no negative of the same sequence.
        rows = z.shape[2] - (self.negatives == "same" and z.shape[3] == 1)
        for k, predict in enumerate(predictors, self.skip_steps + 1):
            if k < rows:
                prediction = predict(predictive.as_sequence(c[:, :, :-k]))  # (B, rows · S, D)
                target = predictive.as_sequence(z[:, :, k:])
                losses.append(self.objective(gather(prediction), gather(target), self.negatives))
        if not losses:
            raise UserError(
                f"{z.shape[2]} positions are too few to predict {self.skip_steps + 1} ahead; give "
                "a larger --crop-length, smaller patches, or smaller --skip-steps"
            )
        return losses


def oriented(x: Tensor, direction: tuple[int, int]) -> Tensor:
    """Positions (B, D, R, S) such that the direction leads from row to row."""
    transpose, sign = direction
    x = x.transpose(2, 3) if transpose else x
    return x.flip(2) if sign < 0 else x
