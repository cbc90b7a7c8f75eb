"""What the endpoints differ in: one file and one `Dialect` each, found here by the endpoint's name."""

from gateway.protocol.dialects import chat, completions, count_tokens, embeddings, messages, responses
from gateway.protocol.dialects.dialect import Dialect as Dialect
from gateway.protocol.dialects.dialect import Endpoint as Endpoint

DIALECTS: dict[Endpoint, Dialect] = {
    "chat.completions": chat.DIALECT,
    "completions": completions.DIALECT,
    "embeddings": embeddings.DIALECT,
    "responses": responses.DIALECT,
    "messages": messages.DIALECT,
    "messages.count_tokens": count_tokens.DIALECT,
}
