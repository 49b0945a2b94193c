"""Pictures and captions, digits seen and heard: CLIP's loss, data of every form, retrieval."""

import json
import tarfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import unlabeled as ul
from unlabeled.core import Batch
from unlabeled.datasets import emoji, pairs, two_senses
from unlabeled.datasets.base import PARTNER
from unlabeled.encoders.base import build
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation.retrieval import paired_retrieval
from unlabeled.methods.clip import Clip
from unlabeled.objectives import clip
from unlabeled.report.plots import partners_picture

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 60, 220), "white": (250,) * 3}


def test_the_loss_is_open_clips_formula():
    """Half the cross-entropy of logits_per_image and half that of logits_per_text."""
    torch.manual_seed(0)
    a, b = (F.normalize(torch.randn(7, 5, dtype=torch.float64), dim=1) for _ in range(2))
    scale = torch.tensor(14.3, dtype=torch.float64, requires_grad=True)
    logits = scale * a @ b.T
    labels = torch.arange(7)
    expected = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    found = clip(a, b, scale)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    (ours,), (theirs,) = (torch.autograd.grad(loss, scale) for loss in (found, expected))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert clip(torch.ones(4, 3), torch.ones(4, 3), 2.0).item() == pytest.approx(
        np.log(4), rel=1e-6
    )


def test_its_gradient_is_right():
    torch.manual_seed(0)
    a, b = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(clip, (a, b, scale))


def test_the_temperature_is_learnt_and_bounded():
    method = Clip(build("small", 1, (16, 16), width=4), partner="small", partner_shape=(2, 16, 16))
    assert method.scale.exp().item() == pytest.approx(1 / 0.07)
    y = torch.randint(0, 255, (6, 2, 16, 16), dtype=torch.uint8)
    seen, heard = method.views(Batch(torch.rand(6, 1, 16, 16), torch.arange(6), y))
    assert all(any(torch.equal(h, own) for own in its) for h, its in zip(heard, y, strict=True))
    method.loss((seen, heard)).backward()
    assert method.scale.grad.abs() > 0
    with torch.no_grad():
        method.scale.fill_(9.0)
        method.update()
    assert method.scale.exp().item() == pytest.approx(100, rel=1e-5)


