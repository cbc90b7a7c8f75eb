"""Prometheus's part: recording rules, alerts and the runbook behind each."""
