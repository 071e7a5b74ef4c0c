"""Budget forcing inside `transformers`' own generate loop: one pass, batched, any sampling.

    forcing = BudgetForcing(tokenizer, cap=2000, waits=2)
    output = model.generate(**inputs, **forcing.kwargs(inputs), max_new_tokens=4096)
    forcing.responses()[0].answer

The driver owns the draw. "Sample, and if the sample is an end token put Wait in its place" holds
as a distribution only if the end token is really drawn from the warped distribution (masking it
would change the nucleus), so the processor stands behind the warpers, draws, and hands the loop a
one-hot row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessorList

from s1_plugin.encoding import TextEncoder, decode
from s1_plugin.forcing.budget import Budget, Plan, plan
from s1_plugin.forcing.draw import draw, uniform
from s1_plugin.forcing.response import Response
from s1_plugin.forcing.state import Thinking
from s1_plugin.formats import get_format

#: Processors that see the generated text would see forced tokens too, and the law of the draw
#: would depend on what was forced. Each with the value that leaves it out.
_REFUSED = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "sequence_bias": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "guidance_scale": 1.0,
    "watermarking_config": None,
    "prefix_allowed_tokens_fn": None,
    "constraints": None,
    "min_length": 0,
    "min_new_tokens": 0,
    "stop_strings": None,
}


@dataclass
class _Row:
    """One sequence being generated."""

    state: Thinking
    tokens: list[int]
    stream: str
    done: bool = False
    finished: str = "length"


class ForcedDecoding:
    """Runs one batch: `transformers` calls it as ``custom_generate``.

    Args:
        plans: one per row of the batch (repeated for ``num_return_sequences``).
        streams: names of the rows' random streams; a row's draws depend on its stream, the seed
            and the position only, whatever else is in the batch.
        ends_with_newline: whether the text of a token id ends with a newline.
        vocabulary: number of ids the tokenizer knows; a model may have a larger embedding, whose
            spare ids must never be drawn.
        seed: seed of the draws.
        begun: for rows that share the thinking of a larger budget, their states and the tokens so
            far (from `replay`); the input ids then end with those tokens.
        on_token: called with (row, token id) as tokens come.
        streamer: a `transformers` streamer; ``generate`` does not hand its own to a
            ``custom_generate`` callable, so it is given here.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        streams: Sequence[str],
        *,
        ends_with_newline: Callable[[int], bool],
        vocabulary: int,
        seed: int = 0,
        begun: Sequence[tuple[Thinking, list[int]]] | None = None,
        on_token: Callable[[int, int], None] | None = None,
        streamer: Any = None,
    ) -> None:
        self.plans, self.streams = list(plans), list(streams)
        self.ends_with_newline = ends_with_newline
        self.vocabulary = vocabulary
        self.seed = seed
        self.begun = begun
        self.on_token = on_token
        self.streamer = streamer
        self.rows: list[_Row] = []

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: Any,
        generation_config: Any,
        **kwargs: Any,
    ) -> Any:
        """What ``generate`` calls in place of its own decoding method."""
        _refuse(generation_config)
        copies, rest = divmod(input_ids.shape[0], len(self.plans))
        if rest or copies < 1:
            raise ValueError(
                f"{input_ids.shape[0]} rows to generate, but budgets for {len(self.plans)}"
            )
        self.rows = [
            _Row(*self._start(i), f"{self.streams[i]}/{copy}")
            for i in range(len(self.plans))
            for copy in range(copies)
        ]
        stops = sorted(set().union(*(p.stop_ids for p in self.plans)))
        processor = _Draw(self, logits_processor, generation_config.do_sample, stops)
        if self.streamer is not None:
            self.streamer.put(input_ids.cpu())
            kwargs["streamer"] = self.streamer
        return model._sample(
            input_ids,
            logits_processor=LogitsProcessorList([processor]),
            stopping_criteria=stopping_criteria,
            generation_config=generation_config,
            **kwargs,
        )

    def _start(self, i: int) -> tuple[Thinking, list[int]]:
        if self.begun is None:
            return Thinking(self.plans[i], self.ends_with_newline), []
        state, tokens = self.begun[i]
        return state, list(tokens)


