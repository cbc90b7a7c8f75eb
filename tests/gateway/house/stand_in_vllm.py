"""Plays vLLM's part towards the house: starts, serves, fails or falls ill as the model's folder says.

`make_python` writes an executable that takes the place of vLLM's interpreter. `config.json` of a model's folder may
have `fail` (lines for the log, then exit status 1), `sleep` (seconds before it serves) and `children` (a file for the
pid of a process of its own).
"""

from __future__ import annotations

import argparse
import json
import stat
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def make_python(folder: Path) -> Path:
    """Write the executable and return its path."""
    script = folder / "python-of-vllm"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__)}" "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def make_model(folder: Path, **behaviour: Any) -> Path:
    """Write a folder of a model that behaves so."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(behaviour))
    return folder


class Handler(BaseHTTPRequestHandler):
    """Answers `/health`, `/v1/completions` and `/v1/models`."""

    name = ""

    def do_GET(self) -> None:
        """Serve health, metrics and the list of models."""
        self._answer({"object": "list", "data": [{"id": self.name}]})

    def do_POST(self) -> None:
        """Serve a completion to those who name the model."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        print("completion for", body["model"], flush=True)
        self._answer({"choices": [{"text": "word"}]}, 200 if body["model"] == self.name else 404)

    def log_message(self, *_arguments: Any) -> None:
        """Keep the log for what the tests look for."""

    def _answer(self, document: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main() -> None:
    """Behave as the model's folder says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments, _ = parser.parse_known_args()
    behaviour = json.loads((arguments.model / "config.json").read_text())
    if "fail" in behaviour:
        sys.exit(behaviour["fail"])
    time.sleep(behaviour.get("sleep", 0))
    if "children" in behaviour:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(behaviour["children"]).write_text(str(child.pid))
    Handler.name = arguments.served_model_name
    ThreadingHTTPServer((arguments.host, arguments.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
