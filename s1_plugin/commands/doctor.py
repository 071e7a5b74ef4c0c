"""`s1 doctor [CONFIG]`: is the installation alive, and will this config train?"""

from __future__ import annotations

import sys

import click


@click.command()
@click.argument("config", required=False, type=click.Path(exists=True, dir_okay=False))
def doctor(config: str | None) -> None:
    """Check the installation and, given CONFIG, an axolotl config. Exit status 1 if anything
    would fail; each failure names its remedy."""
    from s1_plugin.doctor import check_config, check_installation

    failures = 0
    for finding in [*check_installation(), *(check_config(config) if config else [])]:
        sign, colour = {"ok": ("ok  ", "green"), "note": ("note", "yellow")}.get(
            finding.status, ("FAIL", "red")
        )
        click.echo(click.style(sign, fg=colour) + f" {finding.what}")
        if finding.remedy:
            click.echo(f"     -> {finding.remedy}")
        failures += finding.status == "fail"
    click.echo(f"{failures} to mend" if failures else "all well")
    sys.exit(1 if failures else 0)
