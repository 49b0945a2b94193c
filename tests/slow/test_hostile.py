"""A stranger's run folder cannot run code, read or write elsewhere, or take the memory."""

import json
import os
import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import unlabeled as ul
from unlabeled import registry
from unlabeled.cli.main import main
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.runs import safety
from unlabeled.utils.files import write_json

CHANNELS, SIZE = 1, (16, 16)
GOOD = {"encoder": "small", "args": {"width": 2}, "dim": 16}
IMAGES = {"kind": "images", "channels": 1, "size": [16, 16]}
IMAGES |= {"value_range": [0.0, 1.0], "dtype": "uint8"}
GOOD |= {"modality": IMAGES}


@pytest.fixture
def folder(tmp_path):
    """A finished run of a tiny network, on labeled images that lie beside it."""
    path = tmp_path / "run"
    path.mkdir()
    x = np.random.default_rng(0).integers(0, 256, (60, *SIZE), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(60) % 2)
    save_file(build("small", CHANNELS, SIZE, width=2).state_dict(), path / "encoder.safetensors")
    write_json(path / "encoder.json", GOOD)
    recipe = {"method": "simclr", "data": str(tmp_path / "data.npz"), "recipe": {}, "seed": 0}
    write_json(path / "config.json", recipe)
    return path


def refused(folder, says):
    """Both ways of opening refuse it, in one sentence, at once."""
    started = time.perf_counter()
    with pytest.raises(UserError, match=says):
        ul.load(folder)
    assert time.perf_counter() - started < 3
    assert main(["evaluate", str(folder)]) == 2


def change(folder, **fields):
    write_json(folder / "encoder.json", GOOD | fields)


def test_the_folder_is_good_without_an_attack(folder):
    assert ul.load(folder).embed(np.zeros((3, *SIZE), np.uint8)).shape == (3, 16)
    assert main(["evaluate", str(folder)]) == 0


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (Path(self.trace),)


@pytest.mark.parametrize("protocol", [0, 2, 5, "torch"])
def test_a_pickle_in_place_of_weights_is_not_unpickled(protocol, folder, tmp_path):
    path = folder / "encoder.safetensors"
    if protocol == "torch":
        torch.save(Bomb(tmp_path / "ran"), path)
    else:
        path.write_bytes(pickle.dumps(Bomb(tmp_path / "ran"), protocol))
    refused(folder, "damaged")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 9) + b'{"a": nul',
    ],
)
def test_broken_weights_are_refused(content, folder):
    (folder / "encoder.safetensors").write_bytes(content)
    refused(folder, "damaged")


def test_weights_that_claim_more_than_the_file_holds_are_refused(folder):
    claim = {"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    header = json.dumps(claim).encode()
    (folder / "encoder.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    refused(folder, "damaged")


@pytest.mark.parametrize(
    "name",
    [
        "{folder}/evil.py:Net",
        "./evil.py",
        "../../etc/passwd",
        "os:system",
        "timm:hf-hub:owner/name",
        "timm:local-dir:{folder}",
        "hf:owner/name",
        "hf:{folder}",
        "hf:timm_wrapper",
        "small\n",
    ],
)
def test_a_name_leads_to_no_code_and_no_download(name, folder):
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    change(folder, encoder=name.format(folder=folder))
    refused(folder, "not loaded automatically")


def test_arguments_ask_for_no_weights(folder):
    change(folder, encoder="timm:resnet18", args={"pretrained": True})
    refused(folder, "not loaded automatically")


def test_data_that_is_a_program_is_not_run(folder):
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    write_json(folder / "config.json", {"method": "simclr", "data": f"{folder}/evil.py"})
    assert main(["evaluate", str(folder)]) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"args": {"width": 10**9}},
        {"args": {"width": 10**30}},
        {"args": {"width": 1 << 19}},
        {"args": {"width": 1.5}},
        {"args": {"width": -3}},
        {"args": {"width": "wide"}},
        {"args": {"width": [1] * 1000}},
        {"args": {"width": [[[[1]]]]}},
        {"args": {"depth": 3}},
        {"args": {"channels": 1}},
        {"encoder": "pca", "args": {"dim": 1 << 20}},
        {"encoder": "resnet50", "args": {"width": 1e6}},
        {"encoder": "lenet", "args": {}, "modality": IMAGES | {"size": [4096, 4096]}},
        {"modality": IMAGES | {"size": [10**7, 10**7]}},
        {"modality": IMAGES | {"size": [65536, 65536]}},
        {"modality": IMAGES | {"channels": 10**9}},
        {"dim": 17},
    ],
)
def test_huge_networks_are_refused_before_they_are_made(fields, folder):
    change(folder, **fields)
    refused(folder, "encoder|dim|size|channels|cannot be built")


