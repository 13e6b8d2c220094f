"""The base model: weights that are read once, adapted for one user after another, never changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from persona_agent.errors import BackendError
from persona_agent.llm import servable
from persona_agent.llm.precision import Precision, cpu_precision
from persona_agent.train.encode import Row
from persona_agent.train.options import TrainOptions
from persona_agent.types import Message

if TYPE_CHECKING:
    from torch import Tensor

INSTALL = 'pip install "persona-agent-framework[train]"'
EDGE = 1 << 20
MOST_TOKENS = {"cpu": 1024, "cuda": 16384}  # read at once: a core is busy with few

Weights: TypeAlias = "Mapping[str, Tensor]"


class Base:
    """A causal language model and its tokeniser, to train adapters on.

    `spec` is what was asked for; `fingerprint` tells weights apart, whatever they are called.
    One adapter at a time: not for two threads at once.
    """

    def __init__(self, model: Any, tokenizer: Any, *, spec: str, fingerprint: str) -> None:
        # Any: of transformers, which is optional
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.spec = spec
        self.fingerprint = fingerprint

    @classmethod
    def open(cls, spec: str = "local", precision: Precision | None = None) -> Base:
        """Return the model in a folder or GGUF file, or "local" for the embedded one.

        In the precision that the machine is fast in, unless one is given. Raises BackendError if it
        cannot be loaded.
        """
        try:
            import torch
            import transformers
            from transformers.utils import logging
        except ImportError as error:
            raise BackendError(f"training needs more packages ({error}): {INSTALL}") from error
        folder = Path(servable(spec))
        logging.disable_progress_bar()
        gpu = torch.cuda.is_available()
        fast: Precision = "bfloat16" if gpu else cpu_precision()
        dtype = getattr(torch, precision or fast)
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        except (OSError, ValueError) as error:
            raise BackendError(f"{spec!r} cannot be loaded to train on: {error}") from error
        if not tokenizer.is_fast:
            raise BackendError(f"the tokeniser of {spec!r} does not tell where its tokens are")
        place = "cuda" if gpu else "cpu"
        return cls(model.to(place), tokenizer, spec=spec, fingerprint=fingerprint_of(folder))

    @property
    def place(self) -> str:
        """Where the model is: "cpu" or "cuda"."""
        return str(self.model.device.type)

    def render(self, messages: Sequence[Message]) -> str:
        """Return a chat as the model was trained to see it, ready for the assistant's turn.

        Raises BackendError for a model without a chat template.
        """
        chat = [{"role": one.role, "content": one.content} for one in messages]
        try:
            return str(
                self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            )
        except ValueError as error:
            raise BackendError(f"{self.spec!r} has no chat template: {error}") from error

    @contextmanager
    def adapted(self, options: TrainOptions, weights: Weights | None = None) -> Iterator[Any]:
        """Give the model with a LoRA of its own, taken off again at the end of the block.

        The LoRA is new, drawn by the options' seed whatever was trained before, or has `weights`.
        Any: of peft. Raises ValueError for layers that the model does not have.
        """
        import peft
        import torch

        config = peft.LoraConfig(**lora_config(options))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            model = peft.get_peft_model(self.model, config)
        try:
            if weights is not None:
                found = peft.set_peft_model_state_dict(model, dict(weights))
                if found.unexpected_keys:
                    raise ValueError(f"weights for other layers: {found.unexpected_keys[:3]}")
            yield model
        finally:
            self.model = model.unload().requires_grad_(False).eval()

    def logits(self, model: Any, rows: Sequence[Row]) -> Tensor:
        """Return (n, vocabulary): what is said before each learned token, row by row.

        Only these go through the output layer, which is a good part of a small model. Rows are
        filled up on the right, where nothing that counts can see it. Any: the model or `adapted`.
        """
        import torch

        longest = max(len(row.tokens) for row in rows)
        ids = torch.zeros((len(rows), longest), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row.tokens)] = torch.tensor(row.tokens)
        wanted = sorted({place - 1 for row in rows for place in row.learned})
        where = {place: i for i, place in enumerate(wanted)}
        keep = torch.tensor(wanted, device=self.place)
        out = model(input_ids=ids.to(self.place), logits_to_keep=keep, use_cache=False).logits
        numbers = [i for i, row in enumerate(rows) for _ in row.learned]
        columns = [where[place - 1] for row in rows for place in row.learned]
        found: Tensor = out[numbers, columns].float()
        return found

    def logprobs(self, model: Any, rows: Sequence[Row]) -> Tensor:
        """Return (n,): the log-probability of each learned token, row by row."""
        import torch

        tokens = [row.tokens[place] for row in rows for place in row.learned]
        named = torch.tensor(tokens, device=self.place)
        found: Tensor = -torch.nn.functional.cross_entropy(
            self.logits(model, rows), named, reduction="none"
        )
        return found


def lora_config(options: TrainOptions) -> dict[str, Any]:  # Any: as peft takes it
    """Return peft's configuration of an adapter."""
    return {
        "task_type": "CAUSAL_LM",
        "r": options.rank,
        "lora_alpha": options.alpha,
        "lora_dropout": options.dropout,
        "target_modules": list(options.targets),
        "bias": "none",
    }


def together(rows: Sequence[Row], most_tokens: int) -> list[list[int]]:
    """Return the places of rows that are read at once: neighbours in length, filled up little.

    >>> together([Row((1,) * 9, (1,)), Row((1,), ()), Row((1,) * 8, (1,))], 18)
    [[1], [2, 0]]
    """
    batches: list[list[int]] = []
    size = 0
    for place in sorted(range(len(rows)), key=lambda i: (len(rows[i].tokens), i)):
        length = len(rows[place].tokens)
        # twice as long as the shortest is mostly filling
        if batches and (
            (size + 1) * length <= most_tokens and length <= 2 * len(rows[batches[-1][0]].tokens)
        ):
            batches[-1].append(place)
            size += 1
        else:
            batches.append([place])
            size = 1
    return batches


def fingerprint_of(folder: Path) -> str:
    """Return 16 hexadecimal digits that tell a model's folder from others.

    Of its configuration and tokeniser everything counts; of each file of weights the size, the
    first and the last megabyte: reading all of a large model would take longer than a training.
    """
    known = hashlib.sha256()
    for name in ("config.json", "tokenizer.json"):
        if (folder / name).is_file():
            known.update((folder / name).read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        known.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            known.update(file.read(EDGE))
            file.seek(max(0, size - EDGE))
            known.update(file.read(EDGE))
    return known.hexdigest()[:16]
