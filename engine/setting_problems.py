"""Says in words what is wrong with a setting."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from engine.errors import did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel

_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list, like [a, b]",
    "dict": "settings of its own, like {key: value}",
    "model": "settings of its own, like {key: value}",
}
"""What a setting should be, by the first word of pydantic's name for the problem."""


def explain(problem: Any, sections: dict[str, type[BaseModel]]) -> str:
    """Turn one of pydantic's problems into a sentence for a person.

    Args:
        problem: as pydantic tells it.
        sections: what each section of the settings is made of, the whole under an empty name.
    """
    location = [str(part) for part in problem["loc"] if part not in {"int", "str", "[key]"}]
    key, value = ".".join(location), problem["input"]
    match problem["type"]:
        case "extra_forbidden":
            owner = sections.get(location[0] if len(location) > 1 else "", sections[""])
            hint = did_you_mean(location[-1], owner.model_fields)
            if location[-1] == "alpha":
                hint = " mlx-lm uses 'scale' directly: scale = alpha / rank."
            return f"{key}: unknown setting.{hint}"
        case "missing" if location[-1] == "scale":
            alpha = " (alpha is not used: scale = alpha / rank)" if "alpha" in value else ""
            return f"{key}: missing; it is the factor of the low-rank update, e.g. 20.0{alpha}"
        case "missing":
            return f"{key}: missing"
        case "literal_error":
            known = re.findall(r"'([^']+)'", problem["ctx"]["expected"])
            hint = did_you_mean(str(value), known)
            return f"{key}: {value!r} is not one of {', '.join(known)}.{hint}"
        case "value_error":
            return f"{key}: {problem['ctx']['error']}"
        case kind if wanted := _WANTED.get(kind.partition("_")[0]):
            return f"{key}: should be {wanted}, not {value!r}"
        case _:
            text = problem["msg"].replace("Input should be", "should be")
            return f"{key}: {text[:1].lower()}{text[1:]}, not {value!r}"
