"""Requests become the token ids that the server sees, and only the answer is learnt. Runs in `.venv-distiller`."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="runs in .venv-distiller, through test_training_environment.py")
transformers = pytest.importorskip("transformers")

from distiller.chat import IGNORED, Example, PromptMismatchError, collate, encode, prompt_ids  # noqa: E402

BASE = Path(__file__).resolve().parents[2] / "models" / "base"
REQUEST = {"messages": [{"role": "system", "content": "Sort."}, {"role": "user", "content": "The tap drips."}]}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """The demo's tokenizer with its chat template."""
    if not BASE.is_dir():
        pytest.skip("needs models/base: make setup-models")
    return transformers.AutoTokenizer.from_pretrained(BASE)


def test_every_token_is_the_chat_templates(tokenizer: Any) -> None:
    """A request and its answer become the template's tokens, one by one, up to the end of the assistant's turn."""
    example = encode(tokenizer, REQUEST, "device")
    assert tokenizer.convert_ids_to_tokens(list(example.input_ids)) == [
        *["<|im_start|>", "system", "Ċ", "Sort", ".", "<|im_end|>", "Ċ"],
        *["<|im_start|>", "user", "Ċ", "The", "Ġtap", "Ġdri", "ps", ".", "<|im_end|>", "Ċ"],
        *["<|im_start|>", "ass", "istant", "Ċ", "device", "<|im_end|>"],
    ]


def test_only_the_answer_and_its_end_are_learnt(tokenizer: Any) -> None:
    """The mask covers the answer's tokens and the end of the turn, in every row of a padded batch."""
    short, long = encode(tokenizer, REQUEST, "device"), encode(tokenizer, REQUEST, "device and account")
    batch = collate([short, long], tokenizer.pad_token_id)
    learnt = [[int(label) for label in row if label != IGNORED] for row in batch.labels]
    assert [tokenizer.decode(row) for row in learnt] == ["device<|im_end|>", "device and account<|im_end|>"]
    assert batch.attention_mask.sum(dim=1).tolist() == [len(short.input_ids), len(long.input_ids)]


def test_the_prompt_is_what_the_answer_follows(tokenizer: Any) -> None:
    """The ids to generate from are exactly the ids before the answer."""
    example = encode(tokenizer, REQUEST, "device")
    assert prompt_ids(tokenizer, REQUEST) == list(example.input_ids[: example.answer_start])


def test_text_parts_are_joined_by_line_breaks(tokenizer: Any) -> None:
    """Content given as parts gives the tokens of its texts, a line each, as vLLM renders it."""
    parts = [{"type": "text", "text": "The tap"}, {"type": "text", "text": "drips."}]
    as_parts = {"messages": [{"role": "user", "content": parts}]}
    as_text = {"messages": [{"role": "user", "content": "The tap\ndrips."}]}
    assert prompt_ids(tokenizer, as_parts) == prompt_ids(tokenizer, as_text)


def test_a_template_that_rewrites_its_prompt_is_refused(tokenizer: Any) -> None:
    """Where the prompt is not a prefix of the conversation with its answer, no mask is right and none is made."""
    changing = transformers.AutoTokenizer.from_pretrained(BASE)
    changing.chat_template = "{{ messages | length }}{{ messages[-1]['content'] }}"
    with pytest.raises(PromptMismatchError):
        encode(changing, REQUEST, "device")


def test_collate_pads_on_the_right() -> None:
    """Padding follows the tokens and is neither attended to nor learnt."""
    batch = collate([Example((5, 6, 7), 2), Example((8, 9), 1)], pad_id=0)
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.labels.tolist() == [[IGNORED, IGNORED, 7], [IGNORED, 9, IGNORED]]
