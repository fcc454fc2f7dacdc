"""The UniGen paper's Tables 1 to 3 as they stand there, in per cent; parameters and marks are left out."""

from __future__ import annotations

from retgen.recipes import load_recipe

# R@1, R@5, R@10, MRR@10 on MS MARCO, then on NQ.
TABLE_1 = """\
BM25	25.70	53.28	65.85	37.79	45.36	72.86	81.72	57.18
DocT5Query	31.14	60.04	68.29	42.93	49.43	76.25	84.10	60.81
DPR	36.96	70.92	80.18	50.69	60.25	82.60	86.97	69.90
ANCE	37.70	72.34	81.52	51.70	61.45	84.25	88.71	71.30
DSI-Semantic	28.84	46.22	52.94	36.60	46.70	66.34	70.79	54.73
DSI-QG	35.41	68.38	73.34	46.48	59.52	78.35	81.93	67.94
NCI	37.89	72.23	77.39	49.41	63.00	84.61	88.90	71.77
Ultron-PQ	37.38	72.07	78.09	51.47	63.54	85.01	86.34	72.68
UniGen-Base	38.75	72.69	79.07	52.64	63.71	86.39	88.74	72.81
UniGen-Iter	42.34	75.99	81.85	56.38	64.92	88.15	90.01	74.61"""
# BLEU-1 and ROUGE-L on MS MARCO, EM and F1 on NQ.
TABLE_2 = """\
T5	14.49	18.74	30.22	38.40
BART	14.83	19.26	29.76	37.34
GPT-3.5	16.67	19.41	28.03	36.59
LLaMA2	16.08	18.61	25.27	33.56
RAG	17.32	21.83	53.32	62.86
DPR + FiD	18.97	23.15	54.47	63.53
DSI + FiD	15.64	19.79	43.58	52.08
Ultron + FiD	17.21	21.96	55.75	65.05
UniGen-Base	17.02	21.90	44.06	53.39
UniGen-Iter	24.46	30.31	57.83	67.24"""
# R@1, R@10, BLEU-1, ROUGE-L on MS MARCO.
TABLE_3 = """\
UniGen-Base	38.75	79.07	17.02	21.90
UniGen-Base w/o shared encoder	37.89	78.69	16.49	21.30
UniGen-Base w/o Q-Connector	36.14	77.58	12.32	15.98
UniGen-Base w/o D-Connector	37.44	78.25	15.06	18.74
UniGen-Iter	42.34	81.85	24.46	30.31
UniGen-Iter w/o shared encoder	41.76	81.29	23.72	29.71
UniGen-Iter w/o Q-Connector	37.43	78.66	21.21	26.39
UniGen-Iter w/o D-Connector	41.28	81.59	22.35	27.54"""


def lines(table: str) -> dict[str, list[float]]:
    """Label → numbers."""
    rows = (line.split("\t") for line in table.splitlines())
    return {label: [float(value) for value in values] for label, *values in rows}


def published(name: str) -> dict[str, dict[str, float]]:
    """Label → column → per cent, of all rows of a recipe that have published numbers."""
    found = {}
    for row in load_recipe(name).rows.values():
        if row.published:
            numbers = {key: value for key, value in row.published.items() if key != "parameters"}
            found[row.label] = {key: round(100 * float(value), 2) for key, value in numbers.items()}
    return found
