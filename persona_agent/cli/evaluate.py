"""Studies: each ends in a table with intervals over people."""

from __future__ import annotations

import click

from persona_agent.cli.eval_ablate import ablate
from persona_agent.cli.eval_chat import chat, chat_start
from persona_agent.cli.eval_dialogue import dialogue
from persona_agent.cli.eval_gate import gate
from persona_agent.cli.eval_lora import lora
from persona_agent.cli.eval_recall import recall
from persona_agent.cli.eval_rerank import rerank
from persona_agent.cli.eval_stack import stack


@click.group("eval")
def evaluate() -> None:
    """Studies of real people (MovieLens and others), with intervals and what they cost."""


for command in (ablate, chat, chat_start, dialogue, gate, lora, recall, rerank, stack):
    evaluate.add_command(command)
