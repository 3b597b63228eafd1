import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_ops.core.errors import UnwritableLanguage
from ocr_ops.core.languages import languages, require_writable, writable

ROOT = Path(__file__).resolve().parents[2]
TAGS = st.sampled_from(sorted(languages()))


@pytest.fixture(scope="module")
def shipped() -> str:
    """What the shipped recogniser writes."""
    spec = tomllib.loads((ROOT / "models" / "recognition-small" / "model.toml").read_text(encoding="utf-8"))
    charset: str = spec["charset"]
    return charset


@given(TAGS)
def test_a_language_is_written_with_its_letters_and_not_without_one(tag: str) -> None:
    letters = languages()[tag].letters
    assert tag in writable(letters + "0123456789")
    require_writable(tag, letters)
    with pytest.raises(UnwritableLanguage, match=f"lacks {letters[-1]}"):
        require_writable(tag, letters[:-1])


def test_the_shipped_recogniser_writes_the_languages_it_was_trained_for(shipped: str) -> None:
    able = writable(shipped)
    assert {"cs", "da", "de", "en", "es", "fi", "fr", "hu", "it", "nl", "pl", "pt", "ro", "sv", "tr"} <= set(able)
    assert {"el", "ru", "ja", "zh", "ar", "vi"}.isdisjoint(able)


@pytest.mark.parametrize("tag", ["de", "de-AT", "de-Latn-CH", "fr-CA", "nb-NO", "en-x-custom"])
def test_regions_are_of_their_language(shipped: str, tag: str) -> None:
    require_writable(tag, shipped)


def test_scripts_are_told_apart() -> None:
    """Serbian is written in two; whatever the case of the tag."""
    latin = languages()["sr-Latn"].letters
    require_writable("sr-latn-RS", latin)
    with pytest.raises(UnwritableLanguage, match="lacks"):
        require_writable("sr", latin)


def test_a_refusal_names_what_can_be_written(shipped: str) -> None:
    with pytest.raises(UnwritableLanguage, match="cannot be written") as refused:
        require_writable("el", shipped)
    assert "af, br, ca" in refused.value.expected
    with pytest.raises(UnwritableLanguage, match="not a known language") as refused:
        require_writable("qq", "abc ")
    assert refused.value.expected == "one of: none"


def test_no_capital_is_asked_for_that_is_never_printed() -> None:
    assert "Ÿ" not in languages()["fr"].letters
    assert "ẞ" not in languages()["de"].letters
    assert "Ა" not in languages()["ka"].letters
    assert {"É", "é"} <= set(languages()["fr"].letters)
