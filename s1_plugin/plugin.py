"""The axolotl plugin: hooks only; what they do is in the modules they call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from axolotl.integrations.base import BasePlugin

from s1_plugin import __version__
from s1_plugin.config import S1Config, outside, parse
from s1_plugin.console import say


class S1Plugin(BasePlugin):
    """Trains on reasoning traces in the s1 format. Settings are in the `s1:` block."""

    def get_input_args(self) -> str:
        """The schema of the `s1:` block, merged into axolotl's own."""
        return "s1_plugin.config.S1Args"

    def register(self, cfg: Any) -> None:
        """Checks the `s1:` block before anything is loaded, and makes the nano world if asked."""
        settings = parse(cfg.get("s1"))
        say(_banner(settings))
        stray = outside(cfg)
        if stray:
            raise ValueError(stray)
        from s1_plugin.training import before

        before.check_output(cfg)
        if cfg.get("train_on_inputs"):
            raise ValueError(
                "train_on_inputs: true contradicts s1, which learns the trace and the answer "
                "only; remove the key"
            )
        from s1_plugin.training import parallel, precision

        precision.check(cfg, settings.weights)
        parallel.check(cfg)
        if settings.balance:
            from s1_plugin.training import batches

            batches.check(cfg)
        if settings.keep_activations_gb:
            from s1_plugin.training import recompute

            recompute.check(cfg)
        if settings.evaluate:
            from s1_plugin.training import evaluate

            evaluate.check(settings.evaluate)
        if settings.nano:
            from s1_plugin.nano import world

            folder = Path(settings.nano.folder)
            world.build(folder, n_train=settings.nano.rows, seed=settings.nano.seed)
            say(f"nano world in {folder}: {settings.nano.rows} traces, seed {settings.nano.seed}")

    def load_datasets(self, cfg: Any, preprocess: bool = False) -> None:
        """Gives this state of data and settings its own prepared folder; axolotl then loads. Before
        a training (nothing else calls this without ``preprocess``) also looks at the disk."""
        from s1_plugin import prepared

        if not preprocess:
            from s1_plugin.training import before

            before.check(cfg, parse(cfg.s1))
        folder = prepared.use_own_folder(cfg, parse(cfg.s1), anew=preprocess)
        reused = [] if cfg.skip_prepare_dataset else prepared.reused(folder)
        if not reused:
            prepared.parse_files(cfg, folder)
        elif not preprocess:
            for line in reused:
                say(f"reusing prepared data: {line.sentence()}")

    def pre_model_load(self, cfg: Any) -> None:
        """Seeds what is drawn while the model is made (random weights, adapters): axolotl leaves
        that to the trainer, which is made later, and a seed's run would not repeat."""
        from transformers import set_seed

        if cfg.seed is not None:
            set_seed(int(cfg.seed))

    def post_model_load(self, cfg: Any, model: Any) -> None:
        """Casts the weights to float32 if asked to."""
        from s1_plugin.training import precision

        if parse(cfg.s1).weights == "float32":
            count = precision.use_float32(model)
            say(f"{count:,} weights are trained in float32")

    def post_trainer_create(self, cfg: Any, trainer: Any) -> None:
        """Gives the trainer the paper's steps, and what is asked for of objective and layout."""
        from s1_plugin.formats import get_format
        from s1_plugin.training import loss, meter, steps

        settings = parse(cfg.s1)
        steps.use_whole_epochs(cfg, trainer)
        if settings.loss == "sequence":
            ids = meter.delimiter(trainer.processing_class, get_format(settings.format))
            loss.install(trainer, trainer.s1_meter, ids)
            say("the loss is averaged per sequence, then over sequences")
        if settings.balance:
            from s1_plugin.training import batches

            batches.install(trainer)
        if settings.keep_activations_gb:
            from s1_plugin.training import recompute

            fused = bool(cfg.liger_glu_activation)
            recompute.install(trainer, settings.keep_activations_gb, fused)

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[Any]:
        """Watches the run; and lets the trained model be saved as it is to be used: with a
        key-value cache, which axolotl turns off for training. Without it every token would cost as
        much as all before."""
        from transformers import TrainerCallback

        class UseCache(TrainerCallback):
            def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                kwargs["model"].config.use_cache = True

        from s1_plugin.training import card, record, watch

        settings = parse(cfg.s1)
        watching = watch.install(
            trainer,
            sequence_loss=settings.loss == "sequence",
            dollars=settings.dollars_per_gpu_hour,
        )
        recorder = record.Recorder(cfg, trainer, watching, settings.weights)
        card.install(trainer, recorder.record, Path(cfg.output_dir))
        return [UseCache(), watching, recorder]

    def post_train_unload(self, cfg: Any) -> None:
        """Once the model is saved: the run is finished, and evaluated if asked to."""
        from s1_plugin.training import after

        after.finish(cfg, parse(cfg.s1))


def _banner(settings: S1Config) -> str:
    from importlib.metadata import version

    packages = ", ".join(f"{name} {version(name)}" for name in ("axolotl", "torch", "transformers"))
    return (
        f"{__version__} active ({packages}); format {settings.format}; "
        f"bad rows: {settings.bad_rows}"
    )
