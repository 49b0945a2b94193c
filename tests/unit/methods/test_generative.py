"""GAN and diffusion: noise is added and taken away as the papers say, and images come out."""

import numpy as np
import pytest
import torch

import unlabeled as ul
from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.encoders.unet import alpha_bar
from unlabeled.errors import UserError
from unlabeled.methods.autoregressive import Autoregressive
from unlabeled.methods.diffusion import CaptionEmbedding, Diffusion, add_noise
from unlabeled.methods.gan import GAN

SHAPE = (1, 16, 16)


def unet(**options):
    torch.manual_seed(0)
    return build("unet", 1, (16, 16), width=8, **options)


def diffusion(**options):
    return Diffusion(unet(), **({"shape": SHAPE, "classes": 3, "timesteps": 200} | options))


def images(n=6):
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_the_signal_falls_from_all_to_nothing():
    time = torch.linspace(0, 1, 1001)
    share = alpha_bar(time)
    assert share[0] == pytest.approx(1)
    assert share[-1] == pytest.approx(1e-4)
    assert (share.diff() <= 0).all()
    assert alpha_bar(torch.tensor(0.5)) == pytest.approx(0.49, abs=0.02)


def test_noise_keeps_the_variance():
    x, noise = torch.randn(2, 4000, 1, 4, 4)
    for t in (0.1, 0.5, 0.9):
        time = torch.full((4000,), t)
        noisy = add_noise(x, noise, time)
        assert noisy.var().item() == pytest.approx(1, abs=0.02)
        share = alpha_bar(time)[0]
        assert torch.corrcoef(torch.stack([noisy.flatten(), x.flatten()]))[0, 1] == pytest.approx(
            share.sqrt().item(), abs=0.02
        )


def test_who_knows_the_noise_gets_the_image():
    """DDIM with a perfect answer ends at the image, from anywhere, in any number of steps."""
    method = diffusion()
    wanted = 2 * images() - 1

    def noise(net, x, time, asked):
        share = alpha_bar(time)[:, None, None, None]
        return (x - share.sqrt() * wanted) / (1 - share).sqrt()

    method.noise = noise
    for steps in (2, 10):
        drawn = method.sample(6, steps=steps)
        torch.testing.assert_close(drawn, images(), atol=2e-3, rtol=0)


def test_v_and_the_noise_say_the_same():
    """The loss is the error of the noise over the image's share; whoever knows v has none."""
    method = diffusion().double()
    torch.nn.init.normal_(method.net["unet"].output_conv[2].weight)
    x, _, time, asked = method.views(Batch(images().double(), torch.arange(6)))
    views = x, torch.randn_like(x), time.double(), asked
    noisy = add_noise(*views[:3])
    outputs = method.noise(method.net, noisy, *views[2:])
    share = alpha_bar(views[2])[:, None, None, None]
    expected = ((outputs - views[1]).square() / share).mean()
    torch.testing.assert_close(method.loss(views), expected, rtol=1e-4, atol=0)
    method.velocity = lambda *_: (views[1] - (1 - share).sqrt() * noisy) / share.sqrt()
    torch.testing.assert_close(method.noise(None, noisy, *views[2:]), views[1])
    assert method.loss(views).item() == pytest.approx(0, abs=1e-9)


def test_guidance_goes_beyond_what_is_asked_for():
    method = diffusion(condition="class")
    asked = torch.tensor([0, 1, 2])
    seen = []

    def noise(net, x, time, told):
        seen.append(told.clone())
        return 0.1 * told[:, None, None, None].float().expand_as(x)

    method.noise = noise
    torch.manual_seed(1)
    plain = method.sample(3, asked, steps=3, guidance=1.0)
    assert len(seen) == 3  # one call a step
    torch.manual_seed(1)
    strong = method.sample(3, asked, steps=3, guidance=2.0)
    assert torch.equal(seen[4], torch.full((3,), 3))  # the class after the last asks for nothing
    assert not torch.equal(plain, strong)


