"""What GPUs and the links between them can do at best, by their makers' data sheets."""

from __future__ import annotations

from dataclasses import dataclass

_MIB = 1024 * 1024
#: GPUs of one node, in all data sheets below.
NODE = 8


@dataclass(frozen=True)
class Gpu:
    """One GPU in a node of eight. Rates are per second and one way.

    Attributes:
        flops: bf16 on tensor cores, dense.
        memory: bytes, as the driver reports them.
        bandwidth: of the memory, bytes/s.
        nvlink: to the other GPUs of the node, bytes/s each way.
        network: of the whole node to others, bytes/s each way.
    """

    name: str
    flops: float
    memory: int
    bandwidth: float
    nvlink: float
    network: float
    source: str

    def bus(self, gpus: int) -> float:
        """Bytes/s into each of ``gpus`` that gather from one another in rings: NVLink's, or the
        share of the node's network where they are on several nodes. Each of the rings enters a
        node once, so that all of a node's cards carry what one GPU receives."""
        return self.nvlink if gpus <= NODE else min(self.nvlink, self.network)


#: Share of a memory's rate that kernels that only stream reach: 89.7 % by NVIDIA's profiler on an
#: H100, Triton's as well as hand-written ones (T. Dao and others, "Getting memory-bound kernels to
#: speed-of-light", https://github.com/Dao-AILab/quack/blob/main/media/2025-07-10-membound-sol.md).
REACH = 0.9

_NVIDIA = "https://www.nvidia.com/en-us/data-center"
#: By name. The network is eight cards of 400 Gb/s (A100: 200), as in DGX H100 and DGX A100
#: (https://docs.nvidia.com/dgx/dgxh100-user-guide/introduction-to-dgxh100.html); many clouds have
#: less, and `s1 plan` says from which rate on it would be felt.
GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("A100", 312e12, 81_920 * _MIB, 2.039e12, 300e9, 200e9, f"{_NVIDIA}/a100/"),
        Gpu("H100", 989.4e12, 81_559 * _MIB, 3.35e12, 450e9, 400e9, f"{_NVIDIA}/h100/"),
        Gpu("H200", 989.4e12, 143_771 * _MIB, 4.8e12, 450e9, 400e9, f"{_NVIDIA}/h200/"),
        Gpu("B200", 2250e12, 183_359 * _MIB, 8e12, 900e9, 400e9, f"{_NVIDIA}/dgx-b200/"),
    )
}
