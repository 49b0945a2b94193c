"""Split paragraphs into sentences."""

import re

FULL_STOPS = "。！？｡؟۔।॥።։။។"
"""Marks that always end a sentence: Chinese, Japanese, Arabic, Urdu, Hindi and others."""
STOP = re.compile(
    rf"[{FULL_STOPS}][{FULL_STOPS}.!?…]*[”’»)\]}}」』】）》〉]*"
    r"""|[.!?…]+["'”’»›)\]}」』】）》〉“‘]*(?=\s|$)"""
    r"""|(?<=[\u0370-\u03ff\u1f00-\u1fff])[;\u037e]["'”’»)\]]*(?=\s|$)"""  # Greek questions
    r"|[!?]+[”’」』】）》〉]*(?=[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])"
)
"""Possible end of a sentence, with closing quotes and brackets."""
OPENING = re.compile(r"""\s*(?:[—–]\s*)?["'“‘’«‹„‚¿¡(\[{「『（【《〈]*""")
"""Marks that may precede the first letter of a sentence."""
ENDED = re.compile(rf"""[{FULL_STOPS}.!?…]["'”’»›)\]}}」』】）》〉“‘]*\s*$""")
"""End of a line that is the end of a sentence."""
ABBREVIATIONS = frozenset(
    re.findall(
        r"\w+",
        "Mr Mrs Ms Dr St Prof Capt Col Gen Rev Mme Mlle Messrs vs Lt Sgt Maj Hon Gov Sen Rep Mt Ft "
        "Fig Figs Eq Eqs al cf approx Sr Sra Srta Dra Ud Uds Sig Dott Hr Fr Nr Str bzw vgl ca Bd "
        "Abb Kap inkl evtl ggf sog Ing Dipl EE ул им см проф акад стр рис гг",
    )
)
"""Abbreviations whose period does not end a sentence."""
BEFORE_NUMBERS = frozenset(
    re.findall(
        r"\w+",
        "No Nos pp vol Vol ch Ch sec Sec art Art Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec "
        "pág núm",
    )
)
"""Abbreviations whose period does not end a sentence before a number."""
MONTH = re.compile(
    r"\s*(?:Jan|Feb|März|Apr|Mai|Jun|Jul|Aug|Sept|Okt|Nov|Dez|Jahrh|Jh)", re.IGNORECASE
)
"""Months after a number and a period, as in German dates."""
UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff"
    r"\uf900-\ufaff\uff66-\uff9f"
)
"""Letters of Thai, Lao, Burmese, Khmer, Japanese and Chinese, which has no spaces between words."""
LAST = re.compile(r"(^|[^\w])(\w+)\.$")
"""The word before a period, and the character before that word."""


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph, in any script.

    A sentence ends at a full-width or otherwise unambiguous mark, and at . ! ? … before a space and
    a capital, a number, or a letter of a script without capitals; closing quotes and brackets
    belong to it. The period of an abbreviation or initial does not end a sentence.
    """
    parts: list[str] = []
    start = 0
    for stop in STOP.finditer(paragraph):
        end = stop.end()
        if stop[0][0] in FULL_STOPS:
            quoted = paragraph.count('"', start, end) % 2
            end += bool(quoted and paragraph.startswith('"', end))
        elif not _begins(paragraph, end) or _abbreviated(paragraph, start, end):
            continue
        parts.append(paragraph[start:end].strip())
        start = end
    parts.append(paragraph[start:].strip())
    return [sentence for sentence in parts if sentence]


def _begins(text: str, at: int) -> bool:
    """Whether a sentence may begin there: with a capital, a number, or a letter without case."""
    opening = OPENING.match(text, at)
    first = text[opening.end() : opening.end() + 1] if opening else ""
    small = first.lower() != first.upper() and not (first.isupper() or first.istitle())
    georgian = "\u10d0" <= first <= "\u10ff"  # has capitals, but in headings only
    if not first:
        return not text[at:].strip()  # a remaining quote does not begin a sentence
    return first.isnumeric() or (first.isalpha() and (georgian or not small))


def _abbreviated(text: str, start: int, end: int) -> bool:
    """Whether the period before `end` is that of an abbreviation, an initial, or a date."""
    last = LAST.search(text, max(start, end - 20), end)
    if not last:
        return False
    before, word = last.groups()
    after = text[end : end + 8].lstrip()[:2]
    number = after[:1].isdigit()
    if word.isdigit():
        return len(word) <= 2 and MONTH.match(text, end) is not None
    if len(word) > 1:
        return word in ABBREVIATIONS or (number and word in BEFORE_NUMBERS)
    if word.lower() == word.upper() or before in ("'", "’"):
        return False  # a script without capitals; the end of don't
    pair = before == "." or (after[1:] == "." and after[0].isalpha())  # e.g., z. B.
    cyrillic = "а" <= word <= "я" and not text[start : last.start(2)].rstrip()[-1:].isdigit()
    return word.isupper() or number or pair or cyrillic
