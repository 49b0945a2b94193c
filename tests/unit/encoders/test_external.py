"""Networks of timm and transformers by name: built, trained, and rebuilt from a run."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from unlabeled.encoders.base import build, is_rebuildable
from unlabeled.encoders.external import is_safe
from unlabeled.errors import UserError
from unlabeled.modality import Images, to_json

SIZE = (32, 32)
TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "patch_size": 8,
}
HF = {
    "hf:vit": TINY,
    "hf:clip_vision_model": TINY,
    "hf:vit_mae": TINY,
    "hf:ijepa": TINY,
    "hf:dinov2": {k: v for k, v in TINY.items() if k != "intermediate_size"},
    "hf:resnet": {"embedding_size": 4, "hidden_sizes": [8, 12], "depths": [1, 1]},
    "hf:convnext": {"hidden_sizes": [4, 6, 8, 10], "depths": [1, 1, 1, 1]},
}
TIMM = {
    "timm:test_resnet": {},
    "timm:test_convnext": {},
    "timm:test_vit": {"patch_size": 8},
    "timm:vit_tiny_patch16_224": {"depth": 1, "drop_path_rate": 0.1},
}


@pytest.fixture
def timm():
    return pytest.importorskip("timm", reason="pip install 'unlabeled[timm]'")


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers", reason="pip install 'unlabeled[hf]'")


def check(name, args):
    torch.manual_seed(0)
    encoder = build(name, 1, SIZE, **args).eval()
    x = torch.rand(5, 1, *SIZE)
    with torch.no_grad():
        z = encoder(x)
        torch.testing.assert_close(encoder(x), z)
        torch.testing.assert_close(encoder(x[:2]), z[:2], atol=1e-5, rtol=1e-5)
    assert z.shape == (5, encoder.dim)
    assert z.std(0).max() > 0

    name, args = json.loads(json.dumps(encoder.rebuild))
    assert is_safe(name, args)
    assert is_rebuildable(name, args)
    again = build(name, 1, SIZE, **args).eval()
    assert json.loads(json.dumps(again.rebuild)) == [name, args]
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again(x), z)
    with torch.device("meta"):
        sketch = build(name, 1, SIZE, **args)
    assert all(value.is_meta for value in sketch.state_dict().values())
    assert sketch.dim == encoder.dim


@pytest.mark.parametrize("name", HF)
def test_hf_networks(name, transformers):
    check(name, HF[name])


@pytest.mark.parametrize("name", TIMM)
def test_timm_networks(name, timm):
    check(name, TIMM[name])


def stored(folder, **fields):
    """A network stored by transformers, and its output."""
    from transformers import ViTConfig, ViTModel

    net = ViTModel(ViTConfig(**(TINY | {"image_size": 32} | fields))).eval()
    net.save_pretrained(folder)
    return net


def test_pretrained_weights_are_loaded_once(transformers, tmp_path):
    net = stored(tmp_path / "net")
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    about = {"image_mean": mean, "image_std": std, "image_processor_type": "ViTImageProcessor"}
    (tmp_path / "net" / "preprocessor_config.json").write_text(json.dumps(about))
    encoder = build(f"hf:{tmp_path / 'net'}", 3, SIZE).eval()
    x = torch.rand(4, 3, *SIZE)
    normal = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(encoder(x), net(normal).pooler_output)

    name, args = json.loads(json.dumps(encoder.rebuild))
    assert name == "hf:vit"
    assert str(tmp_path) not in json.dumps(args)
    again = build(name, 3, SIZE, **args).eval()
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again(x), encoder(x))


def test_pretrained_weights_accept_gray_and_larger_images(transformers, tmp_path):
    stored(tmp_path / "net")
    encoder = build(f"hf:{tmp_path / 'net'}", 1, (64, 48)).eval()
    x = torch.rand(2, 1, 64, 48)
    assert encoder(x).shape == (2, 16)
    name, args = encoder.rebuild
    again = build(name, 1, (64, 48), **args).eval()
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again(x), encoder(x))


def test_an_untrained_pooling_is_not_used(transformers, tmp_path):
    from transformers import ViTConfig, ViTModel

    net = ViTModel(ViTConfig(**TINY, image_size=32), add_pooling_layer=False).eval()
    net.save_pretrained(tmp_path / "net")
    encoder = build(f"hf:{tmp_path / 'net'}", 3, SIZE).eval()
    x = torch.rand(2, 3, *SIZE)
    torch.testing.assert_close(encoder(x), net(x).last_hidden_state.mean(1))
    assert encoder.rebuild[1]["tokens"] is True


@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_of_images_and_texts_the_image_encoder_is_taken(kind, transformers, tmp_path):
    """Catches: the whole model, which wants texts; another tower; weights not found."""
    small = {k: v for k, v in TINY.items() if k != "patch_size"}
    config = getattr(transformers, f"{kind}Config")(
        text_config=small | {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1},
        vision_config=TINY | {"image_size": 32},
    )
    net = getattr(transformers, f"{kind}Model")(config).eval()
    net.save_pretrained(tmp_path / "net")
    encoder = build(f"hf:{tmp_path / 'net'}", 3, SIZE).eval()
    x = torch.rand(2, 3, *SIZE)
    torch.testing.assert_close(encoder(x), net.vision_model(x).pooler_output)
    name, args = encoder.rebuild
    assert is_safe(name, args)


def test_pickled_and_partial_weights_are_refused(transformers, tmp_path):
    from safetensors.torch import load_file, save_file

    net = stored(tmp_path / "net")
    path = tmp_path / "net" / "model.safetensors"
    state = load_file(path)
    remaining = {k: v for k, v in state.items() if "patch_embeddings" not in k}
    save_file(remaining, path, {"format": "pt"})
    with pytest.raises(UserError, match="lack"):
        build(f"hf:{tmp_path / 'net'}", 3, SIZE)
    path.unlink()
    torch.save(net.state_dict(), tmp_path / "net" / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        build(f"hf:{tmp_path / 'net'}", 3, SIZE)


def test_code_beside_the_weights_is_never_run(transformers, tmp_path):
    stored(tmp_path / "net")
    path = tmp_path / "net" / "config.json"
    (tmp_path / "net" / "evil.py").write_text("raise SystemExit('ran')\n")
    link = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    config = json.loads(path.read_text()) | {"auto_map": link}
    path.write_text(json.dumps(config))
    encoder = build(f"hf:{tmp_path / 'net'}", 3, SIZE)
    assert "auto_map" not in encoder.rebuild[1]
    path.write_text(json.dumps(config | {"model_type": "theirs"}))
    with pytest.raises(UserError, match="cannot make"):
        build(f"hf:{tmp_path / 'net'}", 3, SIZE)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("hf:vitt", {}, "did you mean vit"),
        ("hf:bert", TINY, "no argument 'patch_size'"),
        ("hf:vit", {"hiden_size": 3}, "no argument 'hiden_size'"),
        ("hf:vit", {"attn_implementation": "owner/kernel"}, "no argument 'attn_implementation'"),
        ("hf:vit", {"auto_map": {"AutoModel": "a.b"}}, "no argument 'auto_map'"),
        ("hf:vit", {"hidden_size": "wide"}, "hidden_size"),
        ("hf:vit", TINY | {"hidden_act": "nope"}, "cannot make"),
        ("hf:./nowhere", {}, "cannot make"),
    ],
)
def test_wrong_arguments_of_transformers_are_refused(
    name, args, message, transformers, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=message):
        build(name, 1, SIZE, **args)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("timm:resnet81", {}, "did you mean resnet"),
        ("timm:hf-hub:owner/name", {}, "no encoder"),
        ("timm:local-dir:/tmp", {}, "no encoder"),
        ("timm:test_resnet", {"depth": 3}, "unexpected keyword"),
        ("timm:test_resnet", {"checkpoint_path": "x.pth"}, "no argument 'checkpoint_path'"),
        ("timm:test_resnet", {"pretrained_cfg": {"url": "x"}}, "no argument 'pretrained_cfg'"),
        ("timm:test_vit", {"img_size": 8}, "cannot take"),
    ],
)
def test_wrong_arguments_of_timm_are_refused(name, args, message, timm):
    with pytest.raises(UserError, match=message):
        build(name, 1, SIZE, **args)


@pytest.mark.parametrize("name", ["timm", "hf"])
def test_a_missing_package_is_named(name, monkeypatch):
    package = {"timm": "timm", "hf": "transformers"}[name]
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"'{name}:x' needs {package}; pip install 'unlabeled\[{name}\]'"
    with pytest.raises(UserError, match=message):
        build(f"{name}:x", 1, SIZE)


@pytest.mark.parametrize(
    "name",
    [
        "timm:hf-hub:a/b",
        "timm:local-dir:x",
        "timm:../x",
        "timm:a.b",
        "timm:a/b",
        "timm:",
        "timm",
        "convnext_atto",
        "os.system",
        "hf:owner/name",
        "hf:.",
        "hf:/tmp/x",
        "hf:timm_wrapper",
        "hf:detr",
        "hf:",
        "./net.py:Net",
    ],
)
def test_unsafe_names_are_not_rebuilt(name):
    assert not is_rebuildable(name)
    assert not is_rebuildable(name + "\n")


def test_a_run_may_not_request_pretrained_weights():
    assert is_rebuildable("timm:resnet18", {"drop_rate": 0.1})
    assert not is_rebuildable("timm:resnet18", {"pretrained": True})


def test_external_libraries_are_imported_on_first_use():
    code = (
        "import sys; from unlabeled.encoders.base import build; build('small', 1, (16, 16));"
        "sys.exit(any(name in sys.modules for name in ('timm', 'transformers')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_run_of_an_external_network_is_loaded(transformers, sprites, tmp_path):
    import unlabeled as ul

    stored(tmp_path / "net", image_size=64, num_channels=1)
    run = ul.train(
        "simclr",
        sprites,
        encoder=f"hf:{tmp_path / 'net'}",
        out=tmp_path / "run",
        epochs=1,
        batch_size=128,
        progress=False,
    )
    shutil.rmtree(tmp_path / "net")
    again = ul.load(tmp_path / "run")
    assert again.inputs["encoder"] == "hf:vit"
    x = sprites[0][:8]
    np.testing.assert_allclose(again.embed(x), run.embed(x), atol=1e-5)


def test_an_external_network_is_exported(transformers, tmp_path):
    pytest.importorskip("onnxscript", reason="pip install 'unlabeled[export]'")
    pytest.importorskip("onnxruntime", reason="pip install 'unlabeled[export]'")
    from safetensors.torch import load_file

    from unlabeled.runs.export import export
    from unlabeled.runs.run import Run

    stored(tmp_path / "net")
    encoder = build(f"hf:{tmp_path / 'net'}", 3, SIZE)
    name, args = encoder.rebuild
    inputs = {"encoder": name, "args": args, "modality": to_json(Images(3, SIZE))}
    run = Run(tmp_path, encoder, {"method": "simclr"}, inputs | {"dim": encoder.dim})
    for to in ("onnx", "torchscript", "safetensors"):
        assert export(run, to).is_file()
    net = transformers.ViTModel(transformers.ViTConfig(**TINY, image_size=32)).eval()
    net.load_state_dict(load_file(tmp_path / "vit.safetensors"))
    x = torch.rand(2, 3, *SIZE)
    torch.testing.assert_close(net(x).pooler_output, encoder(x))
