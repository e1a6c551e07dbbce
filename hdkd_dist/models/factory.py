"""Networks from outside the package: ``"package.module:callable"``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from hdkd_dist.models.network import check_exits
from hdkd_dist.spelling import did_you_mean


@dataclass(frozen=True)
class FactorySpec:
    """What makes a network of the user's own.

    Attributes:
        name: for messages.
        factory: called as ``factory(num_classes=C, **kwargs)``.
        kwargs: its keyword arguments.
        input_size: the side of the images.
        num_classes: C; None until the data set is known.
    """

    name: str
    factory: Callable[..., nn.Module]
    kwargs: Mapping[str, Any]
    input_size: int
    num_classes: int | None = None


def call_factory(spec: FactorySpec) -> nn.Module:
    """Make the network, and check that it is one with exits.

    Raises:
        ValueError: in one line, whatever the factory raises, or if it gives something else.
    """
    if spec.num_classes is None:
        raise ValueError(f"{spec.name} needs the number of classes: give num_classes")
    try:
        network = spec.factory(num_classes=spec.num_classes, **spec.kwargs)
    except Exception as error:  # the user's own code may raise anything
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise ValueError(f"{spec.name} fails: {reason} (HDKD_TRACEBACK=1 shows where)") from error
    try:
        check_exits(network, spec.input_size, spec.num_classes)
    except ValueError as error:
        raise ValueError(f"{spec.name}: {error}".replace("\n", " ")) from error
    return network


def import_factory(path: str) -> Callable[..., nn.Module]:
    """Import what builds a network, see :func:`import_callable`."""
    return import_callable(path, "factory")


def import_callable(path: str, what: str) -> Callable[..., Any]:
    """Import ``"package.module:callable"`` from the working directory or the import path.

    Args:
        path: names it.
        what: it is, for messages.

    Raises:
        ValueError: in one line, if there is no such module or no such callable in it.
    """
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise ValueError(f'the {what} {path!r} must read "package.module:callable"')
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(f"the {what} {path} cannot be imported: {error}") from error
        raise ValueError(
            f"the {what} {path}: there is no module {module_name} in {here} or on PYTHONPATH"
        ) from None
    except Exception as error:  # the user's own code may raise anything
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise ValueError(f"the {what} {path} cannot be imported: {reason}") from error
    finally:
        sys.path.remove(here)
        if here not in sys.path:
            sys.path.append(here)  # for what the module itself imports later
    known = [each for each, value in vars(module).items() if callable(value)]
    require_known(name, known, f"callable of {module_name}")
    return getattr(module, name)


def require_known(name: str, known: Iterable[str], what: str) -> None:
    """Refuse a name that is none of ``known``, with what may be meant.

    Raises:
        ValueError: naming ``what`` it should be.
    """
    known = list(known)
    if name not in known:
        hint = did_you_mean(str(name), known) or f" (known: {', '.join(known)})"
        raise ValueError(f"unknown {what} {name!r}{hint}")
