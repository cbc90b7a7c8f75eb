"""The optimisation loop of students and of the demo's teacher: AdamW, warm-up, linear decay, batches of like length."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from distiller.chat import Example, collate
from distiller.losses import WORTHWHILE, answer_loss

CLIP = 1.0  # gradient norm, so that one odd batch cannot throw the weights off


class DivergedError(Exception):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train; `warmup` is the share of steps until the full learning rate is reached."""

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    warmup: float = 0.1
    weight_decay: float = 0.01

    def steps(self, examples: int) -> int:
        """The number of optimiser steps for so many examples."""
        return self.epochs * -(-examples // self.batch_size)

    def rate(self, step: int, steps: int) -> float:
        """The factor on the learning rate at a step counted from 0: up linearly, then down to nearly zero."""
        warm = max(1, round(self.warmup * steps))
        return min((step + 1) / warm, (steps - step) / max(1, steps - warm))


@dataclass(frozen=True)
class Step:
    """One optimiser step: loss in nats per answer token, seconds since training began."""

    step: int
    epoch: int
    loss: float
    learning_rate: float
    seconds: float


def batches(examples: Sequence[Example], size: int, draw: random.Random) -> list[list[Example]]:
    """One epoch's batches in random order; a batch holds examples of one beginning and of similar length.

    Thus little is wasted on padding and the beginning that they share is computed once.
    """
    # Sorting is stable: the shuffle decides who sits together among examples that are equal in both.
    shuffled = draw.sample(examples, len(examples))
    order = sorted(shuffled, key=lambda example: (example.input_ids[:WORTHWHILE], len(example.input_ids)))
    grouped = [order[start : start + size] for start in range(0, len(order), size)]
    draw.shuffle(grouped)
    return grouped


def fit(
    model: Any, examples: Sequence[Example], pad_id: int, plan: Plan, report: Callable[[Step, int], None]
) -> list[Step]:
    """Train the model's trainable weights in place and return the loss curve.

    `report` is called after each step with it and the number of steps. Raises DivergedError where the loss is not
    finite.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=plan.learning_rate, weight_decay=plan.weight_decay)
    steps, started, curve = plan.steps(len(examples)), time.monotonic(), list[Step]()
    model.train()
    for step, (epoch, batch) in enumerate(_epochs(examples, plan)):
        rate = plan.learning_rate * plan.rate(step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = _update(optimizer, weights, answer_loss(model, collate(batch, pad_id)))
        curve.append(Step(step + 1, epoch + 1, round(loss, 5), rate, round(time.monotonic() - started, 2)))
        report(curve[-1], steps)
    model.eval()
    return curve


def _epochs(examples: Sequence[Example], plan: Plan) -> Iterator[tuple[int, list[Example]]]:
    draw = random.Random(plan.seed)
    for epoch in range(plan.epochs):
        for batch in batches(examples, plan.batch_size, draw):
            yield epoch, batch


def _update(optimizer: Any, weights: list[Any], loss: torch.Tensor) -> float:
    """Take one step down the gradient; the loss before it."""
    value = float(loss.item())
    if not math.isfinite(value):
        raise DivergedError
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights, CLIP)
    optimizer.step()
    return value
