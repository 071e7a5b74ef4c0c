"""Trains axolotl configs one after another in one process, each as `axolotl train` would: a start
of axolotl costs more than two steps of a tiny model. Started with the paths of the configs."""

import gc
import sys


def main() -> None:
    from axolotl.cli.args import TrainerCliArgs
    from axolotl.cli.config import load_cfg
    from axolotl.cli.train import do_train
    from axolotl.integrations.base import PluginManager

    gc.freeze()  # axolotl collects garbage often, and what is imported is most of what there is
    for path in sys.argv[1:]:
        print(f"== {path}", file=sys.stderr, flush=True)
        PluginManager._instance = None  # it holds the plugins of the config before
        do_train(load_cfg(path), TrainerCliArgs())
    gc.unfreeze()


if __name__ == "__main__":
    main()
