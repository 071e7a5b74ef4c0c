"""`s1 configs FOLDER`: the training configs that came with the package."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import click


def shipped() -> Path:
    """The folder of configs: the checkout's, or where the wheel laid them.

    Raises:
        FileNotFoundError: if neither is there.
    """
    checkout = Path(__file__).resolve().parents[2] / "axolotl_configs"
    installed = Path(sysconfig.get_path("data")) / "share" / "s1-plugin" / "axolotl_configs"
    for folder in (checkout, installed):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no configs in {installed}; reinstall s1-plugin")


@click.command()
@click.argument("folder", default="axolotl_configs", type=click.Path(file_okay=False))
def configs(folder: str) -> None:
    """Copy the shipped axolotl configs into FOLDER (default: axolotl_configs). Files that are
    already there are left as they are, and named."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for source in sorted(shipped().glob("*.yaml")):
        goal = target / source.name
        if goal.exists():
            click.echo(f"kept   {goal} (already there)")
        else:
            shutil.copyfile(source, goal)
            click.echo(f"copied {goal}")
