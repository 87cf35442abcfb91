"""What a node takes, and how many nodes a conversation takes."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

from tree_cost.subjects import Kind, Subject
from tree_cost.traces import Shape, Turn, leaf, talks

TURNS = 50  # of a conversation


def bytes_per_node(kind: Kind, leaves: int) -> float:
    """Python memory that one more leaf costs, everything that holds it included.

    The insides of tensors are not seen. They are the same for both, and would flatter the ratio.
    """
    shape = Shape(leaves, users=min(100, leaves))
    prompts = [leaf(number, shape.users) for number in range(shape.leaves)]
    subject = Subject(kind, shape)
    for prompt in prompts[: shape.users]:  # the system prompts are there
        subject.insert(prompt)
    gc.collect()
    before = count_nodes(subject)
    tracemalloc.start()
    for prompt in prompts:
        subject.insert(prompt)
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used / (count_nodes(subject) - before)


def nodes_per_talk(kind: Kind, number: int) -> dict[str, float]:
    """Nodes of a conversation of 50 turns: as its last request left it (``left``), and once it
    was looked up again (``matched``), which is when chains are joined."""
    turns = list(talks(number, TURNS))
    final = turns[-number:]
    size = sum(len(turn.tokens) + len(turn.answer) for turn in final)
    subject = Subject(
        kind,
        Shape(leaves=size, users=number),
        write_policy="write_through",
        context=2 * max(len(turn.tokens) for turn in final),
    )
    for turn in turns:
        subject.serve(subject.request(turn), turn.answer)
    left = count_nodes(subject)
    for turn in final:
        _expect_all(subject, turn)
    return {"left": left / number, "matched": count_nodes(subject) / number}


def _expect_all(subject: Subject, turn: Turn) -> None:
    everything = [*turn.tokens, *turn.answer[:-1]]
    owner = subject.kind.owner(turn.user)
    found, _ = subject.tree.match(everything, owner)
    if found != len(everything):
        raise RuntimeError(f"{subject.kind.name}: {found} of {len(everything)} tokens are cached")


def count_nodes(subject: Subject) -> int:
    """Without the root."""
    count = 0
    stack: list[Any] = [subject.cache.root_node]
    while stack:
        children = stack.pop().children.values()
        count += len(children)
        stack.extend(children)
    return count
