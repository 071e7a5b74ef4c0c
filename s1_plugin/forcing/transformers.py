"""Budget forcing inside `transformers`' own generate loop: one pass, batched, any sampling.

    forcing = BudgetForcing(tokenizer, cap=2000, waits=2)
    model.generate(**forcing.inputs("How many r in raspberry?"), **forcing, max_new_tokens=4096)
    print(forcing.responses()[0].answer)

The driver owns the draw. "Sample, and if the sample is an end token put Wait in its place" holds
as a distribution only if the end token is really drawn from the warped distribution (masking it
would change the nucleus), so the processor stands behind the warpers, draws, and hands the loop a
one-hot row.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import BatchEncoding, LogitsProcessorList

from s1_plugin.encoding import TextEncoder, decode, newline_test
from s1_plugin.forcing.budget import ANSWER_RESERVE, Budget, Plan, delimiter_ids, lacking, plan
from s1_plugin.forcing.draw import draw, stream_of, uniform, upload
from s1_plugin.forcing.response import Response
from s1_plugin.forcing.state import Thinking
from s1_plugin.formats import TraceFormat, get_format

#: The law of the draw may depend on the logits alone. Processors that look at the generated text
#: would see forced tokens too, and others end or steer the thinking by other rules.
WARPERS = frozenset(
    {
        "TemperatureLogitsWarper",
        "TopHLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
        "MinPLogitsWarper",
        "TypicalLogitsWarper",
        "EpsilonLogitsWarper",
        "EtaLogitsWarper",
        "LogitNormalization",
        "InfNanRemoveLogitsProcessor",
    }
)

#: Arguments of ``generate`` that leave out all sampling defaults of a model's
#: generation_config.json (an argument of None overrides it), for callers whose own settings count.
NEUTRAL: Mapping[str, None] = dict.fromkeys(
    (
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "top_h",
        "typical_p",
        "epsilon_cutoff",
        "eta_cutoff",
        "repetition_penalty",
    )
)

#: Settings of ``generate`` that are refused, each with the value that leaves it out.
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
    "min_length": 0,
    "min_new_tokens": 0,
    "stop_strings": None,
    "token_healing": False,
    # Other ways to decode than one token at a time from the model's own logits.
    "num_beams": 1,
    "constraints": None,
    "force_words_ids": None,
    "penalty_alpha": None,
    "dola_layers": None,
    "prompt_lookup_num_tokens": None,
    "assistant_early_exit": None,
    "use_mtp": False,
}


@dataclass
class Row:
    """One sequence being generated. ``prefix`` is forced before the thinking begins."""

    state: Thinking
    tokens: list[int]
    stream: str
    prefix: Sequence[int] = ()
    done: bool = False
    finished: str = "length"

    def due(self) -> int | None:
        return self.prefix[0] if self.prefix else self.state.due()

    @property
    def draws(self) -> bool:
        """The model draws the next token."""
        return not self.done and self.due() is None


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
        prefixes: for rows whose prompts lack the thinking prefix, the tokens of it to be forced
            before the thinking begins.
        on_token: called with (row, token id) as tokens come.
        on_done: called with the row when it is finished, while others may still go on.
        streamer: a `transformers` streamer.
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
        prefixes: Sequence[Sequence[int]] | None = None,
        on_token: Callable[[int, int], None] | None = None,
        on_done: Callable[[int], None] | None = None,
        streamer: Any = None,
    ) -> None:
        self.plans, self.streams = list(plans), list(streams)
        self.ends_with_newline = ends_with_newline
        self.vocabulary = vocabulary
        self.seed = seed
        self.begun = begun
        self.prefixes = prefixes
        self.on_token = on_token
        self.on_done = on_done
        self.streamer = streamer
        self.rows: list[Row] = []

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: Any,
        generation_config: Any,
        **kwargs: Any,
    ) -> Any:
        """What ``generate`` calls in place of its own decoding method.

        Raises:
            ValueError: for settings that cannot be combined with forcing.
        """
        warpers = _warpers(model, generation_config, logits_processor)
        copies, rest = divmod(input_ids.shape[0], len(self.plans))
        if rest or copies < 1:
            raise ValueError(
                f"{input_ids.shape[0]} rows to generate, but budgets for {len(self.plans)}"
            )
        self.rows = [
            self._start(i, f"{self.streams[i]}/{number}")
            for i in range(len(self.plans))
            for number in range(copies)
        ]
        processor = _Draw(self, warpers, bool(generation_config.do_sample))
        processor.keep_logits = bool(generation_config.output_logits)
        # What the loop gets is one-hot: it need not sample from that again.
        generation_config = copy.copy(generation_config)
        generation_config.do_sample = False
        return model._sample(
            input_ids,
            logits_processor=LogitsProcessorList([processor]),
            stopping_criteria=stopping_criteria,
            generation_config=generation_config,
            **({} if self.streamer is None else {"streamer": self.streamer}),
            **kwargs,
        )

    def _start(self, i: int, stream: str) -> Row:
        prefix = self.prefixes[i] if self.prefixes else ()
        if self.begun is None:
            return Row(Thinking(self.plans[i], self.ends_with_newline), [], stream, prefix)
        state, tokens = self.begun[i]
        return Row(state, list(tokens), stream, prefix)


class _Draw:
    """The one logits processor: masks, warps, draws, and lets the state machine decide.

    Only rows whose token the model draws cost more than their one-hot row, and the tokens drawn
    are all that is read back from the device, once per step (once more where an empty Wait string
    drops an end).
    """

    keep_logits = False  # the caller wants to see them: work on a copy

    def __init__(self, run: ForcedDecoding, warpers: LogitsProcessorList, do_sample: bool) -> None:
        self.run, self.warpers, self.do_sample = run, warpers, do_sample
        self.stop = min(_stop_ids(run.plans), default=0)
        self._ends: dict[frozenset[int], torch.Tensor] = {}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(batch, vocabulary) logits in, one-hot logits (0 and -inf) out."""
        rows = self.run.rows
        if self.keep_logits:
            scores = scores.clone()
        open_ = [i for i, row in enumerate(rows) if row.draws]
        drawn = dict(zip(open_, self._draw(input_ids, scores, open_), strict=True))
        chosen = [self._decide(i, drawn.get(i), input_ids, scores) for i in range(len(rows))]
        index = upload(chosen, torch.long, scores.device).unsqueeze(1)
        return scores.fill_(-torch.inf).scatter_(1, index, 0.0)

    def _decide(
        self, i: int, drawn: int | None, input_ids: torch.Tensor, scores: torch.Tensor
    ) -> int:
        row = self.run.rows[i]
        if row.done:
            return self.stop
        if row.prefix:
            first, row.prefix = row.prefix[0], row.prefix[1:]
            return first
        token = row.state.push(-1 if drawn is None else drawn)
        if token is None:  # an empty Wait: the same distribution without its end tokens
            token = row.state.push(self._draw(input_ids, scores, [i], attempt=1)[0])
            assert token is not None
        if row.state.answering and token in row.state.plan.stop_ids:
            row.done, row.finished = True, "stop"
        else:
            row.tokens.append(token)
            row.done = len(row.tokens) >= row.state.plan.max_new_tokens
            if self.run.on_token:
                self.run.on_token(i, token)
        if row.done and self.run.on_done:
            self.run.on_done(i)
        return token

    def _draw(
        self, input_ids: torch.Tensor, scores: torch.Tensor, which: list[int], attempt: int = 0
    ) -> list[int]:
        """One token for each of the rows ``which``."""
        if not which:
            return []
        rows = self.run.rows
        scores[:, self.run.vocabulary :] = -torch.inf
        for i in which:
            if rows[i].state.must_not_end():
                scores[i].index_fill_(0, self._end_ids(i, scores), -torch.inf)
        if len(which) < len(rows):
            index = upload(which, torch.long, scores.device)
            input_ids, scores = input_ids[index], scores[index]
        scores = self.warpers(input_ids, scores)
        if not self.do_sample:
            return scores.argmax(dim=-1).tolist()
        numbers = [
            uniform(self.run.seed, rows[i].stream, rows[i].state.position, attempt) for i in which
        ]
        return draw(scores, numbers)

    def _end_ids(self, i: int, scores: torch.Tensor) -> torch.Tensor:
        ends = self.run.rows[i].state.plan.end_ids
        if ends not in self._ends:
            self._ends[ends] = upload(sorted(ends), torch.long, scores.device)
        return self._ends[ends]


