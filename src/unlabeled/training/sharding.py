"""Fully sharded training (FSDP): each process holds a part of every weight, gradient and state.

Zhao et al. 2023, "PyTorch FSDP", in its second version (`fully_shard`). The weights of a block are
gathered when it is computed and freed afterwards; the result is that of DDP. Checkpoints contain
complete weights, so that a run can be resumed on any number of processes, sharded or not.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from unlabeled.core import EMA, Method
from unlabeled.errors import UserError
from unlabeled.parallel import rank
from unlabeled.training.checkpointing import BLOCKS
from unlabeled.training.config import TrainConfig


def check_sharding(method: Method, config: TrainConfig, precision: str, optimizer: str) -> None:
    """Check that a method can be trained with `--strategy fsdp`, if requested.

    Raises:
        UserError: it cannot.
    """
    if config.strategy != "fsdp":
        return
    name = type(method).__name__
    single = type(method).optimizer_steps is Method.optimizer_steps
    reasons = {
        "--devices or --nodes above 1, since it splits the weights over processes; add one": (
            config.devices * config.nodes == 1
        ),
        f"a method with one loss and one optimizer, and {name} has several; omit it": not single
        or method.optimized_modules != ("",),
        f"a method without a moving average of its networks, which {name} has; omit it": any(
            isinstance(module, EMA) for module in method.modules()
        ),
        "whole batches; omit it, or --accumulate": config.accumulate > 1,
        "an optimizer of single weights; omit it, or --optimizer muon": optimizer == "muon",
        "uncompiled networks; omit it, or --compile": config.compile,
        "fp32 or bf16, since the scaler of fp16 needs complete gradients; give --precision bf16": (
            precision == "fp16"
        ),
    }
    for needed, is_missing in reasons.items():
        if is_missing:
            raise UserError(f"--strategy fsdp needs {needed}")


class Sharding:
    """A method whose copy is sharded.

    Args:
        method: the method that receives the complete weights afterwards.
    """

    def __init__(self, method: Method) -> None:
        self.method = method

    def copy(self) -> Method:
        """A copy of the method to train."""
        return copy.deepcopy(self.method)

    @staticmethod
    def apply(method: Method, mesh: Any) -> None:
        """Shard a method over a mesh of processes: each block separately, the rest together."""
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        for parameter in method.parameters():
            parameter.data = parameter.data.contiguous()  # FSDP cannot shard channels last
        for module in list(method.modules()):
            name = next((n for kind, n in BLOCKS.items() if isinstance(module, kind)), None)
            if name:
                fully_shard(module, mesh=mesh)
                if name != "forward":
                    register_fsdp_forward_method(module, name)
        fully_shard(method, mesh=mesh)
        for name in ("loss", "views"):  # these use weights, like `forward`
            register_fsdp_forward_method(method, name)

    @contextmanager
    def gathered(self, sharded: Method) -> Iterator[Method]:
        """Context with the complete weights of the sharded method, which all processes enter.

        In the first process they are on its device there; afterwards they stay on the CPU.
        """
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True)
        self.method.load_state_dict(get_model_state_dict(sharded, options=options))
        self.method.progress = sharded.progress
        if rank() == 0:
            self.method.to(next(sharded.parameters()).device)
        try:
            yield self.method
        finally:
            self.method.cpu()


def local_part(tensor: Tensor | nn.Parameter) -> Tensor:
    """The part of a weight in this process; the complete weight if it is not sharded."""
    to_local: Any = getattr(tensor, "to_local", None)
    return to_local() if to_local else tensor
