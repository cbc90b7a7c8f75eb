"""Models that vLLM does not serve, through litellm: an optional library, imported when the first request needs it.

A provider takes the place of the HTTP client for its pool: it is given the body that vLLM would be given and answers in
OpenAI's form. Prices and licence are those of the settings; litellm's own routing, retries, callbacks and price lists
are left out. Only fields of OpenAI's API reach it, because others of its arguments would let a caller choose where our
key is sent.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import os
import re
from collections.abc import AsyncIterator
from typing import Any

from gateway.errors import (
    EndpointNotServed,
    GatewayError,
    UpstreamDisconnected,
    UpstreamProtocol,
    UpstreamRejected,
    UpstreamTimeout,
)
from gateway.fleet.upstream import Consumer, Deadline
from gateway.protocol.answers import upstream_refusal
from gateway.protocol.driving import apart
from gateway.settings import SettingsError

COMPROMISED = ("1.82.7", "1.82.8")  # published with a credential stealer in them
INSTALL = "install it with `pip install 'spiritsafe[litellm]'`"
LONGEST_ANSWER_S = 3600.0  # our own deadlines end a request long before

_COMMON = frozenset(
    (
        *("temperature", "top_p", "n", "stop", "max_tokens", "presence_penalty", "frequency_penalty", "logit_bias"),
        *("user", "seed", "logprobs"),
    )
)
_CHAT = _COMMON | frozenset(
    (
        *("messages", "max_completion_tokens", "response_format", "tools", "tool_choice", "parallel_tool_calls"),
        *("top_logprobs", "reasoning_effort"),
    )
)
_TEXT = _COMMON | {"prompt", "suffix", "echo", "best_of"}
# Said to us, or of no meaning elsewhere: left out without a word.
_OURS = frozenset(("model", "stream", "stream_options", "store", "metadata", "service_tier", "prompt_cache_key"))
_FETCHED_THERE = ("openai/", "azure/")  # these providers fetch pictures themselves; for others litellm would, from here


class ProviderResponse:
    """A provider's successful answer, in OpenAI's form."""

    status = 200
    retry_after: float | None = None

    def __init__(self, answer: Any, served_name: str, deadline: Deadline, *, stream: bool) -> None:
        self._answer = answer
        self._served_name = served_name
        self._stream = stream
        self._complete = not stream
        self._closing: asyncio.Task[None] | None = None
        self._deadline = deadline
        self._timeout: asyncio.Timeout | None = None
        self._readable = asyncio.Event()
        self._readable.set()

    def expire(self, deadline: Deadline) -> None:
        """Fail with `UpstreamTimeout` at the deadline; a later call replaces an earlier one."""
        self._deadline = deadline
        if self._timeout is not None:
            self._timeout.reschedule(deadline.at)

    async def read(self) -> bytes:
        """Return the whole answer."""
        blocks: list[bytes] = []
        await self.consume(blocks.append)
        return b"".join(blocks)

    async def consume(self, consumer: Consumer) -> None:
        """Hand the answer to the consumer: an event per chunk, or the whole document."""
        # litellm and its client ask which task they are in.
        await apart(self._consume(consumer), lambda _: None)

    async def _consume(self, consumer: Consumer) -> None:
        try:
            async with asyncio.timeout_at(self._deadline.at) as self._timeout:
                async for block in self._blocks():
                    consumer(block)
                    await self._readable.wait()
        except TimeoutError:
            raise self._deadline.error() from None

    def pause(self) -> None:
        """Hand over nothing for now."""
        self._readable.clear()

    def resume(self) -> None:
        """Go on."""
        self._readable.set()

    async def _blocks(self) -> AsyncIterator[bytes]:
        if not self._stream:
            yield self._encoded(self._answer)
            return
        try:
            async for chunk in self._answer:
                yield b"data: " + self._encoded(chunk) + b"\n\n"
        except Exception as error:
            raise translate(error) from error
        self._complete = True
        yield b"data: [DONE]\n\n"

    def close(self) -> None:
        """Break off a stream that was not read to its end."""
        if not self._complete:
            self._closing = asyncio.ensure_future(self._break_off())

    async def _break_off(self) -> None:
        try:
            await self._answer.aclose()
        except Exception:  # noqa: BLE001, S110  (whatever it says of a connection that nobody wants any more)
            pass

    def _encoded(self, part: Any) -> bytes:
        document = part.model_dump(mode="json", exclude_none=True)
        if self._stream and document.get("usage") and not _has_content(document):
            document["choices"] = []  # OpenAI's form of the last chunk, which litellm gives an empty choice
        return json.dumps(document | {"model": self._served_name}, separators=(",", ":")).encode()


class Provider:
    """One model of a provider. `model` is litellm's name, such as `anthropic/claude-…`; the key stays in here."""

    def __init__(self, model: str, served_name: str, api_base: str = "", api_key: str = "") -> None:
        _check_installed()
        self._model = model
        self._served_name = served_name
        self._place = {name: value for name, value in (("api_base", api_base), ("api_key", api_key)) if value}

    async def post(self, url: str, body: bytes, lines: bytes, deadline: Deadline) -> ProviderResponse:
        """Ask the provider for what the URL's path and the body say; raises `GatewayError` of the fitting kind."""
        return await apart(self._post(url, body, deadline), ProviderResponse.close)

    async def _post(self, url: str, body: bytes, deadline: Deadline) -> ProviderResponse:
        chat = url.endswith("/v1/chat/completions")
        if not chat and not url.endswith("/v1/completions"):
            raise EndpointNotServed
        library = await asyncio.to_thread(_library)
        fields = json.loads(body)
        arguments = self._arguments(fields, _CHAT if chat else _TEXT)
        stream = bool(fields.get("stream"))
        if stream:
            arguments |= {"stream": True, "stream_options": {"include_usage": True}}
        call = library.acompletion if chat else library.atext_completion
        timeout = asyncio.timeout_at(deadline.at)
        try:
            async with timeout:
                answer = await call(model=self._model, **arguments, **self._place, **_PLAIN)
        except Exception as error:
            raise (deadline.error() if timeout.expired() else translate(error)) from error
        return ProviderResponse(answer, self._served_name, deadline, stream=stream)

    def _arguments(self, fields: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
        given = {name: value for name, value in fields.items() if value is not None and name not in _OURS}
        for name in given:
            if name not in known:
                raise _unsupported(name, f"'{name[:100]}' is not offered by this model")
        if not self._model.startswith(_FETCHED_THERE) and _names_a_picture(given.get("messages")):
            raise _unsupported("messages", "this model takes pictures as data: URLs only")
        return given


# No retries of its own: ours have a budget.
_PLAIN = {"num_retries": 0, "max_retries": 0, "timeout": LONGEST_ANSWER_S}


def translate(error: Exception) -> GatewayError:
    """Return our error for one of litellm's, which carry the provider's status."""
    if isinstance(error, GatewayError):
        return error
    names = {kind.__name__ for kind in type(error).__mro__}
    if "Timeout" in names or isinstance(error, TimeoutError):
        return UpstreamTimeout("The model's provider sent nothing for too long.")
    if "APIConnectionError" in names:
        return UpstreamDisconnected("The connection to the model's provider failed.")
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or status < 400:
        return UpstreamProtocol("The model's provider answered in a form that is not understood.")
    message = re.sub(r"^(litellm\.\w+: )+(\w+ - )?", "", str(getattr(error, "message", "")))
    return upstream_refusal(status, json.dumps({"error": {"message": message}}).encode(), _retry_after(error))


def _retry_after(error: Exception) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    value = str(headers.get("retry-after", ""))
    return float(value) if value.isdecimal() else None


def _unsupported(param: str, reason: str) -> UpstreamRejected:
    return UpstreamRejected(400, f"Unsupported parameter: {reason}.", param=param, code="unsupported_parameter")


def _names_a_picture(messages: object) -> bool:
    """Is there a picture whose URL somebody would have to fetch?"""
    contents = (
        [turn.get("content") for turn in messages if isinstance(turn, dict)] if isinstance(messages, list) else []
    )
    parts = [part for content in contents if isinstance(content, list) for part in content if isinstance(part, dict)]
    return any(_url_of(part.get("image_url")).startswith(("http:", "https:")) for part in parts)


def _url_of(picture: object) -> str:
    url = picture.get("url") if isinstance(picture, dict) else picture
    return url.strip().lower() if isinstance(url, str) else ""


def _has_content(chunk: dict[str, Any]) -> bool:
    return any(
        choice.get("delta") or choice.get("text") or choice.get("finish_reason") for choice in chunk.get("choices", [])
    )


def _check_installed() -> None:
    try:
        version = importlib.metadata.version("litellm")
    except importlib.metadata.PackageNotFoundError:
        raise SettingsError(f"a model has a `provider`, which needs litellm: {INSTALL}") from None
    if version in COMPROMISED:
        raise SettingsError(
            f"litellm {version} is a release that steals credentials: remove it, change every key, {INSTALL}"
        )


def _library() -> Any:
    """Import litellm; the first time takes a second, so call it in a thread."""
    # Otherwise it fetches a list of prices from the Internet when it is imported.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    library: Any = importlib.import_module("litellm")
    library.telemetry = False
    library.suppress_debug_info = True
    library.turn_off_message_logging = True
    return library