def _warpers(model: Any, config: Any, processors: LogitsProcessorList) -> LogitsProcessorList:
    """``processors`` if they can all stand before a forced draw."""
    for name, neutral in _REFUSED.items():
        value = getattr(config, name, None)
        if value is None or value == neutral or value in ([], {}):
            continue
        if name == "repetition_penalty" and value == model.generation_config.repetition_penalty:
            # Qwen2.5's generation_config.json asks for 1.05, which nobody typed.
            warnings.warn(
                f"budget forcing leaves out repetition_penalty={value} of the model's "
                "generation_config.json: it would make the draw depend on forced tokens",
                stacklevel=2,
            )
            processors = LogitsProcessorList(
                p for p in processors if type(p).__name__ != "RepetitionPenaltyLogitsProcessor"
            )
            continue
        raise ValueError(
            f"{name}={value!r} cannot be combined with budget forcing, which draws each token "
            f"itself, by the logits alone; set {name}={neutral!r}"
        )
    for processor in processors:
        if type(processor).__name__ not in WARPERS:
            raise ValueError(
                f"{type(processor).__name__} cannot be combined with budget forcing: a draw must "
                "depend on the logits alone, and a processor sees forced tokens too; remove it "
                "(temperature, top_p, top_k and the other warpers of transformers are followed)"
            )
    return processors


