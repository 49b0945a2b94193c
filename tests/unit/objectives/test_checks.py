"""Every objective and every method's constructor refuses wrong arguments."""

import inspect
import re
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from unlabeled import registry
from unlabeled.cli.main import main
from unlabeled.core import ABOVE_ZERO, SHARES, check_options
from unlabeled.errors import UserError
from unlabeled.objectives.checks import ANY_SIGN, parse_annotation
from unlabeled.objectives.named import loss_by_name
from unlabeled.training.config import TrainConfig
from unlabeled.training.resolve import RECIPE_FIELDS
from unlabeled.training.train import train

NAMES = list(registry.listing("objectives"))
SIZES = {"n": 4, "d": 8, "k": 3, "t": 5}


def example(name, **sizes):
    """Arguments of an objective by its annotations, optional tensors included."""
    function, arguments = registry.find("objectives", name), {}
    for key, hint in get_type_hints(function).items():
        if key != "return" and (rows := parse_annotation(hint)):
            shape = [(SIZES | sizes)[axis] for axis in rows.axes]
            torch.manual_seed(len(arguments))
            arguments[key] = torch.randint(0, 3, shape) if rows.integer else torch.rand(shape)
    return function, arguments


def tensors(name, kind=None):
    hints = get_type_hints(registry.find("objectives", name))
    result = {
        k: parse_annotation(h) for k, h in hints.items() if k != "return" and parse_annotation(h)
    }
    return [k for k, rows in result.items() if kind is None or rows.integer == kind]


def numbers(name):
    hints = get_type_hints(registry.find("objectives", name))
    return [k for k, hint in hints.items() if float in (hint, *get_args(hint))]


def refused(function, arguments, *words):
    """The message is one sentence that contains the words."""
    with pytest.raises(UserError) as error:
        function(**arguments)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in (function.__name__, *words)), message


@pytest.mark.parametrize("name", NAMES)
def test_the_example_is_accepted(name):
    """A check that refuses everything would pass the other tests."""
    function, arguments = example(name)
    assert function(**arguments).isfinite()
    needed = inspect.signature(function).parameters
    some = {k: v for k, v in arguments.items() if needed[k].default is inspect.Parameter.empty}
    assert function(*some.values()).isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_rows_and_columns_that_would_broadcast_are_refused(name):
    """Catches broadcasting (4, 8) with (4, 1), (1, 8) and (8,), a missing row, a further axis."""
    function, arguments = example(name)
    for key in tensors(name):
        value = arguments[key]
        for axis in range(value.ndim):
            axes = parse_annotation(get_type_hints(function)[key]).axes
            if [
                a for k in tensors(name) for a in parse_annotation(get_type_hints(function)[k]).axes
            ].count(axes[axis]) == 1:
                continue  # of any length
            for wrong in (value.narrow(axis, 0, 1), torch.cat([value, value], axis)):
                refused(function, arguments | {key: wrong}, str(tuple(wrong.shape)))
        for wrong in (value[0], value[None], value[..., None]):
            refused(function, arguments | {key: wrong}, key)


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_and_no_columns_are_refused(name):
    """Catches the mean of nothing, which is NaN."""
    for axis in ("n", "d", "t", "k"):
        function, arguments = example(name, **{axis: 0})
        hints = get_type_hints(function)
        if any(
            axis in parse_annotation(hints[k]).axes and not parse_annotation(hints[k]).optional
            for k in tensors(name)
        ):
            refused(function, arguments, f"of {axis} in")


@pytest.mark.parametrize("name", NAMES)
def test_a_single_row_is_finite_or_refused(name):
    """Catches VICReg's standard deviation and Barlow Twins' BatchNorm of one row."""
    function, arguments = example(name, n=1)
    arguments |= {"targets": torch.zeros(1, 3).long()} if "targets" in arguments else {}
    if name in ("vicreg", "barlow_twins", "dclw", "frossl", "koleo", "ssl_ey", "wmse"):
        refused(function, arguments, "at least 2")
    else:
        assert function(**arguments).isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_wrong_types_are_refused(name):
    """Catches labels compared as floats, integer rows, lists and arrays."""
    function, arguments = example(name)
    for key in tensors(name, True):
        refused(function, arguments | {key: arguments[key].float()}, key, "whole numbers")
        refused(function, arguments | {key: arguments[key] > 0}, key, "whole numbers")
        for kind in (torch.uint8, torch.int32):
            one, other = (
                function(**arguments),
                function(**arguments | {key: arguments[key].to(kind)}),
            )
            assert name == "predictive_hinge" or torch.equal(one, other)
    for key in tensors(name, False):
        refused(function, arguments | {key: (9 * arguments[key]).long()}, key, "floats")
        refused(function, arguments | {key: arguments[key].to(torch.complex64)}, key, "floats")
    for key in tensors(name):
        refused(function, arguments | {key: arguments[key].numpy()}, key, "give a tensor")
        refused(function, arguments | {key: arguments[key].tolist()}, key, "give a tensor")


