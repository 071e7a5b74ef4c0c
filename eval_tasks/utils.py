"""What the YAML files of this folder name with `!function`."""

from s1_plugin.evaluation.task import S1Task  # noqa: F401


def nano_problems(**_):
    """The held-out nano questions, as lm-eval wants them."""
    import datasets

    from s1_plugin.nano.task import problems

    rows = [{"problem": p.question, "answer": p.answer} for p in problems(300, 0, "test")]
    return {"test": datasets.Dataset.from_list(rows)}
