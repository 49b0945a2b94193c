"""What a method hides stays hidden: changing only that changes nothing in its prediction.

Each case gives a prediction before and after; a pair of equal tensors, bit for bit. Cases run in
train mode, too, where BatchNorm's statistics would carry what is hidden from row to row.
"""

import functools
import inspect
import itertools

import pytest
import torch
from torch import Tensor

from unlabeled import registry
from unlabeled.augmentations import Compose
from unlabeled.augmentations.color import LINEAR, rgb_to_lab
from unlabeled.augmentations.vocabulary import FIRST_WORD, MASK
from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.methods.aim import AIM
from unlabeled.methods.autoregressive import Autoregressive
from unlabeled.methods.best_rq import BestRQ
from unlabeled.methods.bidirectional_lm import BidirectionalLM
from unlabeled.methods.causal_lm import CausalLM
from unlabeled.methods.clapp import CLAPP
from unlabeled.methods.colorization import Colorization
from unlabeled.methods.context_encoder import ContextEncoder
from unlabeled.methods.cpc import CPC, oriented
from unlabeled.methods.data2vec import Data2Vec
from unlabeled.methods.denoising_autoencoder import DenoisingAutoencoder
from unlabeled.methods.dinov2 import DINOv2
from unlabeled.methods.electra import ELECTRA
from unlabeled.methods.ibot import IBOT
from unlabeled.methods.ijepa import IJEPA
from unlabeled.methods.jigsaw import Jigsaw
from unlabeled.methods.masked_autoencoder import MaskedAutoencoder
from unlabeled.methods.masked_lm import MaskedLM
from unlabeled.methods.masked_sentences import MaskedSentences
from unlabeled.methods.msn import MSN
from unlabeled.methods.next_sentence import NextSentence
from unlabeled.methods.relative_patch import NEIGHBORS, RelativePatch
from unlabeled.methods.sentence_order import SentenceOrder
from unlabeled.methods.simmim import SimMIM
from unlabeled.methods.skip_thoughts import SkipThoughts
from unlabeled.methods.spark import SparK
from unlabeled.methods.video_colorization import VideoColorization
from unlabeled.methods.videomae import VideoMAE
from unlabeled.methods.vjepa import VJEPA
from unlabeled.methods.wav2vec2 import Wav2Vec2

SHAPES = [(1, 12, 12), (3, 24, 24), (2, 17, 30), (3, 32, 20)]
VOCABULARY = 40


def images(shape, n=4, seed=0) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def batch(x: Tensor) -> Batch:
    return Batch(x, torch.arange(len(x)))


def seeded(function, *args, seed=5):
    torch.manual_seed(seed)
    return function(*args)


def small(shape, **options):
    return build("small", shape[0], shape[1:], width=4, **options)


def text(direction="bidirectional", network="text_transformer", **options):
    options = {"vocabulary": VOCABULARY, "width": 16, "layers": 2, "direction": direction} | options
    return build(network, 1, (3, 8), **options)


