"""Makes the student: the teacher with some of its decoder layers kept.

Layers are dropped by measured importance: the less a layer turns the residual stream, the less it is missed (block
influence, Men et al. 2024, "ShortGPT"). The first and last layer always stay: they read the embeddings and feed the
vocabulary head.
"""

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from distiller.chat import Batch


def by_position(total: int, kept: int) -> list[int]:
    """Indices of `kept` layers spread evenly over `total`, first and last included."""
    if not 1 <= kept <= total:
        raise ValueError(f"cannot keep {kept} of {total} layers: choose between 1 and {total} (`--layers`)")
    if kept == 1:
        return [0]
    return [round(position * (total - 1) / (kept - 1)) for position in range(kept)]


def by_importance(importance: Sequence[float], kept: int) -> list[int]:
    """Indices, ascending, of the `kept` most important layers, first and last included."""
    last = len(importance) - 1
    if kept < 2:
        return by_position(len(importance), kept)
    by_position(len(importance), kept)  # refuses impossible counts
    inner = sorted(range(1, last), key=lambda layer: -importance[layer])
    return sorted([0, last, *inner[: kept - 2]])


def block_influence(model: Any, batch: Batch) -> list[float]:
    """How much each layer turns the residual stream: 1 - cosine(input, output), mean over the batch's real tokens."""
    with torch.inference_mode():
        states = model.base_model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, output_hidden_states=True
        ).hidden_states
    real = batch.attention_mask.bool()
    return [
        1.0 - torch.cosine_similarity(before[real], after[real], dim=-1).mean().item()
        for before, after in pairwise(states)
    ]


def keep_layers(model: Any, kept: Sequence[int]) -> Any:
    """A copy of a decoder-only model with only the layers `kept`, its configuration and cache indices corrected."""
    student = copy.deepcopy(model)
    layers = student.base_model.layers
    student.base_model.layers = torch.nn.ModuleList(layers[index] for index in kept)
    for position, layer in enumerate(student.base_model.layers):
        # Attention finds its place in the key-value cache by this index.
        layer.self_attn.layer_idx = position
    student.config.num_hidden_layers = len(kept)
    if getattr(student.config, "layer_types", None):
        student.config.layer_types = [student.config.layer_types[index] for index in kept]
    return student
