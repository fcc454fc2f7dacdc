"""One small valid file per format: what the tests read, and what the fuzzers bend."""

from __future__ import annotations

import json

SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "Super_Bowl_50",
            "paragraphs": [
                {
                    "context": "The Broncos won Super Bowl 50.",
                    "qas": [
                        {
                            "id": "q1",
                            "question": "Who won?",
                            "answers": [{"text": "Broncos", "answer_start": 4}, {"text": "The Broncos"}],
                        },
                        {"id": "q2", "question": "Who lost?", "answers": [], "is_impossible": True},
                    ],
                },
                {"context": "It was played in 2016.", "qas": [{"id": "q3", "question": "When?", "answers": []}]},
            ],
        },
        {
            "title": "Beyonc%C3%A9",
            "paragraphs": [{"context": "Beyoncé sang.", "qas": []}],
        },
    ],
}

DOCUMENTS = [
    {"_id": "d1", "title": "Tea", "text": "Tea is hot.", "metadata": {"year": 2001, "tags": ["a", "b"]}},
    {"id": "d2", "text": "Ice is cold.", "lang": "en"},
    {"_id": 3, "title": "Only a title", "text": ""},
]

QUERIES = [
    {"_id": "q1", "text": "what is hot?", "metadata": {}},
    {"_id": "q2", "text": "what is cold?"},
]

TRIPLETS = [
    {"id": "t1", "question": "what is hot?", "answers": ["tea", "coffee"], "doc_ids": ["d1"]},
    {"id": "t2", "question": "what is cold?", "answers": "ice", "positives": ["d2", "d1"]},
]

DPR = [
    {
        "question": "who won?",
        "answers": ["Broncos"],
        "positive_ctxs": [{"title": "Bowl", "text": "The Broncos won.", "score": 12.5, "passage_id": "17"}],
        "negative_ctxs": [],
        "hard_negative_ctxs": [{"title": "Bowl", "text": "The Panthers lost.", "score": 11, "passage_id": 18}],
    },
    {
        "id": "other",
        "question": "when?",
        "answers": [],
        "positive_ctxs": [{"title": "", "text": "It was in 2016."}],
    },
]

MSMARCO_ROWS = [
    {
        "answers": ["Blue."],
        "passages": [
            {"is_selected": 1, "passage_text": "The sky is blue.", "url": "http://a.example/sky"},
            {"is_selected": 0, "passage_text": "The sea is blue too.", "url": "http://a.example/sea"},
        ],
        "query": "what colour is the sky",
        "query_id": 11,
        "query_type": "DESCRIPTION",
        "wellFormedAnswers": "[]",
    },
    {
        "answers": ["No Answer Present."],
        "passages": [{"is_selected": 0, "passage_text": "The sky is blue.", "url": "http://b.example/copy"}],
        "query": "what colour is a mirror",
        "query_id": 12,
        "query_type": "DESCRIPTION",
        "wellFormedAnswers": "[]",
    },
]

MSMARCO_COLUMNS = {
    name: {str(number): row[name] for number, row in enumerate(MSMARCO_ROWS)} for name in MSMARCO_ROWS[0]
}

PASSAGES = 'id\ttext\ttitle\n1\tPlain text.\tPlain\n2\t"With ""quotes"", a\ttab and\nanother line."\t"Quo""ted"\n'
QUERY_TABLE = "qid\tquery\nq1\twhat is hot?\nq2\twhat is cold?\n"
RUN = "q1 Q0 d1 1 12.5 tag\nq1 Q0 d2 2 3 tag\nq2 Q0 d2 1 -0.5 tag\n"
QRELS = "q1 0 d1 1\nq1 0 d2 0\nq2 0 d2 2\n"
BEIR_QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t2\n"
HTML = (
    "<!doctype html><html><head><title>Tea &amp; ice</title><style>p{}</style></head>"
    "<body><h1>On tea</h1><p>Tea is <b>hot</b>.<br>Very.<script>x='<p>'</script><ul><li>one<li>two</ul></body></html>"
)
MARKDOWN = "Intro\n\n# On *tea* #\n\nTea is hot.\n"


def lines(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
