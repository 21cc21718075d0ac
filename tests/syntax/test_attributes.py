from __future__ import annotations

import pytest

from bridge.syntax.attributes import is_attribute_description


@pytest.mark.parametrize("text", ["mail", "cn;lang-de", "cn;lang-de;x-a", "2.5.4.3", "x-y", "a1"])
def test_is_attribute_description_takes_names_and_options(text: str) -> None:
    """Names, object identifiers and options of RFC 4512 §2.5 are taken."""
    assert is_attribute_description(text)


@pytest.mark.parametrize("text", ["", "1mail", "ma il", "mail;", "mäil", "2.05.4", "mail=", "mail\n", "-a", "{uid}"])
def test_is_attribute_description_refuses_the_rest(text: str) -> None:
    """What RFC 4512 §2.5 does not allow is refused."""
    assert not is_attribute_description(text)
