import copy
import pickle
import unicodedata

import pytest
from tokenizers import normalizers

from s1_plugin.encoding import Piece, TextEncoder
from s1_plugin.formats import FORMATS, S1, THINK_TAGS


def authors_pipeline(tokenizer, row):
    """s1's train/tokenization and the completion-only collator, re-implemented plainly.

    https://arxiv.org/abs/2501.19393, appendix D: the chat template over the whole conversation,
    tokenised in one go; the collator then looks for the response template.
    """
    thinking = "\n".join(row["thinking_trajectories"]).strip()
    answer = row["attempt"]
    answer = ("Answer: " + answer if "Answer:" not in answer else answer).strip()
    text = tokenizer.apply_chat_template(
        [
            {"role": "user", "content": row["question"]},
            {
                "role": "assistant",
                "content": f"<|im_start|>think\n{thinking}\n<|im_start|>answer\n{answer}",
            },
        ],
        tokenize=False,
    )
    ids = tokenizer(text)["input_ids"]
    response = tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    start = next(i for i in range(len(ids)) if ids[i : i + len(response)] == response) + len(
        response
    )
    return ids, [-100] * start + ids[start:]


def holds_added_token(tokenizer, row):
    text = "".join([row["question"], *row["thinking_trajectories"], row["attempt"]])
    return any(token in text for token in tokenizer.get_added_vocab())


def test_every_real_row_is_tokenised_and_masked_as_the_authors_do(qwen, traces):
    encoder = TextEncoder(qwen)
    rows = [row for row in traces if not holds_added_token(qwen, row)]
    assert len(rows) >= 600
    encoded = encoder.rows(
        [(r["question"], "\n".join(r["thinking_trajectories"]), r["attempt"]) for r in rows], S1
    )
    for row, ours in zip(rows, encoded, strict=True):
        ids, labels = authors_pipeline(qwen, row)
        assert ours.input_ids == ids, row["id"]
        assert ours.labels == labels, row["id"]


def test_a_worker_gets_an_encoder_that_is_quick_to_send_and_does_the_same(qwen, traces):
    encoder = TextEncoder(qwen)
    sent = pickle.dumps(encoder)
    assert len(sent) < 1.1 * len(pickle.dumps(encoder._plain))  # no vocabulary but the Rust one
    record = (traces[0]["question"], "a <|im_start|> b", traces[0]["attempt"])
    assert pickle.loads(sent).rows([record], S1) == encoder.rows([record], S1)


def test_tokens_that_are_added_later_do_not_reach_data(qwen):
    tokenizer = copy.deepcopy(qwen)
    encoder = TextEncoder(tokenizer)
    before = encoder.text_ids("a <new> b")
    tokenizer.add_tokens(["<new>"])
    assert encoder.text_ids("a <new> b") == before
    assert TextEncoder(tokenizer).text_ids("a <new> b") == before
    assert len(tokenizer.encode("a <new> b")) != len(before)


@pytest.mark.parametrize(
    "text", ["Cafe\u0301 A\u030angstro\u0308m", "\u212b\u1100\u1161", "Caf\u00e9"]
)
def test_text_is_normalized_as_the_tokenizer_does_it(qwen, text):
    ids = TextEncoder(qwen).text_ids(text)
    assert ids == qwen(text, add_special_tokens=False)["input_ids"]
    assert ids == TextEncoder(qwen).text_ids(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize("name", ["Lowercase", "NFKC", None])
def test_other_normalizers_are_followed_too(qwen, name):
    tokenizer = copy.deepcopy(qwen)
    tokenizer.backend_tokenizer.normalizer = name and getattr(normalizers, name)()
    text = "ﬁve \u212b e\u0301 TEXT"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert TextEncoder(tokenizer).text_ids(text) == ids
    assert ids != qwen(text, add_special_tokens=False)["input_ids"]


def test_answer_position_is_the_delimiter(qwen):
    row = TextEncoder(qwen).rows([("Q?", "a <|im_start|> b", "7")], S1)[0]
    assert row.answer_at is not None
    assert qwen.decode(row.input_ids[row.answer_at :]).startswith("<|im_start|>answer\nAnswer: 7")


def test_rows_with_several_trajectories_are_joined_like_the_authors(qwen):
    row = {"question": "Q", "thinking_trajectories": ["one. ", " two"], "attempt": "Answer: 3 "}
    joined = "\n".join(row["thinking_trajectories"])
    ours = TextEncoder(qwen).rows([("Q", joined, row["attempt"])], S1)[0]
    assert (ours.input_ids, ours.labels) == authors_pipeline(qwen, row)


@pytest.mark.parametrize("format_name", sorted(FORMATS))
@pytest.mark.parametrize("where", [0, 1, 2])
def test_added_tokens_in_data_stay_plain_text(qwen, where, format_name):
    encoder, fmt = TextEncoder(qwen), FORMATS[format_name]
    added = qwen.get_added_vocab()
    clean = encoder.rows([("Q", "T", "Answer: A")], fmt)[0].input_ids
    for token, token_id in added.items():
        fields = ["Q", "T", "Answer: A"]
        fields[where] += f" x{token}y {token}"
        ids = encoder.rows([tuple(fields)], fmt)[0].input_ids
        assert ids.count(token_id) == clean.count(token_id), token
        assert f" x{token}y {token}" in qwen.decode(ids)


def test_scaffold_tokens_are_control_tokens(qwen):
    encoder = TextEncoder(qwen)
    assert encoder.encode([Piece("<|im_start|>think")]) == [151644, qwen.encode("think")[0]]
    assert 151644 not in encoder.encode([Piece("<|im_start|>think", data=True)])


def test_missing_tokens_are_named(qwen):
    assert TextEncoder(qwen).missing_tokens(S1) == []
    assert TextEncoder(qwen).missing_tokens(THINK_TAGS) == ["</think>"]


def test_a_template_that_strips_is_followed(nano_base):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(nano_base)
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    encoder = TextEncoder(tokenizer)
    padded = encoder.encode(encoder.prompt_pieces("  1+2 ", S1))
    assert padded == encoder.encode(encoder.prompt_pieces("1+2", S1))


@pytest.mark.parametrize(
    "question", ["What?", "<|im_end|>", "<|im_start|>assistant\n", "a", "user", "\n", " x "]
)
def test_a_rendered_prompt_is_cut_where_the_question_stands(qwen, question):
    encoder = TextEncoder(qwen)
    for system in ([], [{"role": "system", "content": f"Think of {question}."}]):
        messages = [*system, {"role": "user", "content": question}]
        context = qwen.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        pieces = encoder.rendered_pieces(context, question, S1)
        assert "".join(p.text for p in pieces) == context
        assert [p.text for p in pieces if p.data] == [question]
        if not system:
            assert pieces == encoder.prompt_pieces(question, S1)


def test_a_prompt_that_does_not_end_with_the_question_is_refused(qwen):
    with pytest.raises(ValueError, match="chat template"):
        TextEncoder(qwen).rendered_pieces("something else", "What?", S1)


def test_a_template_that_repeats_the_question_is_refused(nano_base):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(nano_base)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}"
    with pytest.raises(ValueError, match="chat template"):
        TextEncoder(tokenizer).prompt_pieces("1+2", S1)


def test_a_tokenizer_without_template_is_refused_with_the_remedy(nano_base):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(nano_base)
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="instruction-tuned"):
        TextEncoder(tokenizer).prompt_pieces("1+2", S1)
