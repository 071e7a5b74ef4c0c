"""Trains axolotl configs one after another in one process, each as `axolotl train` would: a start
of axolotl costs more than two steps of a tiny model. Started with the paths of the configs; one
after `--ray` is trained the way a worker of Ray does it, without Ray around it."""

import gc
import sys


def main() -> None:
    from axolotl.cli.args import TrainerCliArgs
    from axolotl.cli.config import load_cfg
    from axolotl.cli.train import do_train, ray_train_func
    from axolotl.integrations.base import PluginManager

    gc.freeze()  # axolotl collects garbage often, and what is imported is most of what there is
    paths = iter(sys.argv[1:])
    for path in paths:
        ray = path == "--ray"
        path = next(paths) if ray else path
        print(f"== {path}", file=sys.stderr, flush=True)
        PluginManager._instance = None  # it holds the plugins of the config before
        if ray:
            cfg = load_cfg(path, use_ray=True, ray_num_workers=1)
            PluginManager._instance = None
            ray_train_func({"cfg": cfg.to_dict(), "cli_args": TrainerCliArgs()})
        else:
            do_train(load_cfg(path), TrainerCliArgs())
    gc.unfreeze()


if __name__ == "__main__":
    main()