@pytest.mark.parametrize(
    "args", [{"num_hidden_layers": 10**6}, {"hidden_size": 1 << 20}, {"image_size": 1 << 20}]
)
def test_huge_networks_of_others_are_refused_too(args, folder):
    pytest.importorskip("transformers", reason="pip install 'unlabeled[hf]'")
    change(folder, encoder="hf:vit", args=args)
    refused(folder, "do not fit|cannot make")


WRONG = {
    "encoder": [None, 3, "", [], {}, "x" * 10_000],
    "args": [None, [], "width"],
    "modality": [None, [], "images", {}, {"kind": "text"}, {"kind": []}, IMAGES | {"depth": 1}],
    "dim": [None, 0, "16", 16.0, 1 << 60],
}


WRONG_IMAGES = {
    "kind": [None, 3, "sound", [], {}],
    "channels": [None, 0, -1, 1.0, True, "1", [1]],
    "size": [None, 16, [16], [16, 16, 16], ["16", 16], [16.0, 16], [0, 16], [True, 16], {}],
    "value_range": [None, [0], [1, 0], ["0", 1], [0, None], [0, True], 1, [0, 10**400], {}],
    "dtype": [None, 8, "int8", [], {}],
}


@pytest.mark.parametrize(
    ("field", "value"), [(k, v) for k, wrong in WRONG_IMAGES.items() for v in wrong]
)
def test_wrong_modalities_are_refused(field, value, folder):
    images = IMAGES | {field: value}
    with pytest.raises(UserError, match=field):
        safety.check_inputs(GOOD | {"modality": images})
    change(folder, modality=images)
    with pytest.raises(UserError):
        ul.load(folder)


@pytest.mark.parametrize(("field", "value"), [(k, v) for k, wrong in WRONG.items() for v in wrong])
def test_wrong_types_and_numbers_are_refused(field, value, folder):
    with pytest.raises(UserError, match=field):
        safety.check_inputs(GOOD | {field: value})
    change(folder, **{field: value})
    with pytest.raises(UserError):
        ul.load(folder)


@pytest.mark.parametrize("field", GOOD)
def test_missing_fields_are_refused(field, folder):
    write_json(folder / "encoder.json", {k: v for k, v in GOOD.items() if k != field})
    refused(folder, field)


@pytest.mark.parametrize("name", ["encoder.json", "config.json"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"text"',
        '{"range": [NaN, 1]}',
        '{"range": [0, Infinity]}',
        "[" * 100_000,
        '{"a": ' + "9" * 10_000 + "}",
        "\x00",
    ],
)
def test_json_that_is_none_is_refused(name, text, folder):
    (folder / name).write_text(text)
    refused(folder, "damaged")


@pytest.mark.parametrize("name", ["encoder.json", "config.json"])
def test_giant_json_is_not_read(name, folder):
    with (folder / name).open("ab") as file:
        file.truncate(1 << 40)  # sparse: takes no space
    refused(folder, "damaged")


