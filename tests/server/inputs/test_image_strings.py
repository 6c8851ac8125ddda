"""Plain strings: which are texts, and which are meant as images."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from siglip_edge.server.inputs.image_strings import Kind, cleaned, kind_of
from tests.server.conftest import data_uri, png

TEXTS = [
    # words and sentences, with file names in the middle or of other files
    *("a cat", "pizza", "BMW", "BM", "GIF89a is a format, said the text", "RIFF", "JFIF", "PNG", "image", "base64"),
    *("a cat.jpg on the table", "see report.pdf", "report.pdf", "main.py", "archive.tar.gz", "open cat.jpg, then close it"),
    *("Is it cat.jpg?", "the extension .jpg", ".jpg", "e.g. .gif", "What is a JPEG?", "Save as *.txt", "node.js", "e.g.", "x.gifs"),
    *("The picture is img.jpg.", "cat.jpg!", "I like jpg", "vitamin.b12", "v1.2.3", "3.14", "foo.jp", "x.aijpg5"),
    *('{"type": "text", "text": "my image"}', '{"image"}', "{}", "[]", '["image"]', "[" * 5000 + "]" * 5000, '{"a\\ud800": 1}'),
    # slashes and colons
    *("/r/aww", "AC/DC", "and/or", "24/7", "he/she", "/", "//", "/s", "w/o", "1/2", "km/h", "/imagine a cat", "a/b/c/d"),
    *("/home is where the heart is", "/etc", "/data is here", "C:/", ":-/", "\\o/", "~/", "~", "a\\b", "\\", "C:\\ is full"),
    *("www.example.com is great", "www.example.com", "example.com/about", "http", "https:", "http is a protocol", "me@example.com"),
    *("file: report", "file:line", "File: the report", "note: buy milk", "mailto:me@example.com", "s3:// is a scheme", "content: text"),
    # data
    *("data: 5 apples", "data: 5 apples, 3 pears", "data:", "data", "Data, data, data", "data:5,3", "data: and/or, maybe", "data-driven, really"),
    *("data: we use base64, hex", "dataset: a,b", "base64, the encoding", "base64: aGVsbG8gd29ybGQ="),
    # other languages, markup, code
    *("一只猫坐在沙发上", "猫.jpg 在桌子上", "кошка на столе", "قطة على الطاولة", "🐈", "¿Qué es esto?", "日本語のテキスト。", "Übergrößenträger"),
    *('{"text": "a cat"}', '["a.jpg", "b.jpg"]', "<p>a cat</p>", "<b>", "<img src='cat.jpg'>", "![cat](cat.jpg)", "# Title\n\nText about a cat.jpg"),
    *("a cat\nand a dog.jpg", "line one\nline two\nphoto.png", "SELECT * FROM t", "def f(x):\n    return x", "a,b\n1,2", "b'hello'", '"quoted"', "'a'", '""'),
    # words that look like base64 or hexadecimal digits
    *("x" * 100, "A" * 500, "Donaudampfschifffahrtsgesellschaftskapitaen" * 5, "d41d8cd98f00b204e9800998ecf8427e", "deadbeef" * 20),
    *(base64.b64encode(b"a text that is long enough to be seen as base64, with more words").decode(), "aGVsbG8gd29ybGQ="),
    *("Qk1X is a code of a product line", "Qk1X" * 20, "SUkq", "TU0A", "AAAA", "AAAAAAAAAAAAAAAA", "R0lGODl", "iVBORw0K", "UklGRg", "/9j"),
    # blanks
    *(" ", "\n", "\ufeff", "", "\t a cat \n", "a" * 5000 + ".jpg", "0"),
    # links and markup
    *("see https://example.com/cat.jpg", "![cat](https://example.com/cat.jpg?raw=1)", ".. image:: https://example.com/badge.svg"),
    *("[![CI](https://example.com/badge.svg?event=push)](https://example.com)", "<img src='cat.jpg?x=1'>", "a cat.jpg?w=3"),
    # names longer than a file system takes are sentences
    "It was a long day, and " + "we walked and walked and walked, " * 9 + "until I took a picture called cat.jpg",
    json.dumps({"image": "cat.jpg", "caption": "a cat"}),
]  # fmt: skip

PNG, JPEG = png(), png(format="JPEG", size=(40, 40))
B64 = base64.b64encode(PNG).decode()
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def bare(data: bytes) -> str:
    return base64.b64encode(data).decode()


def brand(name: bytes) -> str:
    return bare(b"\0\0\0\x1cftyp" + name + b"\0\0\0\0mif1" + name + bytes(100))


IMAGES = {
    Kind.DATA_URI: [
        *(f"data:{kind};base64,{B64}" for kind in ("image/png", "IMAGE/PNG", "application/octet-stream", "text/plain", "image/svg+xml")),
        *(f"data:;base64,{B64}", f"data:base64,{B64}", f"DATA:image/png;charset=utf-8;name=a.png;base64,{B64}", f"data:image/png;base64, {B64}"),
        *(f"data: image/png; base64, {B64}", f"data:img/png;base64,{B64}", "data:image/png,%89PNG%0D%0A", "data:,hello", "data:image/png"),
        *(f" {data_uri(PNG)}", f"\n{data_uri(PNG)}\n", f"\ufeff{data_uri(PNG)}", f"\u200b\xa0{data_uri(PNG)}\0", f'"{data_uri(PNG)}"', f"<{data_uri(PNG)}>"),
        *("data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>", "data:application/pdf;base64,JVBERi0=", "data:text/plain,hello"),
    ],
    Kind.URL: [
        *("http://a.example/b", "https://a.example/cat.jpg", "HTTPS://A.EXAMPLE/", " https://a.example/cat.jpg\n", "\ufeffhttps://a.example/c"),
        *("https://a.example/my cat.jpg", "https://a.example/\ncat.jpg", "https://a.example/?q=a b", "<https://a.example/c.png>", "'http://a.example'"),
        *("ftp://a.example/b", "s3://bucket/key", "gs://bucket/key", "blob:https://a.example/1", "smb://nas/photos/1", "content://media/1"),
    ],
    Kind.BASE64: [
        *(B64, f" {B64}\n", f"\ufeff{B64}", B64.rstrip("="), base64.urlsafe_b64encode(JPEG).decode(), bare(JPEG), base64.encodebytes(PNG).decode()),
        *(f"\n{bare(JPEG)}", "/9j/4AAQ...", "/9j/", "_9j_4AAQSkZJRg", "iVBORw0KGgo", "iVBORw0KGgo…", f"image/png;base64,{B64}", f"base64,{B64}", f"base64:{B64}"),
        *(f"b'{B64}'", f'"{B64}"', "\n".join(B64[i : i + 4] for i in range(0, len(B64), 4))),
        *map(bare, (png(format=kind) for kind in ("JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"))),
        *map(brand, (b"mif1", b"mif2", b"miaf", b"msf1", b"heic", b"heix", b"heim", b"hevc", b"hevx", b"avif", b"avis", b"crx ")),
        *map(bare, (HEIC, b"II+\0\x08\0\0\0" + bytes(60), b"MM\0+\0\x08\0\0" + bytes(60), b"MM\0*" + bytes(60), b"8BPS\0\1" + bytes(60))),
        *map(bare, (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60), b"<svg xmlns='http://www.w3.org/2000/svg'>")),
    ],
    Kind.PATH: [
        *("cat.jpg", "2024/trip/IMG_2.JPG", "./cat.png", "../cat.webp", "photos/cat.heic", "IMG 2.JPG", "my cat.jpeg", "a/b c/d.tiff", "cat.avif"),
        *("WhatsApp Image 2024-05-01 at 10.11.12.jpeg", "Screenshot from 2024-01-01 10-00-00.png", "Kopie von Foto (3).jpg", "猫.jpg", "фото/кот.png"),
        *("/data/photos/cat.jpg", "/home/me/cat.jpg", "/cat.png", "/mnt/nas/1234", "/volume1/photo/a", "/volumeUSB1/a", "/photos/IMG_1", "/Users/me/x", "~/cat.gif", "~/photos/1"),
        *("file:///data/cat.jpg", "file:/data/cat.jpg", "file://localhost/data/cat", "FILE:///C:/cat", "file:cat.jpg", "file:///data/my%20cat.jpg"),
        *("my%20cat.jpg", "cat%2Ejpg", "photos%2Fcat.jpg", "C:\\Users\\me\\cat.jpg", "C:\\Users\\me\\cat", "D:/photos/1", "photos\\cat.jpg", "\\\\nas\\photos\\1"),
        *(" cat.jpg", "cat.jpg\n", '"C:\\Users\\me\\my cat.jpg"', "'photos/cat.jpg'", "\ufeffcat.jpg", "www.example.com/cat.jpg", "cdn.example/a.jpg?w=300"),
        *("ssh://nas/photos/cat.jpg", "//cdn.example/a.png#x", "photos/*.jpg", "a.jxl", "drawing.svg", "favicon.ico", "IMG.CR3", "IMG_1.DNG", "scan.TIF", "x.jp2", "File:Cat.jpg"),
    ],
    Kind.UNREADABLE: [
        *("\x89PNG\r\n\x1a\n\0\0\0", "\ufffdPNG\r\n\x1a\n", "ÿØÿà\0\x10JFIF", "\ufffd\ufffd\ufffd\ufffd\0\x10JFIF", "GIF89a\x01\0\x01\0", "RIFF\x1a\0\0\0WEBPVP8 "),
        *(str(PNG), str(JPEG), PNG.decode("latin-1"), JPEG.decode("latin-1"), PNG.decode(errors="replace"), JPEG.decode(errors="replace")),
        *('{"image": "x/y.jpg"}', '[{"image_url": {"url": "https://a/b.png"}}]', '{"type": "image_url", "image_url": "nas"}'),
        *('{"text": "a cat", "image": "cat.jpg"}', ' [\n{"type": "image", "image_base64": "x"}, {"text": "a"}]\n'),
        *(PNG.hex(), JPEG.hex(), "0x" + PNG.hex().upper(), "<svg xmlns='http://www.w3.org/2000/svg'><path/></svg>", "<?xml version='1.0'?>\n<svg>\n</svg>\n"),
        *(f"a cat {data_uri(PNG)}", f"![cat]({data_uri(PNG)})", f'{{"image": "{data_uri(PNG)}"}}', f'<img src="{data_uri(PNG)}">', f"url({data_uri(PNG)})"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_a_text(text):
    """What people write, search for or store is no image."""
    assert kind_of(text) is Kind.TEXT


@pytest.mark.parametrize(("kind", "source"), [(kind, source) for kind, sources in IMAGES.items() for source in sources])
def test_what_is_meant_as_an_image_is_no_text(kind, source):
    """A data URI, URL, base64 or path in every spelling, and an image in a form that nothing reads."""
    assert kind_of(source) is kind


def test_what_stands_around_an_image_is_taken_away():
    """Blanks, byte order marks, quotation marks, and Python's b'' around base64."""
    for around in (" {}\n", "\ufeff{}", '"{}"', " '{}' ", "<{}>", "b'{}'", "{}\0", "\xa0{}\u200b"):
        assert cleaned(around.format(B64)) == B64
    assert cleaned("'it's a cat'") == "'it's a cat'"


@given(st.text())
@example("data:" * 1000)
@example("/" * 5000)
@example("data:" + ";base64" * 200)
def test_every_string_is_judged(text):
    """No string makes the judgement fail, and blanks around a string do not change it."""
    assert kind_of(f" {text}\n") is kind_of(text)
