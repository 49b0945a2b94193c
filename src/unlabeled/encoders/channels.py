"""Weights of a first layer for images of another number of channels."""

from collections.abc import Mapping

from torch import Tensor

from unlabeled.errors import UserError, notice, plural


def fits_as_is(own: int, channels: int) -> bool:
    """Whether images of `channels` need no adaptation of a network for `own`; gray becomes RGB.

    Other images of 1 and 3 channels are converted to one another by the readers.
    """
    return own == channels or (own in (1, 3) and channels in (1, 3))


def adapted_weights(
    weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Weights for the same network with another number of input channels.

    The first layer's filters are repeated over the channels, C to N, and scaled by C / N, so that
    what follows keeps its scale; for one channel they are summed. It is timm's rule for `in_chans`.
    Means and deviations by channel become their average.

    Args:
        weights: state of a network for C channels.
        wanted: state of the same network for N channels, for its shapes.

    Raises:
        UserError: another layer than a convolution depends on the number of channels.
    """
    return {name: _adapted(name, weights.get(name), like) for name, like in wanted.items()}


def _adapted(name: str, weight: Tensor | None, like: Tensor) -> Tensor:
    if weight is not None and weight.shape == like.shape:
        return weight
    if weight is not None and weight.ndim == like.ndim == 4 and _differ_in(weight, like) == [1]:
        old, new = weight.shape[1], like.shape[1]
        if new == 1:
            return weight.sum(1, keepdim=True)
        return weight.repeat(1, -(-new // old), 1, 1)[:, :new] * (old / new)
    if weight is not None and name in ("mean", "std") and _differ_in(weight, like) == [0]:
        return weight.mean(0, keepdim=True).expand_as(like).clone()
    raise UserError(
        f"the encoder's weights {name} depend on the number of channels and are not a convolution, "
        "so they cannot be adapted; train from random weights, or take images of its own channels"
    )


def _differ_in(one: Tensor, other: Tensor) -> list[int]:
    return [
        i for i, sides in enumerate(zip(one.shape, other.shape, strict=True)) if len({*sides}) > 1
    ]


def say_adapted(name: str, own: int, channels: int) -> None:
    """Tell that the first layer of an encoder is adapted, from `own` to `channels`."""
    notice(
        f"the first layer of {name} takes {plural(own, 'channel')}; for images of {channels} its "
        f"weights are repeated and scaled by {own}/{channels}"
    )
