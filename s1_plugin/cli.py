"""The `s1` command; the same group is `axolotl s1`."""

from __future__ import annotations

from importlib import import_module

import click

from s1_plugin import __version__

#: name -> "module:attribute", one line of help. Imported only when called, so `s1 --help` is quick.
_COMMANDS = {
    "ask": ("s1_plugin.commands.ask:ask", "Ask a model a question and watch it think on a budget."),
    "demo": ("s1_plugin.commands.demo:demo", "Train the nano model, evaluate it, draw the curve."),
    "distill": ("s1_plugin.commands.distill:distill", "Ask a teacher for reasoning traces."),
    "curate": ("s1_plugin.commands.curate:curate", "Choose a thousand traces out of many."),
    "data": ("s1_plugin.commands.data:data", "What is in training data: `s1 data stats FILE`."),
    "doctor": ("s1_plugin.commands.doctor:doctor", "Check the installation and a config."),
    "plan": ("s1_plugin.commands.plan:plan", "Memory, minutes and price of a training."),
    "curve": ("s1_plugin.commands.curve:curve", "Draw accuracy against thinking tokens."),
    "metrics": ("s1_plugin.commands.metrics:metrics", "Control, Scaling and Performance of runs."),
    "grade": ("s1_plugin.commands.grade:grade", "Grade any responses again, without a model."),
    "check-tasks": (
        "s1_plugin.commands.check_tasks:check_tasks",
        "Every task grades its own right answers.",
    ),
    "configs": ("s1_plugin.commands.configs:configs", "Copy the training configs to a folder."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name][0].split(":")
        return getattr(import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="s1-plugin")
def main() -> None:
    """Train reasoning models on a thousand traces with axolotl, evaluate them with lm-eval.

    \b
    axolotl train axolotl_configs/s1.yaml
    lm_eval --model hf --model_args pretrained=DIR --tasks s1_aime --apply_chat_template
    s1 curve RESULTS
    s1 ask DIR "How many r in raspberry?" --waits 2
    """


if __name__ == "__main__":
    main(prog_name="s1")
