import pytest
from pydantic import ValidationError

from ocr_ops.core.options import ReadOptions, page_spans


@pytest.mark.parametrize("pages", ["", "0", "3-1", "1-", "-2", "1,,2", "1-2-3", "a", "1 2", "100000", "٣", "1,"])
def test_pages_that_are_no_ranges_are_refused(pages: str) -> None:
    """Counted from 1, upwards, in ASCII digits."""
    with pytest.raises(ValidationError):
        ReadOptions(pages=pages)


def test_pages_are_wanted_by_their_ranges() -> None:
    """None wants them all."""
    some = ReadOptions(pages="1-3,8")
    assert page_spans("1-3,8") == ((1, 3), (8, 8))
    assert [page for page in range(1, 11) if some.wants(page)] == [1, 2, 3, 8]
    assert ReadOptions().wants(99)


@pytest.mark.parametrize("language", ["english", "EN", "e", "en_GB", "en-"])
def test_a_language_is_a_tag(language: str) -> None:
    """As BCP 47 writes it."""
    with pytest.raises(ValidationError):
        ReadOptions(language=language)


def test_equal_options_have_one_digest() -> None:
    """However they were given."""
    assert ReadOptions().digest == ReadOptions(orientation=True).digest != ReadOptions(deskew=False).digest
