"""The operators' console: server-rendered pages over the control plane and the traffic lake.

`app.mount` adds it to the operator process. Every decision goes through the ledger's functions, the same that the
commands and the admin API call; a page only reads, words and draws.
"""
