"""What the data plane reads of HTTP, SSE and OpenAI's API; fields it does not know pass through."""
