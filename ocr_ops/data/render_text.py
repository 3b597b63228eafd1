"""What the synthetic renderer writes: words in real case patterns, grammars of documents, and noise."""

from functools import cache
from importlib import resources

import numpy as np

Rng = np.random.Generator

CHARSET = (
    "".join(chr(code) for code in range(0x20, 0x7F))
    + "àáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿßœąćęłńśźżčďěňřšťůžőűășțğış"
    + "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞŒĄĆĘŁŃŚŹŻČĎĚŇŘŠŤŮŽŐŰĂȘȚĞİŞ"
    + "€£¥¢§°·–—‘’“”„•…©®™«»¿¡±×÷²³½¼¾µªº"  # noqa: RUF001
)
"""Characters of the shipped recogniser, in class order 1..N (0 is the CTC blank)."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
CURRENCY = ("$", "€", "£", "RM", "RM ", "USD ", "EUR ", "¥", "S$", "CHF ", "kr ", "")
FOREIGN = (
    "german",
    "french",
    "spanish",
    "portuguese",
    "italian",
    "nordic",
    "polish",
    "czech",
    "romanian-hungarian-turkish",
)


@cache
def word_lists() -> dict[str, tuple[str, ...]]:
    """The shipped word lists by theme."""
    lists: dict[str, tuple[str, ...]] = {}
    theme = ""
    text = resources.files("ocr_ops.data").joinpath("render_words.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("["):
            theme = line.strip("[]")
        elif line and not line.startswith("#"):
            lists[theme] = (*lists.get(theme, ()), *line.split())
    return lists


def pick(rng: Rng, options: tuple[str, ...] | str) -> str:
    return options[int(rng.integers(len(options)))]


def digits(rng: Rng, low: int, high: int) -> str:
    """A run of `low` to `high` digits."""
    size = low if low == high else int(rng.integers(low, high + 1))
    return str(rng.integers(10**size)).zfill(size)


def case(rng: Rng, word: str) -> str:
    """One of the case patterns of real documents: as is, Capital, ALL CAPS."""
    draw = rng.random()
    if draw < 0.34:
        return word
    if draw < 0.64:
        return word[:1].upper() + word[1:]
    return word.upper().replace("SS", "ß") if "ß" in word else word.upper()


def word(rng: Rng) -> str:
    """A listed word, a foreign one, or a pronounceable invention, so that no word is learned by heart."""
    lists = word_lists()
    draw = rng.random()
    if draw < 0.42:
        return pick(rng, lists["english"])
    if draw < 0.60:
        return pick(rng, lists[pick(rng, ("receipt", "company", "place"))])
    if draw < 0.78:
        return pick(rng, lists[pick(rng, FOREIGN)])
    return invented(rng)


_ONSETS = (*"bcdfghjklmnp", "qu", *"rstvwxyz")
_CLUSTERS = (*"bl br ch cl cr dr fl gr kl ph pl pr sch sh sk st th tr".split(), "")  # noqa: SIM905
_VOWELS = (*"aeiou", "ai", "au", "ea", "ee", "ie", "oo", "ou", "y")
_CODAS = ("", "", "", *"l ll m n ng r rs s st t tt ck x z rt ff mp".split())  # noqa: SIM905


def invented(rng: Rng) -> str:
    """A word of two to four syllables that is in no dictionary."""
    return "".join(
        pick(rng, _ONSETS if rng.random() < 0.7 else _CLUSTERS) + pick(rng, _VOWELS) + pick(rng, _CODAS)
        for _ in range(int(rng.integers(2, 5)))
    )


_FRAMES = ("“{}”", "‘{}’", '"{}"', "'{}'", "«{}»", "„{}“", "• {}", "– {}", "* {} *", "¿{}?", "¡{}!", "[{}]")  # noqa: RUF001


def words(rng: Rng, low: int, high: int) -> str:
    """`low` to `high` words under one case pattern, sometimes punctuated."""
    style = rng.random()
    chosen = [word(rng) for _ in range(int(rng.integers(low, high + 1)))]
    if style < 0.35:
        chosen = [w.upper() for w in chosen]
    elif style < 0.60:
        chosen = [w[:1].upper() + w[1:] for w in chosen]
    elif style < 0.80:
        chosen = [case(rng, w) for w in chosen]
    text = " ".join(chosen)
    draw = rng.random()
    if draw < 0.12:
        return text + pick(rng, ",.:;!?")
    if draw < 0.16:
        return text + " :"
    if draw < 0.20:
        return f"({text})"
    if draw < 0.225:
        return pick(rng, _FRAMES).format(text)
    return text


def number(rng: Rng) -> str:  # noqa: PLR0911 (a grammar is a list of alternatives)
    """Counts, amounts, percentages; both decimal conventions."""
    draw = rng.random()
    if draw < 0.25:
        return digits(rng, 1, 3)
    whole, cents = str(int(10 ** rng.uniform(0, 4.2))), digits(rng, 2, 2)
    if draw < 0.60:
        return f"{whole}.{cents}"
    if draw < 0.66:
        return f"{whole},{cents}"
    if draw < 0.72:
        return f"{int(10 ** rng.uniform(3, 6.5)):,}.{cents}"
    if draw < 0.78:
        return f"{rng.integers(0, 100)}{pick(rng, ('%', ' %', '.00%', '.5%'))}"
    if draw < 0.84:
        return pick(rng, "-+") + f"{whole}.{cents}" if rng.random() < 0.6 else f"{whole}.{cents}-"
    if draw < 0.90:
        return f"{rng.integers(1, 20)} {pick(rng, 'xX@×')} {whole}.{cents}"  # noqa: RUF001
    if draw < 0.95:
        return f"{whole}.{digits(rng, 3, 3)}" + pick(rng, ("", " kg", "kg", " L", " g", "m²", "°C", " pcs", " cm³"))
    return f"{int(whole):,}".replace(",", " ") + f",{cents} €"


def price(rng: Rng) -> str:
    mark = pick(rng, CURRENCY)
    amount = f"{int(10 ** rng.uniform(0, 3.6))}.{digits(rng, 2, 2)}"
    return mark + amount if rng.random() < 0.8 else f"{amount} {mark.strip()}".strip()


def date(rng: Rng) -> str:
    day, month = int(rng.integers(1, 29)), int(rng.integers(1, 13))
    year = int(rng.integers(1970, 2032))
    name = MONTHS[month - 1]
    forms = (
        f"{day:02}/{month:02}/{year}",
        f"{day:02}-{month:02}-{year}",
        f"{day:02}.{month:02}.{year}",
        f"{year}-{month:02}-{day:02}",
        f"{day}/{month}/{year % 100:02}",
        f"{month}/{day}/{year}",
        f"{day} {name} {year}",
        f"{day} {name.upper()} {year}",
        f"{name} {day}, {year}",
        f"{day:02}-{name}-{year % 100:02}",
        f"{year}/{month:02}/{day:02}",
        f"{day:02}{name.upper()}{year % 100:02}",
    )
    text = pick(rng, forms)
    if rng.random() < 0.3:
        text += " " + clock(rng)
    return pick(rng, ("Date: ", "DATE : ", "Date ", "Inv. Date: ")) + text if rng.random() < 0.2 else text


def clock(rng: Rng) -> str:
    hour, minute, second = int(rng.integers(24)), int(rng.integers(60)), int(rng.integers(60))
    forms = (
        f"{hour:02}:{minute:02}",
        f"{hour:02}:{minute:02}:{second:02}",
        f"{hour % 12 or 12}:{minute:02} {'AM' if hour < 12 else 'PM'}",
        f"{hour % 12 or 12}:{minute:02}:{second:02}{'am' if hour < 12 else 'pm'}",
        f"{hour}h{minute:02}",
    )
    return pick(rng, forms)


def code(rng: Rng) -> str:
    """Invoice numbers, registrations, SKUs, IBANs: letters and digits without a language."""
    upper = "".join(pick(rng, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(int(rng.integers(1, 5))))
    forms = (
        digits(rng, 4, 14),
        f"{upper}{digits(rng, 3, 8)}",
        f"{upper}-{digits(rng, 3, 8)}",
        f"#{digits(rng, 3, 8)}",
        f"({digits(rng, 5, 7)}-{upper[0]})",
        f"{upper}{digits(rng, 2, 4)}/{digits(rng, 2, 4)}",
        f"No: {upper}{digits(rng, 4, 8)}",
        f"GST ID: {digits(rng, 12, 12)}",
        " ".join((upper[:2] + digits(rng, 2, 2), digits(rng, 4, 4), digits(rng, 4, 4), digits(rng, 4, 4))),
        f"{digits(rng, 3, 3)}-{digits(rng, 3, 3)}-{digits(rng, 3, 4)}",
        f"XXXX-XXXX-XXXX-{digits(rng, 4, 4)}",
        f"{upper}_{digits(rng, 2, 5)}",
        f"**** **** {digits(rng, 4, 4)}",
        f"{upper}.{digits(rng, 1, 3)}.{digits(rng, 1, 3)}",
        f"[{upper}{digits(rng, 1, 5)}]",
    )
    return pick(rng, forms)


def contact(rng: Rng) -> str:
    """Phones, e-mails, URLs."""
    name, host = plain(rng), plain(rng)
    domain = pick(rng, (".com", ".org", ".net", ".de", ".co.uk", ".com.my", ".fr", ".io", ".pl", ".es"))
    forms = (
        f"{name}@{host}{domain}",
        f"{name}.{host}@{plain(rng)}{domain}",
        f"www.{host}{domain}",
        f"https://{host}{domain}/{name}",
        f"http://www.{host}{domain}",
        f"Tel: {digits(rng, 2, 3)}-{digits(rng, 4, 4)} {digits(rng, 4, 4)}",
        f"TEL : {digits(rng, 2, 2)}-{digits(rng, 8, 8)}",
        f"+{digits(rng, 1, 3)} {digits(rng, 2, 3)} {digits(rng, 3, 4)} {digits(rng, 3, 4)}",
        f"({digits(rng, 3, 3)}) {digits(rng, 3, 3)}-{digits(rng, 4, 4)}",
        f"Fax: {digits(rng, 2, 3)}-{digits(rng, 7, 8)}",
        f"Email: {name}@{host}{domain}",
        f"H/P: 01{digits(rng, 1, 1)}-{digits(rng, 7, 8)}",
    )
    return pick(rng, forms)


def plain(rng: Rng) -> str:
    """A lower-case ASCII word for hosts and mail names."""
    text = pick(rng, word_lists()["english"]) if rng.random() < 0.6 else invented(rng)
    return text.lower() + (digits(rng, 1, 2) if rng.random() < 0.15 else "")


def address(rng: Rng) -> str:
    place = word_lists()["place"]
    first, second, third = (pick(rng, place).title() for _ in range(3))
    postcode = digits(rng, 5, 5)
    forms = (
        f"No. {digits(rng, 1, 3)}, Jalan {first} {digits(rng, 1, 2)}/{digits(rng, 1, 2)}",
        f"{digits(rng, 1, 4)}, {first} {second},",
        f"{postcode} {first} {second}",
        f"{postcode}, {first}, {second}",
        f"{first}straße {digits(rng, 1, 3)}",
        f"{digits(rng, 1, 3)} rue de la {first}",
        f"Lot {digits(rng, 1, 4)}, Level {digits(rng, 1, 1)}, {first}",
        f"{first} {second} {third}.",
        f"{digits(rng, 1, 3)}-{digits(rng, 1, 2)}, {first} {second}",
        f"{first}, {second} {postcode}",
    )
    text = pick(rng, forms)
    return text.upper() if rng.random() < 0.4 else text


def receipt(rng: Rng) -> str:
    """Two to four words of a till's vocabulary, often with a colon and a figure."""
    lists = word_lists()
    chosen = [pick(rng, lists["receipt"]) for _ in range(int(rng.integers(1, 5)))]
    style = rng.random()
    text = " ".join(chosen)
    text = text.upper() if style < 0.45 else text.title() if style < 0.8 else text.capitalize()
    draw = rng.random()
    if draw < 0.2:
        return f"{text}:" if draw < 0.12 else f"{text} :"
    if draw < 0.38:
        joint = pick(rng, (" ", ": ", " : ", " - ", " @ ", " = "))
        return text + joint + (number(rng) if rng.random() < 0.5 else price(rng))
    return text


