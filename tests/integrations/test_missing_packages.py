"""What importing the room loads, and what it says where a framework is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_importing_the_room_loads_no_framework() -> None:
    heavy = ["langchain_core", "llama_index", "haystack", "pyterrier", "mcp", "huggingface_hub", "torch"]
    code = f"import retgen, retgen.integrations, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("adapter", "package", "missing"),
    [
        ("langchain", "langchain_core", "langchain-core"),
        ("llama_index", "llama_index.core.schema", "llama-index-core"),
        ("haystack", "haystack", "haystack-ai"),
        ("pyterrier", "pyterrier", "pyterrier"),
        ("mcp", "mcp.server.mcpserver", "mcp"),
    ],
)
def test_a_missing_package_is_one_line_that_names_the_extra(adapter: str, package: str, missing: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None\nimport retgen.integrations.{adapter}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        f"retgen.errors.MissingExtraError: this needs the package {missing!r}, which is not installed. "
        "Install it with: pip install 'retgen[integrations]'"
    )