class _Draw:
    """The one logits processor: masks, warps, draws, and lets the state machine decide."""

    def __init__(
        self,
        run: ForcedDecoding,
        inner: LogitsProcessorList,
        do_sample: bool,
        stops: list[int],
    ) -> None:
        self.run, self.inner, self.do_sample, self.stops = run, inner, do_sample, stops

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(batch, vocabulary) logits in, one-hot logits (0 and -inf) out."""
        rows = self.run.rows
        scores[:, self.run.vocabulary :] = -torch.inf
        banned = [i for i, row in enumerate(rows) if not row.done and row.state.must_not_end()]
        for i in banned:
            scores[i, sorted(rows[i].state.plan.end_ids)] = -torch.inf
        # A mixed batch of rows whose token is due needs no draw at all.
        drawn = (
            [0] * len(rows)
            if all(row.done or row.state.due() is not None for row in rows)
            else self._draw(input_ids, scores)
        )
        chosen = [self._decide(i, drawn[i], input_ids, scores) for i in range(len(rows))]
        out = torch.full_like(scores, -torch.inf)
        index = torch.tensor(chosen, device=scores.device).unsqueeze(1)
        return out.scatter_(1, index, 0.0)

    def _decide(self, i: int, drawn: int, input_ids: torch.Tensor, scores: torch.Tensor) -> int:
        row = self.run.rows[i]
        if row.done:
            return self.stops[0]
        token = row.state.push(drawn)
        if token is None:  # an empty Wait: the same distribution without its end tokens
            again = scores[i : i + 1].clone()
            again[:, sorted(row.state.plan.end_ids)] = -torch.inf
            token = row.state.push(self._draw(input_ids[i : i + 1], again, [row], attempt=1)[0])
            assert token is not None
        if row.state.answering and token in row.state.plan.stop_ids:
            row.done, row.finished = True, "stop"
        else:
            row.tokens.append(token)
            row.done = len(row.tokens) >= row.state.plan.max_new_tokens
            if self.run.on_token:
                self.run.on_token(i, token)
        return token

    def _draw(
        self,
        input_ids: torch.Tensor,
        scores: torch.Tensor,
        rows: list[_Row] | None = None,
        attempt: int = 0,
    ) -> list[int]:
        rows = self.run.rows if rows is None else rows
        scores = self.inner(input_ids, scores)
        if not self.do_sample:
            return scores.argmax(dim=-1).tolist()
        numbers = [uniform(self.run.seed, row.stream, row.state.position, attempt) for row in rows]
        return draw(scores, numbers)


def _refuse(config: Any) -> None:
    if (config.num_beams or 1) > 1:
        raise ValueError("budget forcing needs num_beams=1: greedy decoding or sampling")
    for name, neutral in _REFUSED.items():
        value = getattr(config, name, None)
        if value is not None and value != neutral and value not in ([], {}):
            raise ValueError(
                f"{name}={value!r} cannot be combined with budget forcing: it would make the "
                "draw depend on forced tokens; remove it"
            )


def newline_test(tokenizer: Any) -> Callable[[int], bool]:
    """A cached test whether a token id's text ends with a newline."""
    known: dict[int, bool] = {}

    def ends_with_newline(token: int) -> bool:
        if token not in known:
            known[token] = decode(tokenizer, [token]).endswith("\n")
        return known[token]

    return ends_with_newline


