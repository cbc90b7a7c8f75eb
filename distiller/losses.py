"""The training loss: cross-entropy on the answers' tokens alone, with the prompt that a batch shares computed once."""

from typing import Any

import torch
from torch.nn import functional

from distiller.chat import IGNORED, Batch

WORTHWHILE = 8  # tokens; a shorter common prefix is not worth a pass of its own


def answer_loss(model: Any, batch: Batch) -> torch.Tensor:
    """Mean over the batch's examples of `answer_losses`; a scalar tensor.

    Every example weighs the same, however long its answer.
    """
    return answer_losses(model, batch).mean()


def answer_losses(model: Any, batch: Batch) -> torch.Tensor:
    """Each answer's mean cross-entropy in nats a token, of shape (examples,).

    The vocabulary head runs only where an answer's token is predicted: with 49,152 words it would otherwise cost as
    much as the layers of a small student.
    """
    targets = batch.labels[:, 1:]
    rows, columns = torch.nonzero(targets != IGNORED, as_tuple=True)
    hidden, skipped = hidden_states(model, batch)
    logits = model.get_output_embeddings()(hidden[rows, columns - skipped])
    losses = functional.cross_entropy(logits.float(), targets[rows, columns], reduction="none")
    lengths = torch.bincount(rows, minlength=len(targets))
    return losses.new_zeros(len(targets)).index_add(0, rows, losses / lengths[rows])


def hidden_states(model: Any, batch: Batch) -> tuple[torch.Tensor, int]:
    """The last layer's states of shape (examples, longest - skipped, width), and how many leading tokens were skipped.

    A task's requests share their system prompt. Its keys and values are computed once, with gradients, and repeated
    for the batch, which halves the work for short requests; results and gradients are the same. An answer's tokens
    are never skipped.
    """
    decoder = model.base_model
    skipped = common_prefix(batch)
    if skipped < WORTHWHILE:
        return decoder(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
        ).last_hidden_state, 0
    cache = decoder(input_ids=batch.input_ids[:1, :skipped], use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(batch.input_ids))
    states = decoder(
        input_ids=batch.input_ids[:, skipped:],
        attention_mask=batch.attention_mask,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return states, skipped


def common_prefix(batch: Batch) -> int:
    """The number of leading tokens that all examples share, ending before the first answer's predicting token."""
    same = (batch.input_ids == batch.input_ids[:1]).all(dim=0) & batch.attention_mask.bool().all(dim=0)
    shared = int(same.long().cumprod(0).sum())
    answers = (batch.labels != IGNORED).any(dim=0).nonzero()
    first = int(answers[0]) if len(answers) else batch.input_ids.shape[1]
    return max(0, min(shared, first - 1))
