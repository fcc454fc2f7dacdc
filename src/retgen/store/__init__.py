"""Folders on disk: built in a sibling folder, described by a manifest, and put in place whole or not at all.

Every artefact (corpus, index, model, report) goes through `create` and `open_folder`. A process may be killed at any
moment: what opens afterwards is the old folder or the new one, never a mixture. Nothing here knows what is in a folder.
"""

from retgen.store.files import atomic_file, write_atomic
from retgen.store.folders import create, load, open_folder, verify
from retgen.store.manifest import FORMAT_VERSION, MANIFEST, FileEntry, Manifest

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "FileEntry",
    "Manifest",
    "atomic_file",
    "create",
    "load",
    "open_folder",
    "verify",
    "write_atomic",
]
