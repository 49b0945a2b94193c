"""Images and captions, digits seen and heard: CLIP's loss, data of every form, retrieval."""

import contextlib
import copy
import json
import math
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import unlabeled as ul
from unlabeled.core import Batch
from unlabeled.data.readers import bpe, pairs
from unlabeled.data.sets import audiovisual_digits, emoji
from unlabeled.encoders.base import build
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation.retrieval import equal_rows, paired_retrieval
from unlabeled.methods.clip import Clip
from unlabeled.modality import Text, require_part
from unlabeled.objectives import clip, use_backend
from unlabeled.parallel import row_ids
from unlabeled.report.plots import partners_image

COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 60, 220), "white": (250,) * 3}


def test_the_loss_is_open_clips_formula():
    """Half the cross-entropy of logits_per_image and half that of logits_per_text."""
    torch.manual_seed(0)
    a, b = (F.normalize(torch.randn(7, 5, dtype=torch.float64), dim=1) for _ in range(2))
    scale = torch.tensor(14.3, dtype=torch.float64, requires_grad=True)
    logits = scale * a @ b.T
    labels = torch.arange(7)
    expected = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    result = clip(a, b, scale)
    assert result.item() == pytest.approx(expected.item(), rel=1e-6)
    (ours,), (theirs,) = (torch.autograd.grad(loss, scale) for loss in (result, expected))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert clip(torch.ones(4, 3), torch.ones(4, 3), 2.0).item() == pytest.approx(
        np.log(4), rel=1e-6
    )


def test_its_gradient_is_right():
    torch.manual_seed(0)
    a, b = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(clip, (a, b, scale))
    same = torch.tensor([0, 1, 0, 3]), torch.tensor([0, 1, 1, 3])
    assert torch.autograd.gradcheck(clip, (a, b, scale, *same))


@pytest.mark.parametrize("way", ["dense", "tiled"])
def test_equal_partners_are_positives(way):
    """Catches targets over one sense alone, over rows that are equal by way of a third, not spread
    evenly, or not the same for rows and columns.
    """
    torch.manual_seed(0)
    a, b = (F.normalize(torch.randn(9, 5, dtype=torch.float64), dim=1) for _ in range(2))
    image = torch.tensor([4, 1, 2, 1, 3, 5, 6, 7, 8])  # 1 and 3 are one image
    caption = torch.tensor([9, 9, 2, 3, 3, 9, -6, 7, 8])  # 0, 1, 5 and 3, 4 say the same
    right = (image[:, None] == image) | (caption[:, None] == caption)
    assert right.sum(1).tolist() == [3, 4, 1, 3, 2, 3, 1, 1, 1]  # 0 and 3 are not equal
    target = right / right.sum(1, keepdim=True)
    logits = 14.0 * a @ b.T
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    entropy = right.sum(1).double().log().mean()
    with use_backend(way):
        result = clip(a, b, 14.0, image, caption)
        assert result.item() == pytest.approx((expected - entropy).item())
        each = torch.arange(9)
        assert torch.equal(clip(a, b, 14.0, each, each + 5), clip(a, b, 14.0))
        best = F.one_hot(torch.arange(64) % 2).double()
        assert clip(best, best, 100.0, None, torch.arange(64) % 2).item() == pytest.approx(0)
    assert clip(best, best, 100.0).item() == pytest.approx(np.log(32))  # as open_clip has it


def test_equal_rows_have_equal_numbers():
    """Catches sums that forget the order of values, and the sign of 0."""
    x = torch.rand(500, 3, 4, 4)
    x[7], x[9], x[11] = x[3], x[3].flip(0), x[3].mean()
    x[20], x[21] = 0.0, -0.0
    for rows in (x, x.to(memory_format=torch.channels_last), (x * 255).byte()):
        ids = row_ids(rows)
        assert ids.dtype == torch.int64
        assert len(ids.unique()) == 498
        assert ids[7] == ids[3]
        assert ids[21] == ids[20]
        assert torch.equal(ids[100:], row_ids(rows[100:]))  # whatever else is in the batch


