"""An axolotl plugin that lets `bf16: true` train on a CPU, which the trainer refuses otherwise."""

from typing import Any

from axolotl.integrations.base import BasePlugin


class CpuOnly(BasePlugin):
    def get_training_args(self, cfg: Any) -> dict[str, Any]:
        return {"use_cpu": True}
