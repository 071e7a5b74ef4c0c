"""The processor as it works on a GPU, in an engine on the CPU: its kernel is interpreted."""

from s1_plugin.forcing.vllm import BudgetForcingProcessor

PROCESSOR = "tests.vllm.kernel:KernelProcessor"


class KernelProcessor(BudgetForcingProcessor):
    """Decides on the device, whatever the device."""

    def _start(self, tokenizer, **settings):
        super()._start(tokenizer, **{**settings, "on_device": True})
