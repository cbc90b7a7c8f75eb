"""The pages, one module each: a router, what its page needs, and the forms on it."""
