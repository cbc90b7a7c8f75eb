"""What a request asks of a model and what a model can do, so that `auto` sends none where it can only be refused."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.protocol.requests import InferenceRequest
from gateway.settings import Modality, ModelSettings

# English has about four bytes a token, code three, other scripts two; the JSON around the text counts as text here. Too
# high an estimate costs the price of the teacher, too low a one a refusal.
BYTES_PER_TOKEN = 2
# As they stand in a body: within a text the quotation marks would be escaped.
_PARTS: dict[Modality, tuple[bytes, ...]] = {
    "image": (b'"image_url"', b'"input_image"', b'"type":"image"', b'"type": "image"'),
    "audio": (b'"input_audio"', b'"audio_url"'),
    "video": (b'"video_url"',),
}
_SCHEMA_FIELDS = ("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar")


@dataclass(frozen=True)
class Needs:
    """What a request asks for; `tokens` is an estimate of prompt and answer."""

    tokens: int
    tools: bool
    schema: bool
    modalities: frozenset[Modality]


@dataclass(frozen=True)
class Capabilities:
    """What a model can do. `modalities` besides text."""

    context_length: int
    tools: bool = True
    schema: bool = True
    modalities: frozenset[Modality] = frozenset()

    def can_take(self, needs: Needs) -> bool:
        """Can the model answer a request with these needs?"""
        return (
            needs.tokens <= self.context_length
            and (self.tools or not needs.tools)
            and (self.schema or not needs.schema)
            and needs.modalities <= self.modalities
        )


def capabilities_of(model: ModelSettings) -> Capabilities:
    """Return what the settings say of a model."""
    return Capabilities(model.context_length, model.tools, model.schema, frozenset(model.modalities))


def needs_of(request: InferenceRequest) -> Needs:
    """Return what a request asks for, as far as can be seen without reading its text."""
    body, raw = request.body, request.raw
    modalities = frozenset(kind for kind, names in _PARTS.items() if any(name in raw for name in names))
    # Pictures stand in the body as text, and what they cost is the model's secret: there only the answer is counted.
    prompt = 0 if modalities else len(raw) // BYTES_PER_TOKEN
    answer = body.get("max_completion_tokens") or body.get("max_tokens")
    form = body.get("response_format")
    kind = form.get("type") if isinstance(form, dict) else None
    schema = kind in ("json_schema", "json_object") or any(body.get(name) is not None for name in _SCHEMA_FIELDS)
    return Needs(prompt + (answer if isinstance(answer, int) else 1), bool(body.get("tools")), schema, modalities)
