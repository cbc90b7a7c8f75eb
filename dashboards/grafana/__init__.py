"""Grafana's part: boards, made from code."""
