"""Signs of a Word document that are given by their place in a font of signs, as characters."""

_SYMBOL = dict(
    enumerate(
        " !∀#∃%&∋()∗+,−./0123456789:;<=>?"  # noqa: RUF001
        "≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_"
        "‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼",  # noqa: RUF001
        0x20,
    )
) | dict(
    enumerate(
        "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓"  # noqa: RUF001
        "°±″≥×∝∂•÷≠≡≈…│─↵"  # noqa: RUF001
        "ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉"  # noqa: RUF001
        "∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓"  # noqa: RUF001
        "◊⟨®©™∑⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪"
        "•⟩∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭",
        0xA0,
    )
)
"""Adobe's Symbol encoding."""
_WINGDINGS = {
    0x28: "☎", 0x2A: "✉", 0x46: "☞", 0x4A: "☺", 0x4C: "☹", 0x6C: "●", 0x6D: "❍", 0x6E: "■", 0x6F: "☐", 0x71: "❑",
    0x72: "❒", 0x74: "⧫", 0x75: "◆", 0x76: "❖", 0x77: "⬥", 0x78: "☒", 0xA1: "○", 0xA4: "◉", 0xA7: "▪", 0xA8: "☐",
    0xD8: "➢", 0xDF: "←", 0xE0: "→", 0xE1: "↑", 0xE2: "↓", 0xE8: "➔", 0xF0: "⇨", 0xFB: "✗", 0xFC: "✓", 0xFD: "☒",
    0xFE: "☑",
}  # fmt: skip
_WINGDINGS_2 = {0x4F: "✗", 0x50: "✓", 0x51: "☒", 0x52: "☑", 0x53: "☒", 0x54: "☒", 0x97: "●", 0xA2: "■", 0xA3: "☐"}
_FONTS: dict[str, dict[int, str]] = {
    "symbol": _SYMBOL,
    "wingdings": _WINGDINGS,
    "wingdings 2": _WINGDINGS_2,
    "wingdings 3": {},
    "webdings": {0x61: "✓"},
}


def signs(font: str, text: str) -> str:
    """Text as its font draws it: of a font of signs, each letter is the sign in its place."""
    if font.lower() not in _FONTS:
        return text
    return "".join(
        sign(font, f"{ord(char):x}") if char > " " and (ord(char) < 0x100 or 0xF000 <= ord(char) < 0xF100) else char
        for char in text
    )


def sign(font: str, code: str) -> str:
    """The character that a font of signs draws for a code, in hexadecimal; a bullet for want of a better one."""
    try:
        place = int(code, 16)
    except ValueError:
        return "•"
    signs = _FONTS.get(font.lower())
    if signs is not None:
        # Fonts of signs have their characters among those of private use as well.
        return signs.get(place - 0xF000 if place >= 0xF000 else place, "•")
    return chr(place) if 0x20 <= place < 0xD800 and chr(place).isprintable() else "•"
