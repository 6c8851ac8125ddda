"""Base64 and data URIs in every spelling that libraries and shells write."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_edge.runtime.errors import ImageTooLarge, UndecodableImage
from siglip_edge.server.inputs.base64_images import from_base64, from_data_uri
from siglip_edge.server.inputs.image_bytes import ImageLimits

LIMITS = ImageLimits(max_bytes=1 << 16)


@given(st.binary(min_size=1, max_size=300))
def test_both_alphabets_with_and_without_padding_and_line_ends(data):
    """Standard or URL-safe, padded or not, in lines of 76 or 64 that end with any line end or with a blank."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        digits = encode(data).decode()
        for text in (digits, digits.rstrip("="), digits + "\n"):
            assert from_base64(text, LIMITS) == data
        for width in (76, 64, 4):
            for end in ("\n", "\r\n", " ", "\n  "):
                assert (
                    from_base64(end.join(digits[i : i + width] for i in range(0, len(digits), width)), LIMITS) == data
                )


@given(st.binary(min_size=1, max_size=300))
def test_data_uris_of_any_media_type(data):
    """The header does not matter; a payload without base64 is percent-encoded, and base64 may be so too."""
    digits = base64.b64encode(data).decode()
    for header in (
        "data:image/png;base64,",
        "data:;base64,",
        "data:text/plain;charset=utf-8;base64,",
        "DATA:x/y;BASE64, ",
    ):
        assert from_data_uri(header + digits, LIMITS) == data
    assert from_data_uri("data:image/png;base64," + quote(digits, safe=""), LIMITS) == data
    assert from_data_uri("data:image/png," + quote(data), LIMITS) == data


@pytest.mark.parametrize(
    "text", ["!!!!", "AAAAA", "AAAA=AAAA", "AA==AA==", "猫", "AAAA AAA AAAA", "AA AA", "A", "dat\0"]
)
def test_other_strings_are_refused(text):
    """A wrong character, a wrong length, padding inside."""
    with pytest.raises(UndecodableImage):
        from_base64(text, LIMITS)


def test_a_plus_that_became_a_blank_is_told():
    """A form or a URL turns + into a blank; the sentence says so, and no other picture is decoded."""
    digits = "AAAAAA+AAAAAAAA+AAAAAAAA"
    with pytest.raises(UndecodableImage, match="blanks inside"):
        from_base64(digits.replace("+", " "), LIMITS)


@pytest.mark.parametrize("header", ["data:image/svg+xml;base64,", "data:image/svg+xml,", "data:image/svg+xml;utf8,"])
def test_svg_is_refused_in_words(header):
    """SVG is no picture of pixels."""
    with pytest.raises(UndecodableImage, match="SVG is not read: send the picture as PNG"):
        from_data_uri(header + "PHN2Zz48L3N2Zz4=", LIMITS)


def test_bytes_are_limited():
    """Before base64 is decoded, and for percent-encoded bytes."""
    for uri in ("data:;base64," + "A" * 200_000, "data:image/png," + "A" * 70_000):
        with pytest.raises(ImageTooLarge):
            from_data_uri(uri, LIMITS)
