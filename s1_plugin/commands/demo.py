"""`s1 demo`: the whole road on a laptop, by the same commands that a real run uses."""

from __future__ import annotations

import click


@click.command()
@click.option("--seed", default=0, show_default=True, help="Seed of the training data and weights.")
@click.option(
    "--out",
    default="outputs/nano",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Where the model, the responses and the curve are written.",
)
def demo(seed: int, out: str) -> None:
    """Train the nano model with axolotl, evaluate it with lm-eval under budget forcing, and draw
    accuracy against thinking tokens. Needs no GPU, no network, and a few minutes."""
    from s1_plugin.nano.demo import run

    run(seed=seed, out=out)
