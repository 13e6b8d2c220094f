"""A plugin of vLLM: on processors, who has no adapter is not answered by somebody else's.

There vLLM (0.32 and before) takes the weights of each token's adapter by its number, and the number
of none is -1: the last of those that are loaded. So in a batch with others a request without an
adapter got weights that were tuned on a stranger. On GPUs its kernels leave such tokens out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

GROUP, NAME = "vllm.general_plugins", "persona_agent"
FUNCTIONS = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")  # all others are made of these


def is_loaded(environ: Mapping[str, str]) -> bool:
    """Whether vLLM loads this in its processes: it is installed, and VLLM_PLUGINS allows it."""
    allowed = environ.get("VLLM_PLUGINS")
    installed = NAME in entry_points(group=GROUP).names
    return installed and (allowed is None or NAME in allowed.split(","))


def keep_adapters_apart() -> None:
    """Have vLLM's functions for processors count nothing for tokens without an adapter.

    Called by vLLM in each of its processes; harmless if called again. Raises AttributeError if this
    vLLM has other functions: then it must be looked at before it may serve adapters.
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    for name in FUNCTIONS:
        function = getattr(lora_ops, name)
        if not getattr(function, "keeps_apart", False):
            function = _with_nothing_for_none(function)
        for module in (lora_ops, punica_cpu):  # the second has the names for itself
            getattr(module, name)
            setattr(module, name, function)


def _with_nothing_for_none(function: Callable[..., None]) -> Callable[..., None]:
    """Return a linear function of `inputs` that is given zeros where `adapters` is below 0."""

    def apart(  # Any: tensors of torch, which is not needed to read this
        inputs: Any, weights: Any, output: Any, adapters: Any, *rest: Any, **named: Any
    ) -> None:
        own = inputs.masked_fill((adapters < 0).unsqueeze(-1), 0)
        function(own, weights, output, adapters, *rest, **named)

    apart.keeps_apart = True  # type: ignore[attr-defined]
    return apart
