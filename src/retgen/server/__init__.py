"""`retgen serve`: a pipeline behind HTTP, for many clients at once. Thin: it composes what the rooms below offer."""

from retgen.server.parts import Parts, open_parts
from retgen.server.settings import AccessSettings, Limits, PipelineSettings, ServerSettings, read_keys, read_settings

__all__ = [
    "AccessSettings",
    "Limits",
    "Parts",
    "PipelineSettings",
    "ServerSettings",
    "open_parts",
    "read_keys",
    "read_settings",
]
