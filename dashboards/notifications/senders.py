"""How a message leaves: an incoming webhook of Slack, SMTP, or a webhook signed as standardwebhooks.com says (1.0.0).

No error of these names an URL, a password or a secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import smtplib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import format_datetime
from http.client import HTTPException
from typing import Any

from dashboards.notifications.messages import LISTED, Message
from gateway.ledger.identifiers import now, to_rfc3339
from gateway.settings import ChannelSettings, SettingsError, read_secret

TIMEOUT_S = 10.0
PREFIX = "whsec_"


class NotSent(Exception):
    """A message did not get through; the text says why."""


def send(channel: ChannelSettings, message: Message) -> None:
    """Send a message by a channel; `NotSent` where it was not taken."""
    try:
        SENDERS[channel.kind](channel, message)
    except SettingsError as error:
        raise NotSent(str(error)) from None
    except smtplib.SMTPResponseException as error:
        raise NotSent(f"the mail server answered {error.smtp_code}") from None
    except smtplib.SMTPException as error:
        raise NotSent(f"the mail server did not take it ({type(error).__name__})") from None
    except (OSError, HTTPException) as error:  # URLError is one
        reason = getattr(error, "reason", None) or error
        raise NotSent(f"it can't be reached ({getattr(reason, 'strerror', None) or type(reason).__name__})") from None


def sign(secret: str, identity: str, timestamp: int, body: bytes) -> str:
    """Return the signature header of a body; `NotSent` for a secret that is none."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(PREFIX) or not 24 <= len(key) <= 64:
        raise NotSent(f"the signing secret is none: write {PREFIX} and 24 to 64 random bytes in base64")
    signed = hmac.new(key, f"{identity}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


def payload(message: Message) -> dict[str, Any]:
    """Return what a webhook carries: one alert, or a digest of several."""
    documents = [item.document() for item in message.items]
    if len(documents) == 1:
        item = message.items[0]
        return {"type": f"alert.{item.event.kind}", "timestamp": to_rfc3339(item.event.time), "data": documents[0]}
    newest = max(item.event.time for item in message.items)
    return {"type": "alert.digest", "timestamp": to_rfc3339(newest), "data": {"alerts": documents}}


def _webhook(channel: ChannelSettings, message: Message) -> None:
    body = json.dumps(payload(message), separators=(",", ":")).encode()
    timestamp = int(time.time())
    headers = {
        "webhook-id": message.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(_secret(channel.secret_env), message.id, timestamp, body),
    }
    _post(_secret(channel.url_env), body, headers)


def _slack(channel: ChannelSettings, message: Message) -> None:
    lines = [f"*{_escape(message.title)}*"]
    for item in message.items[:LISTED]:
        who = f"<{item.link}|{_escape(item.who)}>" if item.link else _escape(item.who)
        lines.append(f"• {item.alert.severity}: {who}, {_escape(item.happened)}: {_escape(item.reason)}")
    if len(message.items) > LISTED:
        more = f"and {len(message.items) - LISTED} more"
        lines.append(f"<{message.queue}|{more}>" if message.queue else more)
    _post(_secret(channel.url_env), json.dumps({"text": "\n".join(lines)}).encode(), {})


def _email(channel: ChannelSettings, message: Message) -> None:
    mail = EmailMessage()
    mail["Subject"] = f"Spiritsafe: {message.title}"
    mail["From"], mail["To"] = channel.sender, ", ".join(channel.to)
    mail["Date"] = format_datetime(now())
    mail["Message-ID"] = f"<{message.id}@{channel.sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text)
    context = ssl.create_default_context()
    if channel.smtp_security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            channel.smtp_host, channel.smtp_port, timeout=TIMEOUT_S, context=context
        )
    else:
        server = smtplib.SMTP(channel.smtp_host, channel.smtp_port, timeout=TIMEOUT_S)
    with server:
        if channel.smtp_security == "starttls":
            server.starttls(context=context)
        if channel.smtp_user:
            server.login(channel.smtp_user, _secret(channel.smtp_password_env))
        server.send_message(mail)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: what was signed for one address goes to no other."""

    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        """Follow none."""


_opener = urllib.request.build_opener(_NoRedirect)


def _post(url: str, body: bytes, headers: dict[str, str]) -> None:
    if not url.startswith(("https://", "http://")):
        raise NotSent("the URL in the environment is none: write https://…")
    named = {"content-type": "application/json", "user-agent": "spiritsafe", **headers}
    try:
        request = urllib.request.Request(url, body, named, method="POST")
        with _opener.open(request, timeout=TIMEOUT_S) as answer:
            answer.read(1024)
    except urllib.error.HTTPError as error:
        error.close()
        raise NotSent(f"it answered {error.code}") from None
    except ValueError:  # of an URL that can't be read, which the error would quote
        raise NotSent("the URL in the environment can't be read: write https://HOST/…") from None


def _secret(name: str) -> str:
    return read_secret(name, setting="a channel of [notifications] names")


def _escape(text: str) -> str:
    """Write text as Slack takes it, so that no name becomes a link or calls everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


SENDERS: dict[str, Callable[[ChannelSettings, Message], None]] = {
    "webhook": _webhook,
    "slack": _slack,
    "email": _email,
}
