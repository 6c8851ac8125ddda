"""Pixels decide, metadata never: files with damaged or odd notes give the pixels of the same file without them."""

import struct
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from siglip_edge.runtime.errors import ImageTooLarge, InvalidInput, UndecodableImage, UnsupportedInput
from siglip_edge.runtime.images import decoding
from siglip_edge.runtime.images.containers.av1 import largest_picture
from siglip_edge.runtime.images.decoding import decode
from siglip_edge.runtime.images.pixels import to_rgb
from tests.picture_files import TURNED, chunk, grey_tiff, picture, saved, segment, tiff, with_chunk


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(to_rgb(decode(data))).astype(int)


PNG, JPEG, WEBP = (saved(picture(), kind) for kind in ("PNG", "JPEG", "WEBP"))
BOMB = zlib.compress(bytes(64 << 20))


@pytest.mark.parametrize(
    "odd",
    [
        chunk(b"tEXt", b"a\0b", crc=1),
        chunk(b"gAMA", b"\0"),
        chunk(b"cHRM", b"\0\0"),
        chunk(b"pHYs", b""),
        chunk(b"sRGB", b""),
        chunk(b"iCCP", b"no zlib stream"),
        chunk(b"iCCP", b"name\0\1" + zlib.compress(b"x")),
        chunk(b"zTXt", b"key\0\7" + b"?"),
        chunk(b"zTXt", b"key\0\0" + BOMB),
        chunk(b"iTXt", b"key\0\1\0\0\0" + BOMB),
        chunk(b"iCCP", b"name\0\0" + BOMB),
        chunk(b"tEXt", b"key\0" + b"x" * (2 << 20)),
        chunk(b"eXIf", b"garbage"),
        chunk(b"acTL", b"\0"),
        chunk(b"fcTL", b"\0" * 26),
        chunk(b"tRNS", b"\0", crc=5),
        chunk(b"tRNS", b"\0\1"),
        chunk(b"teST", b"private", crc=9),
    ],
    ids=lambda odd: f"{odd[4:8].decode()}-{len(odd)}",
)
def test_a_png_is_its_pixels_whatever_its_other_chunks_are(odd):
    """In memory that the chunk does not multiply."""
    expected = pixels(PNG)
    tracemalloc.start()
    try:
        assert np.array_equal(pixels(with_chunk(PNG, odd)), expected)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_the_ends_that_files_lack_are_not_missed():
    """PNG without IEND or inside the last checksum, JPEG without EOI in both codings: every pixel is there."""
    progressive = saved(picture(), "JPEG", progressive=True)
    for data, end in ((PNG, 12), (PNG, 14), (PNG, 16), (JPEG, 2), (progressive, 2)):
        assert np.array_equal(pixels(data[:-end]), pixels(data))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_pixels_is_refused(progressive):
    """Never a picture whose lower part is grey, however little is missing."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = saved(noise, "JPEG", progressive=progressive)
    for missing in (4, 8, 20, 100, len(data) // 2):
        with pytest.raises(UndecodableImage, match="cut short"):
            decode(data[:-missing])


@pytest.mark.parametrize(
    "odd",
    [
        segment(0xE1, b"Exif\0\0" + b"MM\0*"),
        segment(0xE1, b"Exif\0\0no tiff in here"),
        segment(0xE1, b"Exif\0\0" + tiff((0x011A, 2, 3, b"72\0"))),
        segment(0xE2, b"ICC_PROFILE\0\1\3broken"),
        segment(0xE2, b"MPF\0nothing"),
        segment(0xEE, b"Adobe"),
        segment(0xE0, b"JFIF"),
        segment(0xED, b"Photoshop 3.0\x008BIM"),
        segment(0xE5, b"longer than it says", length=4),
        segment(0xE5, b"", length=1),
        segment(0xE6, b"", length=0xFFFF),
        segment(0xFE, b"\xff\xff\xff"),
        b"\0\0junk",
    ],
)
def test_a_jpeg_is_its_pixels_whatever_its_segments_are(odd):
    """Before and after its JFIF segment."""
    end = 4 + struct.unpack(">H", JPEG[4:6])[0]
    for place in (2, end) if odd[0] == 0xFF else (end,):
        assert np.array_equal(pixels(JPEG[:place] + odd + JPEG[place:]), pixels(JPEG))


@pytest.mark.parametrize("odd", [(0x011A, 2, 3, b"72\0"), (0x0128, 5, 1, bytes(8)), (0x0100, 9, 1, b"\xff" * 4)])
def test_a_turned_picture_is_upright_whatever_else_its_exif_says(odd):
    """In every format that has EXIF."""
    block = b"Exif\0\0" + tiff(TURNED, odd)
    expected = np.asarray(picture().transpose(Image.Transpose.ROTATE_270)).astype(int)
    for data in (
        JPEG[:2] + segment(0xE1, block) + JPEG[2:],
        with_chunk(PNG, chunk(b"eXIf", block[6:])),
        saved(picture(), "WEBP", exif=block, lossless=True),
    ):
        assert np.abs(pixels(data) - expected).mean() < 4


def test_an_orientation_in_xmp_counts_where_exif_has_none():
    packet = b'<x tiff:Orientation="3"/>'
    data = with_chunk(PNG, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))
    assert np.array_equal(pixels(data), pixels(PNG)[::-1, ::-1])


@pytest.mark.parametrize("extra", [b"EXIF\x09\0\0\0Exif\0\0?!?\0", b"EXIF\xff\xff\0\0cut", b"XMP \x02\0\0\0\xff\xff"])
def test_a_webp_is_its_pixels_whatever_its_other_chunks_are(extra):
    """Also when the last chunk says that it is longer than the file."""
    assert np.array_equal(pixels(WEBP + extra), pixels(WEBP))


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_a_heif_is_its_pixels_whatever_its_exif_is(kind):
    """Its own property turns it, and no EXIF does."""
    note = tiff((0x0131, 2, 8, b"software"))
    noted = saved(picture(), kind, quality=90, exif=note)
    assert noted.count(note) == 1
    plain = pixels(saved(picture(), kind, quality=90))
    assert np.array_equal(pixels(noted.replace(note, b"garbage!" * (len(note) // 8) + b"?" * (len(note) % 8))), plain)
    turned = saved(picture(), kind, quality=90, exif=tiff(TURNED))
    upright = np.asarray(picture().transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert np.abs(pixels(turned) - upright).mean() < 4


ODD_TAGS = ((0x011A, 2, 3, b"72\0"), (0x0131, 11, 1, bytes(4)), (34665, 4, 1, b"\xff" * 4), (700, 1, 8, b"<xmp?>\0\0"))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_is_its_pixels_whatever_its_other_tags_are(order, big):
    """Little- and big-endian, with offsets of four and of eight bytes."""
    ramp = np.arange(0, 256, 5).astype(np.uint8)
    assert np.array_equal(pixels(grey_tiff(ramp, *ODD_TAGS, order=order, big=big))[0, :, 0], ramp)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma"])
def test_a_big_tiff_of_many_strips_is_read_in_every_compression(compression):
    data = saved(picture(300, 400), "TIFF", compression=compression, big_tiff=True)
    assert np.array_equal(pixels(data), np.asarray(picture(300, 400)))


def test_the_first_page_of_a_tiff_is_its_picture():
    pages = [picture(), picture().rotate(180)]
    assert np.array_equal(pixels(saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])), pixels(PNG))


def doubles(low: float, high: float) -> tuple[tuple[int, int, int, bytes], ...]:
    return (340, 12, 1, struct.pack("<d", low)), (341, 12, 1, struct.pack("<d", high))


GREY = np.arange(0, 256, 5).astype(np.uint8)


@pytest.mark.parametrize(
    "data",
    [
        grey_tiff(GREY.astype(np.uint16) * 257),
        grey_tiff(GREY.astype(np.uint16) * 257, order=">"),
        grey_tiff(65535 - GREY.astype(np.uint16) * 257, photometric=0),
        grey_tiff(GREY.astype(np.uint32), *doubles(0, 255)),
        grey_tiff(GREY.astype(np.uint32) * 16_843_009, *doubles(0, 2**32 - 1)),
        grey_tiff(GREY.astype(np.int32) - 128, *doubles(-128, 127)),
        grey_tiff((GREY.astype(np.int16) - 128).astype(np.int8), *doubles(-128, 127)),
        grey_tiff(GREY.astype(np.int16) * 100 - 9000, *doubles(-9000, 255 * 100 - 9000)),
        grey_tiff(GREY.astype(np.float32) / 255, *doubles(0, 1)),
        grey_tiff(1 - GREY.astype(np.float32) / 255, *doubles(0, 1), photometric=0),
    ],
)
def test_deep_samples_have_the_scale_that_their_file_names(data):
    """16 bits by their number, others by their least and greatest sample; white may be the least."""
    assert np.array_equal(pixels(data)[0, :, 0], GREY)


def test_twelve_bits_are_not_sixteen():
    """A sample of 4095 is white."""
    grey = np.array([0, 4095, 2048, 1024])
    packed = b"".join(((int(a) << 12) | int(b)).to_bytes(3) for a, b in grey.reshape(-1, 2))
    data = grey_tiff(np.frombuffer(packed, np.uint8), (256, 4, 1, struct.pack("<I", 4)), (258, 3, 1, b"\x0c\0"))
    assert pixels(data)[0, :, 0].tolist() == [0, 255, 128, 64]


@pytest.mark.parametrize("samples", [GREY.astype(np.uint32), GREY.astype(np.int16), GREY / 255])
def test_samples_without_a_scale_are_refused_in_words(samples):
    """A guess would be another picture, answered as if it were right."""
    samples = samples.astype(np.float32) if samples.dtype.kind == "f" else samples
    with pytest.raises(UnsupportedInput, match="SMinSampleValue"):
        pixels(grey_tiff(samples))


def test_signed_bytes_without_a_scale_are_read_as_the_reference_reads_them():
    """Many programs call bytes signed and mean the opposite."""
    assert np.array_equal(pixels(grey_tiff(GREY.view(np.int8)))[0, :, 0], GREY)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (grey_tiff(GREY, (258, 3, 1, b"\x18\0")), "variant of TIFF is not supported"),
        (grey_tiff(GREY, (259, 3, 1, struct.pack("<H", 34712))), "variant of TIFF is not supported"),
        (JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "12 bits per sample"),
        (JPEG.replace(b"\xff\xc0", b"\xff\xc5"), "hierarchical"),
        (PNG[:8] + chunk(b"CgBI", bytes(4)) + PNG[8:], "Apple's private"),
    ],
)
def test_a_valid_variant_that_nobody_here_reads_is_not_called_damaged(data, sentence):
    with pytest.raises(UnsupportedInput, match=sentence):
        decode(data)


@pytest.mark.parametrize("data", [b"", b"RIFF\0\0\0\0WEBP", b"II*\0", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a"])
def test_half_a_header_is_refused(data):
    with pytest.raises(InvalidInput):
        decode(data + b"\0" * 30)


@pytest.mark.parametrize("sequence", [False, True])
def test_an_avif_is_measured_by_its_data_not_by_its_container(sequence):
    """A kilobyte that says 64 x 64 outside and 4096 x 4096 inside is refused before a decoder allocates either."""
    large = Image.new("RGB", (4096, 4096))
    more = {"save_all": True, "append_images": [large.rotate(90)]} if sequence else {}
    data = saved(large, "AVIF", speed=10, quality=10, **more)
    assert largest_picture(data) == (4096, 4096)
    said, small = struct.pack(">II", 4096, 4096), struct.pack(">II", 64, 64)
    assert said in data
    with pytest.raises(ImageTooLarge, match="4096 x 4096"):
        decode(data.replace(said, small), max_pixels=1_000_000)


def test_a_heif_whose_data_is_larger_than_it_says_is_refused():
    """libheif compares the two before it allocates."""
    data = saved(Image.new("RGB", (4096, 4096)), "HEIF", quality=10)
    said, small = struct.pack(">II", 4096, 4096), struct.pack(">II", 64, 64)
    assert said in data
    with pytest.raises(UndecodableImage):
        decode(data.replace(said, small), max_pixels=1_000_000)


def test_heic_without_its_library_is_refused_in_words(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    decoding._plugin.cache_clear()
    try:
        with pytest.raises(UnsupportedInput, match="library is not installed"):
            decode(saved(picture(), "HEIF"))
    finally:
        decoding._plugin.cache_clear()


def test_a_hostile_file_writes_nothing(tmp_path):
    """Neither libtiff's errors nor a warning with a caller's bytes reaches stderr."""
    bad = saved(picture(400, 400), "TIFF", compression="tiff_lzw")
    (tmp_path / "bad.tif").write_bytes(bad[:3000] + bytes(b ^ 0x55 for b in bad[3000:9000]) + bad[9000:])
    (tmp_path / "bad.gif").write_bytes(saved(picture(), "GIF")[:200])
    program = (
        "import sys, pathlib; from siglip_edge.runtime.images.decoding import decode\n"
        "for path in sys.argv[1:]:\n"
        "    try: decode(pathlib.Path(path).read_bytes())\n"
        "    except Exception as error: print(error)"
    )
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run([sys.executable, "-c", program, *files], capture_output=True, text=True, check=True)
    assert done.stdout.count("damaged or cut short") == 2
    assert done.stderr == ""
