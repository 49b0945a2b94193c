"""Videos: frames keep their order and their shot, colors point where they should."""

import itertools
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import unlabeled as ul
from unlabeled.augmentations.color import to_gray
from unlabeled.core import Batch
from unlabeled.data.dataset import LazyImages
from unlabeled.data.loader import Order, in_clips, loader
from unlabeled.data.open import open_data, read_data
from unlabeled.data.readers import video
from unlabeled.data.sets import colored_sprites, moving_sprites
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.methods.video_colorization import VideoColorization
from unlabeled.objectives.propagation import attend_labels, propagate_labels

SHAPE = (3, 24, 32)


def method(**options):
    torch.manual_seed(0)
    encoder = build("spatial_resnet", 3, SHAPE[1:], width=4, blocks=1, gray=True)
    return VideoColorization(encoder, **({"dim": 8, "shape": SHAPE} | options))


def frames(n=8, seed=0):
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


def clips(n=5, t=6, h=20, w=24):
    """Clips whose pixels say which clip and frame they are of."""
    x = np.zeros((n, t, 3, h, w), np.uint8)
    x[:, :, 0] = 30 * np.arange(n)[:, None, None, None]
    x[:, :, 1] = 10 * np.arange(t)[:, None, None]
    return x


def is_right(part):
    clip, frame = part.factors["clip"], part.factors["frame"]
    return (part.x[:, 0, 0, 0] == 30 * clip).all() and (part.x[:, 1, 0, 0] == 10 * frame).all()


def test_clips_in_an_array_are_frames_in_order(tmp_path):
    x = clips()
    np.save(tmp_path / "last.npy", x.transpose(0, 1, 3, 4, 2))
    np.savez(tmp_path / "first.npz", x=x)
    for data in (
        x,
        torch.from_numpy(x),
        f"video:{tmp_path}/last.npy",
        f"video:{tmp_path}/first.npz",
    ):
        splits = open_data(data)
        assert len(splits.train) + len(splits.test) == 30
        assert is_right(splits.train)
        assert is_right(splits.test)
        seen, tested = (set(part.factors["shot"]) for part in (splits.train, splits.test))
        assert len(tested) == 1
        assert not seen & tested
    full = read_data(x)
    assert full.factors["frame"].tolist() == list(range(6)) * 5
    assert full.names[7] == "clip 2, frame 1"