def test_some_images_are_shown_without_their_class():
    method = diffusion(condition="class", condition_dropout=0.25)
    y = torch.arange(4000) % 3
    *_, asked = method.views(Batch(torch.zeros(4000, *SHAPE), torch.arange(4000), y))
    assert (asked == 3).float().mean() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(asked[asked < 3], y[asked < 3])
    *_, asked = diffusion().views(Batch(images(), torch.arange(6)))
    assert (asked == 3).all()


def test_features_are_those_of_the_model_without_a_condition():
    """Catches features of a network that gets neither a class nor the embedding for none."""
    method = diffusion(condition="class")
    with torch.no_grad():
        for p in method.net.parameters():
            p.add_(0.1 * torch.randn_like(p))
        method.update()
    net, x = method.average.module["unet"], images()
    condition = method.average.module["condition"](torch.tensor([3]))
    embedding = net.embed_time(torch.full((6,), net.time), condition)
    scaled = (2 * x - 1) * alpha_bar(torch.tensor(net.time)).sqrt()
    torch.testing.assert_close(method.encoder.maps(x)[0], net.encode(scaled, embedding)[0][0])
    plain = net.embed_time(torch.full((6,), net.time))
    assert not torch.allclose(method.encoder.maps(x)[0], net.encode(scaled, plain)[0][0])


def test_a_condition_needs_labels(sprites, tmp_path):
    """Catches an unconditional model that is trained in its place."""
    options = {"condition": "class", "epochs": 1, "progress": False}
    with pytest.raises(UserError, match="Diffusion learns from labels, but"):
        ul.train("diffusion", sprites[0][:32], out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="names of the classes"):
        Diffusion(unet(), condition="words")


def test_the_net_is_told_time_and_class():
    net = unet()
    torch.nn.init.normal_(net.output_conv[2].weight)
    x = images()
    early, late = (net.velocity(x, torch.full((6,), t)) for t in (0.1, 0.9))
    assert early.shape == x.shape
    assert (early - late).abs().mean() > 1e-3
    text = net.velocity(x, torch.full((6,), 0.1), torch.randn(6, net.condition_dim))
    assert (early - text).abs().mean() > 1e-3
    odd = build("unet", 3, (15, 18), width=8)
    assert odd.velocity(torch.rand(2, 3, 15, 18), torch.rand(2)).shape == (2, 3, 15, 18)


def test_words_are_read_in_order():
    torch.manual_seed(0)
    read = CaptionEmbedding(("a large heart, top left", "a heart", "heart a"), 8)
    assert read.tokens.shape == (4, 5)
    assert read.tokens[3].tolist() == [0] * 5
    text = read(torch.arange(4))
    assert text.shape == (4, 8)
    assert not torch.allclose(text[1], text[2])


def test_a_network_of_another_kind_is_refused():
    with pytest.raises(UserError, match="U-Net"):
        Diffusion(build("small", 1, (16, 16)))
    with pytest.raises(UserError, match="a multiple of 8"):
        build("unet", 1, (16, 16), width=12)


def test_the_average_generator_draws_what_the_generator_makes():
    """Its BatchNorms saw no step of training, and must not draw with what they began with."""
    torch.manual_seed(0)
    method = GAN(build("small", 1, (16, 16), width=4), shape=SHAPE, width=8, momentum=0.0)
    for weight in method.generator["decoder"].parameters():
        weight.data.mul_(4)  # far from mean 0 and deviation 1
    method.update()
    before = {k: v.clone() for k, v in method.state_dict().items()}
    drawn = method.eval().sample(500)
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    created = method.train().generate(torch.randn(500, method.latent_dim))
    assert (drawn.mean(0) - created.mean(0)).abs().mean() < 0.05
    assert drawn.std().item() == pytest.approx(created.std().item(), rel=0.1)