@pytest.mark.parametrize(
    "config",
    [{}, {"method": 3, "data": None}, {"method": "simclr", "data": 3}, {"method": ["a"]}],
)
def test_a_config_of_wrong_types_is_refused(config, folder):
    write_json(folder / "config.json", config)
    refused(folder, "config.json")


@pytest.mark.parametrize("name", ["encoder.json", "config.json", "encoder.safetensors"])
def test_links_are_not_read(name, folder, tmp_path):
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    refused(folder, "leads out")


def test_a_linked_folder_of_a_run_is_the_users_own_choice(folder, tmp_path):
    (tmp_path / "linked").symlink_to(folder)
    assert ul.load(tmp_path / "linked").dim == 16


def test_a_linked_report_is_not_written_to(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "report").symlink_to(tmp_path / "elsewhere")
    assert main(["evaluate", str(folder)]) == 2
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("name", ["evaluation.json", "evaluation.json.tmp", "report/index.html"])
def test_linked_files_are_not_written_through(name, folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (folder / "report").mkdir()
    (folder / name).symlink_to(secret)
    main(["evaluate", str(folder)])
    assert secret.read_text() == "mine"


@pytest.mark.parametrize("name", ["views.png", "metrics.csv"])
def test_linked_files_are_not_shown_in_the_report(name, folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("step,loss\n1,12345.678\n")
    (folder / name).symlink_to(secret)
    assert main(["evaluate", str(folder)]) == 2


def test_a_pipe_in_place_of_a_file_does_not_hang(folder):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    refused(folder, "config.json")


def test_weights_of_another_network_are_named(folder):
    weights = load_file(folder / "encoder.safetensors")
    weights["extra"] = torch.zeros(1)
    save_file(weights, folder / "encoder.safetensors")
    refused(folder, "extra is \\(1,\\), not nothing")


def test_inside_stays_inside(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    assert safety.inside(tmp_path, "report/index.html") == tmp_path / "report" / "index.html"
    for name in ("../x", "a/../../x", "/etc/passwd", "link", "link/x"):
        with pytest.raises(UserError, match="leads out"):
            safety.inside(tmp_path, name)


def test_a_good_folder_gives_the_same_network(folder):
    shapes = safety.read_shapes(folder / "encoder.safetensors")
    encoder = safety.build_checked(safety.check_inputs(dict(GOOD)), shapes)
    assert {k: tuple(v.shape) for k, v in encoder.state_dict().items()} == shapes
    assert not any(value.is_meta for value in encoder.state_dict().values())


@pytest.mark.slow
def test_every_encoder_passes_the_check():
    for name in registry.listing("encoders"):
        encoder = build(name, 1, (32, 32))
        shapes = {k: tuple(v.shape) for k, v in encoder.state_dict().items()}
        inputs = GOOD | {
            "encoder": name,
            "args": {},
            "modality": IMAGES | {"size": [32, 32]},
            "dim": encoder.dim,
        }
        again = safety.build_checked(safety.check_inputs(inputs), shapes)
        assert type(again) is type(encoder)


def test_ordinary_arguments_and_fields_of_later_versions_pass():
    args = {"width": 0.5, "depths": [1, 2], "act": "gelu", "bias": True, "drop": None}
    assert safety.check_inputs(GOOD | {"args": args, "note": "new"})["note"] == "new"


def test_a_program_in_the_record_is_not_run_whatever_its_path(trained, tmp_path):
    import json
    import shutil

    import unlabeled as ul
    from unlabeled.errors import UserError

    path = tmp_path / "run:v1"
    shutil.copytree(trained.path, path)
    (path / "load.py").write_text("raise SystemExit('ran')")
    config = json.loads((path / "config.json").read_text())
    for data in (f"{path}/load.py", f"{path}/load.py:load"):
        (path / "config.json").write_text(json.dumps(config | {"data": data}))
        with pytest.raises(UserError, match="loaded by a file"):
            ul.evaluate(ul.load(path))
