"""YAML with plain values only, in which no key may stand twice in one table. Needs the extra `yaml`."""

from __future__ import annotations

from typing import Any

import yaml


def load_yaml(text: str) -> Any:
    """What PyYAML's safe loader makes of `text`. Raises `yaml.YAMLError`, also for a key that stands twice."""
    loader = yaml.SafeLoader(text)
    try:
        node: Any = loader.get_single_node()
        if node is None:
            return None
        _distinct_keys(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _distinct_keys(root: Any) -> None:
    """PyYAML by itself lets the last of two equal keys win."""
    waiting, known = [root], {id(root)}  # aliases make this a graph
    while waiting:
        node = waiting.pop()
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            _distinct([key for key, _ in node.value])
            inner = [part for pair in node.value for part in pair]
        fresh = [part for part in inner if id(part) not in known]
        known.update(map(id, fresh))
        waiting += fresh


def _distinct(keys: list[Any]) -> None:
    seen: set[tuple[str, str]] = set()
    for key in keys:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                told = f"the key {key.value!r:.60} stands twice in one table"
                raise yaml.MarkedYAMLError(problem=told, problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
