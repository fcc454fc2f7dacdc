"""Which files pytest leaves out: the adapters of frameworks that are not installed here cannot be imported."""

from __future__ import annotations

from importlib.util import find_spec

_ADAPTERS = {
    "langchain": "langchain_core",
    "llama_index": "llama_index",
    "haystack": "haystack",
    "pyterrier": "pyterrier",
    "mcp": "mcp",
}
collect_ignore = [
    f"src/retgen/integrations/{adapter}.py" for adapter, package in _ADAPTERS.items() if find_spec(package) is None
]
