"""`unlabeled sample`: files and texts of every kind of generative run; videos in the report."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

import unlabeled as ul
from unlabeled.cli.main import main
from unlabeled.data.sets import moving_sprites
from unlabeled.errors import UserError
from unlabeled.evaluation.sampling import draw, maker, sample, texts
from unlabeled.methods.diffusion import Diffusion
from unlabeled.pipelines.deep_belief_net import deep_belief_net, restored
from unlabeled.report.page import video_image
from unlabeled.runs.run import Run
from unlabeled.utils.drawing import gif, still

FAST = {"epochs": 1, "batch_size": 32, "progress": False, "logger": "none"}
NAMES = ("a large heart, top left", "a small square, bottom right", "an ellipse")


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    """Of diffusion; its images are not looked at here."""
    sampling_steps = Diffusion.sampling_steps

    def shorter(self, number, labels=None, steps=50, guidance=2.0):
        return sampling_steps(self, number, labels, min(steps, 8), guidance)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Diffusion, "sampling_steps", shorter)
        yield


@pytest.fixture(scope="module")
def small(sprites):
    return sprites[0][:96, ::4, ::4], sprites[1][:96]


@pytest.fixture(scope="module")
def conditioned(small, tmp_path_factory):
    """Diffusion conditioned on captions."""
    x, y = small[0], np.array(NAMES)[small[1]]
    out = tmp_path_factory.mktemp("conditioned") / "run"
    options = FAST | {"encoder_args": {"width": 8}, "condition": "words"}
    return ul.train("diffusion", (x, y), out=out, **options)


@pytest.mark.parametrize("name", ["vae", "gan", "rbm", "helmholtz"])
def test_images_of_every_maker(name, small, tmp_path):
    """From the folder alone, the same by the same seed."""
    run = ul.load(ul.train(name, small[0], out=tmp_path / "run", **FAST).path)
    files = sample(run, 3, tmp_path / "out")
    assert sorted(p.name for p in files) == [
        "0001.png", "0002.png", "0003.png", "samples.npz", "sheet.png"
    ]  # fmt: skip
    x = np.load(tmp_path / "out" / "samples.npz")["x"]
    assert x.shape == (3, 1, 16, 16)
    assert x.min() >= 0
    assert x.max() <= 1
    np.testing.assert_array_equal(draw(maker(run), 3), x)
    assert not np.array_equal(draw(maker(run), 3, seed=1), x)
    with pytest.raises(UserError, match=f"{name} has no conditions"):
        sample(run, 3, tmp_path / "other", ["3"])
    with pytest.raises(UserError, match="is not empty"):
        sample(run, 3, tmp_path / "out")


def test_a_belief_net_dreams_from_its_top(small, tmp_path):
    run = deep_belief_net(small[0], widths=(12, 8), epochs=1, out=tmp_path / "net", progress=False)
    stack = restored(ul.load(run.path))
    assert [m.hidden.out_features for m in stack.machines] == [12, 8]
    above = stack.machines[1]
    torch.nn.init.zeros_(above.hidden.weight)
    torch.nn.init.constant_(above.visible_bias, 30.0)  # all units of the first layer are on
    expected = stack.machines[0].pixels(torch.ones(1, 12)).view(1, 1, 16, 16)
    torch.testing.assert_close(stack.sample(5, steps=2), expected.expand(5, -1, -1, -1))
    assert len(sample(ul.load(run.path), 2, tmp_path / "out")) == 4


def test_what_is_asked_for_is_drawn(conditioned, tmp_path, monkeypatch, capsys):
    """By caption, whatever its commas, or by number; the classes reach the net in order."""
    seen, drawn = [], Diffusion.sample

    def watched(self, number, labels=None, **options):
        seen.append(labels.tolist())
        return drawn(self, number, labels, steps=2, **options)

    monkeypatch.setattr(Diffusion, "sample", watched)
    words = ["--ask", "A small square bottom right", "--ask", "0", "--number", "2"]
    assert main(["sample", str(conditioned.path), *words, "--out", str(tmp_path / "out")]) == 0
    names = sorted(NAMES)
    assert seen == [[names.index(NAMES[1])] * 2 + [0, 0]]
    created = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert "0001-A-small-square-bottom-right.png" in created
    assert np.load(tmp_path / "out" / "samples.npz")["asked"][-1] == "0"
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.width > sheet.height  # two rows of two images, and what was asked for
    assert (
        main(["sample", str(conditioned.path), "--ask", "a dog", "--out", str(tmp_path / "b")]) == 2
    )
    assert "nothing is known of 'a dog'; ask for one of: a large heart" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_clips_have_the_velocity_asked_for_in_their_name(tmp_path):
    options = FAST | {"encoder_args": {"width": 8}, "condition": "class"}
    data = moving_sprites.load(images=60)
    run = ul.train("diffusion", data, out=tmp_path / "run", **options)
    (video,) = run.path.glob("video-*.gif")
    with Image.open(video) as gif:
        assert gif.n_frames == 8
    files = sample(run, 1, tmp_path / "out", ["x +1, y -2"])  # a minus from any keyboard
    gif = next(p for p in files if p.suffix == ".gif")
    with Image.open(gif) as clip:
        assert clip.n_frames == 8
    assert [p.name for p in files if p.suffix == ".png"] == ["sheet.png"]


def test_the_way_ends_at_the_sample(conditioned):
    method = maker(conditioned)
    torch.manual_seed(0)
    *_, (noisy, clean) = method.sampling_steps(2, steps=4)
    torch.manual_seed(0)
    assert torch.equal(method.sample(2, steps=4), clean)
    assert noisy.shape == clean.shape == (2, 1, 16, 16)
    video = method.animate(torch.zeros(3, 1, 16, 16))["from noise to images"]
    assert video.shape == (3, 3, 1, 16, 16)
    assert video[:, 0].std() > video[:, -1].std() / 4  # it begins as noise


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")  # all windows are alike
def test_text_is_printed(tmp_path, capsys):
    text = np.frombuffer(b"the cat sat on the mat. " * 40, np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(text, 32)[:128, None, None].copy()
    options = FAST | {"encoder": "rnn", "values": "bytes"}
    args = {"values": "bytes", "width": 16}
    run = ul.train("autoregressive", windows, out=tmp_path / "run", encoder_args=args, **options)
    words = ["--begin", "the c", "--length", "20", "--number", "2"]
    capsys.readouterr()
    assert main(["sample", str(run.path), *words]) == 0
    output = capsys.readouterr().out
    assert output.count("the c") >= 2
    first = texts(ul.load(run.path), 2, "the c", 20)[0]
    assert first.startswith("the c")
    assert first in output
    assert main(["sample", str(run.path), "--ask", "3"]) == 2
    assert "prints text; omit --ask and --out" in capsys.readouterr().err


def test_who_makes_nothing_says_who_does(small, capsys, tmp_path):
    trained = ul.train("simclr", small[0], out=tmp_path / "run", **FAST)
    assert main(["sample", str(trained.path)]) == 2
    output = capsys.readouterr().err
    assert "simclr cannot be sampled; give a run of autoregressive, deep_belief_net," in output
    assert main(["sample", str(trained.path), "--number", "0"]) == 2
    assert "number is 0" in capsys.readouterr().err
    config = trained.config | {"method": "./other.py:Other"}
    with pytest.raises(UserError, match="your own"):
        maker(Run(tmp_path, trained.encoder, config, trained.inputs))


def test_videos_stand_still_where_that_is_preferred():
    videos = torch.linspace(0, 1, 5)[None, :, None, None, None].expand(2, 5, 1, 16, 16)
    content = gif(videos)
    element = video_image(content, "two <videos>")
    assert re.search(
        r'<source media="\(prefers-reduced-motion: reduce\)" srcset="data:image/png;base64,',
        element,
    )
    assert 'alt="two &lt;videos&gt;" src="data:image/gif;base64,' in element
    with Image.open(io.BytesIO(content)) as video, Image.open(io.BytesIO(still(content))) as last:
        assert video.n_frames == 5
        assert video.info["loop"] == 0
        assert np.asarray(last).max() == 255  # the last frame is white
