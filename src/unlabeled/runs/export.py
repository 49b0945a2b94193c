"""Export an encoder to a file that other programs can run without this library."""

from __future__ import annotations

import copy
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

from unlabeled.augmentations.tokens import pack_tokens
from unlabeled.augmentations.vocabulary import END, FIRST_WORD, PAD, UNKNOWN
from unlabeled.data.dataset import to_float
from unlabeled.encoders.external import Backbone
from unlabeled.encoders.text import TextEncoder
from unlabeled.encoders.timm_weights import RESNETS, resnet_to_timm
from unlabeled.errors import UserError, notice, suggest
from unlabeled.modality import Audio, Series, Table, Text, find_part, require_part, to_json
from unlabeled.runs.classifier import Classifier, LinearClassifier
from unlabeled.runs.run import Run
from unlabeled.utils.files import write_bytes
from unlabeled.utils.quiet import silent
from unlabeled.version import __version__

TOLERANCE = 1e-5
"""Allowed error of an exported feature, relative to the largest one, or to 1 if that is more."""
OWN = {"encoder.json", "encoder.safetensors", "config.json", "last.ckpt", "tokenizer.json"}
OWN |= {"classifier.json", "classifier.safetensors"}
"""Files of a run folder that an export must not replace."""
CIFAR_STEM = (
    "3x3 convolution, no max-pool: give torchvision's or timm's net "
    "conv1 = Conv2d(C, width, 3, 1, 1, bias=False) and maxpool = Identity() before loading"
)


class AsStored(nn.Module):
    """Wrapper that lets an encoder take images as they are stored.

    Args:
        encoder: from (B, C, H, W), black 0 and white 1, to (B, dim).
        span: black and white of float images; uint8 is always 0 and 255.
    """

    def __init__(self, encoder: nn.Module, span: tuple[float, float]) -> None:
        super().__init__()
        self.encoder = encoder
        self.span = span

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim) float32."""
        return self.encoder(to_float(x, self.span))


class OfTokens(nn.Module):
    """Wrapper that lets an encoder of texts take token ids.

    Args:
        encoder: of texts.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) or (B, sentences, L) int64, PAD behind each text -> (B, dim) float32."""
        known = tokens.masked_fill(tokens >= int(self.encoder.vocabulary), UNKNOWN)  # type: ignore[arg-type]
        return self.encoder.features(pack_tokens(known.flatten(1)))  # type: ignore[operator]


class WithLogits(nn.Module):
    """Wrapper that gives features and a classifier's logits.

    Args:
        network: to features (B, dim).
        classifier: from those to logits (B, K).
    """

    def __init__(self, network: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.network, self.classifier = network, classifier

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Samples -> (B, dim), (B, K) float32."""
        z = self.network(x)
        return z, self.classifier(z)


