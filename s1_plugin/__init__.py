"""s1-plugin: train with axolotl on reasoning traces, evaluate with lm-eval under budget forcing.

Importing this package is cheap on purpose: axolotl's plugin manager swallows an ImportError and
trains on without the plugin, so nothing heavy may be imported here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["S1Plugin", "__version__"]

if TYPE_CHECKING:
    from s1_plugin.plugin import S1Plugin


def __getattr__(name: str) -> Any:
    if name == "S1Plugin":
        from s1_plugin.plugin import S1Plugin

        return S1Plugin
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
