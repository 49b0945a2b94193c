"""VideoMAE against a loop over its definition, and the traps of tubes and of their targets."""

import pytest
import torch

from unlabeled.augmentations import Compose, RandomResizedCrop
from unlabeled.augmentations.video import augment_clips
from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.methods.videomae import VideoMAE

SHAPE = (2, 17, 22)  # 4 × 5 patches of 4 pixels, and an edge


def frames(n: int = 8, shape=SHAPE) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))


def made(network: dict | None = None, shape=SHAPE, **options) -> VideoMAE:
    """On clips of 4 frames, 2 to a patch; all weights random."""
    torch.manual_seed(0)
    args = {"frames": 4, "patch": 4, "width": 12, "depth": 2} | (network or {})
    encoder = build("vit_video", shape[0], shape[1:], **args)
    method = VideoMAE(encoder, shape=shape, **{"decoder_width": 12, "mask_ratio": 0.8} | options)
    with torch.no_grad():
        for p in method.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return method


def views_of(method: VideoMAE, x: torch.Tensor | None = None):
    x = frames() if x is None else x
    return method.views(Batch(x, torch.arange(len(x))))


def cube(clip: torch.Tensor, index: int) -> torch.Tensor:
    """Patch of a clip (T, C, H, W): values of each color in 2 frames of 4 × 4 pixels, (C, 32)."""
    slot, place = divmod(index, 20)
    top, left = 4 * (place // 5), 4 * (place % 5)
    part = clip[2 * slot : 2 * slot + 2, :, top : top + 4, left : left + 4]
    return part.transpose(0, 1).reshape(SHAPE[0], 32).double()


@pytest.mark.parametrize("normalize", [True, False])
def test_the_loss_is_the_squared_error_of_masked_patches(normalize):
    """Catches visible patches in the mean, colors that are normalized together, a biased standard
    deviation, and patches of single frames.
    """
    method = made(normalize_pixels=normalize)
    x, order = views_of(method)
    clips = x.unflatten(0, (2, 4))
    drawn = method.reconstruct(clips, order[::4]).double()
    errors = []
    for i in range(2):
        for slot in range(2):
            for place in order[4 * i, method.visible :].tolist():
                index = 20 * slot + place
                true = cube(clips[i], index)
                if normalize:
                    center, spread = true.mean(1, keepdim=True), true.std(1, keepdim=True)
                    true = (true - center) / (spread + 1e-6)
                errors += (drawn[i, index] - true.flatten()).pow(2).tolist()
    assert len(errors) == 2 * 2 * 16 * 64
    expected = sum(errors) / len(errors)
    assert method.loss((x, order)).item() == pytest.approx(expected, rel=1e-5)


def test_masks_are_tubes():
    """Catches masks of their own for each frame, which the next frame gives away, and one mask for
    all clips.
    """
    _, order = views_of(made(), frames(40))
    of_clips = order.unflatten(0, (10, 4))
    assert (of_clips == of_clips[:, :1]).all()
    assert len(of_clips[:, 0].unique(dim=0)) == 10
    assert (order.sort(1).values == torch.arange(20)).all()
    assert made().visible == 4
    assert made(mask_ratio=0.99).visible == 1


def test_the_encoder_gets_visible_patches_only():
    """Catches mask tokens in the encoder: nine tenths of its work would be on nothing."""
    method, seen = made(), []
    method.encoder.stages[1].register_forward_hook(lambda m, inputs, out: seen.append(inputs[0]))
    method.loss(views_of(method))
    assert [h.shape for h in seen] == [(2, 12, 1, 2 * 4)]


def test_a_token_is_of_consecutive_frames():
    """Catches slots of every second frame, whose tokens are of other pixels than their targets."""
    method = made()
    clip = frames(4)[None]
    embed = method.encoder.stages[0]
    tokens = embed(clip)  # (1, width, 2 slots · 4 rows, 5 columns)
    for frame in range(4):
        other = clip.clone()
        other[:, frame] += 1
        changed = (embed(other) != tokens).any(1)[0].view(2, 4, 5)
        assert changed.all((1, 2)).tolist() == [frame < 2, frame >= 2]
        assert changed.any((1, 2)).tolist() == [frame < 2, frame >= 2]


def test_a_visible_patch_has_the_place_of_its_own_in_the_decoder():
    """Catches tokens and mask tokens at each other's positions."""
    method = made(decoder_depth=0)
    x, order = views_of(method)
    clips, order = method.as_clips((x, order))
    visible = method.encoder.over_time(order[:, :4], method.grid)
    tokens, decoder = method.encoder.encode_visible(clips, visible), method.decoder
    h = decoder.mask_token.expand(2, 40, -1).clone()
    for i in range(2):
        for j, place in enumerate(visible[i].tolist()):
            h[i, place] = decoder.input(tokens[i, j])
    expected = decoder.output(decoder.norm(h + decoder.positions))
    torch.testing.assert_close(method.reconstruct(clips, order), expected)
    assert "positions" not in dict(decoder.named_parameters())


def test_patches_are_put_together_again():
    """Catches rows and columns, or frames and colors, that are exchanged."""
    method = made()
    clip = frames(4)[None]
    patches = method.patchify(clip)
    for index in range(40):
        torch.testing.assert_close(patches[0, index].double(), cube(clip[0], index))
    assert torch.equal(method.unpatchify(patches), clip[0, :, :, :16, :20])


def test_clips_are_consecutive_and_augmented_alike():
    """Catches frames of different crops, whose motion would be the crop's, and mixed clips."""
    x = frames(10)
    plain = augment_clips(x, 4, Compose([]))
    assert torch.equal(plain, x[:8].unflatten(0, (2, 4)))
    still = x[:2].repeat_interleave(4, 0)
    crops = augment_clips(still, 4, RandomResizedCrop((0.3, 0.6)))
    assert (crops == crops[:, :1]).all()
    assert not torch.equal(crops[:, 0], x[:2])
    assert torch.equal(views_of(made(), x)[0], x[:8])


def test_clips_are_as_long_as_the_encoders():
    """Catches a batch of other clips than the encoder takes."""
    assert made().clip_length == 4
    assert made({"frames": 6}).clip_length == 6


def test_reconstructions_are_drawn():
    """Catches visible patches that are drawn anew, and normalized pixels on the page."""
    method = made().eval()
    x = frames(11)
    drawn = method.visualize(x)["frame, masked, reconstruction"]
    assert drawn.shape == (4, 3, 2, 16, 20)
    torch.testing.assert_close(drawn[:, 0], x[:4, :, :16, :20])
    is_gray = (drawn[:, 1] == 0.5).all(1)
    assert is_gray.float().mean().item() == pytest.approx(0.8)
    assert (is_gray == is_gray[0]).all()
    visible = ~is_gray[:, None].expand(-1, 2, -1, -1)
    torch.testing.assert_close(drawn[:, 2][visible], drawn[:, 0][visible])
    assert method.visualize(x[:3]) == {}


def test_what_cannot_be_masked_is_refused():
    with pytest.raises(UserError, match="videomae masks patches of clips: use --encoder vit_video"):
        VideoMAE(build("vit", 1, (16, 16), pool="mean"), shape=(1, 16, 16))
    with pytest.raises(UserError, match="one patch of 16 pixels leaves none visible"):
        made({"patch": 16}, shape=(1, 16, 16))
    with pytest.raises(UserError, match=r"mask_ratio is 1\.0, but must be above 0 and below 1"):
        made(mask_ratio=1.0)
