"""SimCLRv2: big self-supervised models are strong semi-supervised learners (Chen et al. 2020).

Chen, Kornblith, Swersky, Norouzi, Hinton 2020, "Big Self-Supervised Models are Strong
Semi-Supervised Learners", sections 2.1–2.3.
"""

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
    groups_from: Any = None,
    workers: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Run:
    """Pretrain, fine-tune and distill, one after another; each is a run folder in `out`.

    SimCLR with a projection head of three layers is pretrained on all images; the encoder with the
    head's first layer is fine-tuned with few labels; a student of random weights is trained on all
    images, without labels, to predict what the fine-tuned teacher does.

    Args:
        data: labeled data in any supported form.
        labels: number of labels for fine-tuning, such as 160, or a percentage, such as 1%.
        encoder: of the pretrained network and of the student.
        epochs: of pretraining (default: those of `simclr`).
        batch_size: of pretraining (default: that of `simclr`).
        finetune_epochs: of fine-tuning (default: as many as make 500 steps, at least 20).
        distill_epochs: of distillation.
        temperature: τ of distillation (eq. 2); above 1 softens the teacher's predictions.
        augment: of fine-tuning and distillation (default: the data set's for labeled training).
        seed: of all randomness.
        size: side of the images in pixels.
        labels_from: where labels of images in files are, as for `unlabeled.train`.
        test: other data to test on, as for `unlabeled.train`.
        groups_from: what samples have in common, as for `unlabeled.train`.
        workers: processes that decode files.
        out: the folder (default: runs/simclr_v2).
        resume: continue where it was stopped.
        progress: show progress bars.

    Returns:
        the student; `simclr_v2.json` in `out` has the test accuracies of all three.

    Raises:
        UserError: the data has no labels or no test part, or does not fit.
    """
    check_options(simclr_v2, dict(locals()))
    sides = None if size is None else (size, size)
    splits = open_data(
        data,
        size=sides,
        labels_from=labels_from,
        workers=workers,
        test=test,
        groups_from=groups_from,
    )
    if splits.target is None or not len(splits.test):
        raise UserError(f"{splits.name} has no labels; say where they are with --labels-from")
    folder = Path(out or "runs/simclr_v2")
    common: dict[str, Any] = {"seed": seed, "resume": resume, "progress": progress}
    options: dict[str, Any] = {"encoder": encoder, "dim": 128, "head_layers": 3}
    options |= {k: v for k, v in {"epochs": epochs, "batch_size": batch_size}.items() if v}
    pretrained = train("simclr", splits, out=folder / "pretrained", **options, **common)
    common["augment"] = augment
    options = {"out": folder / "finetuned", "epochs": finetune_epochs}
    teacher = finetune_from_middle(pretrained, splits, labels or "100%", **options, **common)
    options = {"out": folder / "student", "epochs": distill_epochs, "temperature": temperature}
    student = distill(teacher, splits, encoder=encoder, **options, **common)
    figures = accuracies(pretrained, teacher, student, splits, labels, seed)
    write_json(folder / "simclr_v2.json", figures)
    return student


def finetune_from_middle(
    pretrained: Run,
    splits: Splits,
    labels: str,
    *,
    epochs: int | None = None,
    **options: Any,
) -> Run:
    """Fine-tune the encoder with the first layer of its projection head (section 2.2).

    Args:
        pretrained: a run of SimCLR with a head of at least two layers; it is not changed.
        splits: labeled data.
        labels: how many are used.
        epochs: of fine-tuning (default: as many as make 500 steps, at least 20).
        options: `out`, `augment` (random crops and flips in the paper, section 3.1), `seed`,
            `resume` and `progress` of `unlabeled.train`.

    Raises:
        UserError: the head has no hidden layer.
    """
    head: Any = reopen(pretrained).head
    if isinstance(head, nn.Identity) or len(head) < 4:
        raise UserError(f"{pretrained.path} has no projection head with a middle; give it layers")
    # A copy, since training is in place and the pretrained encoder is still to be probed.
    encoder = nn.Sequential(copy.deepcopy(pretrained.encoder), *head[:3]).train()
    y = splits.train.factors[str(splits.target)]
    rows = len(sample_labels(y, labels, options.get("seed", 0)))
    batch = min(BATCH, rows)
    options |= {"epochs": epochs or max(20, -(-STEPS // max(1, rows // batch)))}
    options |= {"batch_size": batch, "lr": 1e-3, "schedule": "one_cycle", "labels": labels}
    return train("supervised", splits, encoder=encoder, **options)


def distill(teacher: Run, splits: Splits, **options: Any) -> Run:
    """Train a student on a fine-tuned teacher's predictions for all images, unlabeled (eq. 2).

    Args:
        teacher: a run of `supervised`, just trained; it is not changed.
        splits: the data; its labels are not used.
        options: of the student, as for `unlabeled.train`, and its `temperature` τ.
    """

    class Student(_Distillation):
        teacher_model: Any = copy.deepcopy(teacher.method)

    return train(Student, splits, classes=len(splits.classes), **options)


def accuracies(
    pretrained: Run, teacher: Run, student: Run, splits: Splits, labels: str | None, seed: int
) -> dict[str, Any]:
    """Test accuracies: linear probe of the pretrained encoder, fine-tuned teacher, student."""
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
    """Cross-entropy of the student's predictions with the teacher's, both at a temperature.

    Args:
        classes: number of classes.
        temperature: τ.
        augment: random augmentation (default: the data set's for labeled training).
    """

    weak_augment = True
    recipe = Recipe(epochs=20, batch_size=128, lr=2e-3, schedule="one_cycle")
    teacher_model: Any

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
        teacher = self.teacher_model.eval().to(views.device)
        with torch.no_grad():
            target = teacher.classifier(teacher.encoder(views)).float()  # (B, classes)
        logits = self.classifier(self.encoder(views)).float()
        target = (target / self.temperature).softmax(1)
        return F.cross_entropy(logits / self.temperature, target)
