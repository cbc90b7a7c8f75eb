"""Notifications: people are told of alerts where they are, by Slack, e-mail and signed webhooks."""
