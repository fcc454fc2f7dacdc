"""English past tense to base form, and auxiliaries: enough to turn a statement into a question."""

from __future__ import annotations

import re

AUXILIARIES = frozenset("is are was were am has have had can could will would may might must shall should".split())

_IRREGULAR = dict(
    pair.split("/")
    for pair in """became/become began/begin bought/buy broke/break brought/bring built/build came/come caught/catch
    chose/choose drew/draw drove/drive ate/eat fell/fall felt/feel fought/fight found/find flew/fly gave/give went/go
    grew/grow held/hold kept/keep knew/know led/lead left/leave lost/lose made/make met/meet paid/pay ran/run
    rose/rise said/say saw/see sent/send sold/sell sought/seek spent/spend spoke/speak stood/stand took/take
    taught/teach thought/think threw/throw told/tell understood/understand underwent/undergo won/win wrote/write
    wore/wear withdrew/withdraw lay/lie lent/lend meant/mean rode/ride sang/sing sank/sink shot/shoot struck/strike
    swam/swim swore/swear woke/wake overthrew/overthrow undertook/undertake created/create required/require
    acquired/acquire inquired/inquire scored/score explored/explore restored/restore ignored/ignore
    ruled/rule scheduled/schedule died/die tied/tie lied/lie controlled/control""".split()
)
_DROPPED_E = re.compile(
    r"(?:[vcuze]|[^s]s|[^nN]g|[aeiou]ng(?<=[ae]ng)|[bcdfgkptz]l"  # moved, used, changed, settled, agreed
    r"|[^aeiou](?:at|in|ir|ur|ar|am|ad|id|ud|od|ak|ik|ok|ap|ut|ot))$"  # located, defined, invaded, compared
)
_NOT_VERBS = frozenset("united red hundred sacred indeed need seed speed feed breed bed kindred".split())


def base_form(past: str) -> str | None:
    """The base form of a past-tense verb by its spelling; None for a word that does not look like one.

    Example:
        >>> [base_form(word) for word in ("discovered", "moved", "studied", "stopped", "wrote", "river")]
        ['discover', 'move', 'study', 'stop', 'write', None]
    """
    word = past.lower()
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _NOT_VERBS or not re.fullmatch(r"[a-z]{2,}ed", word):
        return None
    stem = word[:-2]
    if stem.endswith("i"):
        return stem[:-1] + "y"
    if re.search(r"([bdgmnprt])\1$", stem) and stem not in ("add", "err"):
        return stem[:-1]
    if _DROPPED_E.search(stem):
        return stem + "e"
    return stem