def tokens(*shape, seed=0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(FIRST_WORD, VOCABULARY, shape, generator=g)


def same_lightness(x: Tensor) -> Tensor:
    """Other colors of the same luminance: red and green traded against each other, in light."""
    light = torch.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    r, g, _ = LINEAR[1]
    towards = torch.stack([torch.ones(()), torch.tensor(-r / g), torch.zeros(())])
    for step in (0.4, -0.4, 0.1, -0.1):  # as far as there is such a color on the screen
        changed = light + step * towards[:, None, None]
        fits = ((changed >= 0) & (changed <= 1)).all(-3, keepdim=True)
        light = torch.where(fits, changed, light)
    bent = 1.055 * light.clamp(min=1e-8) ** (1 / 2.4) - 0.055
    return torch.where(light <= 0.0031308, 12.92 * light, bent)


# Each case: (name, function of train mode or not -> predictions before and after)
CASES = []


def case(name, *grids):
    def keep(function):
        CASES.extend((name, function, values) for values in itertools.product(*grids))
        return function

    return keep


@case("context_encoder", ["center", "blocks", "top"], SHAPES)
def painter(mode, hole, shape):
    method = ContextEncoder(small(shape), mask=hole, shape=shape).train(mode)
    x, missing = method.views(batch(images(shape)))
    assert missing.flatten(1).any(1).all()
    other = torch.where(missing, 5 * images(shape, seed=1) - 2, x)
    return method.inpaint(x, missing), method.inpaint(other, missing)


@case("masked_autoencoder", ["small", "vit", "resnet18", "lenet"], [(3, 24, 24), (1, 33, 29)])
def drawing(mode, name, shape):
    args = {"small": {"width": 4}, "vit": {"width": 12, "depth": 2}, "resnet18": {"width": 1 / 16}}
    encoder = build(name, shape[0], shape[1:], **args.get(name, {}))
    method = MaskedAutoencoder(encoder, decoder_width=12, shape=shape).train(mode)
    x, order = method.views(batch(images(shape)))
    keep = method.mask(torch.ones_like(x), order[:, : method.visible]) == 1
    assert 0 < keep.float().mean() < 0.5
    other = torch.where(keep, x, images(shape, seed=1))
    return method.reconstruct(x, order), method.reconstruct(other, order)


@case("ibot", ["vit", "vit_tiny"])
@case("dinov2", ["vit", "vit_tiny"])
def masked_patches(mode, network):
    """Neither the class token nor any patch of the student knows what a masked patch shows."""
    options = {"vit": {"width": 12, "depth": 2}, "vit_tiny": {"registers": 2}}[network]
    encoder = build(network, 1, (32, 32), **options)
    result = []
    for cls in (IBOT, DINOv2):
        still = {"augment": Compose([]), "local_crops": 0}
        method = cls(encoder, prototypes=6, hidden_dim=8, bottleneck_dim=4, **still).train(mode)
        with torch.no_grad():
            method.student.mask_token.normal_()
        x, masked = method.views(batch(images((1, 32, 32), 8)))[:4:2]
        assert 0 < masked.float().mean() < 0.5
        hidden = masked.view(-1, 1, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
        other = torch.where(hidden, 3 * images((1, 32, 32), 8, seed=1), x)
        every = torch.ones_like(masked)
        result.append(
            [
                torch.cat([part.flatten() for part in method.student(v, masked, every)])
                for v in (x, other)
            ]
        )
    return (torch.cat(values) for values in zip(*result, strict=True))


def with_other_patches(x: Tensor, hidden: Tensor, patch: int) -> Tensor:
    """Images with other pixels in hidden patches (B, N), and beyond the last whole patch."""
    rows, columns = x.shape[2] // patch, x.shape[3] // patch
    holes = hidden.view(len(x), 1, rows, columns)
    holes = holes.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    edge = (0, x.shape[3] - columns * patch, 0, x.shape[2] - rows * patch)
    holes = torch.nn.functional.pad(holes, edge, value=True)
    assert 0.1 < holes.float().mean() < 1
    return torch.where(holes, 5 * images(tuple(x.shape[1:]), len(x), seed=1) - 2, x)


@case("simmim", ["vit", "vit_tiny"], [(3, 24, 24), (1, 33, 29)])
@case("data2vec", ["vit", "vit_tiny"], [(3, 24, 24), (1, 33, 29)])
def masked_tokens(mode, name, shape):
    result = []
    for cls in (SimMIM, Data2Vec):
        args = {"width": 12, "depth": 2} if name == "vit" else {}
        encoder = build(name, shape[0], shape[1:], pool="mean", **args)
        method = cls(encoder, shape=shape).train(mode)
        x, masked = method.views(batch(images(shape)))
        other = with_other_patches(x, masked, encoder.patch)
        predict = method.reconstruct if cls is SimMIM else method.predict
        result.append([predict(values, masked).flatten() for values in (x, other)])
    return (torch.cat(values) for values in zip(*result, strict=True))


@case("spark", ["small", "spatial_resnet", "resnet18"], [(3, 32, 48), (1, 33, 29)])
def masked_maps(mode, name, shape):
    """Nor does it change statistics of BatchNorm, in the encoder or in the decoder."""
    args = {"resnet18": {"width": 1 / 16}}.get(name, {"width": 4})
    method = SparK(build(name, shape[0], shape[1:], **args), decoder_width=8, shape=shape)
    x, visible = method.train(mode).views(batch(images(shape)))
    side = method.patch_size
    hidden = ~visible[:, None].repeat_interleave(side, 2).repeat_interleave(side, 3)
    hidden = hidden[:, :, : shape[1], : shape[2]]
    assert 0.2 < hidden.float().mean() < 0.95
    other = torch.where(hidden, 5 * images(shape, seed=1) - 2, x)
    return (method.reconstruct(values, visible) for values in (x, other))


@case("aim", ["vit", "vit_tiny"], [(3, 24, 24), (1, 33, 29)])
def patches_that_follow(mode, name, shape):
    """What is predicted of a patch after the prefix is the same whatever it and all later show."""
    args = {"width": 12, "depth": 2} if name == "vit" else {}
    encoder = build(name, shape[0], shape[1:], pool="mean", **args)
    method = AIM(encoder, head_width=8, shape=shape).train(mode)
    x, known = method.views(batch(images(shape)))
    number, result = method.grid[0] * method.grid[1], []
    for k in (2, number // 2, 3 * number // 4):
        hidden = (torch.arange(number) >= k).expand(len(x), -1)
        other = with_other_patches(x, hidden, encoder.patch)
        rows = known <= k
        result.append([method.predict(v, known)[rows, k - 1].flatten() for v in (x, other)])
    return (torch.cat(values) for values in zip(*result, strict=True))


@case("ijepa", ["vit", "vit_tiny"], [(3, 24, 24), (1, 33, 29)])
def patches_of_targets(mode, name, shape):
    """All but the context changes, the target blocks among it."""
    args = {"width": 12, "depth": 2} if name == "vit" else {}
    encoder = build(name, shape[0], shape[1:], pool="mean", **args)
    method = IJEPA(encoder, predictor_width=12, shape=shape).train(mode)
    x, context, blocks = method.views(batch(images(shape)))
    hidden = torch.ones(len(x), method.grid[0] * method.grid[1]).scatter_(1, context, 0).bool()
    assert hidden.gather(1, blocks.flatten(1)).all()
    other = with_other_patches(x, hidden, encoder.patch)
    return (method.predict(values, context, blocks) for values in (x, other))


@case("msn", ["vit", "vit_tiny"], [(3, 24, 24), (1, 33, 29)])
def dropped_patches(mode, name, shape):
    args = {"width": 12, "depth": 2} if name == "vit" else {}
    encoder = build(name, shape[0], shape[1:], **args)
    method = MSN(encoder, mask_ratio=0.5, augment=Compose([]), local_crops=0).train(mode)
    _, x, visible = method.views(batch(images(shape)))
    patches = (shape[1] // encoder.patch) * (shape[2] // encoder.patch)
    hidden = torch.ones(len(x), patches).scatter_(1, visible, 0).bool()
    other = with_other_patches(x, hidden, encoder.patch)
    encode = method.anchor_encoder.encode_visible
    return (method.projector(encode(values, visible)[0]) for values in (x, other))


@case("videomae", [(3, 16, 16), (1, 17, 22)])
@case("vjepa", [(3, 16, 16), (1, 17, 22)])
def tubes(mode, shape):
    """No visible patch knows what a masked one shows, in whichever frame it is seen."""
    result = []
    for cls in (VideoMAE, VJEPA):
        options = {"frames": 4, "patch": 4, "width": 12, "depth": 2}
        encoder = build("vit_video", shape[0], shape[1:], **options)
        method = cls(encoder, shape=shape).train(mode)
        frames, *paths = method.views(batch(images(shape, 8)))
        seen = [paths[0][:, : method.visible]] if cls is VideoMAE else paths[::2]
        for i, visible in enumerate(seen):
            patches = method.grid[0] * method.grid[1]
            hidden = torch.ones(8, patches).scatter_(1, visible, 0).bool()
            other = with_other_patches(frames, hidden, 4)
            for values in (frames, other):
                clips = values.unflatten(0, (-1, 4))
                if cls is VideoMAE:
                    drawn = method.reconstruct(clips, paths[0][::4])
                else:
                    index = [encoder.over_time(p[::4], method.grid) for p in paths[2 * i :][:2]]
                    drawn = method.predict(clips, *index)
                result.append(drawn.flatten())
    return torch.cat(result[::2]), torch.cat(result[1::2])


@case("denoising_autoencoder", ["masking", "salt_pepper"], [False, True], [(3, 24, 24)])
def undamaged(mode, noise, stacked, shape):
    method = DenoisingAutoencoder(small(shape), noise=noise, stacked=stacked, shape=shape)
    method.train(mode)
    x = 0.1 + 0.8 * images(shape)
    hit = seeded(method.corrupt, x) != x
    other = torch.where(hit, images(shape, seed=1), x)

    def drawn(x):
        damaged = seeded(method.corrupt, x)
        if stacked:
            return method.stage_decoders[0](method.encoder.stages[0](damaged))
        return method.decoder(method.encoder(damaged))

    return drawn(x), drawn(other)


@case("colorization", [True, False])
def colors(mode, gray):
    """Also of an encoder that could see colors, such as one that another method trained."""
    shape = (3, 24, 24)
    method = Colorization(small(shape, gray=gray), shape=shape).train(mode)
    x = images(shape)
    other = same_lightness(x)
    assert (rgb_to_lab(x)[:, 1:] - rgb_to_lab(other)[:, 1:]).abs().mean() > 5
    return (method.scores(v) for v in (x, other))


@case("video_colorization", [True, False])
def carried_colors(mode, gray):
    """The loss is linear in the last frame's colors: its slope is what is predicted of them."""
    shape = (3, 32, 32)
    encoder = build("spatial_resnet", 3, shape[1:], width=4, blocks=1, gray=gray)
    method = VideoColorization(encoder, dim=8, weak=Compose([]), shape=shape).train(mode)
    x = images(shape, 8)
    other = x.clone()
    other[3::4] = same_lightness(x[3::4])

    def predicted(x):
        seen, bins = seeded(method.views, batch(x))
        loss = method.loss((seen, bins.requires_grad_()))
        slope = torch.autograd.grad(loss, bins)[0][3::4]
        return (-slope * slope[..., 0].numel()).exp()

    assert not torch.allclose(rgb_to_lab(x)[3::4], rgb_to_lab(other)[3::4], atol=5)
    return predicted(x), predicted(other)


@case("jigsaw", [(1, 24, 24), (3, 21, 30)])
def puzzle_tile(mode, shape):
    """A tile is seen as if there were no other: neither their pixels nor their brightness."""
    method = Jigsaw(small(shape), permutations=6, weak=Compose([]), shape=shape).train(mode)
    x = images(shape)
    rows, columns = shape[1] // 3, shape[2] // 3
    other = 3 * images(shape, seed=1)
    other[:, :, rows : 2 * rows, columns : 2 * columns] = x[
        :, :, rows : 2 * rows, columns : 2 * columns
    ]

    def middle(x):
        cut, order = seeded(method.views, batch(x))
        return cut[method.permutations[order] == 4]

    return middle(x), middle(other)


@case("relative_patch", [0.0, 1.0], [(1, 24, 24), (3, 21, 30)])
def pair_of_patches(mode, drop, shape):
    """What stands in for dropped colors, too, is made of the patch alone."""
    method = RelativePatch(small(shape), drop_color=drop, weak=Compose([]), shape=shape).train(mode)
    x = images(shape)
    _, path = seeded(method.views, batch(x))
    rows, columns = shape[1] // 3, shape[2] // 3
    other = 3 * images(shape, seed=1)
    for i, k in enumerate(path.tolist()):
        for cell in (4, NEIGHBORS[k]):
            top, left = cell // 3 * rows, cell % 3 * columns
            inside = (i, slice(None), slice(top, top + rows), slice(left, left + columns))
            other[inside] = x[inside]
    return (method.scores(seeded(method.views, batch(v))[0]) for v in (x, other))


@case("masked_lm", [None])
def hidden_words(mode, _):
    method = MaskedLM(text(), mask_ratio=0.4).train(mode)
    x = tokens(6, 3, 8)
    seen, ids, chosen = seeded(method.views, batch(x))
    hidden = seen == MASK
    assert hidden.sum() > 10
    y = torch.where(hidden, tokens(*ids.shape, seed=1), ids)
    assert (y != ids).any()
    again, _, chosen_again = seeded(method.views, batch(y.view(6, 3, 8)))
    asked = hidden[chosen]  # a tenth is asked for as it is, another tenth as another word
    return method.scores(seen, chosen)[asked], method.scores(again, chosen_again)[asked]


@case("electra", [None])
def masked_words(mode, _):
    """The generator asks for the hidden words, the discriminator sees what was drawn for them."""
    method = ELECTRA(text(), mask_ratio=0.4).train(mode)
    x = tokens(6, 3, 8)
    ids, masked, draws = seeded(method.views, batch(x))
    other = torch.where(masked, tokens(*ids.shape, seed=1), ids)
    result = []
    method.discriminator.register_forward_hook(lambda *call: result.append(call[2]))
    method.generator.register_forward_hook(lambda *call: result.append(call[2]))
    for words in (ids, other):
        method.loss((words, masked, draws))
    before, after = result[:2], result[2:]
    return (torch.cat([part.flatten() for part in parts]) for parts in (before, after))


@case("next_sentence", [None])
@case("sentence_order", [None])
def hidden_words_of_two(mode, _, cls=None):
    result = []
    for cls in (NextSentence, SentenceOrder):
        method = cls(text(), mask_ratio=0.4).train(mode)
        first, second = tokens(6, 8), tokens(6, 8, seed=1)
        head = method.head
        seen, ids, chosen, begins = seeded(head.views, first, second, method.encoder)
        other = torch.where(seen == MASK, tokens(*ids.shape, seed=2), ids)
        assert (other != ids).any()
        result.append(
            [head((seen, words, chosen, begins), method.encoder)[0] for words in (ids, other)]
        )
    return (torch.cat(values) for values in zip(*result, strict=True))


@case("masked_sentences", ["bidirectional", "forward_backward"])
def hidden_sentence(mode, direction):
    method = MaskedSentences(text(direction)).train(mode)
    rows, at = tokens(5, 3, 8), torch.tensor([0, 1, 2, 1, 0])
    other = rows.clone()
    other[torch.arange(5), at] = tokens(5, 8, seed=1)
    (a, key), (b, other_key) = method.query_and_key(rows, at), method.query_and_key(other, at)
    assert not torch.equal(key, other_key)
    return a, b


@case("bidirectional_lm", ["text_transformer", "text_lstm"])
def word_between(mode, network):
    """Each word in turn: what is said of it does not ask it."""
    method = BidirectionalLM(text("forward_backward", network)).train(mode)
    ids = tokens(3, 8)

    def said(ids):
        return method.lm_head(
            torch.cat(method.encoder.left_and_right_states(ids), 2), method.encoder
        )

    result = []
    for i in range(8):
        other = ids.clone()
        other[:, i] = tokens(3, seed=1 + i)
        result.append((said(ids)[:, i], said(other)[:, i]))
    return (torch.stack(values) for values in zip(*result, strict=True))


@case("causal_lm", ["text_transformer", "text_lstm"])
def words_to_come(mode, network):
    method = CausalLM(text("causal", network)).train(mode)
    ids = tokens(3, 8)
    other = torch.cat([ids[:, :5], tokens(3, 3, seed=1)], 1)

    def said(ids):  # of the first five, and of the sixth, which is another word now
        return method.lm_head(method.encoder.states(ids)[:, :6], method.encoder)

    return said(ids), said(other)


@case("skip_thoughts", [None])
def words_of_a_neighbor(mode, _):
    method = SkipThoughts(text(), decoder_width=8).train(mode)
    middle, near = tokens(3, 8), tokens(3, 8, seed=1)
    later = torch.cat([near[:, :5], tokens(3, 3, seed=2)], 1)
    z = method.encoder.features(middle)
    return (method.next_decoder(z, words, method.encoder)[:, :5] for words in (near, later))


@case("autoregressive", ["rnn", "lstm", "transformer"], ["binary", "bytes", "real"])
def values_to_come(mode, network, values):
    """What is said of a place is the same whatever stands there and later."""
    kind = "bytes" if values == "bytes" else "real"
    encoder = build(network, 1, (4, 5), width=8, values=kind)
    method = Autoregressive(encoder, values=values, shape=(1, 4, 5)).train(mode)
    x = images((20,), 3).round() if values == "binary" else images((20,), 3)
    other = torch.cat([x[:, :12], 1 - x[:, 12:]], 1)
    return (method.output(encoder.states(v, exclude_current=True))[:, :13] for v in (x, other))


@case("cpc", [(1, 32, 32), (3, 28, 28), (1, 21, 33)], [1, 4], [None, 7])
def patches_to_come(mode, shape, directions, patch):
    """No context shares a pixel with a patch that is predicted from it, whichever way one reads."""
    encoder = build("patches", shape[0], shape[1:], width=2, stages=2, patch=patch)
    method = CPC(encoder, directions=directions, weak=Compose([])).train(mode)
    side, stride = encoder.patch_grid.side, encoder.patch_grid.stride
    x, result = images(shape, 2), []
    for turn, context in zip(method.directions, method.contexts, strict=True):
        rows = encoder.patch_grid.shape[turn[0]]
        for row in range(rows - method.skip_steps - 1):
            later = row + method.skip_steps + 1  # the nearest row that is predicted from this one
            path = later if turn[1] > 0 else rows - 1 - later
            other = x.transpose(2, 3).clone() if turn[0] else x.clone()
            begin = path * stride if turn[1] > 0 else 0
            end = None if turn[1] > 0 else path * stride + side
            other[:, :, begin:end] += 1  # the predicted row, and all that lie further on
            other = other.transpose(2, 3) if turn[0] else other
            for values in (x, other):
                _, c = encoder.latents_and_context(method.views(batch(values)))
                result.append(context(oriented(c, turn))[:, :, row].flatten())
    return torch.cat(result[::2]), torch.cat(result[1::2])


@case("clapp", [(1, 32, 32), (3, 28, 28)])
def places_to_come(mode, shape):
    encoder = build("patches", shape[0], shape[1:], width=2, stages=2)
    method = CLAPP(encoder, weak=Compose([])).train(mode)
    x, result = images(shape, 2), []

    def seen(x, row):
        maps = itertools.accumulate(encoder.stages, lambda h, stage: stage(h), initial=x)
        return torch.cat([encoder.to_grid(h)[:, :, row].flatten() for h in [*maps][1:]])

    for row in range(encoder.patch_grid.shape[0] - method.skip_steps - 1):
        other = x.clone()
        other[:, :, (row + method.skip_steps + 1) * encoder.patch_grid.stride :] += 1
        result.append((seen(x, row), seen(other, row)))
    return (torch.cat(values) for values in zip(*result, strict=True))


@case("cpc", ["wave"])
@case("clapp", ["wave"])
def samples_to_come(mode, name):
    """A frame's context has heard its own 225 samples and those before, nothing that comes later.

    Frames are 80 samples apart: the two nearest share samples with it, as the paper allows.
    """
    encoder = build(name, 1, (1, 1600), width=8, context=8).train(mode)
    x = images((1, 1, 1600), 2) - 0.5
    result = []
    for frame in (0, 3, 9):
        other = x.clone()
        other[..., 80 * frame + 225 :] += 1
        result.append(
            [encoder.latents_and_context(v)[1][:, :, : frame + 1].flatten() for v in (x, other)]
        )
    third = x.clone()
    third[..., : 80 * 9 + 225] += 1  # what the context has heard
    free = [encoder.latents_and_context(v)[0][:, :, 9 + 3 :].flatten() for v in (x, third)]
    return (torch.cat([*values]) for values in zip(*result, free, strict=True))


@case("wav2vec2", ["wave_transformer", "mel_transformer"])
@case("best_rq", ["mel_transformer"])
def masked_frames(mode, name):
    """Samples that masked frames alone hear change no state, of masked or of other frames."""
    options = {"width": 8, "context": 8, "depth": 2, "heads": 2}
    hop = {"strides": (2,), "window_ms": 4.0, "hop_ms": 1.0}
    encoder = build(name, 1, (1, 1600), **options, **(hop if "mel" in name else {}))
    stages, heard = encoder.stages[: encoder.front], torch.arange(1600.0)[None, None, None]

    def largest(h, stage):
        return torch.nn.functional.max_pool2d(h, stage.kernel, stage.stride)

    first = -functools.reduce(largest, stages, -heard)[0, 0, 0]
    last = functools.reduce(largest, stages, heard)[0, 0, 0]
    x, result = images((1, 1, 1600), 2) - 0.5, []
    for cls in (Wav2Vec2, BestRQ)[: 1 + ("mel" in name)]:
        method = cls(encoder, mask_length=20).train(mode)
        _, masked, *others = method.views(batch(x))
        alone = torch.ones(2, 1600, dtype=torch.bool)
        for row in range(2):
            for frame in (~masked[row]).nonzero()[:, 0].tolist():
                alone[row, int(first[frame]) : int(last[frame]) + 1] = False
        assert 0.02 < alone.float().mean() < 0.9
        other = torch.where(alone[:, None, None], x + 1.5, x)
        for values in (x, other):
            if cls is Wav2Vec2:
                c = encoder.contexts(encoder.latents(values), masked, method.mask_token)
            else:
                n = others[0].shape[2]
                c = method.scores(encoder.stages[0](values)[..., :n], masked, others[0])
            result.append(c.flatten())
    return torch.cat(result[::2]), torch.cat(result[1::2])


@pytest.mark.parametrize("mode", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("name", "function", "values"),
    CASES,
    ids=[f"{name}-{'-'.join(map(str, values))}" for name, _, values in CASES],
)
def test_what_is_hidden_changes_no_prediction(name, function, values, mode):
    """Fails for fills, norms, overlaps or positions by which an input holds its own answer."""
    torch.manual_seed(0)
    before, after = function(mode, *values)
    assert before.numel()
    # The luminance of two colors is alike but for the last digits of a sum.
    atol = 1e-3 if "colorization" in name else 0.0
    torch.testing.assert_close(before, after, atol=atol, rtol=0)


NOTHING_HIDDEN = {
    "two views of one thing": {
        "barlow_twins", "byol", "dino", "instance_discrimination", "lejepa", "moco", "mocov3",
        "pirl", "simcse", "simclr", "simsiam", "swav", "vicreg",
        "dcl", "dclw", "deepclusterv2", "emp_ssl", "frossl", "mean_shift", "mmcr", "nnclr", "ressl",
        "smog", "ssl_ey", "tico", "wmse", "all4one", "densecl", "vicregl", "scarf", "ts2vec",
    },
    "labels or partners, which no network sees": {
        "clip", "fixmatch", "metric", "pseudo_label", "s4l", "siamese", "supervised",
        "supervised_contrastive", "uda", "vat",
    },
    "the same view, by another network": {"distill"},
    "the whole is seen and drawn again, or damaged everywhere": {
        "diffusion", "gan", "helmholtz", "rbm", "vae",
    },
    "what was done to the whole, which is all shown": {"rotation", "word_order"},
}  # fmt: skip


def test_every_method_is_looked_at():
    """A new method says what it hides, by a case above, or why nothing is."""
    methods = {
        name
        for name in registry.listing("methods")
        if inspect.isclass(registry.find("methods", name))
    }
    hiding = {name for name, _, _ in CASES}
    assert methods == hiding.union(*NOTHING_HIDDEN.values())
    assert not hiding & set().union(*NOTHING_HIDDEN.values())
