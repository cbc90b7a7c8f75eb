"""The gateway: one OpenAI-compatible endpoint in front of a teacher and its students. Read `pipeline.py` first."""