def test_folders_of_frames(tmp_path):
    """By sub-folder, or by what stands before the number; ten comes after two."""
    x = clips(3, 12)
    for clip, frame in np.ndindex(3, 12):
        image = Image.fromarray(x[clip, frame].transpose(1, 2, 0))
        for name in (f"sub/c{clip}/{frame}.png", f"flat/c{clip}_{frame}.png"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    for location in ("sub", "flat"):
        splits = video.load(str(tmp_path / location), (20, 24))
        assert splits.train.x.shape == (24, 3, 20, 24)
        assert is_right(splits.train)
        assert is_right(splits.test)
        assert splits.train.class_names("clip") == ["c0", "c1", "c2"]


def test_a_video_is_cut_where_it_changes(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "video.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
        for t in range(20):
            image = np.full((32, 48, 3), 40 if t < 12 else 200, np.uint8)
            image[:, 2 * t : 2 * t + 4] = 255
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        container.mux(stream.encode())
    samples = read_data(str(path))
    assert samples.x.shape == (20, 3, 32, 48)
    assert samples.factors["shot"].tolist() == [0] * 12 + [1] * 8
    assert (samples.x[:, 0].argmax(2)[:, 0] == 2 * np.arange(20)).all()
    assert samples.names[12] == "video.mkv, shot 2, frame 12"
    assert video.load(str(tmp_path), (16, 16)).train.x.shape[1:] == (3, 16, 16)
    (tmp_path / "torn.mp4").write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"torn.mp4 is not a readable video"):
        open_data(str(tmp_path / "torn.mp4"))


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_video_of_a_turned_phone_is_upright(degrees, tmp_path):
    """Catches frames as the sensor lay, and the size of those."""
    av = pytest.importorskip("av")
    image = np.random.default_rng(0).integers(0, 255, (32, 48, 3)).astype(np.uint8)
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("png", rate=10)
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV cannot write a rotation")
        stream.width, stream.height, stream.pix_fmt = 48, 32, "rgb24"
        stream.set_display_rotation(degrees)
        for _ in range(2):
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        container.mux(stream.encode())
    upright = np.rot90(image, degrees // 90).transpose(2, 0, 1)
    np.testing.assert_array_equal(video.read(tmp_path / "a.mov").x, [upright, upright])


def test_long_videos_stay_on_disk(tmp_path, monkeypatch):
    """Fails where frames on disk differ, a cut is missed, or videos are decoded once more."""
    av = pytest.importorskip("av")
    frames = np.random.default_rng(0).integers(0, 60, (30, 32, 48, 3)).astype(np.uint8)
    frames[9:20] += 150
    for name, part in (("a.mkv", frames[:20]), ("b.mkv", frames[20:])):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("ffv1", rate=10)
            stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
            for image in part:
                for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                    container.mux(packet)
            container.mux(stream.encode())
    small = video.read(tmp_path)
    assert isinstance(small.x, np.ndarray)
    np.testing.assert_array_equal(small.x, frames.transpose(0, 3, 1, 2))
    assert small.factors["shot"].tolist() == [0] * 9 + [1] * 11 + [2] * 10
    assert (small.names[9], small.names[29]) == ("a.mkv, shot 2, frame 9", "b.mkv, shot 1, frame 9")
    monkeypatch.setattr(video, "IN_MEMORY", 0)
    monkeypatch.setattr(video, "_decoded", None)  # it is in the cache
    large = video.read(tmp_path)
    assert isinstance(large.x, LazyImages)
    assert large.names == small.names
    np.testing.assert_array_equal(large.x[:], small.x)
    splits = open_data(f"video:{tmp_path}")
    assert len(splits.train) + len(splits.test) == 30
    every = read_data(f"video:{tmp_path}")
    assert isinstance(every.x, LazyImages)  # parts of one file are joined without reading it
    np.testing.assert_array_equal(
        every.x[:][np.argsort(every.names)], small.x[np.argsort(small.names)]
    )
    assert not set(splits.train.factors["shot"]) & set(splits.test.factors["shot"])


def test_frames_in_a_folder_are_compared_a_few_at_a_time(monkeypatch):
    """Fails where the change between two blocks of frames is left out or counted twice."""
    x = np.random.default_rng(0).integers(0, 255, (23, 3, 4, 5)).astype(np.uint8)
    order = np.random.default_rng(1).permutation(23)
    full = video._changes(x, order)
    for block in (1, 5, 22, 23):
        monkeypatch.setattr(video, "BLOCK", block)
        np.testing.assert_allclose(video._changes(LazyImages(x), order), full, rtol=1e-6)
    assert len(full) == 22


def test_frames_of_16_bits_are_cut_as_those_of_8(tmp_path):
    """Catches changes of 16 bits that are compared with a threshold for shares of the range."""
    steps = np.where(np.arange(12) == 6, 900, 300)
    for t, value in enumerate(np.cumsum(steps) + 40_000):
        Image.fromarray(np.full((8, 8), value, np.uint16)).save(tmp_path / f"{t}.png")
    assert set(video.read(tmp_path).factors["shot"]) == {0}


def test_videos_need_pyav_and_say_so(tmp_path, monkeypatch):
    (tmp_path / "video.mp4").write_bytes(b"nothing")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"needs PyAV: pip install 'unlabeled\[video\]'"):
        open_data(str(tmp_path / "video.mp4"))


def test_what_is_no_video_is_reported(tmp_path, monkeypatch):
    np.savez(tmp_path / "other.npz", y=np.zeros(3))
    np.save(tmp_path / "flat.npy", np.zeros((4, 8, 8)))
    np.savez(tmp_path / "floats.npz", names=["a"], a=np.full((4, 9, 8, 3), 0.5))
    (tmp_path / "torn.npz").write_bytes(b"PK")
    for name, says in (
        ("nowhere", "does not exist"),
        ("other.npz", "has no array 'x'"),
        ("flat.npy", r"clips are \(N, T, C, H, W\)"),
        ("floats.npz", "hold float64; give frames of uint8"),
        ("torn.npz", "cannot be read as clips"),
    ):
        with pytest.raises(UserError, match=says):
            video.load(str(tmp_path / name))
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path))
    with pytest.raises(UserError, match="below \\$UNLABELED_DATA"):
        video.load()
    for name in ("colored_sprites", "moving_sprites"):
        with pytest.raises(UserError, match="are rendered"):
            open_data(f"{name}:here")


