"""Docids: the texts that name documents, their table and prefix tree, and the search that may write only them.

`schemes` chooses the texts, `table` tokenises them, `prefix_tree` holds them for `search`; `session` says what a model
must offer to be searched, `scoring` scores given docids.
"""