@pytest.mark.parametrize("name", NAMES)
def test_numbers_out_of_range_are_refused(name):
    """Catches division by a temperature of 0, a negative margin that rewards collapse."""
    function, arguments = example(name)
    for key in numbers(name):
        wrong = [float("nan"), float("inf"), -float("inf")]
        if key not in ANY_SIGN:
            wrong += [-1, -1e-9]
        if key in ("temperature", "scale", "sigma", "epsilon"):
            wrong += [0, 0.0]
        for value in wrong:
            refused(function, arguments | {key: value}, key, str(value))
    if name == "lmnn":
        refused(function, arguments | {"weight": 1.5}, "weight", "1.5")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("triplet", "mining"),
        ("predictive_info_nce", "negatives"),
        ("predictive_hinge", "negatives"),
    ],
)
def test_an_unknown_choice_is_refused(name, key):
    """Catches a misspelled choice that silently means another."""
    function, arguments = example(name)
    refused(function, arguments | {key: "hrad"}, key, "hrad", "choose one of")


@pytest.mark.parametrize(
    ("name", "key"),
    [("clip", "scale"), ("nce", "log_partition"), ("siglip", "scale"), ("siglip", "bias")],
)
def test_a_learned_number_is_one_number(name, key):
    """Catches a temperature for each column, which broadcasts."""
    function, arguments = example(name)
    refused(function, arguments | {key: torch.ones(8)}, key, "one number")
    assert function(**arguments | {key: torch.ones(())}).isfinite()


@pytest.mark.parametrize("name", ["n_pair", "contrastive"])
def test_labeled_rows_need_as_many_labels(name):
    """Catches pairs drawn from the first rows only, the others dropped."""
    refused(loss_by_name, {"name": name, "z": torch.rand(8, 3), "y": torch.zeros(4).long()}, "(4,)")


class Waits(TorchDispatchMode):
    """Counts operations that synchronize the device by reading a tensor's value."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NAMES)
def test_checks_do_not_synchronize_the_device(name):
    """Catches a check that reads values, such as the largest label: the GPU would idle."""
    function, arguments = example(name)
    inner = inspect.unwrap(function, stop=lambda f: not hasattr(f, "__wrapped__"))
    with Waits() as unchecked:
        inner(**arguments)
    with Waits() as checked:
        function(**arguments)
    assert checked.count == unchecked.count


METHODS = {name: registry.find("methods", name) for name in registry.listing("methods")}
ZERO_IS_MEANT = [("metric", "dim"), ("simclr", "dim")]
"""Methods whose features are compared directly."""
WIDTHS = ("dim", "width", "hidden_dim", "latent_dim", "decoder_width", "classes")
OPTIONS = [
    (name, key, str(option.annotation))
    for name, method in METHODS.items()
    for key, option in inspect.signature(method).parameters.items()
    if any(kind in str(option.annotation) for kind in ("int", "float"))
    and not any(kind in str(option.annotation) for kind in ("tuple", "Literal", "Among"))
]


@pytest.mark.parametrize(("name", "key", "kind"), OPTIONS)
def test_methods_refuse_numbers_out_of_range(name, key, kind):
    """Catches training with `--temperature -1`, negative weights or a momentum of 1.5."""
    wrong = [-1, float("nan"), float("inf")]
    if "temperature" in key:
        wrong += [0, 0.0]
    if key in SHARES - ABOVE_ZERO:
        wrong += [1.5]
    if "float" not in kind:
        wrong += [2.5]
    if key in WIDTHS and (name, key) not in ZERO_IS_MEANT:
        wrong += [0]
    for value in wrong:
        if inspect.isclass(METHODS[name]):
            with pytest.raises(UserError, match=f"^{key} is {value}, but must be"):
                METHODS[name](torch.nn.Identity(), **{key: value})
        else:
            with pytest.raises(UserError, match=f"^{key} is {value}, but must be"):
                METHODS[name]("nowhere", **{key: value})


@pytest.mark.parametrize("name", METHODS)
def test_defaults_and_recipes_are_accepted(name):
    """Catches a bound that refuses a method's own default or recipe."""
    method = METHODS[name]
    parameters = inspect.signature(method).parameters
    for options in (
        {k: p.default for k, p in parameters.items()},
        *vars(method).get("recipes", {}).values(),
    ):
        check_options(method, options)


@pytest.mark.parametrize("name", METHODS)
def test_no_option_has_the_name_of_an_argument_of_training(name):
    """Catches an option that no flag and no keyword can set, as of `train vat` once."""
    if inspect.isclass(METHODS[name]):
        own = set(inspect.signature(METHODS[name]).parameters) - {"encoder"}
        assert not own & {
            *inspect.signature(train).parameters,
            *inspect.signature(TrainConfig).parameters,
            *RECIPE_FIELDS,
        }


@pytest.mark.parametrize(
    "flags",
    [
        "simclr --temperature 0",
        "metric --margin -0.1",
        "vat --epsilon 0",
        "simclr_v2 --temperature 0",
    ],
)
def test_the_command_refuses_numbers_out_of_range(flags, tmp_path, monkeypatch, capsys):
    """Exit code 2, and no run folder is created."""
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", x=np.zeros((20, 8, 8), np.uint8), y=np.arange(20) % 2)
    method, *rest = flags.split()
    assert main(["train", method, "--data", "data.npz", *rest]) == 2
    assert re.fullmatch(
        r"unlabeled: --[\w-]+ is -?[\d.]+, but must be [a-z0-9 ]+\n", capsys.readouterr().err
    )
    assert not (tmp_path / "runs").exists()