def test_real_videos_have_the_cuts_that_were_seen(real_data, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    with np.load(real_data / "video" / "videos_small.npz") as file:
        videos = {name: file[name].transpose(0, 3, 1, 2) for name in file["names"]}
        text = {name: file[f"{name}_shot"] for name in videos}
    for name, x in videos.items():
        assert (video.cut(x) == text[name]).all(), name
    splits = open_data("video")
    assert splits.train.x.shape[1:] == (3, 64, 88)
    assert len(splits.train) + len(splits.test) == 502
    assert len(splits.classes) == 8


def test_frames_cover_what_is_asked_for():
    x = np.zeros((1, 3, 40, 80), np.uint8)
    x[:, :, :, 20:60] = 200
    assert (video.fitted(x, (40, 40)) == 200).all()
    assert (video.fitted(x, (20, 20)) == 200)[:, :, :, 1:-1].all()
    assert video.fitted(x, (90, 50)).shape == (1, 3, 90, 50)


def factors(lengths):
    shot = np.repeat(np.arange(len(lengths)), lengths)
    order = np.random.default_rng(0).permutation(len(shot))  # rows in any order
    return {"shot": shot[order], "frame": np.concatenate([np.arange(n) for n in lengths])[order]}


def test_a_batch_holds_whole_clips():
    known = factors([30, 3, 7, 12])
    plan = in_clips(known, 12, 4, 3)
    batches = plan(np.random.default_rng([0, 1]))
    assert batches.shape == (52 // 12, 12)
    steps = set()
    for epoch in range(20):
        rows = plan(np.random.default_rng([0, epoch])).reshape(-1, 4)
        shot, frame = known["shot"][rows], known["frame"][rows]
        assert (shot == shot[:, :1]).all()
        assert 1 not in shot  # three frames are no clip of four
        distance = np.diff(frame, axis=1)
        assert (distance == distance[:, :1]).all()
        steps |= {(s, a) for s, a in zip(shot[:, 0], distance[:, 0], strict=True)}
    assert {a for _, a in steps} == {1, 2, 3}
    assert {a for s, a in steps if s == 2} == {1, 2}  # seven frames have no room for more
    assert (plan(np.random.default_rng([0, 1])) == batches).all()


def test_processes_share_whole_clips(monkeypatch):
    from unlabeled import parallel

    plan = in_clips(factors([30, 20]), 16, 4, 2)
    full = np.array(list(Order(plan, 7))).reshape(-1, 4, 4)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        parts.append(np.array(list(Order(plan, 7, processes=2))).reshape(-1, 2, 4))
    assert (np.concatenate(parts, 1) == full).all()
    samples = open_data(clips()).train
    with pytest.raises(UserError, match="not divided by clips of 4 on 2 processes"):
        loader(samples, 12, 0, clip_length=4, processes=2)


def test_single_images_are_no_video(sprites, tmp_path):
    x = np.repeat(sprites[0][:40, None], 3, 1)
    with pytest.raises(UserError, match="holds images; give --data video"):
        ul.train("video_colorization", x, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="no shot has the 4 frames"):
        loader(open_data(clips(t=3)).train, 8, 0, clip_length=4)


def test_the_loss_is_that_of_a_naive_loop():
    model = method(temperature=0.5, radius=3).eval()
    x, bins = model.views(Batch(frames(), torch.arange(8)))
    z = model.embed(x)  # (8, d, 6, 8)
    total = []
    for clip in range(2):
        *before, now = range(4 * clip, 4 * clip + 4)
        for i, j in np.ndindex(6, 8):
            scores, colors = [], []
            for t in before:
                for k, m in np.ndindex(6, 8):
                    if max(abs(i - k), abs(j - m)) <= 3:
                        scores.append(z[now, :, i, j] @ z[t, :, k, m] / 0.5)
                        colors.append(bins[t, 8 * k + m])
            outputs = torch.stack(scores).softmax(0) @ torch.stack(colors)
            total.append(-(bins[now, 8 * i + j] * (outputs + 1e-6).log()).sum())
    torch.testing.assert_close(model.loss((x, bins)), torch.stack(total).mean())


def test_a_clip_is_cropped_alike():
    """Frames that are the same stay the same."""
    still = frames(2).repeat_interleave(4, 0)
    x, bins = method().views(Batch(still, torch.arange(8)))
    for clip in range(2):
        part = slice(4 * clip, 4 * clip + 4)
        assert (x[part] == x[4 * clip]).all()
        assert (bins[part] == bins[4 * clip]).all()
    torch.testing.assert_close(bins.sum(2), torch.ones(8, 48))
    assert len(method().views(Batch(frames(7), torch.arange(7)))[0]) == 4  # whole clips only


def test_no_color_reaches_the_pointing():
    """Else it would find a color by the color."""
    model = method().eval()
    x = frames(3)
    torch.testing.assert_close(model.pixels(x), model.pixels(to_gray(x)), atol=1e-4, rtol=0)
    seen, _ = model.views(Batch(frames(4), torch.arange(4)))
    assert torch.equal(seen[:, 0], seen[:, 2])
    dyed = x.clone()
    dyed[1:] = to_gray(x)[1:]
    first = x[0, 1:]
    ours, expected = (propagate_labels(model.pixels(clip), first) for clip in (x, dyed))
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(24, 32), (23, 30)])
def test_maps_are_woven_into_pixels(size):
    model = method(shape=(3, *size)).eval()
    x = frames(1)[:, :, : size[0], : size[1]]
    z = model.pixels(x)
    assert z.shape == (1, 8, *size)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(1, *size))
    inner = slice(2, -2)
    for i, j in ((0, 0), (1, 2), (3, 3)):
        paths = model.embed(x[:, :, i : i + 20, j : j + 24])
        woven = z[:, :, i : i + 20 : 4, j : j + 24 : 4]
        torch.testing.assert_close(woven[..., 2:3, 2:4], paths[..., 2:3, 2:4])
    assert z[..., inner, inner].isfinite().all()