def test_retrieval_is_the_naive_count():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(30, 4))
    b = a + rng.normal(size=(30, 4))
    found = paired_retrieval(a, b)
    near = (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T
    for way, scores in (("there", near), ("back", near.T)):
        for k in (1, 5, 10):
            naive = np.mean([i in np.argsort(-scores[i])[:k] for i in range(30)])
            assert found[f"{way}@{k}"] == pytest.approx(naive)
            assert found[f"chance@{k}"] == pytest.approx(k / 30)
    y = rng.integers(0, 3, 30)
    found = paired_retrieval(a, b, (1, 2), y)
    for k in (1, 2):
        naive = np.mean([(y[np.argsort(-near[i])[:k]] == y[i]).any() for i in range(30)])
        assert found[f"there@{k}"] == pytest.approx(naive)
    share = np.bincount(y)[y] / 30
    assert found["chance@1"] == pytest.approx(share.mean())


def test_features_that_are_all_alike_retrieve_by_chance_and_nan_is_refused():
    same = np.ones((40, 3))
    found = paired_retrieval(same, same, (1, 10))
    assert found["there@1"] == pytest.approx(1 / 40)
    assert found["back@10"] == pytest.approx(found["chance@10"]) == pytest.approx(1 / 4)
    found = paired_retrieval(same, same, (1, 10), np.arange(40) // 4)
    assert found["there@1"] == pytest.approx(found["chance@1"]) == pytest.approx(0.1)
    assert found["there@10"] == pytest.approx(found["chance@10"])
    with pytest.raises(UserError, match="finite"):
        paired_retrieval(np.full((4, 2), np.nan), np.ones((4, 2)))


def squares(folder, n=24):
    """Pictures of one colour each, and what they are called."""
    rng = np.random.default_rng(0)
    told = {}
    for i in range(n):
        name = list(COLOURS)[i % 4]
        pixels = np.clip(np.array(COLOURS[name]) + rng.integers(-20, 20, 3), 0, 255)
        Image.new("RGB", (16, 16), tuple(pixels.tolist())).save(folder / f"{i:02}.png")
        told[f"{i:02}.png"] = f"a {name} square"
    return told


@pytest.mark.parametrize("form", ["beside", "csv", "jsonl", "tar"])
def test_captions_in_every_form(form, tmp_path):
    told = squares(tmp_path)
    place = tmp_path
    if form == "csv":
        rows = "".join(f'{name},"{caption}, yes"\n' for name, caption in told.items())
        (tmp_path / "captions.csv").write_text("file_name,text\n" + rows)
        told = {name: f"{caption}, yes" for name, caption in told.items()}
    elif form == "jsonl":
        lines = (json.dumps({"image": n, "caption": [c, "again"]}) for n, c in told.items())
        (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    else:
        for name, caption in told.items():
            (tmp_path / name).with_suffix(".txt").write_text(caption)
    if form == "tar":
        place = tmp_path / "shard.tar"
        with tarfile.open(place, "w") as tar:
            for file in sorted(tmp_path.glob("[0-9]*")):
                tar.add(file, file.name)
    splits = pairs.load(str(place))
    assert len(splits.train) + len(splits.test) == 24
    assert len(splits.test)
    from unlabeled.datasets import corpus

    known = corpus.open_tokenizer(splits.tokenizer)
    for part in (splits.train, splits.test):
        assert part.factors[PARTNER].shape[1] == (2 if form == "jsonl" else 1)
        for name, tokens in zip(part.names, part.factors[PARTNER][:, 0], strict=True):
            assert known.decode(tokens[tokens > 0].tolist()).strip() == told[name.split("/")[-1]]


def test_what_has_no_caption_is_left_out_and_told(tmp_path):
    told = squares(tmp_path)
    with pytest.raises(UserError, match="has no captions"):
        pairs.load(str(tmp_path))
    for name in list(told)[:20]:
        (tmp_path / name).with_suffix(".txt").write_text(told[name])
    with pytest.warns(Notice, match="20 of 24 pictures have captions"):
        splits = pairs.load(str(tmp_path))
    assert len(splits.train) + len(splits.test) == 20
    (tmp_path / "c.csv").write_text("picture,words\n")
    with pytest.raises(UserError, match="needs a column"):
        pairs.load(str(tmp_path))
    with pytest.raises(UserError, match="pairs:FOLDER"):
        pairs.load()


def test_colours_find_their_names(tmp_path):
    """The whole way: a folder, training, and both senses in one space."""
    place = tmp_path / "pictures"
    place.mkdir()
    for name, caption in squares(place, 64).items():
        (place / name).with_suffix(".txt").write_text(caption)
    options = {"epochs": 5, "batch_size": 8, "lr": 3e-3, "layers": 1, "precision": "fp32"}
    options |= {"progress": False, "logger": "none"}
    run = ul.train("clip", f"pairs:{place}", out=tmp_path / "run", **options)
    test, method = run.data.test, run.method.eval()
    with torch.no_grad():
        a = method.project(torch.from_numpy(test.x[:]).float() / 255).numpy()
        b = method.project_partner(torch.from_numpy(test.factors[PARTNER][:, 0])).numpy()
    colour = np.array([int(name.split("/")[-1][:2]) % 4 for name in test.names])
    found = paired_retrieval(a, b, (1,), colour)
    assert found["there@1"] > 0.7
    assert (tmp_path / "run" / "tokenizer.json").is_file()
    assert (tmp_path / "run" / "views.png").is_file()
    again = ul.load(tmp_path / "run")
    with pytest.warns(Notice, match="64 images are read; left out: 64 .txt"):
        assert again.embed(place).shape == (64, run.dim)  # captions are no texts to be read
    assert again.evaluate()["test_pictures"] == len(test)


def test_emoji_of_one_family_are_on_one_side(real_data):
    splits = emoji.load(str(real_data))
    assert (len(splits.train), len(splits.test)) == (1497, 373)
    assert splits.train.x.shape[1:] == (3, 64, 64)
    assert not set(splits.train.names) & set(splits.test.names)
    assert splits.train.factors[PARTNER].shape == (1497, 2, 24)
    assert splits.vocabulary <= 1024
    with pytest.raises(UserError, match="holds no emoji"):
        emoji.load(str(real_data / "text"))


def test_speakers_of_the_test_are_never_heard_in_training(real_data, monkeypatch):
    told = two_senses.recordings(str(real_data))
    sounds, digit, speaker = told
    monkeypatch.setattr(two_senses, "recordings", lambda _: told)  # made once is enough
    assert sounds.shape == (3000, 32, 32)
    assert (sounds.max((1, 2)) == 255).all()
    row = {sound.tobytes(): i for i, sound in enumerate(sounds)}
    splits = two_senses.load()
    for part, held in ((splits.train, False), (splits.test, True)):
        heard = np.array([[row[s.tobytes()] for s in own] for own in part.factors[PARTNER][:200]])
        assert (np.isin(speaker[heard], two_senses.HELD_OUT) == held).all()
        assert (digit[heard] == part.factors["digit"][:200, None]).all()


def test_a_spectrogram_shows_pitch_and_time():
    rate, at = 8000, np.arange(5600) / 8000
    waves = (8000 * np.sin(2 * np.pi * f * at) for f in (300, 3000))
    low, high = (two_senses.spectrogram(wave, rate) for wave in waves)
    assert low.mean(1).argmax() < 10 < 25 < high.mean(1).argmax()
    late = np.where(at > 0.35, 8000 * np.sin(2 * np.pi * 1000 * at), 0)
    shown = two_senses.spectrogram(late, rate)
    assert shown[:, 20:].max() == 255
    assert shown[:, :12].max() == 0


def test_the_picture_of_likeness_has_a_row_for_each():
    content = partners_picture(torch.rand(3, 3, 8, 8), np.eye(3), ["one", "two", "a long " * 9])
    assert content[:4] == b"\x89PNG"
