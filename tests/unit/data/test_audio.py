"""Recordings in folders and arrays, views of sound, mel and MFCC, tunes."""

import numpy as np
import pytest
import torch

from unlabeled import registry
from unlabeled.augmentations import audio as views
from unlabeled.data import Recordings, open_data
from unlabeled.data.readers.audio import lengths
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation.spectral import Spectral
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
    again = open_data(str(tmp_path), like=Audio(16_000, 1000), labels_from="folders")
    assert again.modality.sample_rate == 16000
    assert again.size == (1, 1000)


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
    for bad, told in (
        (Recordings(np.full((2, 9), np.nan), RATE), "NaN"),
        (Recordings(np.zeros((2, 9)), 3), "rate of 3"),
        (Recordings([], RATE), "no recordings"),
        (Recordings(np.zeros((2, 9)), RATE, [1, 2, 3]), "one label per recording"),
        (Recordings([["a"]], RATE), "convert it"),
    ):
        with pytest.raises(UserError, match=told):
            open_data(bad)
    np.savez(tmp_path / "odd.npz", x=np.zeros((2, 3, 4)), rate=RATE)
    with pytest.raises(UserError, match="name them so"):
        open_data(str(tmp_path / "odd.npz"))


def test_spoken_digits_are_the_official_ones(real_data, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    place = real_data / "fsdd"
    if not place.is_dir():
        pytest.skip("the spoken digits are not here")
    data = open_data(f"spoken_digits:{place}")
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


def test_noise_is_as_loud_as_told():
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
    found = Spectral(RATE)(x)
    assert found.shape == (6, 40)
    theirs = librosa.feature.mfcc(
        y=x[0, 0, 0, :6000].numpy(), sr=RATE, n_mfcc=20, n_fft=256, hop_length=80, n_mels=40
    )
    wanted = np.concatenate([theirs.mean(1), theirs.std(1)])
    end = lengths(x.numpy())[0]
    np.testing.assert_allclose(found[0].numpy(), wanted, atol=2.0 if end < 6000 else 1e-3)
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