def company(rng: Rng) -> str:
    lists = word_lists()
    head = [
        pick(rng, lists["company"]) if rng.random() < 0.5 else invented(rng) for _ in range(int(rng.integers(1, 3)))
    ]
    tails = (*lists["company"][:2], "SDN BHD", "SDN. BHD.", "GmbH", "Ltd", "Inc.", "ENTERPRISE", "S.A.")
    text = " ".join((*head, pick(rng, tails)))
    return text.upper() if rng.random() < 0.6 else text.title()


def noise(rng: Rng, charset: str) -> str:
    """Random strings: half over the whole charset (rare characters in balance), half over ASCII."""
    size = int(rng.integers(1, 14))
    pool = charset if rng.random() < 0.5 else "".join(char for char in charset if char < "\x7f")
    text = "".join(pick(rng, pool) for _ in range(size))
    return " ".join(text.split()) or pick(rng, "0123456789")


_PARTS = np.cumsum((0.2, 0.12, 0.11, 0.14, 0.1, 0.11, 0.16, 0.06))
KIND_SHARES = _PARTS / _PARTS[-1]
"""Up to which draw each kind of `line` comes, of those that follow a grammar."""


def line(rng: Rng, charset: str = CHARSET) -> str:
    """One text line, only of `charset`'s characters, neither empty nor space at an end, without double spaces."""
    kinds = (number, price, date, code, contact, address, receipt, company)
    draw = rng.random()
    if draw < 0.22:
        text = noise(rng, charset)
    elif draw < 0.50:
        text = words(rng, 1, 3)
    elif draw < 0.52:
        text = words(rng, 4, 7)
    elif draw < 0.57:
        text = pick(rng, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ:%-*x@$")
    else:
        text = kinds[int(KIND_SHARES.searchsorted(rng.random(), side="right"))](rng)
    return " ".join("".join([char for char in text if char in charset]).split()) or pick(rng, "0123456789")
