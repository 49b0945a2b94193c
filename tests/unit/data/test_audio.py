"""Recordings in folders and arrays, views of sound, mel and MFCC, tunes."""

from typing import ClassVar

import numpy as np
import pytest
import torch

import unlabeled as ul
from unlabeled import registry
from unlabeled.augmentations import audio as views
from unlabeled.data import Recordings, open_data
from unlabeled.data.dataset import LazyImages
from unlabeled.data.open import read_data
from unlabeled.data.readers import audio, recordings
from unlabeled.data.readers.audio import lengths
from unlabeled.encoders.base import build
from unlabeled.encoders.features import embed
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation.spectral import Spectral
from unlabeled.methods.clapp import CLAPP
from unlabeled.methods.cpc import CPC
from unlabeled.modality import Audio

RATE = 8000


def tone(hertz: float, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def pitch_of(wave) -> float:
    """The strongest frequency, Hz."""
    wave = np.asarray(wave, np.float64).ravel()
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 8 * len(wave)))
    return spectrum.argmax() * RATE / (8 * len(wave))


def test_a_folder_of_recordings_is_opened(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    for name, hertz, rate in (
        ("a/1.wav", 440, 8000),
        ("a/2.flac", 440, 16000),
        ("b/3.wav", 880, 8000),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        wave = tone(hertz, 0.5 if name != "b/3.wav" else 0.3, rate)
        stereo = np.stack([wave, wave], 1) if name == "a/1.wav" else wave
        soundfile.write(tmp_path / name, stereo, rate)
    (tmp_path / "b" / "4.wav").write_bytes(b"nothing")
    with pytest.warns(Notice, match=r"1 of 4 recordings cannot be read.*b/4.wav"):
        data = open_data(str(tmp_path), labels_from="folders")
    both = {n: x for p in (data.train, data.test) for n, x in zip(p.names, p.x, strict=True)}
    assert data.modality.sample_rate == 8000
    assert data.size == (1, 4000)
    assert {name: round(pitch_of(x[0, 0, :2400])) for name, x in both.items()} == {
        "a/1.wav": 440,
        "a/2.flac": 440,
        "b/3.wav": 880,
    }
    assert lengths(both["b/3.wav"][None])[0] == pytest.approx(2400, abs=1)
    (tmp_path / "b" / "4.wav").unlink()
    again = open_data(str(tmp_path), like=Audio(16_000, 8000), labels_from="folders")
    assert again.modality.sample_rate == 16000
    assert again.size == (1, 8000)


def write_long(folder, seconds=(10.5, 3.0, 9.0), rate=RATE, **options):
    """Recordings whose samples say where they are: of each, its number and the second."""
    soundfile = pytest.importorskip("soundfile")
    waves = {}
    for number, length in enumerate(seconds):
        second = np.arange(int(length * rate)) // rate
        waves[f"{'ab'[number % 2]}/{number}.wav"] = (1000 * (number + 1) + second) / 32768
    for name, wave in waves.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, wave, rate, **options)
    return waves


def test_long_recordings_are_cut_into_pieces(tmp_path):
    """Fails where pieces overlap, shift, take another's labels, or their ends vanish in silence."""
    waves = write_long(tmp_path)
    with pytest.warns(Notice) as notices:
        data = read_data(str(tmp_path), labels_from="folders")
    messages = " ".join(str(notice.message) for notice in notices)
    assert "2 of 3 recordings are longer than 4 seconds and are cut into 4 pieces" in messages
    assert (
        "the ends of 2 recordings fill no piece of 4 seconds and are left out, 3.5 sec" in messages
    )
    assert data.names == [
        "a/0.wav#t=0,4", "a/0.wav#t=4,8", "a/2.wav#t=0,4", "a/2.wav#t=4,8", "b/1.wav",
    ]  # fmt: skip
    labels = np.array(data.class_names("label"))[data.factors["label"]]
    assert labels.tolist() == ["a"] * 4 + ["b"]
    assert data.groups.tolist() == ["a/0.wav"] * 2 + ["a/2.wav"] * 2 + ["b/1.wav"]
    full = {name: np.pad(wave, (0, 32_000)) for name, wave in waves.items()}
    for x, name in zip(data.x, data.names, strict=True):
        path, _, span = name.partition("#t=")
        start = 8000 * int(span.partition(",")[0] or 0)
        np.testing.assert_array_equal(x[0, 0], full[path][start : start + 32_000])


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
def test_pieces_of_a_recording_are_on_one_side(tmp_path):
    """Fails where pieces are split one by one, whatever they are grouped by."""
    write_long(tmp_path / "data", [8.0 + i % 3 for i in range(30)])
    (tmp_path / "who.csv").write_text(
        "name,who\n" + "".join(f"{'ab'[i % 2]}/{i}.wav,{i // 6}\n" for i in range(30))
    )
    for options in ({}, {"groups_from": f"{tmp_path / 'who.csv'}:who"}):
        data = open_data(str(tmp_path / "data"), labels_from="folders", **options)
        seen, tested = (
            {name.partition("#")[0] for name in part.names} for part in (data.train, data.test)
        )
        assert len(seen) + len(tested) == 30
        assert not seen & tested
        assert len(data.test) > 1
    groups = (set(part.groups) for part in (data.train, data.test))
    assert set.union(*groups) == set("01234")
    array = open_data(
        str(tmp_path / "data"), labels_from="folders", groups_from=np.arange(30) // 15
    )
    assert {*array.train.groups, *array.test.groups} == {"0", "1"}


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
def test_equal_names_elsewhere_are_other_recordings(tmp_path):
    """Fails where a test folder's pieces throw out those of the same name to learn from."""
    for path in ("one", "other"):
        write_long(tmp_path / path)
    data = open_data(str(tmp_path / "one"), test=str(tmp_path / "other"), labels_from="folders")
    assert (len(data.train), len(data.test)) == (5, 5)


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
def test_large_recordings_stay_on_disk(tmp_path, monkeypatch):
    """Fails where lazily read pieces differ, or several processes mix up the order of files."""
    write_long(tmp_path / "one", [5.0, 9.0, 3.0, 13.0])
    small = read_data(str(tmp_path / "one"))
    write_long(tmp_path / "two", [5.0, 9.0, 3.0, 13.0])
    monkeypatch.setattr(audio, "IN_MEMORY", 0)
    monkeypatch.setattr(recordings, "TASK", 4.0)
    large = open_data(str(tmp_path / "two"), workers=2).train
    assert isinstance(large.x, LazyImages)
    assert large.x.base.dtype == np.int16
    assert large.names == small.names
    np.testing.assert_array_equal(large.x[:], small.x)
    monkeypatch.setattr(recordings, "decode", None)  # it is in the cache
    np.testing.assert_array_equal(read_data(str(tmp_path / "two")).x[:], small.x)


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
@pytest.mark.parametrize(("own", "goal"), [(44_100, 16_000), (8_000, 16_000), (48_000, 16_000)])
def test_resampling_by_blocks_is_that_of_the_whole(own, goal, tmp_path, monkeypatch):
    """Fails where a block's edge rings, or its first output is a fraction of a sample off."""
    from scipy.signal import resample_poly

    soundfile = pytest.importorskip("soundfile")
    monkeypatch.setattr(recordings, "BLOCK", 3_001)
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * own).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", wave, own, subtype="FLOAT")
    common = np.gcd(own, goal)
    expected = resample_poly(wave, goal // common, own // common)
    result = read_data(str(tmp_path), like=Audio(goal, goal)).x[:, 0, 0].ravel()
    np.testing.assert_allclose(result, expected[: len(result)], atol=1e-6)
    assert len(result) == 2 * goal


def test_opposite_channels_are_reported(tmp_path):
    """Fails where the mix of opposite channels is taken, which is silent, or of others is not."""
    soundfile = pytest.importorskip("soundfile")
    wave = tone(440)
    for name, other in (("opposite", -wave), ("silent", 0 * wave), ("same", wave)):
        soundfile.write(tmp_path / f"{name}.wav", np.stack([wave, other], 1), RATE)
    with pytest.warns(Notice, match=r"channels of 1 of 3 recordings, such as opposite.wav, canc"):
        x = read_data(str(tmp_path)).x
    assert [round(float(abs(row).max()), 2) for row in x] == [0.5, 0.5, 0.25]
    with pytest.warns(Notice, match="channels of 1 of 2 recordings, such as number 1"):
        x = read_data(Recordings([np.stack([wave, -wave], 1), wave], RATE)).x
    np.testing.assert_allclose(x[0], x[1], atol=1e-7)


def test_numbers_that_16_bits_do_not_hold_are_kept(tmp_path):
    """Fails where quiet audio of 24 bits is rounded to 16, or loud floats are clipped."""
    soundfile = pytest.importorskip("soundfile")
    quiet, loud = 1e-5 * tone(440), 4 * tone(440)
    soundfile.write(tmp_path / "1.wav", quiet, RATE, subtype="PCM_24")
    soundfile.write(tmp_path / "2.wav", loud, RATE, subtype="FLOAT")
    x = read_data(str(tmp_path)).x[:, 0, 0]
    np.testing.assert_allclose(x, np.stack([quiet, loud]), rtol=1e-6, atol=2**-23)


def test_what_resampling_clips_is_reported(tmp_path):
    """Fails where overshoot wraps around to the other sign, or is clipped in silence."""
    soundfile = pytest.importorskip("soundfile")
    square = np.sign(tone(100, rate=16_000)).astype(np.float32)
    soundfile.write(tmp_path / "1.wav", np.clip(square, -1, 32767 / 32768), 16_000)
    with pytest.warns(Notice, match=r"[1-9][\d,]* samples beyond the range of 16 bits are clip"):
        x = read_data(str(tmp_path), like=Audio(RATE, 4000)).x[0, 0, 0]
    assert abs(x).max() == 1
    assert abs(x - square[::2]).max() < 1.5


def test_frames_follow_the_sample_rate():
    """Fails where the encoder of 16 kHz has frames of 5 ms, or crops halve."""
    for rate, strides in ((8_000, (5, 4, 2, 2)), (16_000, (5, 4, 2, 2, 2)), (4_000, (5, 4, 2))):
        network = build("wave", 1, (1, rate), width=4, context=4, sample_rate=rate)
        *convolutions, _ = network.stages
        assert tuple(stage.stride[1] for stage in convolutions) == strides
        assert CPC(network).crop_length == CLAPP(network).crop_length == round(0.32 * rate)
    assert CPC(network, crop_length=0).crop_length == 0


def test_a_run_at_16_khz_is_loaded_as_it_was_trained(tmp_path):
    """Fails where the sample rate is lost on the way to the encoder or out of the run's folder."""
    waves = np.stack([tone(200 + 10 * i, 0.5, 16_000) for i in range(8)]).astype(np.float32)
    run = ul.train(
        "cpc", Recordings(waves, 16_000), epochs=1, batch_size=4, out=tmp_path / "run",
        progress=False, logger="none", encoder_args={"width": 4, "context": 4},
    )  # fmt: skip
    assert len(run.encoder.stages) == 6
    again = ul.load(tmp_path / "run")
    x = waves[:, None, None]
    np.testing.assert_array_equal(again.embed(x), run.embed(x))


def test_features_of_long_samples_are_computed_a_few_at_a_time():
    """Fails where 500 long recordings at once fill the memory, or a row lands in another place."""

    class Mean(torch.nn.Module):
        sizes: ClassVar[list[int]] = []

        def forward(self, x):
            self.sizes.append(len(x))
            return x.mean((1, 2, 3))[:, None]

    x = (
        np.zeros((9, 1, 1, 1 << 19), np.float32)
        + np.arange(9, dtype=np.float32)[:, None, None, None]
    )
    assert embed(Mean(), x)[:, 0].tolist() == list(range(9))
    assert Mean.sizes == [4, 4, 1]


def test_windows_of_augmentations_follow_the_sample_rate(tmp_path):
    """Fails where an echo at 16 kHz is half as long as at 8."""
    assert [views.window_length(rate) for rate in (8_000, 16_000, 44_100)] == [512, 1024, 2048]
    data = open_data(Recordings(np.stack([tone(300)] * 2), 16_000))
    assert data.augment.sample_rate == 16_000
    ends = []
    for rate in (8_000, 16_000):
        x = torch.full((1, 1, 1, 2 * rate), 1e-9)
        x[..., 100] = 1.0
        torch.manual_seed(0)
        seen = views.RandomReverb(p=1.0, sample_rate=rate)(x)
        ends.append(int((seen.abs() > 1e-6).nonzero()[-1, 3]) / rate)
    assert ends[1] == pytest.approx(ends[0], rel=0.2)
    assert 0.1 < ends[0] < 0.35


def test_arrays_have_a_rate(tmp_path):
    waves = (3e4 * np.stack([tone(300), tone(600)])).astype(np.int16)
    np.savez(tmp_path / "x.npz", x=waves, rate=RATE, y=["low", "high"])
    data = open_data(str(tmp_path / "x.npz"))
    assert data.modality == Audio(8000, 4000)
    assert data.classes == ["high", "low"]
    assert np.abs(data.train.x).max() == pytest.approx(0.5 * 3e4 / 2**15, rel=0.01)
    short = open_data(Recordings([tone(300), tone(300, 0.1)], RATE))
    assert lengths(short.train.x).tolist() == pytest.approx([4000, 800], abs=1)
    faster = open_data(
        Recordings(np.stack([tone(300)] * 2), RATE), like=Audio(16_000, 2 * len(tone(300)))
    )
    assert faster.size == (1, 8000)
    for bad, text in (
        (Recordings(np.full((2, 9), np.nan), RATE), "NaN"),
        (Recordings(np.zeros((2, 9)), 3), "sample rate of 3 is out of range"),
        (Recordings([], RATE), "no recordings"),
        (Recordings(np.zeros((2, 9)), RATE, [1, 2, 3]), "one label per recording"),
        (Recordings([["a"]], RATE), "convert it"),
        (Recordings(np.ones((3, 2, 9)), RATE), r"\(2, 9\) is 2 samples of 9 channels.*transpose"),
    ):
        with pytest.raises(UserError, match=text):
            open_data(bad)
    np.savez(tmp_path / "odd.npz", x=np.zeros((2, 3, 4)), rate=RATE)
    with pytest.raises(UserError, match="name them so"):
        open_data(str(tmp_path / "odd.npz"))


def test_recordings_in_a_list_are_those_of_the_array():
    """Catches a list that is asked for its `reshape`, and lengths that numpy cannot stack."""
    waves = np.stack([tone(300), tone(600)])
    like = Audio(RATE, len(waves[0]))
    expected = read_data(Recordings(waves, RATE)).x
    for given in (waves, list(waves), waves.tolist(), (list(waves), [0, 1])):
        assert (read_data(given, like=like).x == expected).all()
    assert read_data((waves, ["low", "high"]), like=like).class_names("label") == ["high", "low"]
    short = read_data([waves[0], waves[1][:800]], like=like)
    assert lengths(short.x).tolist() == pytest.approx([4000, 800], abs=1)


def test_recordings_in_memory_are_cut_aloud():
    """Catches ends that an encoder of shorter recordings does not see, without a word."""
    waves = [tone(300, 0.5), tone(300, 0.4), tone(300, 0.1)]
    like = Audio(RATE, 2400)
    with pytest.warns(Notice, match=r"2 of 3 recordings are longer than 0.3 seconds and are cut"):
        x = read_data(Recordings(waves, RATE), like=like).x
    assert x.shape == (3, 1, 1, 2400)
    splits = open_data(Recordings(waves, RATE))
    with pytest.warns(Notice, match=r"2 of 3 recordings are longer than 0.3 seconds and are cut"):
        assert (open_data(splits, like=like).train.x == x).all()


def test_spoken_digits_are_the_official_ones(real_data, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    path = real_data / "fsdd"
    if not path.is_dir():
        pytest.skip("the spoken digits are not here")
    data = open_data(f"spoken_digits:{path}")
    assert (len(data.train), len(data.test)) == (2700, 300)
    assert set(data.test.factors["take"]) == set(range(5))
    assert not set(data.train.factors["take"]) & set(range(5))
    assert np.bincount(data.test.factors["digit"]).tolist() == [30] * 10
    assert np.bincount(data.test.factors["speaker"]).tolist() == [50] * 6
    assert data.modality.sample_rate == 8000
    for row in (0, 7, 299):  # the authors' files give the same
        f = {k: v[row] for k, v in data.test.factors.items()}
        name = f"{f['digit']}_{data.test.class_names('speaker')[f['speaker']]}_{f['take']}.wav"
        soundfile.write(tmp_path / name, data.test.x[row, 0, 0], RATE, subtype="FLOAT")
    files = open_data(f"spoken_digits:{tmp_path}")
    assert len(files.test) == 3
    np.testing.assert_array_equal(files.test.x[:], data.test.x[np.array([0, 7, 299])])
    with pytest.raises(UserError, match="download v1"):
        open_data(f"spoken_digits:{tmp_path / '..'}")


def a_batch(hertz: float = 500, n: int = 6) -> torch.Tensor:
    x = np.zeros((n, 1, 1, 8000), np.float32)
    x[..., :6000] = tone(hertz, 0.75)
    return torch.from_numpy(x)


@pytest.mark.parametrize(
    "view",
    [views.RandomGain(), views.WhiteNoise(), views.RandomEqualizer(), views.RandomReverb(p=1.0),
     views.TimeStretch(), views.PitchShift(), views.AudioAugment()],
    ids=lambda view: type(view).__name__,
)  # fmt: skip
def test_views_of_sound_change_each_by_itself_and_leave_silence(view):
    torch.manual_seed(0)
    x = a_batch()
    before = x.clone()
    seen = view(x)
    assert seen.shape == x.shape
    assert torch.equal(x, before)
    assert torch.isfinite(seen).all()
    assert not torch.allclose(seen[0], seen[1])
    if not isinstance(view, views.TimeStretch):
        assert (seen[..., 6000:] == 0).all()
    assert (seen[..., 7600:] == 0).all()
    assert view(torch.zeros(2, 1, 1, 4000)).abs().max() < 1e-6


def test_pitch_moves_the_pitch_and_not_the_length():
    x = a_batch()
    torch.manual_seed(0)
    seen = views.PitchShift(4.0)(x)
    torch.manual_seed(0)
    semitones = (-4 + 8 * torch.rand(6, 1, 1, 1)).flatten()
    for row, by in zip(seen, semitones, strict=True):
        assert pitch_of(row[..., 1000:5000]) == pytest.approx(500 * 2 ** (by.item() / 12), rel=0.02)
        assert row[..., 4500:5500].abs().max() > 0.2


def test_tempo_moves_the_length_and_not_the_pitch():
    x = a_batch()
    fast = views.time_stretch(x, torch.full((6,), 1.5))
    assert pitch_of(fast[0, ..., 500:3500]) == pytest.approx(500, rel=0.01)
    loud = fast[0].abs().flatten()
    assert loud[4200:].max() < 0.1  # 6000 / 1.5 is 4000
    assert loud[500:3500].max() == pytest.approx(0.5, rel=0.15)
    same = views.time_stretch(x, torch.ones(6))
    torch.testing.assert_close(same[..., :5800], x[..., :5800], atol=2e-3, rtol=0)


def test_noise_is_as_loud_as_requested():
    torch.manual_seed(0)
    x = a_batch()
    noise = (views.WhiteNoise(20.0, 20.0)(x) - x)[..., :6000]
    ratio = 20 * torch.log10(x[..., :6000].pow(2).mean().sqrt() / noise.pow(2).mean().sqrt())
    assert ratio.item() == pytest.approx(20, abs=0.5)
    gain = views.RandomGain(6.0)(x)[..., :6000].abs().amax((1, 2, 3)) / 0.5
    assert (20 * gain.log10()).abs().max() <= 6.01


def test_pieces_come_from_what_is_heard():
    torch.manual_seed(0)
    x = a_batch(n=40)
    seen = views.random_segment(x, 2000)
    assert seen.shape == (40, 1, 1, 2000)
    assert (seen.abs().amax(3) > 0.4).all()
    assert len({round(row[0, 0, 0].item(), 4) for row in seen}) > 5
    with pytest.raises(UserError, match="give fewer"):
        views.random_segment(x, 9000)


def test_mfcc_is_librosas_of_what_is_heard():
    librosa = pytest.importorskip("librosa")
    x = a_batch()
    result = Spectral(RATE)(x)
    assert result.shape == (6, 40)
    theirs = librosa.feature.mfcc(
        y=x[0, 0, 0, :6000].numpy(), sr=RATE, n_mfcc=20, n_fft=256, hop_length=80, n_mels=40
    )
    wanted = np.concatenate([theirs.mean(1), theirs.std(1)])
    end = lengths(x.numpy())[0]
    np.testing.assert_allclose(result[0].numpy(), wanted, atol=2.0 if end < 6000 else 1e-3)
    for kind, dim in (("mfcc and deltas", 120), ("mel", 80)):
        assert Spectral(RATE, kind)(x[..., :300]).shape == (6, dim)
    assert torch.isfinite(Spectral(RATE)(torch.zeros(1, 1, 1, 500))).all()


def test_tunes_are_played_by_many_instruments():
    data = registry.find("datasets", "tunes").load(tunes=30, instruments=4)
    played = [part.factors for part in (data.train, data.test)]
    assert not set(played[0]["tune"]) & set(played[1]["tune"])
    assert not set(played[0]["instrument"]) & set(played[1]["instrument"])
    x = data.test.x
    assert x.dtype == np.float32
    assert np.abs(x).max() <= 1
    y, i = played[1]["tune"], played[1]["instrument"]
    assert (np.bincount(y)[np.unique(y)] == len(np.unique(i))).all()
    notes = registry.find("datasets", "tunes").melodies(30)
    first = int(y[0])
    rows = np.flatnonzero(y == first)
    for row in rows:  # the first note has its pitch, or a multiple, on every instrument
        hertz = 440 * 2 ** ((notes[first, 0] - 69) / 12)
        ratio = pitch_of(x[row, 0, 0, 200:1600]) / hertz
        assert min(abs(ratio - k) for k in range(1, 9)) < 0.06 * max(1, round(ratio))
