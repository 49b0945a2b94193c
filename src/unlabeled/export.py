"""An encoder on its own, in one file that other programs run without this library."""

from __future__ import annotations

import copy
import io
import json
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Literal

import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

from unlabeled import __version__
from unlabeled.datasets.base import to_float
from unlabeled.encoders.external import Backbone
from unlabeled.errors import UserError
from unlabeled.files import write_bytes
from unlabeled.run import Run

TOLERANCE = 1e-5
"""Of the largest feature, or of 1 where that is more: what a file's features may be off by."""
OWN = {"encoder.json", "encoder.safetensors", "config.json", "last.ckpt"}
"""Files of a run folder that an export never replaces."""
RESNETS = {"resnet18", "resnet34", "resnet50"}
CIFAR_STEM = (
    "3x3 convolution, no max-pool: give torchvision's or timm's net "
    "conv1 = Conv2d(C, width, 3, 1, 1, bias=False) and maxpool = Identity() before loading"
)


class AsStored(nn.Module):
    """An encoder that takes pictures as they are stored.

    Args:
        encoder: from (B, C, H, W), black 0 and white 1, to (B, dim).
        span: black and white of float pictures; uint8 is always 0 and 255.
    """

    def __init__(self, encoder: nn.Module, span: tuple[float, float]) -> None:
        super().__init__()
        self.encoder = encoder
        self.span = span

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim) float32."""
        return self.encoder(to_float(x, self.span))


def export(
    run: Run, to: Literal["onnx", "safetensors", "torchscript"], out: Path | None = None
) -> Path:
    """Write the encoder for use without this library; what is written was run and compared first.

    ONNX and TorchScript take pictures as stored, (B, C, H, W) for any B: uint8 in 0..255, or
    float32 in the run's range where that is not (0, 1) (TorchScript takes either), and give
    features (B, dim) float32. Safetensors has the plain weights, a ResNet's under the names of
    torchvision and timm, whose input is float32, black 0 and white 1.

    Args:
        run: what to export.
        to: the format.
        out: the file; encoder.onnx, encoder.pt or ENCODER.safetensors in the run folder unless
            given.

    Raises:
        UserError: a package is missing, the encoder cannot be expressed in that format, or the
            file's features are not the encoder's.
    """
    if to not in FORMATS:
        raise UserError(f"there is no format '{to}'; choose one of {', '.join(FORMATS)}")
    name = re.split(r"[:/\\.]", run.inputs["encoder"])[-1]
    out = Path(out or run.path / FORMATS[to][1].format(name)).expanduser()
    if out.is_dir() or (out.name in OWN and out.parent.resolve() == run.path.resolve()):
        raise UserError(f"{out} is a folder or the run's own file; name another as out")
    encoder = copy.deepcopy(run.encoder).to("cpu", torch.float32).eval()
    encoder = encoder.to(memory_format=torch.contiguous_format).requires_grad_(False)  # type: ignore[call-overload]
    content = FORMATS[to][0](run, encoder)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, content)
    return out


def _onnx(run: Run, encoder: nn.Module) -> bytes:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  the exporter of torch needs it
    except ImportError as error:
        raise UserError("the export to ONNX needs: pip install 'unlabeled[export]'") from error
    network = AsStored(encoder, _span(run)).eval()
    with _quietly("ONNX"):
        program = torch.onnx.export(
            network,
            (_pictures(run, 2),),
            input_names=["pictures"],
            output_names=["features"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
        assert program
        for node in program.model.graph:
            node.metadata_props.clear()  # stack traces, with paths of this machine
        program.model.metadata_props.update(_about(run))
        content = program.model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        if session.get_inputs()[0].shape[0] != "batch":
            raise UserError("the encoder cannot be exported to ONNX: it is bound to one batch size")
        _compare(
            run, network, lambda x: torch.from_numpy(session.run(None, {"pictures": x.numpy()})[0])
        )
    return content


def _torchscript(run: Run, encoder: nn.Module) -> bytes:
    network = AsStored(encoder, _span(run)).eval()
    with _quietly("TorchScript"):
        traced = torch.jit.trace(encoder, to_float(_pictures(run, 2), _span(run)))
        scripted = torch.jit.script(AsStored(traced, _span(run)).eval())
        content = io.BytesIO()
        about = {"metadata.json": json.dumps(_about(run))}
        torch.jit.save(scripted, content, _extra_files=about)
        content.seek(0)
        _compare(run, network, torch.jit.load(content))
    return content.getvalue()


def _safetensors(run: Run, encoder: nn.Module) -> bytes:
    about = _about(run) | {"format": "pt", "input": "float32 (B, C, H, W), black 0 and white 1"}
    again = copy.deepcopy(encoder)
    inner, inner_again = encoder, again
    names = {key: key for key in encoder.state_dict()}
    if isinstance(encoder, Backbone) and isinstance(again, Backbone):
        inner, inner_again = encoder.net, again.net
        names = {key: key for key in inner.state_dict()}
        about |= {k: str(getattr(encoder, k).flatten().tolist()) for k in ("mean", "std")}
    elif run.inputs["encoder"] in RESNETS:
        is_small = max(run.size) <= 64
        names = {key: _resnet_name(key, 3 if is_small else 4) for key in names}
        about["stem"] = CIFAR_STEM if is_small else "7x7 convolution, max-pool"
    state = {names[k]: v.contiguous().clone() for k, v in inner.state_dict().items()}
    content = safetensors.save(state, about)
    loaded = safetensors.load(content)
    inner_again.load_state_dict({key: loaded[name] for key, name in names.items()})
    _compare(run, AsStored(encoder, _span(run)), AsStored(again, _span(run)))
    return content


def _resnet_name(key: str, stem: int) -> str:
    """Our name of a weight -> that of torchvision and timm; `stem` layers precede the blocks."""
    stage, place, *rest = key.removeprefix("stages.").split(".")
    block = int(place) - (stem if stage == "0" else 0)
    if block < 0:
        return ".".join([("conv1", "bn1")[int(place)], *rest])
    part, k, leaf = rest
    layer = (
        f"downsample.{k}"
        if part == "shortcut"
        else f"{('conv', 'bn')[int(k) % 3]}{int(k) // 3 + 1}"
    )
    return f"layer{int(stage) + 1}.{block}.{layer}.{leaf}"


def _about(run: Run) -> dict[str, str]:
    """What a program needs to know to use the file; the same for the same run."""
    stored = "uint8 (B, C, H, W), 0 to 255"
    if _span(run) != (0.0, 1.0):
        stored = "float32 (B, C, H, W), black {} and white {}".format(*_span(run))
    return {
        "encoder": Path(run.inputs["encoder"]).name,
        "method": Path(run.config["method"]).name,
        "input": stored,
        "output": "float32 (B, dim)",
        **{k: json.dumps(run.inputs[k]) for k in ("channels", "size", "range", "dim")},
        "unlabeled": __version__,
    }


def _span(run: Run) -> tuple[float, float]:
    low, high = run.inputs["range"]
    return float(low), float(high)


def _pictures(run: Run, n: int) -> Tensor:
    """Noise as the run's pictures are stored, (n, C, H, W)."""
    generator = torch.Generator().manual_seed(n)
    low, high = _span(run)
    noise = torch.rand(n, run.inputs["channels"], *run.size, generator=generator)
    return (256 * noise).byte() if (low, high) == (0.0, 1.0) else noise * (high - low) + low


