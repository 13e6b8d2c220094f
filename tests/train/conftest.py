"""A tiny Llama with random weights and a tokeniser made here: real layers, no download, no wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from persona_agent.task import Task
from persona_agent.train.base import Base
from persona_agent.types import Interaction, Scope

START = datetime(2026, 1, 1, tzinfo=UTC)
RATING = Task("rating", "Film", "Rating", ("1", "2", "3", "4", "5"), numeric=True)
GENRES = ("Drama", "Comedy", "Horror", "War")


def rated(user: str, count: int, *, tenant: str = "default") -> list[Interaction]:
    """Return ratings of a user who likes one genre, by the user's name."""
    own = sum(map(ord, user))
    return [
        Interaction(
            Scope(user, tenant),
            START + timedelta(hours=i),
            f"Film {(own + 7 * i) % 50}, {GENRES[i % 4]}",
            outcome="5" if i % 4 == own % 4 else "2",
            metadata={"query_label": "Film", "outcome_label": "Rating"},
            id=f"{user}-{i}",
        )
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Llama of two layers, 32 wide, as transformers saves it."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["Film 1, Drama\nRating: 4\n\nPredict the rating"] * 9, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = (
        "{% for one in messages %}{{ one.role }}: {{ one.content }}\n{% endfor %}assistant: "
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=1024,
                bos_token_id=0,
                eos_token_id=1,
            )
        )
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base(tiny_folder: Path) -> Iterator[Base]:
    """The tiny model, opened to train on; one thread, since more would wait for each other.

    In single precision on every machine: the tests compare numbers.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Base.open(str(tiny_folder), "float32")
    torch.set_num_threads(threads)


@pytest.fixture
def ratings() -> Callable[..., list[Interaction]]:
    """Makes a user's ratings."""
    return rated


@pytest.fixture
def rating_task() -> Task:
    """The task that `ratings` are of."""
    return RATING