@pytest.mark.parametrize("bigan", [False, True])
def test_the_players_of_a_gan_move_alone(bigan):
    method = GAN(build("small", 1, (16, 16), width=4), shape=SHAPE, bigan=bigan, width=8)
    views = method.views(Batch(images(), torch.arange(6)))
    turns = method.optimizer_steps(views)
    _, loss = next(turns)
    loss.backward()
    assert all(p.grad is not None for p in method.generator.parameters())
    method.zero_grad()
    _, loss = next(turns)
    loss.backward()
    assert all(p.grad is None for p in method.generator.parameters())
    assert all(p.grad is not None for p in method.discriminator.parameters())


def test_the_latent_regressor_has_no_part_in_the_game():
    """Without bigan the generator's gradient is the critic's alone."""
    method = GAN(build("small", 1, (16, 16), width=4), shape=SHAPE, width=8).eval()
    views = method.views(Batch(images(), torch.arange(6)))
    weight = method.generator["decoder"][0].weight
    (full,) = torch.autograd.grad(method.loss(views), weight)
    fooled = -method.discriminator(method.generate(views[1])).mean()
    (critics,) = torch.autograd.grad(fooled, weight)
    torch.testing.assert_close(full, critics)


def reader(kind, values="real", length=12, **options):
    torch.manual_seed(0)
    return build(kind, 1, (1, length), width=16, values=values, **options)


@pytest.mark.parametrize("values", ["binary", "bytes", "real"])
@pytest.mark.parametrize("kind", ["rnn", "lstm", "transformer"])
def test_nobody_looks_ahead(kind, values):
    """A value changes its own surprise and those after it, never those before."""
    encoder = reader(kind, "bytes" if values == "bytes" else "real")
    method = Autoregressive(encoder, values=values, shape=(1, 1, 12)).eval()
    x = torch.randint(0, 2, (3, 12)).float()
    before = method.negative_log_likelihood(x)
    assert before.shape == (3, 12)
    for path in (0, 5, 11):
        other = x.clone()
        other[:, path] = 1 - other[:, path]
        changed = (method.negative_log_likelihood(other) - before).abs() > 1e-7
        assert not changed[:, :path].any()
        assert changed[:, path].all()
        assert changed[:, path + 1 :].any() or path == 11


@pytest.mark.parametrize("kind", ["rnn", "lstm", "transformer"])
def test_reading_on_is_reading_at_once(kind):
    encoder = reader(kind).eval()
    x = torch.rand(3, 12)
    ahead = encoder.states(x, exclude_current=True)
    state, memory = encoder.forward_cached(x[:, :4])
    torch.testing.assert_close(state, ahead[:, 4])
    for path in range(4, 11):
        state, memory = encoder.forward_cached(x[:, path : path + 1], memory)
        torch.testing.assert_close(state, ahead[:, path + 1])
    _, memory = encoder.forward_cached(x[:, :4])  # several at a time: none sees a later one
    _, memory = encoder.forward_cached(x[:, 4:8], memory)
    torch.testing.assert_close(encoder.forward_cached(x[:, 8:11], memory)[0], ahead[:, 11])
    method = Autoregressive(encoder, values="real", shape=(1, 1, 12))
    assert method.sample(2, length=40).shape == (2, 40)  # further than it has places


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_a_long_beginning_is_continued(kind):
    """Catches a beginning of more values than a transformer has positions."""
    method = Autoregressive(reader(kind, "bytes"), values="bytes", shape=(1, 1, 12)).eval()
    for length in (11, 12, 30):
        prefix = torch.randint(0, 256, (2, length)) / 255
        continued = method.sample(2, prefix, length + 20)
        assert continued.shape == (2, length + 20)
        assert torch.equal(continued[:, :length], prefix)


def test_surprise_is_of_a_distribution():
    """All binary sequences of six values together have probability 1."""
    import itertools

    method = Autoregressive(reader("lstm", length=6), values="binary", shape=(1, 1, 6)).eval()
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)))
    assert (-method.negative_log_likelihood(every).sum(1)).logsumexp(0).item() == pytest.approx(
        0, abs=1e-4
    )


