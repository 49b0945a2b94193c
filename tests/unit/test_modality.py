"""What kind of data a data set holds, and what is refused because of it."""

import numpy as np
import pytest

from unlabeled import registry
from unlabeled.data import Recordings, Samples, open_data
from unlabeled.data.dataset import Splits
from unlabeled.data.targets import Classes, MultiLabel, Numbers
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.modality import (
    Audio,
    Column,
    Images,
    Pairs,
    Series,
    Table,
    Text,
    Video,
    find_part,
    from_json,
    require_part,
    to_json,
)
from unlabeled.training.prepare import check_encoder, check_modality

IMAGES = Images(3, (8, 6), (-1.0, 2.5), "float32")
EACH = {
    "images": IMAGES,
    "audio": Audio(8000, 400),
    "text": Text(300, 16, 4),
    "series": Series(2, 40, (0.5, -1.0), (1.0, 2.0)),
    "table": Table((Column("age", (), 40.0, 9.5), Column("sex", ("f", "m")))),
    "video": Video(Images(3, (8, 8))),
    "pairs": Pairs(IMAGES, Text(300, 16)),
}


OF_IMAGES = (
    "vae", "gan", "diffusion", "rbm", "helmholtz", "denoising_autoencoder", "context_encoder",
    "jigsaw", "relative_patch", "rotation", "s4l",
)  # fmt: skip
"""Methods of values in [0, 1], or of two dimensions, to which a recording means nothing."""


def data(modality) -> Splits:
    samples = Samples(np.zeros((4, 1, 8, 8), np.uint8), modality=modality)
    return Splits("mine", samples, samples.take(np.arange(0)))


@pytest.mark.parametrize(
    "modality", [EACH[kind] for kind in ("images", "audio", "text", "series", "table")]
)
def test_a_record_gives_the_modality_again(modality):
    assert from_json(to_json(modality)) == modality
    assert from_json(to_json(Text(300, 16, tokenizer="{}")), "{}").tokenizer == "{}"


def test_parts_are_found_in_pairs():
    assert find_part(EACH["pairs"], Text) == Text(300, 16)
    assert require_part(EACH["pairs"], Images) == IMAGES
    assert find_part(IMAGES, Text) is None
    with pytest.raises(TypeError, match="Images has no Audio"):
        require_part(IMAGES, Audio)


@pytest.mark.parametrize(
    ("method", "fitting"),
    [
        ("simclr", {"images", "audio", "video", "pairs"}),
        *((name, {"images", "video", "pairs"}) for name in OF_IMAGES),
        ("clip", {"pairs"}),
        ("masked_lm", {"text"}),
        ("simcse", {"text"}),
        ("video_colorization", {"video"}),
        ("videomae", {"video"}),
        ("wav2vec2", {"audio"}),
        ("ts2vec", {"series"}),
        ("scarf", {"table"}),
    ],
)
def test_a_method_takes_what_it_declares(method, fitting):
    """Catches pairs that count as texts, single images as videos, and recordings as images."""
    cls = registry.find("methods", method)
    for kind, modality in EACH.items():
        if kind in fitting:
            check_modality(cls, method, data(modality))
        else:
            with pytest.raises(
                UserError, match=f"{method} learns from .*, but mine holds .*; give"
            ):
                check_modality(cls, method, data(modality))


def test_a_text_of_one_row_has_too_few_sentences():
    cls = registry.find("methods", "simcse")
    with pytest.raises(UserError, match="2 or more sentences, but mine holds texts of 1"):
        check_modality(cls, "simcse", data(Text(300, 16)))


def test_an_encoder_takes_what_it_declares():
    cls = registry.find("methods", "masked_lm")
    check_encoder(build("text_transformer", 1, (1, 16)), "own", cls, data(Text(4096, 16)))
    with pytest.raises(UserError, match=r"takes images or recordings, .*use --encoder text_tr"):
        check_encoder(build("small", 1, (8, 16)), "small", cls, data(Text(4096, 16)))
    ts2vec = registry.find("methods", "ts2vec")
    with pytest.raises(UserError, match="takes rows, but mine holds series; use --encoder dilated"):
        check_encoder(build("mlp", 1, (1, 8)), "mlp", ts2vec, data(EACH["series"]))
    with pytest.raises(UserError, match="takes texts, but mine holds images; use --encoder small"):
        check_encoder(build("text_lstm", 1, (1, 16)), "text_lstm", cls, data(IMAGES))


def test_data_says_what_it_holds():
    rng = np.random.default_rng(0)
    images = open_data(rng.random((9, 4, 5)))
    assert images.modality == Images(1, (4, 5), dtype="float32")
    clips = open_data(rng.integers(0, 256, (3, 4, 3, 8, 8), dtype=np.uint8))
    assert clips.modality == Video(Images(3, (8, 8)))
    assert (clips.noun, clips.channels, clips.size) == ("frames", 3, (8, 8))
    assert open_data(Recordings(rng.random((9, 400)), 8000)).modality == Audio(8000, 400)
    sprites = open_data("dsprites")
    assert sprites.modality == Images(1, (64, 64), dtype="mask")
    assert sprites.targets["shape"] == Classes(("square", "ellipse", "heart"))
    assert sprites.targets["orientation"] == Numbers(period=39.0)


def test_data_is_opened_like_what_an_encoder_takes():
    x = np.random.default_rng(0).integers(0, 256, (9, 4, 4), dtype=np.uint8)
    assert open_data(x, like=Images(1, (8, 8))).size == (8, 8)
    with pytest.raises(UserError, match="holds images, but recordings are needed"):
        open_data("dsprites", like=Audio(8000, 400))


def test_a_sample_with_an_unknown_label_is_not_known():
    y = np.array([[0, 1], [1, -1], [0, 0]])
    samples = Samples(
        np.zeros((3, 1, 4, 4), np.uint8), {"tags": y}, targets={"tags": MultiLabel(("a", "b"))}
    )
    assert samples.known("tags").tolist() == [True, False, True]
    assert samples.class_names("tags") == ["a", "b"]
    assert len(samples.labeled("tags")) == 2
