"""What stands in for a CUDA graph on a CPU: operations that are done again at the same addresses.

As with a graph, only what torch's operations do is repeated, with the numbers that Python gave them
when they were captured, and capturing them leaves nothing changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class Tape(TorchDispatchMode):
    """Keep the operations that run, with their arguments and results."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Callable, tuple, dict, Any]] = []
        self.made: set[int] = set()  # addresses of what was computed here
        self.written: list[tuple[Tensor, Tensor]] = []  # what was not, and its value before

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run an operation, and keep it."""
        kwargs = kwargs or {}
        for tensor in written_by(function, args, kwargs):
            if tensor.untyped_storage().data_ptr() not in self.made:
                self.written.append((tensor, tensor.clone()))
        result = function(*args, **kwargs)
        self.operations.append((function, args, kwargs, result))
        if not function.is_view:
            mine = {id(t) for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)}
            for tensor in tensors_in(result):
                if id(tensor) not in mine:
                    self.made.add(tensor.untyped_storage().data_ptr())
        return result

    def undo(self) -> None:
        """Give what was there before back its values."""
        for tensor, value in reversed(self.written):
            overwrite(tensor, value)

    def replay(self) -> None:
        """Do it all again, into the same memory, and differentiate nothing."""
        with torch.no_grad(), forward_ad._set_fwd_grad_enabled(False):
            self._replay()

    def _replay(self) -> None:
        for function, args, kwargs, results in self.operations:
            if function.is_view:
                continue
            again = function(*args, **kwargs)
            for tensor, value in zip(tensors_in(results), tensors_in(again), strict=True):
                if tensor.data_ptr() != value.data_ptr():
                    overwrite(tensor, value)


def overwrite(tensor: Tensor, value: Tensor) -> None:
    """Put other values in a tensor's memory without autograd's knowledge."""
    with torch.autograd._unsafe_preserve_version_counter(tensor):
        tensor.copy_(value)


def tensors_in(tree: Any) -> list[Tensor]:
    """List the tensors of an operation's results, without those that are zero by their type."""
    leaves = tree_flatten(tree)[0]
    return [t for t in leaves if isinstance(t, Tensor) and not torch._is_zerotensor(t)]


def written_by(function: Any, args: tuple, kwargs: dict) -> list[Tensor]:
    """List the tensors that an operation writes; batch norm's schema does not name its own."""
    if function is torch.ops.aten.native_batch_norm.default:
        return [t for t in args[3:5] if t is not None]
    named = dict(zip((a.name for a in function._schema.arguments), args, strict=False)) | kwargs
    writes = [a.name for a in function._schema.arguments if a.alias_info and a.alias_info.is_write]
    return tensors_in([named[name] for name in writes if name in named])


def capture_on_tape(run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """Capture ``run``."""
    with Tape() as tape:
        result = run()
    with torch.no_grad():
        tape.undo()
    return tape.replay, result
