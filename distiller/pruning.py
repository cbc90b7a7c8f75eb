"""Makes the student: the teacher without a run of layers in its middle.

What is dropped is one contiguous run, so that all layers but one still follow the one they learnt to follow (Gromov
et al. 2024, "The Unreasonable Ineffectiveness of the Deeper Layers"). benchmarks/RESULTS.md has how layers spread
evenly, or chosen one by one by how little they turn the residual stream, did worse on the demo's task.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch


def both_ends(total: int, kept: int) -> list[int]:
    """Indices of `kept` layers of `total`: the first half of them from the bottom, the rest from the top."""
    if not 1 <= kept <= total:
        raise ValueError(f"cannot keep {kept} of {total} layers: choose between 1 and {total} (`--layers`)")
    bottom = kept // 2
    return [*range(bottom), *range(total - (kept - bottom), total)]


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
