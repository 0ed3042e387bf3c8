"""Register the target "fastact" with Numba once both packages are imported, in either order, importing neither."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_MODULE = "numba.np.ufunc.decorators"  # where vectorize and guvectorize look for a target


def _register(registries: ModuleType) -> None:
    """Put entries into Numba's registries that import the target when a decorator asks for it."""

    def on_demand(name: str) -> Any:
        def load() -> Any:
            from . import target

            return getattr(target, name)

        return load

    for registry, name in ((registries.Vectorize, "FastactUFunc"), (registries.GUVectorize, "FastactGUFunc")):
        if "fastact" not in registry.target_registry.ondemand:
            registry.target_registry.ondemand["fastact"] = on_demand(name)


class _Finder(MetaPathFinder):
    """Finds the one module, once, and registers the target after it has run."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader)
        return spec


class _Registering(Loader):
    """A loader that runs the module with its own loader and then registers the target."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _register(module)


def install() -> None:
    """Register now if Numba is there, else when it comes."""
    loaded = sys.modules.get(_MODULE)
    if loaded is not None:
        _register(loaded)
    else:
        sys.meta_path.insert(0, _Finder())