def test_a_batch_of_few_captions_is_learned():
    """Catches captions whose tokens are not compared, and images compared after augmentation."""
    torch.manual_seed(0)
    net = build("small", 1, (16, 16), width=4)
    method = Clip(net, text_layers=1, dim=8, partner_shape=(1, 6), vocabulary=300)
    dark = torch.arange(16) % 2
    x = torch.rand(16, 1, 16, 16) / 4 + 0.7 * dark[:, None, None, None]
    x[5] = x[3]
    y = torch.tensor([[9, 8, 7, 0, 0, 0], [9, 6, 5, 4, 0, 0]])[dark][:, None]
    batch = Batch(x, torch.arange(16), partners=y)
    seen, _, image = method.views(batch)
    assert image[5] == image[3]
    assert len(image.unique()) == 15
    assert torch.equal(image, method.views(batch)[2])
    assert not torch.equal(seen[5], seen[3])
    optimizer = torch.optim.Adam(method.parameters(), 3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        loss = method.loss(method.views(batch))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5  # it stays at log 8 where equal captions are negatives


def test_the_temperature_is_learned_and_bounded():
    method = Clip(
        build("small", 1, (16, 16), width=4), partner_encoder="small", partner_shape=(2, 16, 16)
    )
    assert method.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    y = torch.randint(0, 255, (6, 2, 16, 16), dtype=torch.uint8)
    seen, heard, image = method.views(Batch(torch.rand(6, 1, 16, 16), torch.arange(6), partners=y))
    assert all(any(torch.equal(h, own) for own in its) for h, its in zip(heard, y, strict=True))
    method.loss((seen, heard, image)).backward()
    assert method.logit_scale.grad.abs() > 0
    with torch.no_grad():
        method.logit_scale.fill_(9.0)
        method.update()
    assert method.logit_scale.exp().item() == pytest.approx(100, rel=1e-5)


def of_pairs(**options) -> tuple[Clip, Batch]:
    """A method and a batch of 6 images with 2 captions each, of which some are equal."""
    torch.manual_seed(0)
    net = build("small", 1, (16, 16), width=4)
    method = Clip(net, text_layers=1, dim=8, partner_shape=(2, 6), vocabulary=300, **options)
    y = torch.randint(5, 300, (6, 2, 6))
    y[1] = y[0, 0]
    return method, Batch(torch.rand(6, 1, 16, 16), torch.arange(6), partners=y)


def test_siglip_learns_temperature_and_bias():
    """Catches CLIP's τ and its limit, a bias of 0 or without gradient, and the softmax."""
    method, batch = of_pairs(objective="siglip")
    assert method.logit_scale.exp().item() == pytest.approx(10)
    assert method.logit_bias.item() == -10
    x, y, image = views = method.eval().views(batch)
    a, b = method.project(x).detach().double(), method.project_partner(y).detach().double()
    loss, expected = method.loss(views), 0.0
    for i in range(6):
        for j in range(6):
            z = 1 if image[i] == image[j] or torch.equal(y[i], y[j]) else -1
            expected += math.log(1 + math.exp(-z * (10 * float(a[i] @ b[j]) - 10))) / 6
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert method.logit_scale.grad.abs() > 0
    assert method.logit_bias.grad.abs() > 0
    with torch.no_grad():
        method.logit_scale.fill_(9.0)
        method.update()
    assert method.logit_scale.item() == 9.0


@pytest.mark.parametrize("objective", ["clip", "siglip"])
def test_a_locked_image_encoder_stays_as_it_is(objective):
    """Catches BatchNorm's statistics or weight decay that move it, and a projection of its own."""
    method, batch = of_pairs(objective=objective, lock_image=True)
    before = {k: v.clone() for k, v in method.encoder.state_dict().items()}
    method.train()
    assert not any(module.training for module in method.encoder.modules())
    assert method.partner_encoder.training
    optimizer = torch.optim.AdamW(method.parameters(), 3e-3, weight_decay=0.5)
    first = copy.deepcopy(method.partner_encoder).state_dict()
    for _ in range(2):
        optimizer.zero_grad()
        method.loss(method.views(batch)).backward()
        optimizer.step()
    assert all(torch.equal(before[k], v) for k, v in method.encoder.state_dict().items())
    moved = method.partner_encoder.state_dict()
    assert any(not torch.equal(first[k], v) for k, v in moved.items())
    z = method.encoder(batch.x)
    torch.testing.assert_close(method.project(batch.x), torch.nn.functional.normalize(z, dim=1))


def test_retrieval_is_the_naive_count():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(30, 4))
    b = a + rng.normal(size=(30, 4))
    result = paired_retrieval(a, b)
    near = (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T
    for way, scores in (("a_to_b", near), ("b_to_a", near.T)):
        for k in (1, 5, 10):
            naive = np.mean([i in np.argsort(-scores[i])[:k] for i in range(30)])
            assert result[f"{way}_recall_at_{k}"] == pytest.approx(naive)
            assert result[f"chance_recall_at_{k}"] == pytest.approx(k / 30)
    y = rng.integers(0, 3, 30)
    result = paired_retrieval(a, b, (1, 2), y)
    for k in (1, 2):
        naive = np.mean([(y[np.argsort(-near[i])[:k]] == y[i]).any() for i in range(30)])
        assert result[f"a_to_b_recall_at_{k}"] == pytest.approx(naive)
    share = np.bincount(y)[y] / 30
    assert result["chance_recall_at_1"] == pytest.approx(share.mean())


def test_any_equal_partner_is_a_right_answer():
    """Catches only the own row counted as right, and rows equal by way of a third."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 9, (6, 1, 4))
    tokens[3] = tokens[0]
    images = rng.integers(0, 255, (6, 2, 2), np.uint8)
    images[5] = images[3]
    same = equal_rows(tokens), equal_rows(images)
    assert [len(set(one.tolist())) for one in same] == [5, 5]
    a = np.eye(6)
    result = paired_retrieval(a, a[[3, 1, 2, 0, 4, 5]], (1,), same)
    assert result["a_to_b_recall_at_1"] == result["b_to_a_recall_at_1"] == 1.0
    assert paired_retrieval(a, a[[5, 1, 2, 3, 4, 0]], (1,), same)[
        "a_to_b_recall_at_1"
    ] == pytest.approx(4 / 6)
    assert result["chance_recall_at_1"] == pytest.approx((2 + 1 + 1 + 3 + 1 + 2) / 36)


def test_features_that_are_all_alike_retrieve_by_chance_and_nan_is_refused():
    same = np.ones((40, 3))
    result = paired_retrieval(same, same, (1, 10))
    assert result["a_to_b_recall_at_1"] == pytest.approx(1 / 40)
    assert (
        result["b_to_a_recall_at_10"]
        == pytest.approx(result["chance_recall_at_10"])
        == pytest.approx(1 / 4)
    )
    result = paired_retrieval(same, same, (1, 10), np.arange(40) // 4)
    assert (
        result["a_to_b_recall_at_1"]
        == pytest.approx(result["chance_recall_at_1"])
        == pytest.approx(0.1)
    )
    assert result["a_to_b_recall_at_10"] == pytest.approx(result["chance_recall_at_10"])
    with pytest.raises(UserError, match="finite"):
        paired_retrieval(np.full((4, 2), np.nan), np.ones((4, 2)))


def squares(folder, n=24):
    """Images of one color each, and what they are called."""
    rng = np.random.default_rng(0)
    captions = {}
    for i in range(n):
        name = list(COLORS)[i % 4]
        pixels = np.clip(np.array(COLORS[name]) + rng.integers(-20, 20, 3), 0, 255)
        Image.new("RGB", (16, 16), tuple(pixels.tolist())).save(folder / f"{i:02}.png")
        captions[f"{i:02}.png"] = f"a {name} square"
    return captions


@pytest.mark.parametrize("form", ["beside", "csv", "jsonl", "tar"])
def test_captions_in_every_form(form, tmp_path):
    captions = squares(tmp_path)
    path = tmp_path
    if form == "csv":
        rows = "".join(f'{name},"{caption}, yes"\n' for name, caption in captions.items())
        (tmp_path / "captions.csv").write_text("file_name,text\n" + rows)
        captions = {name: f"{caption}, yes" for name, caption in captions.items()}
    elif form == "jsonl":
        lines = (json.dumps({"image": n, "caption": [c, "again"]}) for n, c in captions.items())
        (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    else:
        for name, caption in captions.items():
            (tmp_path / name).with_suffix(".txt").write_text(caption)
    if form == "tar":
        path = tmp_path / "shard.tar"
        with tarfile.open(path, "w") as tar:
            for file in sorted(tmp_path.glob("[0-9]*")):
                tar.add(file, file.name)
    twice = pytest.warns(Notice, match="24 images have 2 captions each, 48 in all")
    with twice if form == "jsonl" else contextlib.nullcontext():
        splits = pairs.load(str(path))
    assert len(splits.train) + len(splits.test) == 24
    assert len(splits.test)
    known = bpe.open_tokenizer(require_part(splits.modality, Text).tokenizer)
    for part in (splits.train, splits.test):
        assert part.partners.shape[1] == (2 if form == "jsonl" else 1)
        for name, tokens in zip(part.names, part.partners[:, 0], strict=True):
            assert (
                known.decode(tokens[tokens > 0].tolist()).strip() == captions[name.split("/")[-1]]
            )


@pytest.mark.filterwarnings("ignore:.*kept without one")
def test_captions_in_a_tar_may_be_missing_or_numbers(tmp_path):
    """Fails where an image without a caption gets the last one, or captions become numbers."""
    captions = squares(tmp_path)
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as tar:
        for i, name in enumerate(sorted(captions)):
            tar.add(tmp_path / name, name)
            if i % 3:
                (tmp_path / "caption").write_text(f"{i}.5")
                tar.add(tmp_path / "caption", str(Path(name).with_suffix(".txt")))
    with pytest.warns(Notice, match="16 images have captions; 8 of 24 images have no caption"):
        splits = pairs.load(str(path))
    names = [*splits.train.names, *splits.test.names]
    assert sorted(names) == [name for i, name in enumerate(sorted(captions)) if i % 3]


def test_what_has_no_caption_is_left_out_and_reported(tmp_path):
    captions = squares(tmp_path)
    with pytest.raises(UserError, match="has no captions"):
        pairs.load(str(tmp_path))
    for name in list(captions)[:20]:
        (tmp_path / name).with_suffix(".txt").write_text(captions[name])
    with pytest.warns(Notice, match=r"20 images have captions; 4 of 24 images have no caption"):
        splits = pairs.load(str(tmp_path))
    assert len(splits.train) + len(splits.test) == 20
    (tmp_path / "c.csv").write_text("image,words\n")
    with pytest.raises(UserError, match=r"has the columns 'image', 'words', but needs a column"):
        pairs.load(str(tmp_path))
    with pytest.raises(UserError, match="pairs:FOLDER"):
        pairs.load()


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
def test_images_of_one_stem_share_their_caption(tmp_path):
    """Catches a caption that only the last of cat.jpg and cat.png has."""
    for i in range(6):
        for ending in ("jpg", "png"):
            Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(tmp_path / f"{i}.{ending}")
        (tmp_path / f"{i}.txt").write_text(f"red {i}")
    captions = captions_of(pairs.load(str(tmp_path)))
    assert captions == {f"{i}.{end}": [f"red {i}"] for i in range(6) for end in ("jpg", "png")}


def captions_of(splits):
    """File name -> captions, in tokens that are read back."""
    known = bpe.open_tokenizer(require_part(splits.modality, Text).tokenizer)
    return {
        name: [known.decode(row[row > 0].tolist()).strip() for row in own]
        for part in (splits.train, splits.test)
        for name, own in zip(part.names, part.partners, strict=True)
    }


@pytest.mark.parametrize(
    ("file", "head", "mark"),
    [
        ("train.csv", "filepath\ttitle", "\t"),
        ("train.tsv", "title\tfilepath", "\t"),
        ("a.csv", "image_path;caption", ";"),
        ("captions.txt", "image,caption", ","),
        ("results.csv", "image_name| comment_number| comment", "| "),
        ("bom.csv", "\ufeffImage,split,Caption", ","),
        ("x.tsv", "", "\t"),
    ],
)
def test_tables_of_captions_of_others_are_read(file, head, mark, tmp_path):
    """Catches a separator or column names that are taken for granted, and a row that is lost to a
    quote or a comma within a caption.
    """
    captions = {n: f'a "{c}" one, with 5" sides' for n, c in squares(tmp_path, 8).items()}
    order = [key.strip().lower().lstrip("\ufeff") for key in head.split(mark.strip() or mark)]
    lines = [head] if head else []
    for name, caption in captions.items():
        quoted = '"{}"'.format(caption.replace('"', '""')) if mark == "," else caption
        cells = dict.fromkeys(order, "0") | {
            key: name if key in pairs.IMAGE else quoted
            for key in order
            if key in (*pairs.IMAGE, *pairs.CAPTION)
        }
        lines.append(mark.join(cells.values()) if head else f"{name}#0{mark}{caption}")
    (tmp_path / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for path in (tmp_path, tmp_path / file):
        result = captions_of(pairs.load(str(path)))
        assert result == {name: [caption] for name, caption in captions.items()}


def test_names_are_found_where_they_lead(tmp_path):
    """Catches names that must be exact: whole paths, here and elsewhere, from the table, from the
    folder, decomposed, with another root in front, without an ending, with Windows' strokes.
    """
    path, other = tmp_path / "data", tmp_path / "other"
    (path / "images" / "a").mkdir(parents=True)
    other.mkdir()
    squares(path / "images" / "a", 8)
    squares(other, 1)
    (path / "images" / "a" / "00.png").rename(path / "images" / "a" / "é.png")
    inside = path / "images" / "a"
    names = [
        "images/a/e\u0301.png", str(inside / "01.png"), "02.png", "a\\03.png", "04",
        "/old/machine/data/images/a/05.png", "./images/a/06.png", "../data/images/a/07.png",
        str(other / "00.png"),
    ]  # fmt: skip
    rows = "".join(f"{name}\tcaption {i}\n" for i, name in enumerate([*names, "b/01.png"]))
    (path / "captions.csv").write_text(f"filepath\ttitle\n{rows}", encoding="utf-8")
    with pytest.warns(Notice) as notices:
        result = captions_of(pairs.load(str(path)))
    messages = [str(one.message) for one in notices]
    assert "4 rows of captions.csv name images by the end of their paths" in messages[0]
    assert "1 captions are of images not there (b/01.png)" in messages[1]
    expected = [f"images/a/{'é' if i == 0 else f'{i:02}'}.png" for i in range(8)]
    expected.append(str(other / "00.png"))
    assert result == {name: [f"caption {i}"] for i, name in enumerate(expected)}
    (path / "more").mkdir()
    squares(path / "more", 3)
    with pytest.raises(UserError, match=r"name '02.png', but 2 images have that name"):
        pairs.load(str(path))


def test_what_is_missing_is_counted_and_named(tmp_path):
    """Catches images, captions and rows that are left out without a word, and a wrong folder's
    image taken instead.
    """
    squares(tmp_path, 6)
    gone = [("gone/77.png", "x"), ("y.png", "x"), ("z.png", "x"), ("q.png", "x")]
    rows = [(f"{i:02}.png", f"words {i}") for i in range(4)]
    rows += [("00.png", "more words"), *gone, ("04.png", " ")]
    (tmp_path / "c.csv").write_text("file_name,text\n" + "\n".join(map(",".join, rows)))
    with pytest.warns(Notice) as notices:
        splits = pairs.load(str(tmp_path))
    messages = [str(one.message) for one in notices]
    assert messages[0].endswith(
        "4 images have captions; 2 of 6 images have no caption (04.png, 05.png), 4 captions are of "
        "images not there (gone/77.png, y.png, z.png, …), 1 captions are empty; left out"
    )
    assert "4 images have 1 to 2 captions each, 5 in all" in messages[1]
    assert captions_of(splits)["00.png"] == ["words 0", "more words"]
    (tmp_path / "c.csv").write_text("file_name,text\n00.png,a, b\n01.png,c\n02.png\n")
    with pytest.warns(Notice) as notices:
        result = captions_of(pairs.load(str(tmp_path)))
    assert result == {"00.png": ["a, b"], "01.png": ["c"]}
    messages = [str(one.message) for one in notices]
    assert "1 rows of c.csv have more cells" in messages[0]
    assert "1 rows of c.csv have fewer cells" in messages[1]
    (tmp_path / "c.csv").write_text("file_name,text\nno.png,a\n")
    with pytest.raises(UserError, match=r"no captions of its 6 images: they name 'no.png'"):
        pairs.load(str(tmp_path))
    (tmp_path / "c.csv").write_text("url,caption\nhttps://a.b/c.png,a\n")
    with pytest.raises(UserError, match=r"the columns 'url', 'caption', but needs"):
        pairs.load(str(tmp_path))
    (tmp_path / "c.csv").write_text("file_name,text\n00.png,a\n01.png,a\n")
    with pytest.raises(UserError, match=r"all captions in .* are 'a'"), pytest.warns(Notice):
        pairs.load(str(tmp_path))


def test_metadata_of_each_folder_is_read(tmp_path):
    """Catches Hugging Face's layout, a table in each folder, taken for images without captions."""
    for name, ending in (("one", "jsonl"), ("two", "csv")):
        (tmp_path / name).mkdir()
        captions = {n: f"{c} {name}" for n, c in squares(tmp_path / name, 4).items()}
        if ending == "jsonl":
            lines = [
                json.dumps({"file_name": n, "text": c, "size": 3}) for n, c in captions.items()
            ]
        else:
            lines = ["file_name,text", *(f"{n},{c}" for n, c in captions.items())]
        (tmp_path / name / f"metadata.{ending}").write_text("\n".join(lines))
    result = captions_of(pairs.load(str(tmp_path)))
    assert len(result) == 8
    assert all(own[0].endswith(name.partition("/")[0]) for name, own in result.items())


def test_pairs_in_shards_are_counted(tmp_path):
    """Catches captions of a tar that are of no image, and captions that go to another image."""
    captions = squares(tmp_path, 6)
    for i, (name, caption) in enumerate(captions.items()):
        if i:
            (tmp_path / name).with_suffix(".txt").write_text(caption)
    (tmp_path / "odd.txt").write_text("of nothing")
    (tmp_path / "shards").mkdir()
    for k in range(2):
        with tarfile.open(tmp_path / "shards" / f"{k}.tar", "w") as tar:
            for file in tmp_path.glob("*.*"):
                if k == (1 if file.stem == "odd" else int(file.stem) % 2):
                    tar.add(file, file.name)
    match = r"1 of 6 images have no caption \(0.tar/00.png\), 1 captions are of images not there"
    with pytest.warns(Notice, match=match):
        result = captions_of(pairs.load(str(tmp_path / "shards")))
    assert result == {f"{i % 2}.tar/{i:02}.png": [captions[f"{i:02}.png"]] for i in range(1, 6)}


def test_captions_that_are_cut_are_counted(tmp_path):
    """Catches long captions cut without a word."""
    captions = squares(tmp_path, 8)
    for i, (name, caption) in enumerate(captions.items()):
        (tmp_path / name).with_suffix(".txt").write_text(
            f"{caption} {i} " + "so long " * (20 * (i < 3))
        )
    with pytest.warns(Notice, match="3 of 8 captions have more than 12 tokens and are cut"):
        pairs.load(str(tmp_path), length=12)


def test_colors_find_their_names(tmp_path):
    """The whole way: a folder, training, and both senses in one space."""
    path = tmp_path / "images"
    path.mkdir()
    for name, caption in squares(path, 64).items():
        (path / name).with_suffix(".txt").write_text(caption)
    options = {"epochs": 5, "batch_size": 8, "lr": 3e-3, "text_layers": 1, "precision": "fp32"}
    options |= {"progress": False, "logger": "none"}
    run = ul.train("clip", f"pairs:{path}", out=tmp_path / "run", **options)
    test, method = run.data.test, run.method.eval()
    with torch.no_grad():
        a = method.project(torch.from_numpy(test.x[:]).float() / 255).numpy()
        b = method.project_partner(torch.from_numpy(test.partners[:, 0])).numpy()
    color = np.array([int(name.split("/")[-1][:2]) % 4 for name in test.names])
    result = paired_retrieval(a, b, (1,), color)
    assert result["a_to_b_recall_at_1"] > 0.7
    assert (tmp_path / "run" / "tokenizer.json").is_file()
    assert (tmp_path / "run" / "views.png").is_file()
    again = ul.load(tmp_path / "run")
    with pytest.warns(Notice, match="64 images are read; left out: 64 .txt"):
        assert again.embed(path).shape == (64, run.dim)  # captions are no texts to be read
    assert ul.evaluate(again)["n_test"] == len(test)


def test_emoji_of_one_family_are_on_one_side(real_data):
    splits = emoji.load(str(real_data))
    assert (len(splits.train), len(splits.test)) == (1497, 373)
    assert splits.train.x.shape[1:] == (3, 64, 64)
    assert not set(splits.train.names) & set(splits.test.names)
    assert splits.train.partners.shape == (1497, 2, 24)
    assert require_part(splits.modality, Text).vocabulary <= 1024
    with pytest.raises(UserError, match="does not contain emoji"):
        emoji.load(str(real_data / "text"))


def test_speakers_of_the_test_are_never_heard_in_training(real_data, monkeypatch):
    captions = audiovisual_digits.recordings(str(real_data))
    sounds, digit, speaker = captions
    monkeypatch.setattr(audiovisual_digits, "recordings", lambda _: captions)  # made once is enough
    assert sounds.shape == (3000, 32, 32)
    assert (sounds.max((1, 2)) == 255).all()
    row = {sound.tobytes(): i for i, sound in enumerate(sounds)}
    splits = audiovisual_digits.load()
    for part, held in ((splits.train, False), (splits.test, True)):
        heard = np.array([[row[s.tobytes()] for s in own] for own in part.partners[:200]])
        assert (np.isin(speaker[heard], audiovisual_digits.HELD_OUT) == held).all()
        assert (digit[heard] == part.factors["digit"][:200, None]).all()


def test_a_spectrogram_shows_pitch_and_time():
    rate, at = 8000, np.arange(5600) / 8000
    waves = (8000 * np.sin(2 * np.pi * f * at) for f in (300, 3000))
    low, high = (audiovisual_digits.spectrogram(wave, rate) for wave in waves)
    assert low.mean(1).argmax() < 10 < 25 < high.mean(1).argmax()
    late = np.where(at > 0.35, 8000 * np.sin(2 * np.pi * 1000 * at), 0)
    shown = audiovisual_digits.spectrogram(late, rate)
    assert shown[:, 20:].max() == 255
    assert shown[:, :12].max() == 0


def test_the_image_of_likeness_has_a_row_for_each():
    content = partners_image(torch.rand(3, 3, 8, 8), np.eye(3), ["one", "two", "a long " * 9])
    assert content[:4] == b"\x89PNG"
