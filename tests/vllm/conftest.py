"""These tests need vLLM, which cannot share an environment with axolotl: `make test-vllm`."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

if find_spec("vllm"):
    import torch

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if not torch.cuda.is_available():  # the kernel is interpreted, step by step, in Python
        os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def nano_tokenizer(nano_base):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(nano_base)


@pytest.fixture(scope="session")
def small(tmp_path_factory, nano_base, nano_tokenizer):
    """A random model with the nano tokenizer: its folder and the model in transformers. It has
    spare ids beyond the tokenizer's, as Qwen2.5 has."""
    from tests.vllm.models import random_model

    ends = [nano_tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|im_start|>")]
    folder = tmp_path_factory.mktemp("small")
    return folder, random_model(folder, nano_base, len(nano_tokenizer) + 8, ends)


@pytest.fixture(scope="session", params=["host", "kernel"])
def processor(request):
    """The processor as it works on a CPU, and as it works on a GPU."""
    from s1_plugin.forcing import vllm_request
    from tests.vllm import kernel

    return vllm_request.PROCESSOR if request.param == "host" else kernel.PROCESSOR


@pytest.fixture(scope="session")
def engine(small, processor):
    """An engine with our processor, in this process; prompts are prefilled in chunks."""
    from tests.vllm.engine import start

    return start(small[0], processor)


@pytest.fixture(scope="session")
def plain_server(small, tmp_path_factory):
    """The completions address of a server of ``small`` that knows nothing of us."""
    from tests.vllm.server import serve

    with serve(small[0], tmp_path_factory.mktemp("serve") / "plain.log") as url:
        yield url