class BudgetForcing(Mapping[str, Any]):
    """Budget forcing as keyword arguments for ``model.generate`` (see the module's example).

    Sampling, ``num_return_sequences``, cache and outputs are set in ``generate`` as ever. Prompts
    are padded on the left; one that lacks the thinking prefix gets it forced first. No sequence
    grows longer than the model's ``max_position_embeddings``.

    Args:
        tokenizer: the model's fast tokenizer.
        cap, waits, wait_text, min_thinking, forced_answer, answer_reserve: as in `Budget`.
        format: name of the trace format the model was trained on, or one of your own.
        seed: seed of the draws when sampling (``torch.manual_seed`` has no effect on them).
        streamer: a `transformers` streamer; given here, not to ``generate``.

    Raises:
        ValueError: for budgets and formats that make no sense; from ``generate`` where a prompt
            leaves no room, or a setting cannot be combined with forcing.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        cap: int | Literal["auto"] = "auto",
        waits: int = 0,
        wait_text: Any = "Wait",
        min_thinking: int = 0,
        forced_answer: str | None = None,
        answer_reserve: int = ANSWER_RESERVE,
        format: str | TraceFormat = "s1",
        seed: int = 0,
        streamer: Any = None,
    ) -> None:
        self.budget = Budget(cap, waits, wait_text, min_thinking, forced_answer, answer_reserve)
        self.encoder = TextEncoder(tokenizer)
        self.format = get_format(format)
        self.seed, self.streamer = seed, streamer
        self._ends_with_newline = newline_test(tokenizer)
        self._run: ForcedDecoding | None = None
        stops = delimiter_ids(self.encoder, self.format, "stop")
        self._arguments = _arguments(self._generate, stops, streamer)

    def __getitem__(self, name: str) -> Any:
        return self._arguments[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arguments)

    def __len__(self) -> int:
        return len(self._arguments)

    def prompt(self, question: str) -> list[int]:
        """Token ids of the question in the chat template, with the thinking prefix. The question
        is data: control tokens spelt out in it stay text."""
        pieces = self.encoder.prompt_pieces(question, self.format)
        return self.encoder.encode(pieces) + self.encoder.scaffold_ids(self.format.think_start)

    def inputs(self, *questions: str) -> BatchEncoding:
        """The prompts of ``questions`` as one batch: ``input_ids`` and ``attention_mask`` of shape
        (questions, longest prompt), padded on the left; ``.to(device)`` moves it."""
        ids, mask = left_padded([self.prompt(q) for q in questions], self["pad_token_id"])
        return BatchEncoding({"input_ids": ids, "attention_mask": mask})

    def responses(self) -> list[Response]:
        """What the last ``generate`` call produced, one per returned sequence."""
        if self._run is None:
            raise ValueError("nothing generated yet: pass this object to model.generate first")
        return responses(self._run, self.encoder, self.format.think_start)

    def _generate(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: Any,
        generation_config: Any,
        **kwargs: Any,
    ) -> Any:
        """``custom_generate``: plans each prompt, now that it is known, and decodes."""
        copies, length = generation_config.num_return_sequences or 1, input_ids.shape[1]
        if not length:
            raise ValueError("budget forcing needs input_ids, not inputs_embeds")
        mask = kwargs.get("attention_mask")
        mask = torch.ones_like(input_ids) if mask is None else mask
        if not mask[:, -1].all():
            raise ValueError("prompts must be padded on the left: set padding_side='left'")
        start = self.encoder.scaffold_ids(self.format.think_start)
        plans, streams, prefixes = [], [], []
        for row, real in zip(input_ids[::copies].tolist(), mask[::copies].tolist(), strict=True):
            prompt = [token for token, m in zip(row, real, strict=True) if m]
            prefix = lacking(self.encoder, self.format, prompt)
            prefixes.append(prefix)
            streams.append(stream_of(prompt + prefix))
            plans.append(
                plan(
                    self.budget,
                    self.encoder,
                    self.format,
                    prompt_length=len(prompt) + len(prefix) - len(start),
                    max_new_tokens=generation_config.max_length - length - len(prefix),
                    context=getattr(
                        model.config.get_text_config(), "max_position_embeddings", None
                    ),
                )
            )
        self._run = ForcedDecoding(
            plans,
            streams,
            ends_with_newline=self._ends_with_newline,
            vocabulary=len(self.encoder.tokenizer),
            seed=self.seed,
            prefixes=prefixes,
            streamer=self.streamer,
        )
        return self._run(
            model, input_ids, logits_processor, stopping_criteria, generation_config, **kwargs
        )


def left_padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, each (rows, longest row), padded on the left."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def generate_arguments(run: ForcedDecoding) -> dict[str, Any]:
    """Arguments for ``model.generate`` that make it decode under ``run``."""
    longest = max(
        p.max_new_tokens - (len(run.begun[i][1]) if run.begun else 0)
        for i, p in enumerate(run.plans)
    )
    return _arguments(run, _stop_ids(run.plans), run.streamer) | {"max_new_tokens": longest}


def _stop_ids(plans: Sequence[Plan]) -> frozenset[int]:
    return frozenset().union(*(p.stop_ids for p in plans))


def _arguments(run: Callable[..., Any], stops: frozenset[int], streamer: Any) -> dict[str, Any]:
    return {
        "custom_generate": run,
        "eos_token_id": sorted(stops),
        "pad_token_id": min(stops),
        # `generate` hands neither of these to a custom_generate: naming them here makes it an error
        # to give them there.
        "streamer": streamer,
        "assistant_model": None,
    }


def responses(run: ForcedDecoding, encoder: TextEncoder, think_start: str) -> list[Response]:
    """The finished rows of ``run`` as responses."""
    return [response(row, encoder, think_start) for row in run.rows]


def response(row: Row, encoder: TextEncoder, think_start: str) -> Response:
    """A finished row as a response."""
    return Response.from_tokens(
        row.tokens,
        row.state,
        decode=lambda ids: decode(encoder.tokenizer, ids),
        think_start=think_start,
        finished=row.finished,
    )
