"""The student is the teacher with layers dropped. Runs in `.venv-distiller`."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="runs in .venv-distiller, through test_training_environment.py")
transformers = pytest.importorskip("transformers")

from distiller.chat import Example, collate  # noqa: E402
from distiller.pruning import both_ends, keep_layers  # noqa: E402

BATCH = collate([Example(tuple(range(3, 19)), 14), Example(tuple(range(5, 15)), 8)], pad_id=0)


@pytest.fixture
def teacher() -> Any:
    """A random Llama of six layers."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def test_layers_of_both_ends_are_kept() -> None:
    """One run in the middle is dropped; an odd one stays at the top."""
    assert both_ends(30, 4) == [0, 1, 28, 29]
    assert both_ends(6, 3) == [0, 4, 5]
    assert both_ends(6, 6) == [0, 1, 2, 3, 4, 5]
    assert both_ends(6, 1) == [5]


@pytest.mark.parametrize("kept", [0, 7])
def test_an_impossible_count_is_refused(kept: int) -> None:
    """Keeping no layer, or more than there are, names the setting to change."""
    with pytest.raises(ValueError, match="--layers"):
        both_ends(6, kept)


def test_dropping_a_layer_that_does_nothing_changes_nothing(teacher: Any) -> None:
    """The student computes what the teacher computes where the dropped layer added nothing, also through the cache."""
    for output in (teacher.model.layers[2].self_attn.o_proj, teacher.model.layers[2].mlp.down_proj):
        torch.nn.init.zeros_(output.weight)
    student = keep_layers(teacher, [0, 1, 3, 4, 5])
    ids = BATCH.input_ids[:1]
    with torch.inference_mode():
        assert torch.allclose(student(ids).logits, teacher(ids).logits, atol=1e-5)
        written = [model.generate(ids, max_new_tokens=8, do_sample=False).tolist() for model in (student, teacher)]
    assert written[0] == written[1]


def test_the_student_loads_as_the_smaller_model_it_is(teacher: Any, tmp_path: Any) -> None:
    """Saved and loaded, the student has as many layers as its configuration says; the teacher is left alone."""
    keep_layers(teacher, [0, 2, 5]).save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.num_hidden_layers == len(loaded.model.layers) == 3
    assert torch.equal(loaded.model.layers[1].mlp.up_proj.weight, teacher.model.layers[2].mlp.up_proj.weight)
    assert teacher.config.num_hidden_layers == len(teacher.model.layers) == 6