class BudgetForcing:
    """Budget forcing for ``model.generate`` (see the module's example).

    Args:
        tokenizer: the model's fast tokenizer.
        cap: most thinking tokens, or "auto".
        waits: natural ends to replace by ``wait_text``.
        wait_text: what to put in their place.
        format: name of the trace format the model was trained on.
        seed: seed of the draws when sampling.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        cap: Any = "auto",
        waits: int = 0,
        wait_text: str = "Wait",
        format: str = "s1",
        seed: int = 0,
    ) -> None:
        self.budget = Budget(cap=cap, waits=waits, wait_text=wait_text)
        self.encoder = TextEncoder(tokenizer)
        self.format = get_format(format)
        self.seed = seed
        self._ends_with_newline = newline_test(tokenizer)
        self._run: ForcedDecoding | None = None

    def prompt(self, question: str) -> list[int]:
        """Token ids of the question in the chat template, with the thinking prefix."""
        pieces = self.encoder.prompt_pieces(question, self.format)
        return self.encoder.encode(pieces) + self.encoder.scaffold_ids(self.format.think_start)

    def kwargs(
        self,
        inputs: Any,
        max_new_tokens: int,
        context: int | None = None,
        streamer: Any = None,
    ) -> dict[str, Any]:
        """Arguments for ``model.generate``; ``inputs`` ends with the thinking prefix.

        Args:
            inputs: what the tokenizer returned: ``input_ids`` and ``attention_mask`` of shape
                (batch, length), padded on the left.
            max_new_tokens: tokens after the thinking prefix: thinking, delimiters and answer.
            context: longest sequence of the model, if it is to be checked.
            streamer: give a streamer here, not to ``generate``.

        Raises:
            ValueError: if a prompt does not end with the thinking prefix.
        """
        start = self.encoder.scaffold_ids(self.format.think_start)
        mask = inputs.get("attention_mask")
        plans, streams = [], []
        for i, ids in enumerate(inputs["input_ids"].tolist()):
            if mask is not None:
                ids = [t for t, m in zip(ids, mask[i].tolist(), strict=True) if m]
            if ids[-len(start) :] != start:
                raise ValueError(
                    f"prompt {i} does not end with {self.format.think_start!r}; build prompts "
                    "with BudgetForcing.prompt(question)"
                )
            plans.append(
                plan(
                    self.budget,
                    self.encoder,
                    self.format,
                    prompt_length=len(ids) - len(start),
                    max_new_tokens=max_new_tokens,
                    context=context,
                )
            )
            streams.append(stream_of(ids))
        self._run = ForcedDecoding(
            plans,
            streams,
            ends_with_newline=self._ends_with_newline,
            vocabulary=len(self.encoder.tokenizer),
            seed=self.seed,
            streamer=streamer,
        )
        # Qwen2.5's generation_config.json asks for a repetition penalty that nobody typed.
        return generate_arguments(self._run) | {"repetition_penalty": 1.0}

    def responses(self) -> list[Response]:
        """What the last ``generate`` call produced, one per returned sequence."""
        if self._run is None:
            raise ValueError("nothing generated yet: pass kwargs() to model.generate first")
        return responses(self._run, self.encoder, self.format.think_start)


def stream_of(prompt_ids: Sequence[int], extra: str = "") -> str:
    """Name of a prompt's random stream: the same prompt draws the same, wherever it stands."""
    text = ",".join(map(str, prompt_ids)) + "/" + extra
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def generate_arguments(run: ForcedDecoding) -> dict[str, Any]:
    """Arguments for ``model.generate`` that make it decode under ``run``."""
    stops = sorted(set().union(*(p.stop_ids for p in run.plans)))
    return {
        "custom_generate": run,
        "eos_token_id": stops,
        "pad_token_id": stops[0],
        "max_new_tokens": max(
            p.max_new_tokens - (len(run.begun[i][1]) if run.begun else 0)
            for i, p in enumerate(run.plans)
        ),
    }


def responses(run: ForcedDecoding, encoder: TextEncoder, think_start: str) -> list[Response]:
    """The finished rows of ``run`` as responses."""
    return [
        Response.from_tokens(
            row.tokens,
            row.state,
            decode=lambda ids: decode(encoder.tokenizer, ids),
            think_start=think_start,
            finished=row.finished,
        )
        for row in run.rows
    ]