class OfShape(nn.Module):
    """Wrapper of a traced network that checks the shape of its input.

    Args:
        network: a traced network, bound to some sides of its input.
        shape: required shape of one sample; 0 for any.
        message: the error message for other shapes.
    """

    def __init__(self, network: nn.Module, shape: list[int], message: str) -> None:
        super().__init__()
        self.network, self.shape, self.message = network, shape, message

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) -> (B, dim)."""
        fits = x.dim() == 1 + len(self.shape)
        if fits:
            for i, side in enumerate(self.shape):
                fits = fits and (side == 0 or x.size(1 + i) == side)
        if not fits:
            raise ValueError(self.message + ", not " + str(x.shape))
        return self.network(x)


def export(
    run: Run, to: Literal["onnx", "safetensors", "torchscript"], out: Path | None = None
) -> Path:
    """Export the encoder for use without this library; the file is run and compared first.

    ONNX and TorchScript take any number B of samples and give features (B, dim) float32:

    - `images` as stored, (B, C, H, W): uint8 in 0..255, or float32 in the run's range where that is
      not (0, 1) (TorchScript takes either);
    - `audio`, (B, 1, 1, T) float32 in [−1, 1] at the run's sample rate;
    - `series`, (B, C, 1, T), and `rows`, (B, 1, 1, D) float32, standardized by the means and scales
      in the metadata, where a missing timestamp is 0 in all channels and a missing value 0;
    - `tokens`, (B, L) int64, or (B, sentences, L), of the `tokenizer.json` that is written beside
      the file; behind each text the end's number, 3, then 0 as padding.

    ONNX takes samples of the run's size only, TorchScript others where the encoder does; what is
    known of the input is in the metadata. Safetensors has the plain weights, a ResNet's under the
    names of torchvision and timm, whose input is float32, black 0 and white 1.

    Of a run with a classifier, ONNX has a second output `logits` (B, K), and TorchScript returns a
    pair (features, logits): their softmax are the probabilities of `run.predict_proba`. The names
    of the classes are in the metadata as JSON. Safetensors of a ResNet has a linear classifier as
    `fc`, and of other encoders none.

    Args:
        run: what to export.
        to: the format.
        out: the file; encoder.onnx, encoder.pt or ENCODER.safetensors in the run folder unless
            given.

    Raises:
        UserError: a package is missing, the encoder cannot be expressed in that format, or the
            features of the file differ from the encoder's.
    """
    if to not in FORMATS:
        hub = "" if to != "hf" else "use run.save_pretrained(FOLDER) for the Hub, or "
        raise UserError(f"there is no format '{to}'; {hub}{suggest(to, FORMATS)}")
    name = re.split(r"[:/\\.]", run.inputs["encoder"])[-1]
    out = Path(out or run.path / FORMATS[to][1].format(name)).expanduser()
    if out.is_dir() or (out.name in OWN and out.parent.resolve() == run.path.resolve()):
        raise UserError(f"{out} is a folder or the run's own file; choose another --out")
    encoder = copy.deepcopy(run.encoder).to("cpu", torch.float32).eval()
    encoder = encoder.to(memory_format=torch.contiguous_format).requires_grad_(False)  # type: ignore[call-overload]
    beside, tokenizer = tokenizer_beside(out), _tokenizer(run).encode()
    if tokenizer and beside.is_file() and beside.read_bytes() != tokenizer:
        raise UserError(f"{beside} is another tokenizer; choose an --out in another folder")
    content = FORMATS[to][0](run, encoder)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, content)
    if tokenizer and not beside.is_file():
        write_bytes(beside, tokenizer)
    return out


def tokenizer_beside(out: Path) -> Path:
    """Path of the tokenizer, in the folder of the exported encoder."""
    return out.with_name("tokenizer.json")


def _onnx(run: Run, encoder: nn.Module) -> bytes:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  the exporter of torch needs it
    except ImportError as error:
        raise UserError(
            "export to ONNX needs more packages: pip install 'unlabeled[export]'"
        ) from error
    network, name = _network(run, encoder), _input_name(run)
    outputs = ["features"]
    if run.classifier is not None:
        network, outputs = WithLogits(network, run.classifier).eval(), ["features", "logits"]
    with _quietly("ONNX"):
        program = torch.onnx.export(
            network,
            (_samples(run, 2),),
            input_names=[name],
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
        assert program
        for node in program.model.graph:
            node.metadata_props.clear()  # stack traces, with paths of this machine
        program.model.metadata_props.update(_about(run) | {"sizes": "only this"})
        content = program.model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        if session.get_inputs()[0].shape[0] != "batch":
            raise UserError("the encoder cannot be exported to ONNX: it is bound to one batch size")
        _compare(
            run,
            network,
            lambda x: tuple(map(torch.from_numpy, session.run(outputs, {name: x.numpy()}))),
        )
    return content


def _torchscript(run: Run, encoder: nn.Module) -> bytes:
    network, name = _network(run, encoder), _input_name(run)
    x = _samples(run, 2)
    with _quietly("TorchScript"):
        if name == "tokens":
            traced = torch.jit.trace(network, x)
        else:
            inner = torch.jit.trace(encoder, to_float(x, _span(run)))
            traced = torch.jit.script(AsStored(inner, _span(run)).eval())
        free = name != "tokens" and all(_same_at(run, network, traced, by) for by in (1.5, 0.75))
        shape = [run.modality.channels, 0, 0] if free else list(x.shape[1:])
        sides = ", ".join(str(side or "any") for side in shape)
        message = f"this encoder takes {name} of shape (B, {sides})"
        scripted = torch.jit.script(OfShape(traced, shape, message).eval())
        if run.classifier is not None:
            head = torch.jit.trace(run.classifier, torch.rand(2, run.dim))
            scripted = torch.jit.script(WithLogits(scripted, head).eval())
            network = WithLogits(network, run.classifier).eval()
        content = io.BytesIO()
        about = {
            "metadata.json": json.dumps(_about(run) | {"sizes": "any" if free else "only this"})
        }
        torch.jit.save(scripted, content, _extra_files=about)
        content.seek(0)
        _compare(run, network, torch.jit.load(content))
    return content.getvalue()


@torch.no_grad()
def _same_at(run: Run, ours: nn.Module, theirs: nn.Module, by: float) -> bool:
    """Whether both accept samples of another size and return the same features."""
    x = _samples(run, 2, [round(by * side) if side > 1 else 1 for side in run.size])
    try:
        expected, got = ours(x), theirs(x)
    except (RuntimeError, ValueError):  # too small for the encoder, or bound to the size traced
        return False
    off = (got - expected).abs().max() if got.shape == expected.shape else math.inf
    return bool(off <= TOLERANCE * max(1.0, float(expected.abs().max())))


def _safetensors(run: Run, encoder: nn.Module) -> bytes:
    about = _about(run) | {"format": "pt"}
    if about["input_name"] == "images":
        about["input"] = "float32 (B, C, H, W), black 0 and white 1"
    again = copy.deepcopy(encoder)
    inner, inner_again = encoder, again
    names = {key: key for key in encoder.state_dict()}
    if isinstance(encoder, Backbone) and isinstance(again, Backbone):
        inner, inner_again = encoder.net, again.net
        names = {key: key for key in inner.state_dict()}
        about |= {k: str(getattr(encoder, k).flatten().tolist()) for k in ("mean", "std")}
    elif run.inputs["encoder"] in RESNETS:
        is_small = max(run.size) <= 64
        names = {own: name for name, own in resnet_to_timm(names, 3 if is_small else 4).items()}
        about["stem"] = CIFAR_STEM if is_small else "7x7 convolution, max-pool"
    state = {names[k]: v.contiguous().clone() for k, v in inner.state_dict().items()}
    if isinstance(run.classifier, LinearClassifier) and run.inputs["encoder"] in RESNETS:
        head = run.classifier
        state["fc.weight"] = head.weight / head.temperature  # type: ignore[operator]
        state["fc.bias"] = head.bias / head.temperature  # type: ignore[operator]
        about["output"] = "with fc logits float32 (B, classes), without it features (B, dim)"
    elif run.classifier is not None:
        about = {k: v for k, v in about.items() if k not in ("classes", "classifier")}
        about["output"] = "float32 (B, dim)"
        notice("the weights are the encoder's alone; onnx and torchscript hold the classifier, too")
    content = safetensors.save(state, about)
    loaded = safetensors.load(content)
    inner_again.load_state_dict({key: loaded[name] for key, name in names.items()})
    _compare(run, _network(run, encoder), _network(run, again))
    return content


def _about(run: Run) -> dict[str, str]:
    """Metadata that a program needs to use the file; the same for the same run."""
    stored, further = "uint8 (B, C, H, W), 0 to 255", {}
    if _span(run) != (0.0, 1.0):
        stored = "float32 (B, C, H, W), black {} and white {}".format(*_span(run))
    if (name := _input_name(run)) == "audio":
        stored = "float32 (B, 1, 1, T), from -1 to 1, silence 0 behind a short recording"
        further["sample_rate"] = str(require_part(run.modality, Audio).sample_rate)
    elif isinstance(run.modality, Series | Table):
        sides = "(B, C, 1, T)" if name == "series" else "(B, 1, 1, D)"
        stored = f"float32 {sides}, standardized as the modality says, 0 where missing"
        further["modality"] = json.dumps(to_json(run.modality))
    elif name == "tokens":
        sides = "(B, L)" if run.size[0] == 1 else "(B, sentences, L)"
        stored = f"int64 {sides}, numbers of tokens; end behind each text, then padding"
        further["vocabulary"] = str(run.encoder.vocabulary)
        further |= {"length": str(run.size[1]), "end": str(END), "padding": str(PAD)}
        further["tokenizer"] = "tokenizer.json" if _tokenizer(run) else "unknown"
    outputs = "float32 (B, dim)"
    if run.classifier is not None:
        outputs = "features float32 (B, dim), logits float32 (B, classes)"
        further["classifier"] = run.classifier.kind
        further["classes"] = json.dumps(run.classifier.classes)
    return further | {
        "encoder": Path(run.inputs["encoder"]).name,
        "method": Path(run.config["method"]).name,
        "input_name": name,
        "input": stored,
        "output": outputs,
        "channels": json.dumps(run.modality.channels),
        "size": json.dumps(run.modality.size),
        "range": json.dumps(_span(run)),
        "dim": json.dumps(run.dim),
        "unlabeled": __version__,
    }


def _span(run: Run) -> tuple[float, float]:
    return run.modality.value_range


def _tokenizer(run: Run) -> str:
    text = find_part(run.modality, Text)
    return text.tokenizer if text else ""


def _input_name(run: Run) -> str:
    """What the encoder takes: tokens, audio, series, rows or images."""
    if isinstance(run.encoder, TextEncoder):
        return "tokens"
    if isinstance(run.modality, Series | Table):
        return run.modality.noun
    return "audio" if isinstance(run.modality, Audio) else "images"


def _network(run: Run, encoder: nn.Module) -> nn.Module:
    """The encoder, from samples as `_samples` makes them."""
    if _input_name(run) == "tokens":
        return OfTokens(encoder).eval()
    return AsStored(encoder, _span(run)).eval()


def _samples(run: Run, n: int, size: Sequence[int] | None = None) -> Tensor:
    """Noise as the run's samples are stored: images and audio (n, C, H, W), tokens (n, L).

    Args:
        run: whose.
        n: how many.
        size: other than the run's.
    """
    generator = torch.Generator().manual_seed(n)
    rows, columns = size or run.size
    if _input_name(run) == "tokens":
        shape = (n, columns) if rows == 1 else (n, rows, columns)
        vocabulary = int(run.encoder.vocabulary)  # type: ignore[arg-type]
        ids = torch.randint(FIRST_WORD, vocabulary, shape, generator=generator)
        ends = torch.randint(1, columns + 1, (*shape[:-1], 1), generator=generator)
        return ids.where(torch.arange(columns) < ends, PAD)
    low, high = _span(run)
    noise = torch.rand(n, run.modality.channels, rows, columns, generator=generator)
    if _input_name(run) in ("audio", "series", "rows"):
        return 2 * noise - 1
    return (256 * noise).byte() if (low, high) == (0.0, 1.0) else noise * (high - low) + low


@torch.no_grad()
def _compare(run: Run, ours: nn.Module, theirs: Callable[[Tensor], Any]) -> None:
    """Raise an error if features of seven samples, one, or a blank differ from the encoder's.

    Logits are compared with the classifier's of the same features: where features hardly vary, it
    enlarges differences that are within the tolerance of features.
    """
    low = _span(run)[0] if _input_name(run) == "images" else 0
    blank = torch.full_like(_samples(run, 1), low)
    for x in (_samples(run, 7), _samples(run, 1), blank):
        expected, got = ours(x), theirs(x)
        if isinstance(expected, tuple):
            assert run.classifier
            _compare_logits(run.classifier, *got)
            expected, got = expected[0], got[0]
        expected, got = expected.float(), got[0] if isinstance(got, tuple) else got
        same = got.shape == expected.shape
        off = float((got - expected).abs().max()) if same else math.inf
        if not off <= TOLERANCE * max(1.0, float(expected.abs().max())):
            raise UserError(
                f"the exported features are off by {off:.1e} for a batch of {len(x)}, so nothing "
                "was written; the encoder is random, or depends on the batch or on values"
            )


def _compare_logits(classifier: Classifier, z: Tensor, got: Tensor) -> None:
    """Raise an error if logits differ from a classifier's of the same features.

    Those of a linear one may differ by what rounding does to sums that cancel.
    """
    expected = classifier(z)
    scale = max(1.0, float(expected.abs().max()))
    if isinstance(classifier, LinearClassifier):
        scale = max(scale, float((z.abs() @ classifier.weight.abs().T).max()) / 10)  # type: ignore[operator]
    off = float((got - expected).abs().max()) if got.shape == expected.shape else math.inf
    if not off <= TOLERANCE * scale:
        raise UserError(f"the exported logits are off by {off:.1e}, so nothing was written")


@contextmanager
def _quietly(to: str) -> Iterator[None]:
    """Hide the logs of exporters and turn their errors into one line."""
    try:
        with silent():
            yield
    except RuntimeError as error:
        lines = str(error.__cause__ or "").strip().splitlines()[:1]
        lines = lines or str(error).strip().splitlines()[-1:]
        why = lines[0] if lines else type(error.__cause__ or error).__name__
        raise UserError(f"the encoder cannot be exported to {to}: {why}") from error


FORMATS: dict[str, tuple[Callable[[Run, nn.Module], bytes], str]] = {
    "onnx": (_onnx, "encoder.onnx"),
    "torchscript": (_torchscript, "encoder.pt"),
    "safetensors": (_safetensors, "{}.safetensors"),
}
