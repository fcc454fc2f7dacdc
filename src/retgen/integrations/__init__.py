"""retgen in other frameworks' places. One file per framework; importing this package loads none of them.

- `retgen.integrations.langchain`: a retriever and a document compressor
- `retgen.integrations.llama_index`: a retriever and a node postprocessor
- `retgen.integrations.haystack`: a retriever and a ranker component
- `retgen.integrations.pyterrier`: a retriever and a re-ranker on frames
- `retgen.integrations.mcp`: the tools search, ask and rerank for language models (``retgen mcp``)
- `retgen.integrations.hub`: models to and from the Hugging Face Hub, with a card

What they share is in `retgen.integrations.finding` and `retgen.integrations.ordering`. What a framework's package is
missing for is said in one line: ``pip install 'retgen[integrations]'``.
"""
