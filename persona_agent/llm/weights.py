"""A GGUF model as a folder that vLLM can serve: dequantised once, kept in a cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from persona_agent.errors import BackendError
from persona_agent.llm.llama import check_gguf

INSTALL = "pip install torch transformers accelerate 'gguf>=0.10'"
CACHE = Path("~/.cache/persona-agent/weights")
DONE = "config.json"  # written last by whoever saves a model, and moved with all the rest


def folder_of(gguf: Path, cache: Path = CACHE) -> Path:
    """Return the folder in which the weights of a GGUF file are, in bfloat16; made if need be.

    The folder is named after the file's content, so that it is made once, and appears whole or not
    at all: an interrupted conversion leaves nothing behind that could be taken for a model. Takes
    half a minute and twice the file's size in memory for a model of 135 million parameters.
    Raises BackendError for a file that is no GGUF model, or if the packages needed are missing.
    """
    check_gguf(gguf)
    cache = cache.expanduser()
    folder = cache / f"{gguf.stem}-{_digest(gguf)}"
    if (folder / DONE).is_file():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="making-", dir=cache))
    try:
        _convert(gguf, work)
        try:
            os.replace(work, folder)
        except OSError:  # somebody else was faster, and theirs is as good
            if not (folder / DONE).is_file():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _convert(gguf: Path, folder: Path) -> None:
    try:
        import accelerate  # noqa: F401 - transformers asks for it only half way
        import torch
        from gguf import GGUFReader
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ImportError as error:
        raise BackendError(
            f"converting {gguf.name} needs more packages ({error}): {INSTALL}"
        ) from (error)
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    begins = GGUFReader(gguf).fields.get("tokenizer.ggml.add_bos_token")
    wants_bos = begins is not None and bool(begins.contents())
    if wants_bos and tokenizer("a").input_ids[0] != tokenizer.bos_token_id:
        raise BackendError(
            f"the tokeniser in {str(gguf)!r} wants a token at the beginning of every prompt, and "
            "its conversion lost that; its answers would be garbage. Use the model's own folder"
        )
    model = AutoModelForCausalLM.from_pretrained(
        **where, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