@pytest.mark.parametrize("nearest", [0, 3, 1000])
def test_pointing_equals_a_naive_loop(nearest):
    g = torch.Generator().manual_seed(0)
    z, others = torch.randn(5, 6, 7, generator=g), torch.randn(2, 5, 6, 7, generator=g)
    labels = torch.randn(2, 3, 6, 7, generator=g)
    result = attend_labels(z, others, labels, 2, 0.7, nearest)
    for i, j in itertools.product(range(6), range(7)):
        near = [(t, k, m) for t, k, m in np.ndindex(2, 6, 7) if abs(i - k) <= 2 and abs(j - m) <= 2]
        far = torch.stack([(z[:, i, j] - others[t, :, k, m]).square().sum() for t, k, m in near])
        remaining = far.argsort()[: nearest or None]
        weight = (-far[remaining] / 2 / 0.7).softmax(0)
        those = torch.stack([labels[t, :, k, m] for t, k, m in near])[remaining]
        expected = (weight[:, None] * those).sum(0)
        torch.testing.assert_close(result[:, i, j], expected, atol=1e-5, rtol=1e-5)


def test_what_moves_takes_its_labels_along():
    """Embeddings that glide two pixels a frame; beyond the radius only step by step."""
    g = torch.Generator().manual_seed(0)
    start = torch.nn.functional.normalize(torch.randn(16, 12, 40, generator=g), dim=0)
    z = torch.stack([start.roll(2 * t, 2) for t in range(8)])
    labels = (torch.arange(40) == 20).float().expand(1, 12, 40)  # a key point's column
    near = propagate_labels(z, labels, radius=4, temperature=0.01)
    assert (near[:3, 0].argmax(2) == torch.tensor([20, 22, 24])[:, None]).all()
    assert near[7, 0, :, 34].mean() < 0.2  # 14 pixels away
    along = propagate_labels(z, labels, radius=4, temperature=0.01, recent=2)
    assert (along[:, 0].argmax(2) == 20 + 2 * torch.arange(8)[:, None]).all()
    still = propagate_labels(z[:1].expand(4, -1, -1, -1), labels, radius=4, temperature=0.01)
    torch.testing.assert_close(still, labels.expand(4, -1, -1, -1), atol=1e-3, rtol=0)