def test_samples_come_as_often_as_they_are_likely():
    import itertools

    method = Autoregressive(reader("rnn", length=4), values="binary", shape=(1, 1, 4)).eval()
    torch.nn.init.normal_(method.output.weight)
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)))
    torch.manual_seed(0)
    drawn = method.sample(20_000, length=4)
    code = (drawn @ (2.0 ** torch.arange(3, -1, -1))).long()
    result = torch.bincount(code, minlength=16) / len(drawn)
    assert (result - (-method.negative_log_likelihood(every).sum(1)).exp()).abs().max() < 0.015


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")  # all windows are alike
@pytest.mark.parametrize("kind", ["rnn", "lstm", "transformer"])
def test_characters_are_learned(kind, tmp_path):
    """A text of one sentence over and over: nearly no surprise is left but where it begins."""
    text = np.frombuffer(b"the cat sat on the mat. " * 40, np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(text, 32)[:512]
    run = ul.train(
        "autoregressive", windows[:, None, None].copy(), encoder=kind, values="bytes",
        encoder_args={"values": "bytes", "width": 32}, epochs=8, batch_size=32, lr=1e-2,
        out=tmp_path / "run", progress=False, logger="none",
    )  # fmt: skip
    x = torch.from_numpy(windows[:64].copy()).float() / 255
    surprise = run.method.eval().negative_log_likelihood(x)
    assert surprise[:, 12:].mean() < 0.15 * np.log(12)
    outputs = (255 * run.method.sample(1, x[:1, :20], length=40)).round().byte().numpy().tobytes()
    assert outputs[:20] == windows[0, :20].tobytes()


def test_a_series_is_forecast(tmp_path):
    """Noisy waves: the expected value is nearer than the last one."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 6.28, (600, 1))
    waves = 0.5 + 0.3 * np.sin(phase + 0.5 * np.arange(24)) + 0.02 * rng.normal(size=(600, 24))
    run = ul.train(
        "autoregressive", waves[:500, None, None].astype(np.float32), encoder="lstm",
        values="real", epochs=8, batch_size=25, lr=1e-2, out=tmp_path / "run", progress=False,
        encoder_args={"width": 32}, logger="none",
    )  # fmt: skip
    x = torch.from_numpy(waves[500:]).float()
    expected = run.method.eval().predict(x)[:, 4:]
    ours = (expected - x[:, 4:]).abs().mean()
    last = (x[:, 3:-1] - x[:, 4:]).abs().mean()
    assert ours < 0.6 * last


def test_readers_must_fit_their_values():
    with pytest.raises(UserError, match="reads in order"):
        Autoregressive(build("small", 1, (16, 16)))
    with pytest.raises(UserError, match="reads real, not bytes"):
        Autoregressive(reader("lstm"), values="bytes")
    with pytest.raises(UserError, match="heads"):
        build("transformer", 1, (4, 4), width=30)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("autoregressive", {"encoder": "transformer", "encoder_args": {"width": 16}}),
        ("gan", {}),
        ("gan", {"bigan": True}),
        ("diffusion", {"encoder_args": {"width": 8}}),
        ("diffusion", {"encoder_args": {"width": 8}, "condition": "words"}),
    ],
)
def test_it_trains_by_name(name, options, sprites, tmp_path):
    x, y = sprites[0][:96, ::4, ::4], sprites[1][:96]
    common = {"batch_size": 32, "progress": False, "logger": "none", "epochs": 2} | options
    run = ul.train(name, (x, y), out=tmp_path / "run", **common)
    samples = run.method.sample(5)
    assert samples.shape == (5, 1, 16, 16)
    assert samples.min() >= 0
    assert samples.max() <= 1
    again = ul.load(run.path)
    np.testing.assert_array_equal(again.embed(x[:4]), run.embed(x[:4]))
    assert list(run.path.glob("*.png"))
