"""Semantic memory as weights: LoRA adapters of users and cohorts, trained with peft."""

from __future__ import annotations
