"""An adapter merged into its base as one GGUF file, for llama.cpp.

The base's file is copied tensor by tensor; only the adapted layers change, and are kept in half
precision, since quantising them again would round the adapter away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from persona_agent.errors import BackendError
from persona_agent.llm.llama import check_gguf
from persona_agent.train.base import INSTALL
from persona_agent.train.trainer import read_weights

Array: TypeAlias = npt.NDArray[np.float32]

PREFIX = "base_model.model."


def merge_gguf(base: Path, adapter: Path, out: Path) -> Path:
    """Write to `out` the GGUF model `base` with the LoRA in the folder `adapter` merged in.

    Returns `out`, which appears whole or not at all. Raises BackendError for a base that is no
    GGUF model, or has no layers like those of the adapter.
    """
    check_gguf(base)
    try:
        import gguf
        from gguf.quants import dequantize
    except ImportError as error:
        raise BackendError(f"merging needs more packages ({error}): {INSTALL}") from error
    reader = gguf.GGUFReader(base)
    changes = _changes(gguf, reader, adapter)
    architecture = str(reader.fields["general.architecture"].contents())
    beside = out.with_name(f"{out.name}.part")
    writer = gguf.GGUFWriter(beside, architecture)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    data = []
    for tensor in reader.tensors:
        if tensor.name in changes:
            whole = dequantize(tensor.data, tensor.tensor_type) + changes.pop(tensor.name)
            data.append(whole.astype(np.float16))
            writer.add_tensor_info(tensor.name, data[-1].shape, data[-1].dtype, data[-1].nbytes)
            continue
        data.append(tensor.data)
        writer.add_tensor_info(
            tensor.name,
            tensor.data.shape,
            tensor.data.dtype,
            tensor.data.nbytes,
            tensor.tensor_type,
        )
    if changes:
        raise BackendError(f"{base.name} has no tensors {', '.join(sorted(changes)[:3])}")
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for one in data:
            writer.write_tensor_data(one)
        writer.close()
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
    return out


def _changes(gguf: Any, reader: Any, adapter: Path) -> dict[str, Array]:  # Any: of gguf
    """Return what the adapter adds to each tensor of the base, by the base's names."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    weights = read_weights(adapter)
    name = str(reader.fields["general.architecture"].contents())
    architecture = next((one for one, own in gguf.MODEL_ARCH_NAMES.items() if own == name), None)
    if architecture is None:
        raise BackendError(f"the architecture {name!r} of the base is not known to gguf")
    blocks = int(reader.fields[f"{name}.block_count"].contents())
    names = gguf.get_tensor_name_map(architecture, blocks)
    changes: dict[str, Array] = {}
    for low in weights:
        if ".lora_A." not in low:
            continue
        layer = low.removeprefix(PREFIX).partition(".lora_A.")[0]
        found = names.get_name(layer)
        if found is None:
            raise BackendError(f"a {name!r} model has no layer {layer}; it is another's adapter")
        high = weights[low.replace(".lora_A.", ".lora_B.")].float().numpy()
        delta = scale * (high @ weights[low].float().numpy())
        changes[f"{found}.weight"] = _as_stored(delta, layer, name, reader.fields)
    return changes


def _as_stored(delta: Array, layer: str, name: str, fields: Mapping[str, Any]) -> Array:
    """Return a change in the order of rows in which GGUF files of this architecture keep it.

    Files of Llama's have the two halves of each head's rotation interleaved.
    """
    kind = layer.rpartition(".")[2]
    if name != "llama" or kind not in ("q_proj", "k_proj"):
        return delta
    heads = int(fields["llama.attention.head_count"].contents())
    if kind == "k_proj" and "llama.attention.head_count_kv" in fields:
        heads = int(fields["llama.attention.head_count_kv"].contents())
    halves = delta.reshape(heads, 2, delta.shape[0] // heads // 2, delta.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(delta.shape))
