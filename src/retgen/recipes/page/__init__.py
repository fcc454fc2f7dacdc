"""A recipe's results as one HTML file: tables, curves, rounds, questions compared and failures; nothing from elsewhere.

`content` gathers what is shown, `charts` draws curves, `document` writes the file with ``page.css`` and ``page.js``.
"""

from retgen.recipes.page.document import page

__all__ = ["page"]
