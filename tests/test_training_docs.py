"""What docs/training.md tells people to type."""

import re
import subprocess

import pytest
import yaml

from tests.conftest import ROOT

TEXT = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)


def commands():
    """The commands that start axolotl or ours, each on one line."""
    for block in BLOCKS:
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"\s+", " ", re.sub(r"(^|\s)#.*", "", line)).strip()
            if "axolotl" in line or line.startswith("s1 "):
                yield line


@pytest.mark.parametrize("block", BLOCKS)
def test_the_shell_understands_it(block):
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_every_config_that_is_named_is_there():
    named = set(re.findall(r"\b(s1[\w.]*)\.yaml", TEXT))
    assert named == {p.stem for p in (ROOT / "axolotl_configs").glob("*.yaml")} - {"s1_nano"}


def options(command):
    """Long options of a click command, by their spelling."""
    return {name for param in command.params for name in (*param.opts, *param.secondary_opts)}


def test_axolotl_and_torchrun_have_the_options():
    from axolotl.cli.main import train
    from torch.distributed.run import get_args_parser

    known = get_args_parser()._option_string_actions
    seen = {"torchrun": 0, "train": 0}
    for command in commands():
        launch = command.partition("torchrun ")[2].partition(" -m ")[0]
        for option in re.findall(r"--[a-z_]+", launch):
            assert option in known, command
            seen["torchrun"] += 1
        if command.startswith("axolotl train"):
            for option in re.findall(r"--[a-z-]+", command):
                assert option in options(train), command
                seen["train"] += 1
    assert seen["torchrun"] > 5 and seen["train"] == 4, seen


def test_the_processes_are_as_many_as_the_config_wants():
    """Nodes x 8, or Ray's workers, times the rows of each are the 16 of a step."""
    found = 0
    for command in commands():
        nodes, workers = re.search(r"--nnodes (\S+)", command), re.search(r"workers (\d+)", command)
        if not (nodes or workers):
            continue
        if nodes:  # "$SLURM_NNODES" is what the script asks for
            count = nodes[1] if nodes[1].isdigit() else re.search(r"--nodes=(\d+)", TEXT)[1]
            processes = 8 * int(count)
        else:
            processes = int(workers[1])
        path = re.search(r"axolotl_configs/\S+\.yaml", command)[0]
        cfg = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
        groups = processes // cfg["context_parallel_size"]
        assert groups * cfg["micro_batch_size"] * cfg["gradient_accumulation_steps"] == 16
        found += 1
    assert found == 3
