"""SimCLRv2: pretrain with a deeper head, fine-tune from its middle, distill on unlabeled images.

Chen, Kornblith, Swersky, Norouzi, Hinton 2020, "Big Self-Supervised Models are Strong
Semi-Supervised Learners", sections 2.1–2.3.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomCrop
from unlabeled.core import Batch, Method, Recipe, check_options
from unlabeled.data.dataset import Splits
from unlabeled.data.open import open_data
from unlabeled.data.split import sample_labels
from unlabeled.errors import UserError
from unlabeled.evaluation.finetune import BATCH, STEPS, accuracy
from unlabeled.evaluation.probe import linear_probe
from unlabeled.runs.run import Run
from unlabeled.training.train import reopen, train
from unlabeled.utils.files import write_json


def simclr_v2(
    data: Any,
    *,
    labels: str | None = "1%",
    encoder: str | nn.Module | type[nn.Module] = "small",
    epochs: int | None = None,
    batch_size: int | None = None,
    finetune_epochs: int | None = None,
    distill_epochs: int = 20,
    temperature: float = 1.0,
    augment: Augmentation | None = None,
    seed: int = 0,
    size: int | None = None,
    labels_from: Any = None,
    test: Any = None,
    workers: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Run:
    """Three trainings, one after another; each is a run folder in `out`.

    SimCLR with a head of three layers learns from all images; the encoder with the head's first
    layer is fine-tuned with some labels; a fresh network, the student, learns from all images to
    say what the fine-tuned one says.

    Args:
        data: labeled data in any usual form.
        labels: how many labels the fine-tuning gets: 160, or 1%.
        encoder: of the pretrained network and of the student.
        epochs: of pretraining; SimCLR's own unless given.
        batch_size: of pretraining; SimCLR's own unless given.
        finetune_epochs: as many as make 500 steps, at least 20, unless given.
        distill_epochs: of the student.
        temperature: τ of what the teacher says (eq. 2); it says the same, softer, above 1.
        augment: of fine-tuning and distillation; the data set's for labeled training unless given.
        seed: of everything random.
        size: side of the images in pixels.
        labels_from: where labels of images in files are, as for `unlabeled.train`.
        test: other data to test on, as for `unlabeled.train`.
        workers: processes that decode files.
        out: the folder; runs/simclr_v2 unless given.
        resume: go on where it was stopped.
        progress: show bars.

    Returns:
        the student; `simclr_v2.json` in `out` has the test accuracies of all three.

    Raises:
        UserError: the data has no labels or no test part, or something else does not fit.
    """
    check_options(simclr_v2, dict(locals()))
    place = None if size is None else (size, size)
    splits = open_data(data, size=place, labels_from=labels_from, workers=workers, test=test)
    if splits.target is None or not len(splits.test):
        raise UserError(f"{splits.name} has no labels; say where they are with --labels-from")
    folder = Path(out or "runs/simclr_v2")
    common: dict[str, Any] = {"seed": seed, "resume": resume, "progress": progress}
    sizes: dict[str, Any] = {
        k: v for k, v in {"epochs": epochs, "batch_size": batch_size}.items() if v
    }
    pretrained = train(
        "simclr",
        splits,
        encoder=encoder,
        out=folder / "pretrained",
        dim=128,
        head_layers=3,
        **sizes,
        **common,
    )
    teacher = tune_from_middle(
        pretrained,
        splits,
        labels or "100%",
        out=folder / "finetuned",
        epochs=finetune_epochs,
        augment=augment,
        **common,
    )
    student = distill(
        teacher,
        splits,
        encoder=encoder,
        out=folder / "student",
        epochs=distill_epochs,
        temperature=temperature,
        augment=augment,
        **common,
    )
    write_json(folder / "simclr_v2.json", judge(pretrained, teacher, student, splits, labels, seed))
    return student


def tune_from_middle(
    pretrained: Run,
    splits: Splits,
    labels: str,
    *,
    out: Path,
    epochs: int | None = None,
    augment: Augmentation | None = None,
    **common: Any,
) -> Run:
    """The encoder with the first layer of its projection head, fine-tuned (section 2.2).

    Args:
        pretrained: a run of SimCLR with a head of at least two layers; it is not changed.
        splits: labeled data.
        labels: how many are used.
        out: its run folder.
        epochs: as many as make 500 steps, at least 20, unless given.
        augment: random crops and mirroring in the paper (section 3.1); the data set's for labeled
            training unless given.
        common: `seed`, `resume` and `progress` of `unlabeled.train`.

    Raises:
        UserError: its head has no hidden layer.
    """
    head: Any = reopen(pretrained).head
    if isinstance(head, nn.Identity) or len(head) < 4:
        raise UserError(f"{pretrained.path} has no projection head with a middle; give it layers")
    # A copy, since training is in place and the pretrained encoder is still to be probed.
    middle = nn.Sequential(copy.deepcopy(pretrained.encoder), *head[:3]).train()
    y = splits.train.factors[str(splits.target)]
    rows = len(sample_labels(y, labels, common.get("seed", 0)))
    batch = min(BATCH, rows)
    return train(
        "supervised",
        splits,
        encoder=middle,
        labels=labels,
        out=out,
        epochs=epochs or max(20, -(-STEPS // max(1, rows // batch))),
        batch_size=batch,
        lr=1e-3,
        schedule="one_cycle",
        augment=augment,
        **common,
    )


def distill(
    teacher: Run,
    splits: Splits,
    *,
    encoder: Any,
    out: Path,
    epochs: int,
    temperature: float = 1.0,
    augment: Augmentation | None = None,
    **common: Any,
) -> Run:
    """A fresh network that learns what a fine-tuned one says of all images, unlabeled (eq. 2).

    Args:
        teacher: a run of `supervised`, just trained; it is not changed.
        splits: the data; its labels are not used.
        encoder: of the student.
        out: its run folder.
        epochs: passes over the images.
        temperature: τ.
        augment: as of fine-tuning; the data set's for labeled training unless given.
        common: `seed`, `resume` and `progress` of `unlabeled.train`.
    """

    class Student(_Distillation):
        taught_by: Any = copy.deepcopy(teacher.method)

    options: dict[str, Any] = {"classes": len(splits.classes), "temperature": temperature}
    options["augment"] = augment
    return train(Student, splits, encoder=encoder, out=out, epochs=epochs, **options, **common)


def judge(
    pretrained: Run, teacher: Run, student: Run, splits: Splits, labels: str | None, seed: int
) -> dict[str, Any]:
    """Test accuracies: linear probe of the pretrained encoder, fine-tuned, student."""
    splits = splits.labeled()
    y, y_test = (part.factors[str(splits.target)] for part in (splits.train, splits.test))
    rows = sample_labels(y, labels or "100%", seed)
    z, z_test = (pretrained.embed(part.x) for part in (splits.train.take(rows), splits.test))
    return {
        "data": splits.name,
        "labels": len(rows),
        "linear": linear_probe(z, y[rows], z_test, y_test).test,
        "finetuned": accuracy(teacher, splits),
        "student": accuracy(student, splits),
        "n_test": len(splits.test),
        "seed": seed,
    }


class _Distillation(Method):
    """Cross-entropy of the student with the teacher's softmax, both at a temperature.

    Args:
        classes: number of classes.
        temperature: τ.
        augment: the views; the data set's for labeled training unless given.
    """

    weak_augment = True
    recipe = Recipe(epochs=20, batch_size=128, lr=2e-3, schedule="one_cycle")
    taught_by: Any

    def __init__(
        self,
        encoder: nn.Module,
        *,
        classes: int = 10,
        temperature: float = 1.0,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.classifier = nn.Linear(self.encoder.dim, classes)
        self.temperature, self.augment = temperature, augment or RandomCrop()

    def views(self, batch: Batch) -> Tensor:
        """A random view of each image (B, C, H, W)."""
        return self.augment(batch.x)

    def loss(self, views: Tensor) -> Tensor:
        """−Σ P_teacher log P_student, the mean over images."""
        teacher = self.taught_by.eval().to(views.device)
        with torch.no_grad():
            says = teacher.classifier(teacher.encoder(views)).float()  # (B, classes)
        guess = self.classifier(self.encoder(views)).float()
        wanted = (says / self.temperature).softmax(1)
        return F.cross_entropy(guess / self.temperature, wanted)
