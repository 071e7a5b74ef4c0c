"""The lm-eval task class behind every `s1_*` task.

A YAML file says where the problems are and how they are graded; this class turns each problem
into one request per budget and each response into metrics.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from s1_plugin.evaluation import hook
from s1_plugin.evaluation.budgets import expand
from s1_plugin.evaluation.grading import extract_integer, integer_correct
from s1_plugin.evaluation.request import request
from s1_plugin.forcing.budget import Budget

#: A folder of `aime24.jsonl`, `aime25.jsonl` …, read instead of the hub.
DATA_VARIABLE = "S1_EVAL_DATA"

_GRADERS: dict[str, tuple[Callable, Callable]] = {"integer": (integer_correct, extract_integer)}

_METRICS = (
    "exact_match",
    "thinking_tokens",
    "answer_tokens",
    "waits",
    "capped",
    "unanswered",
    "failed",
    "unforced",
)


class S1Task(ConfigurableTask):
    """One benchmark under budget forcing.

    The YAML's ``metadata`` holds ``grader`` (integer) and ``local`` (the file in
    ``S1_EVAL_DATA``); everything else is lm-eval's own.
    """

    def __init__(self, config: dict[str, Any] | None = None, **kwargs: Any) -> None:
        hook.install()
        config = {key: value for key, value in (config or {}).items() if key != "class"}
        super().__init__(config=config, **kwargs)
        if (self.config.repeats or 1) > 1:
            raise ValueError(f"{self.config.task}: repeats > 1 would be generated, but not graded")
        if self.config.num_fewshot:
            raise ValueError(f"{self.config.task}: s1 asks without examples; set num_fewshot to 0")
        self._check_problems()

    # -- data ---------------------------------------------------------------------------------

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """The hub's data set, or the file in ``S1_EVAL_DATA`` where that is set."""
        import datasets

        folder, name = os.environ.get(DATA_VARIABLE), self._metadata.get("local")
        if not folder or not name:
            try:
                super().download(dataset_kwargs, **kwargs)
            except Exception as error:
                if not name:
                    raise
                raise RuntimeError(
                    f"{self.config.task}: cannot load {self.config.dataset_path} from the hub "
                    f"({type(error).__name__}: {error}). On a machine without the hub put "
                    f"{name} (one JSON object per line with `problem` and `answer`) into a "
                    f"folder and set {DATA_VARIABLE} to it."
                ) from error
            return
        path = Path(folder) / name
        if not path.is_file():
            raise FileNotFoundError(
                f"{self.config.task}: {DATA_VARIABLE} is set, but {path} is not there; put the "
                f"problems into it (one JSON object per line with `problem` and `answer`), or "
                f"unset {DATA_VARIABLE} to load {self.config.dataset_path} from the hub"
            )
        split = self.config.test_split
        self.dataset = datasets.load_dataset("json", data_files={split: str(path)})

    def _check_problems(self) -> None:
        """Every problem can be asked and its gold answer graded; found out before generation."""
        correct, _ = _GRADERS[self._metadata.get("grader", "integer")]
        for number, doc in enumerate(self.eval_docs, start=1):
            question, gold = self.doc_to_text(doc), str(self.doc_to_target(doc))
            try:
                good = bool(str(question).strip()) and correct(f"Answer: {gold}", gold)
            except ValueError:
                good = False
            if not good:
                raise ValueError(
                    f"{self.config.task}: problem {number} cannot be graded (problem "
                    f"{str(question)[:60]!r}, answer {gold!r}); each needs a `problem` and an "
                    "integer `answer`"
                )

    # -- requests -----------------------------------------------------------------------------

    def set_config(self, key: str, value: Any, update: bool = False) -> None:
        """Refuses wrong generation arguments before any request is made.

        With this call lm-eval hands ``--gen_kwargs`` to a task. No code of a task runs earlier:
        lm-eval loads the model first (``simple_evaluate`` in 0.4.11 and 0.4.13).
        """
        super().set_config(key, value, update)
        if key == "generation_kwargs":
            for generation in expand(self.config.generation_kwargs or {}):
                request("?", "?", generation)

    def construct_requests(self, doc: dict, ctx: str, **kwargs: Any) -> list[Instance]:
        """One instance per budget; lm-eval calls this with the rendered prompt."""
        if not kwargs.pop("apply_chat_template", False):
            raise ValueError(
                f"{self.config.task} needs --apply_chat_template: budget forcing counts thinking "
                "from the assistant's turn, and without the template there is none"
            )
        kwargs.pop("chat_template", None)
        question = self.doc_to_text(doc)
        return [
            Instance(
                request_type=hook.REQUEST_TYPE,  # type: ignore[arg-type]
                doc=doc,
                arguments=(ctx, generation, question),
                idx=i,
                **kwargs,
            )
            for i, generation in enumerate(expand(self.config.generation_kwargs or {}))
        ]

    # -- results ------------------------------------------------------------------------------

    def process_results(self, doc: dict, results: list[Any]) -> dict[str, Any]:
        """Metrics of one problem; with several budgets each name carries its budget.

        A request that failed for good has no metric but ``failed``: lm-eval takes its means, and
        their standard errors, over the problems that have one. Where nothing was forced nothing is
        said of thinking.
        """
        correct, extract = _GRADERS[self._metadata.get("grader", "integer")]
        gold = self.doc_to_target(doc)
        budgets = expand(self.config.generation_kwargs or {})
        metrics: dict[str, Any] = {}
        for generation, response in zip(budgets, results, strict=True):
            label = Budget.from_gen_kwargs(generation).label
            suffix = f"@{label}" if len(budgets) > 1 else ""
            response = json.loads(response[0] if isinstance(response, list) else response)
            failed = response["ended"] == "failed"
            metrics[f"failed{suffix}"] = float(failed)
            if failed:
                continue
            unanswered = float(extract(response["answer"]) is None)
            metrics |= {
                f"exact_match{suffix}": float(correct(response["answer"], gold)),
                f"unanswered{suffix}": unanswered,
            }
            if response["ended"] == "unforced":
                metrics[f"unforced{suffix}"] = 1.0
                continue
            metrics |= {
                f"thinking_tokens{suffix}": response["thinking_tokens"],
                f"answer_tokens{suffix}": response["answer_tokens"],
                f"waits{suffix}": response["waits"],
                f"capped{suffix}": float(response["ended"] in ("cap", "context")),
            }
        return metrics

    def higher_is_better(self) -> dict[str, bool]:
        """Only accuracy is better when higher."""
        names = self._metric_names()
        return {name: name.startswith("exact_match") for name in names}

    def aggregation(self) -> dict[str, Callable]:
        """The mean, of everything."""
        from lm_eval.api.metrics import mean

        return dict.fromkeys(self._metric_names(), mean)

    # -- helpers ------------------------------------------------------------------------------

    def _metric_names(self) -> list[str]:
        budgets = expand(self.config.generation_kwargs or {})
        suffixes = [f"@{Budget.from_gen_kwargs(b).label}" for b in budgets]
        if len(suffixes) == 1:
            suffixes = [""]
        return [name + suffix for suffix in suffixes for name in _METRICS]

    @property
    def _metadata(self) -> dict[str, Any]:
        return dict(self.config.metadata or {})
