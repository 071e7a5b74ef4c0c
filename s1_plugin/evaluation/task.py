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

from s1_plugin import __version__
from s1_plugin.console import say
from s1_plugin.evaluation import hook
from s1_plugin.evaluation.budgets import expand
from s1_plugin.evaluation.grading import check_gold
from s1_plugin.evaluation.judge import Judge
from s1_plugin.evaluation.problems import (
    GPQA_COLUMNS,
    answers_digest,
    digest,
    hub_source,
    read,
    shuffled,
)
from s1_plugin.evaluation.request import instructed, request
from s1_plugin.evaluation.scoring import aggregations, names, score
from s1_plugin.forcing.budget import Budget

#: A folder of `aime24.jsonl`, `math500.jsonl` …, read instead of the hub.
DATA_VARIABLE = "S1_EVAL_DATA"


class Ungradable(ValueError):
    """Problems of a task that cannot be asked, or whose right answer cannot be graded; ``rows`` are
    their numbers from 1, with the reasons."""

    def __init__(self, message: str, rows: list[tuple[int, str]], problems: int) -> None:
        super().__init__(message)
        self.rows, self.problems = rows, problems


class S1Task(ConfigurableTask):
    """One benchmark under budget forcing.

    The YAML's ``metadata`` holds ``grader`` (a kind of `grading.KINDS`), ``local`` (the file in
    ``S1_EVAL_DATA``), where they are known the problems by content (``problems_sha256_expected``)
    and, for GPQA, ``choices_seed`` and ``access`` (how to be let in); ``repeats`` is the number of
    samples of each question; everything else is lm-eval's own.

    The task adds what lm-eval then writes into the results with it: ``problems_from``,
    ``problems_sha256`` (`problems.digest`), ``judge_model`` where there is a judge, and the version
    of ``s1_plugin``.
    """

    def __init__(self, config: dict[str, Any] | None = None, **kwargs: Any) -> None:
        hook.install()
        config = {key: value for key, value in (config or {}).items() if key != "class"}
        repeats = config.get("repeats") or 1
        if repeats > 1:
            # Without it lm-eval shows a task the first sample only.
            every = {"function": "take_first_k", "k": repeats}
            config.setdefault("filter_list", [{"name": "none", "filter": [every]}])
        self.judge = Judge.from_environment()
        super().__init__(config=config, **kwargs)
        if self.config.num_fewshot:
            raise ValueError(f"{self.config.task}: s1 asks without examples; set num_fewshot to 0")
        self._check_problems()
        self._note_problems()

    # -- data ---------------------------------------------------------------------------------

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """The hub's data set, or the file in ``S1_EVAL_DATA`` where that is set."""
        import datasets

        folder, name = os.environ.get(DATA_VARIABLE), self._metadata.get("local")
        seed, split = self._metadata.get("choices_seed"), self.config.test_split
        columns = ("problem", "answer") if seed is None else GPQA_COLUMNS
        what = f"{name} (one JSON object per line with {', '.join(f'`{c}`' for c in columns)})"
        if folder and name:
            path = Path(folder) / name
            if not path.is_file():
                raise FileNotFoundError(
                    f"{self.config.task}: {DATA_VARIABLE} is set, but {path} is not there; put "
                    f"{what} there, or unset {DATA_VARIABLE} to load {self.config.dataset_path} "
                    "from the hub"
                )
            rows = read(path, columns)
            self.dataset = {split: datasets.Dataset.from_list(rows)}
            self._source = str(path.resolve())
        else:
            try:
                super().download(dataset_kwargs, **kwargs)
            except Exception as error:
                if not name:
                    raise
                access = self._metadata.get("access")
                raise RuntimeError(
                    f"{self.config.task}: cannot load {self.config.dataset_path} from the hub "
                    f"({type(error).__name__}: {error}). {f'{access} ' if access else ''}On a "
                    f"machine without the hub put {what} into a folder and set {DATA_VARIABLE} to "
                    "it."
                ) from error
            if self.config.dataset_path:
                revision = (self.config.dataset_kwargs or {}).get("revision")
                files = self.dataset[split].info.download_checksums or {}
                self._source = hub_source(
                    self.config.dataset_path, self.config.dataset_name, revision, files
                )
            else:
                maker = getattr(self.config.custom_dataset, "__name__", "a function")
                self._source = f"custom_dataset: {maker}"
        if seed is not None:
            rows = shuffled(list(self.dataset[split]), seed)
            self.dataset = {split: datasets.Dataset.from_list(rows)}

    @property
    def kind(self) -> str:
        """How answers are graded: one of `grading.KINDS`."""
        return self._metadata.get("grader", "integer")

    def gold_troubles(self) -> list[tuple[int, str]]:
        """The problems that cannot be asked or graded, by number from 1, with the reason."""
        found = []
        for number, doc in enumerate(self.eval_docs, start=1):
            question, gold = self.doc_to_text(doc), self.doc_to_target(doc)
            why = check_gold(gold, self.kind) if str(question).strip() else "there is no problem"
            if why:
                found.append((number, f"problem {str(question)[:60]!r}, answer {gold!r}: {why}"))
        return found

    def _check_problems(self) -> None:
        """Every problem can be asked and its gold answer graded; found out before generation."""
        troubles = self.gold_troubles()
        if troubles:
            number, why = troubles[0]
            rest = f"; {len(troubles) - 1} more cannot either" if len(troubles) > 1 else ""
            raise Ungradable(
                f"{self.config.task}: problem {number} cannot be graded ({why}); "
                f"each needs a `problem` and an `answer` of kind {self.kind}{rest}",
                troubles,
                len(self.eval_docs),
            )

    def _note_problems(self) -> None:
        """Puts into the metadata which problems these are and who grades them; says if they are not
        those that were expected."""
        pairs = [(str(self.doc_to_text(d)), str(self.doc_to_target(d))) for d in self.eval_docs]
        found, expected = digest(pairs), self._metadata.get("problems_sha256_expected")
        self.config.metadata = self._metadata | {
            "problems_from": self._source,
            "problems_sha256": found,
            **({"judge_model": self.judge.model} if self.judge else {}),
            "s1_plugin": __version__,
        }
        known = self._metadata.get("answers_sha256_expected")
        others = bool(known) and answers_digest(answer for _, answer in pairs) != known
        if others:
            say(
                f"WARNING: {self.config.task}: the answers of {self._source} are not those of this "
                "benchmark: problems are missing, or others, or graded by other answers; the "
                "figures are not those of this benchmark"
            )
        elif expected and found != expected:
            say(
                f"WARNING: {self.config.task}: {self._source} does not hold the problems that this "
                f"task expects: their sha256 is {found[:12]}…, not {expected[:12]}…. "
                + (
                    "Their answers are the benchmark's: the texts differ"
                    if known
                    else "They may differ in white space only, or be other problems: then the "
                    "figures are not those of this benchmark"
                )
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
                asked = request("?", "?", generation)
                if (self.config.repeats or 1) > 1 and not dict(asked.sampling)["do_sample"]:
                    raise ValueError(
                        f"{self.config.task}: {self.config.repeats} greedy samples of a question "
                        "are all the same; set a temperature above 0, or use the task without _agg"
                    )

    def construct_requests(self, doc: dict, ctx: str, **kwargs: Any) -> list[Instance]:
        """One instance per budget; lm-eval calls this with the rendered prompt."""
        if not kwargs.pop("apply_chat_template", False):
            raise ValueError(
                f"{self.config.task} needs --apply_chat_template: budget forcing counts thinking "
                "from the assistant's turn, and without the template there is none"
            )
        kwargs.pop("chat_template", None)
        question = self.doc_to_text(doc)
        instances = []
        for i, generation in enumerate(expand(self.config.generation_kwargs or {})):
            # Here, because lm-eval logs these arguments: they are what the model is asked.
            control = Budget.from_gen_kwargs(generation).control
            context, asked = instructed(ctx, question, control)
            instances.append(
                Instance(
                    request_type=hook.REQUEST_TYPE,  # type: ignore[arg-type]
                    doc=doc,
                    arguments=(context, generation, asked),
                    idx=i,
                    **kwargs,
                )
            )
        return instances

    # -- results ------------------------------------------------------------------------------

    def process_results(self, doc: dict, results: list[Any]) -> dict[str, Any]:
        """Metrics of one problem (`scoring.score`); with several budgets each name carries its
        budget.

        A request that failed for good has no metric but ``failed``: lm-eval takes its means, and
        their standard errors, over the problems that have one. Where nothing was forced nothing is
        said of thinking. ``ungraded`` is the share of answers that could not be compared within the
        limits of `maths.compare`, and so count as wrong. ``judged`` is the share of answers of
        which a judge, where there is one, decided what they say; ``judge_failed`` that of those of
        which it should have.
        """
        gold, question = str(self.doc_to_target(doc)), str(self.doc_to_text(doc))
        budgets = expand(self.config.generation_kwargs or {})
        metrics: dict[str, Any] = {}
        for generation, response in zip(budgets, results, strict=True):
            label = Budget.from_gen_kwargs(generation).label
            suffix = f"@{label}" if len(budgets) > 1 else ""
            given = response if isinstance(response, list) else [response]
            responses = [json.loads(text) for text in given]
            found = score(responses, question, gold, self.kind, self.judge)
            metrics |= {name + suffix: value for name, value in found.items()}
        return metrics

    def higher_is_better(self) -> dict[str, bool]:
        """Only accuracy is better when higher."""
        better = ("exact_match", "correct", "pass@", "maj@")
        return {name: name.startswith(better) for name in self._metric_names()}

    def aggregation(self) -> dict[str, Callable]:
        """The mean, of everything."""
        return aggregations(self._metric_names())

    # -- helpers ------------------------------------------------------------------------------

    def _metric_names(self) -> list[str]:
        budgets = expand(self.config.generation_kwargs or {})
        suffixes = [f"@{Budget.from_gen_kwargs(b).label}" for b in budgets]
        if len(suffixes) == 1:
            suffixes = [""]
        return [name + suffix for suffix in suffixes for name in names(self.config.repeats or 1)]

    @property
    def _metadata(self) -> dict[str, Any]:
        return dict(self.config.metadata or {})
