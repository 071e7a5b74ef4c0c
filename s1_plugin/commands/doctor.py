"""`s1 doctor [CONFIG]`: is the installation alive, and will this config train?"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr
from itertools import chain
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from s1_plugin.doctor import Finding


@click.command()
@click.argument("config", required=False, type=click.Path(exists=True, dir_okay=False))
def doctor(config: str | None) -> None:
    """Check the installation and, given CONFIG, an axolotl config. Exit status 1 if anything
    would fail; each failure names its remedy."""
    from s1_plugin.doctor import check_installation
    from s1_plugin.doctor_config import check_config

    failures = 0
    telemetry = os.environ.get("AXOLOTL_DO_NOT_TRACK")  # what a training here would see
    os.environ["AXOLOTL_DO_NOT_TRACK"] = "1"
    for finding in _quietly(
        chain(check_installation(telemetry), check_config(config) if config else [])
    ):
        sign, colour = {"ok": ("ok  ", "green"), "note": ("note", "yellow")}.get(
            finding.status, ("FAIL", "red")
        )
        click.echo(click.style(sign, fg=colour) + f" {finding.what}")
        if finding.remedy:
            click.echo(f"     -> {finding.remedy}")
        failures += finding.status == "fail"
    click.echo(f"{failures} to mend" if failures else "all well")
    sys.exit(1 if failures else 0)


def _quietly(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings, without what packages say on import (torchao's harmless "Failed to load …"
    looks like a broken installation); an error is a finding already."""
    iterator = iter(findings)
    while True:
        with redirect_stderr(io.StringIO()):
            finding = next(iterator, None)
        if finding is None:
            return
        yield finding