def test_an_encoder_without_places_is_refused():
    for name in ("dense", "small", "vit"):  # vit's class token would stay untrained
        encoder = build(name, 3, SHAPE[1:])
        with pytest.raises(UserError, match="map"):
            VideoColorization(encoder, shape=SHAPE)


def test_sprites_hide_each_other_and_keep_their_clips():
    videos = colored_sprites.draw(40, 3)
    assert videos.x.shape == (40, 8, 3, 32, 32)
    assert videos.masks.max() == 2
    lightness = to_gray(torch.from_numpy(videos.x[:, 0]).float() / 255)[:, 0]
    for shown, mask in zip(lightness, torch.from_numpy(videos.masks[:, 0]), strict=True):
        each = [shown[mask == k].median() for k in range(3) if (mask == k).sum() > 8]
        gaps = [abs(a - b) for a, b in itertools.combinations(each, 2)]
        assert min(gaps) > 0.05  # seen in gray, too
    splits = colored_sprites.load(clips=20)
    assert len(splits.test) == 4 * 8
    assert not set(splits.train.factors["shot"]) & set(splits.test.factors["shot"])
    again = colored_sprites.draw(20, 0)
    assert (splits.train.x == again.x[:16].reshape(-1, 3, 32, 32)).all()
    clips, known = moving_sprites.glide(np.random.default_rng(0), 6)
    assert (moving_sprites.load(images=6).train.x == clips[:5]).all()
    assert set(known) == {"shape", "scale", "orientation", "velocity", "x", "y"}


def test_masks_are_propagated_better_than_copied(tmp_path):
    """Learned within seconds, from colors alone."""
    from unlabeled.studies.video import overlap

    run = ul.train(
        "video_colorization", colored_sprites.load(clips=100), epochs=3, out=tmp_path / "run",
        progress=False, logger="none", lr=4e-3, precision="fp32",
    )  # fmt: skip
    videos = colored_sprites.draw(8, 5)
    figures = []
    for x, masks in zip(videos.x, videos.masks, strict=True):
        true = torch.from_numpy(masks).long()
        first = torch.nn.functional.one_hot(true[0], 3).permute(2, 0, 1).float()
        model = run.method.eval()
        with torch.no_grad():
            z = model.pixels(torch.from_numpy(x).float() / 255)
        text = propagate_labels(z, first).argmax(1)
        copied = true[:1].expand_as(true)
        figures.append([overlap(part[1:], true[1:], 2) for part in (text, copied)])
    ours, copied = np.mean(figures, 0)
    assert ours > copied + 0.1
    (gif,) = run.path.glob("video-*.gif")
    with Image.open(gif) as video:
        assert video.n_frames == 8
        assert video.width == 3 * (96 + 4)
    assert gif.stat().st_size < 200_000
    assert (run.path / "views.png").is_file()
    again = ul.load(run.path)
    np.testing.assert_array_equal(again.embed(videos.x[0]), run.embed(videos.x[0]))


def test_a_stopped_video_run_ends_in_the_same_bytes(tmp_path, monkeypatch):
    from helpers import same_weights

    x = np.random.default_rng(0).integers(0, 255, (6, 8, 3, 16, 16)).astype(np.uint8)
    options = {"batch_size": 8, "epochs": 2, "progress": False, "logger": "none",
               "encoder_args": {"width": 4, "blocks": 0}}  # fmt: skip
    ul.train("video_colorization", x, out=tmp_path / "whole", **options)
    loss, calls = VideoColorization.loss, []

    def failing(self, views):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return loss(self, views)

    with monkeypatch.context() as patch:
        patch.setattr(VideoColorization, "loss", failing)
        with pytest.raises(KeyboardInterrupt):
            ul.train("video_colorization", x, out=tmp_path / "run", **options)
    ul.train("video_colorization", x, out=tmp_path / "run", resume=True, **options)
    assert same_weights(tmp_path / "whole", tmp_path / "run")
