"""YAML and JSON files that people write, read with one line for whatever is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from snt_core.common.errors import UserError, of_system


def read_text(path: Path) -> str:
    """Return the text of a file. Raises UserError if there is none, or it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}") from error
    except OSError as error:
        raise UserError(of_system(error)) from error
    except UnicodeDecodeError as error:
        where = f"{error.reason} at byte {error.start}"
        raise UserError(f"{path} is not UTF-8 text ({where}); save it as UTF-8") from error


def read_json(path: Path) -> Any:
    """Return what a JSON file holds. Raises UserError if it is none."""
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds.

    Raises:
        UserError: it is no YAML, or a key stands twice, of which YAML would keep the last alone.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            seen: set[Hashable] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, Hashable) or key in seen:
                    raise UserError(
                        f"{path} has '{key}' twice in one place, again in line "
                        f"{key_node.start_mark.line + 1}; keep one of them"
                    )
                seen.add(key)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(read_text(path), Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{path} is not YAML{line}: {problem}") from error
