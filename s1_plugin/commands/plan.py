"""`s1 plan CONFIG`: what a training takes, before a GPU is rented."""

from __future__ import annotations

import io
import json
import os
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from s1_plugin.plan.run import Plan


@click.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--gpus",
    type=click.IntRange(min=1),
    help="How many GPUs. Not given: as many as make the paper's 16 sequences a step, else 1.",
)
@click.option(
    "--gpu-type",
    type=click.Choice(["A100", "H100", "H200", "B200"], case_sensitive=False),
    default="H100",
    show_default=True,
    help="In nodes of 8; A100 is the one with 80 GB.",
)
@click.option(
    "--lengths",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='Lengths of the rows: one number per line, or {"length": rows, …}. Not given: the '
    "config's data, tokenised as in training.",
)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Dollars per GPU hour.")
@click.option(
    "--constants",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What benchmarks/train_step.py measured on your GPU.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(
    config: Path,
    gpus: int | None,
    gpu_type: str,
    file: Path | None,
    rate: float | None,
    constants: Path | None,
    as_json: bool,
) -> None:
    """Memory, minutes, GPU hours and price of training CONFIG, and what is wrong with it.

    \b
    s1 plan axolotl_configs/s1.yaml --rate 2.50
    s1 plan axolotl_configs/s1_8xh200.yaml --gpus 8 --gpu-type H200

    Nothing is trained and no GPU is needed. The time rests on one constant, fitted on the 26
    minutes that the paper reports; memory is added up from the tensors there must be.
    See docs/plan.md for the formulas.

    Exit status 1 where training would not go through: it does not fit into a GPU's memory, rows
    stop it, or it refuses the number of GPUs. Else 0, warnings or not.
    """
    from s1_plugin.plan import report

    found = _plan(config, gpus, gpu_type, file, rate, constants)
    if as_json:
        click.echo(json.dumps(report.as_json(found), ensure_ascii=False, indent=2))
    else:
        for line in report.lines(found):
            colour = "yellow" if line.startswith("warning") else None
            click.echo(click.style(line, fg=colour) if colour else line)
    if found.fails:
        raise SystemExit(1)


def _plan(
    config: Path,
    gpus: int | None,
    gpu_type: str,
    file: Path | None,
    rate: float | None,
    constants: Path | None,
) -> Plan:
    """The plan.

    Raises:
        click.ClickException: naming file and setting, with the remedy.
    """
    import yaml

    from s1_plugin.config import parse
    from s1_plugin.plan import checks, paper, recipe
    from s1_plugin.plan.hardware import GPUS
    from s1_plugin.plan.roofline import Constants
    from s1_plugin.plan.run import Plan
    from s1_plugin.training import precision

    try:
        cfg = yaml.safe_load(config.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise click.ClickException(f"{config} is not YAML: {error}") from None
    if not isinstance(cfg, dict) or not cfg.get("base_model"):
        raise click.ClickException(f"{config} names no model; set `base_model:`")
    try:
        settings = parse(cfg.get("s1"))
        how = recipe.of_config(cfg, gpus)
        shape = _shape(cfg, settings)
        lengths, source, read = _lengths(cfg, file)
        measured = Constants.read(constants) if constants else None
    except ValueError as error:
        raise click.ClickException(f"{config}: {error}") from None
    arrives, sentence = precision.of_config(cfg, settings.weights)
    return Plan(
        model=str(cfg["base_model"]),
        shape=shape,
        recipe=how,
        gpu=GPUS[gpu_type.upper()],
        lengths=lengths,
        lengths_from=source,
        constants=measured,
        rate=rate or settings.dollars_per_gpu_hour,
        precision=sentence,
        arrives=arrives,
        refusal=checks.refusal(cfg, how),
        notes=tuple(checks.warnings(cfg, how, gpus)),
        strategy=cfg.get("excess_length_strategy"),
        of_others=file is None and "NOT those of your data" in source,
        # Only rows that were read are known to be s1K's: a file of 1,000 lengths may be anyone's.
        of_s1k=read and _paths(cfg) == [paper.DATA] and len(lengths) == paper.ROWS,
    )


def _shape(cfg: dict[str, Any], settings: Any) -> Any:
    """The model's shape; the nano model is made where it is not there yet."""
    import tempfile

    from s1_plugin.plan.shapes import of_model

    name = str(cfg.get("base_model_config") or cfg["base_model"])
    if settings.nano is None or Path(name).is_dir():
        return of_model(name)
    from s1_plugin.nano import world

    with tempfile.TemporaryDirectory() as scratch:
        world.build(Path(scratch), n_train=settings.nano.rows, seed=settings.nano.seed)
        return of_model(str(Path(scratch) / Path(name).relative_to(settings.nano.folder)))


def _lengths(cfg: dict[str, Any], file: Path | None) -> tuple[list[int], str, bool]:
    """Lengths of the rows, a sentence on where they are from, and whether they are those of the
    config's data, read here."""
    from s1_plugin.plan import lengths, paper

    if file is not None:
        return lengths.of_file(file), f"lengths of {file}", False
    os.environ["AXOLOTL_DO_NOT_TRACK"] = "1"
    try:
        with redirect_stderr(io.StringIO()):
            return lengths.of_config(cfg), "the config's, tokenised as in training", True
    except ValueError as error:
        whose = "" if _paths(cfg) == [paper.DATA] else ", NOT those of your data"
        source = (
            f"a fit of s1K's known lengths{whose} (mean 4,700, 74 % over 4,096), as the data "
            f"cannot be read here: {str(error).split('. ')[0]}; or give --lengths FILE"
        )
        return paper.s1k(), source, False


def _paths(cfg: dict[str, Any]) -> list[str]:
    return [str(data.get("path")) for data in cfg.get("datasets") or []]