@torch.no_grad()
def _compare(run: Run, ours: nn.Module, theirs: Callable[[Tensor], Tensor]) -> None:
    """Refuse a file whose features are not the encoder's, of seven pictures, one, or a blank."""
    blank = torch.full_like(_pictures(run, 1), _span(run)[0])
    for x in (_pictures(run, 7), _pictures(run, 1), blank):
        expected, got = ours(x).float(), theirs(x)
        same = got.shape == expected.shape
        off = float((got - expected).abs().max()) if same else math.inf
        if not off <= TOLERANCE * max(1.0, float(expected.abs().max())):
            raise UserError(
                f"the exported features are off by {off:.1e} for a batch of {len(x)}, so nothing "
                "was written; the encoder draws at random, or acts on the batch or its values"
            )


@contextmanager
def _quietly(to: str) -> Iterator[None]:
    """Without what the exporters say to their developers; what they cannot do becomes one line."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except RuntimeError as error:
        cause, lines = error.__cause__, str(error).strip().splitlines()
        why = str(cause).strip().partition("\n")[0] if cause else lines[-1]
        raise UserError(f"the encoder cannot be exported to {to}: {why}") from error
    finally:
        logging.disable(before)


FORMATS: dict[str, tuple[Callable[[Run, nn.Module], bytes], str]] = {
    "onnx": (_onnx, "encoder.onnx"),
    "torchscript": (_torchscript, "encoder.pt"),
    "safetensors": (_safetensors, "{}.safetensors"),
}
