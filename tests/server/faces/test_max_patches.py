"""`max_patches`: how many patches a picture of a NaFlex model may have, by request, by setting, by checkpoint."""

from __future__ import annotations

import falcon.testing
import msgspec
import pytest

from siglip_edge.runtime.artifacts.manifest import Manifest, Patches, Towers
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.gunicorn.preflight import CannotStart, checked_settings
from tests.server.conftest import data_uri, loading_app, png
from tests.server.fake_model import FakeModel
from tests.tiny_model import write_model

WIDE, TALL = data_uri(png(size=(200, 100))), data_uri(png("blue", size=(30, 90)))
GEOMETRY = Patches(patch_size=4, default_patches=50, most_patches=200)


def naflex(manifest: Manifest) -> Manifest:
    vision = msgspec.structs.replace(manifest.vision, geometry=GEOMETRY, inputs=("patches", "grid"))
    return msgspec.structs.replace(manifest, towers=Towers(vision=vision, text=manifest.text))


@pytest.fixture
def fake(tiny_dir):
    """In place of the model of fixed size behind `client`."""
    return FakeModel(naflex(Manifest.load(tiny_dir)))


def patches_of(client, path="/v1/embeddings", **fields) -> int:
    return client.simulate_post(path, json=fields).json["usage"]["image_patches"]


def test_a_request_chooses(client):
    """`usage` counts the patches that were used; without the field it is the checkpoint's number."""
    assert patches_of(client, input=WIDE) == 50  # 5 x 10
    assert patches_of(client, input=WIDE, max_patches=8) == 8  # 2 x 4
    assert patches_of(client, input=WIDE, max_patches=1) == 1
    assert patches_of(client, input=[WIDE, TALL, "a cat"], max_patches=200) == 10 * 20 + 8 * 24


def test_every_route_with_images_has_the_field(client, fake):
    """Each embeds a row of eight patches."""
    costs: list[int] = []
    run = fake.run

    def noting(tower, rows, *, crowded=False):
        costs.extend(row.cost for row in rows if "grid" in row.arrays)
        return run(tower, rows, crowded=crowded)

    fake.run = noting
    bodies = {
        "/v1/rank": {"query": "a cat", "candidates": [WIDE]},
        "/v1/classify": {"image": WIDE, "labels": ["a cat"], "multi_label": True},
        "/evaluator/v1/evaluation/single": {"image": WIDE, "text": "a cat"},
        "/evaluator/v1/evaluation/batch": {"items": [{"image": WIDE, "text": "a cat"}]},
        "/v1/embeddings": {"input": {"text": "a cat", "image": WIDE}},
    }
    for number, (path, body) in enumerate(bodies.items()):
        picture = data_uri(png((number, 0, 0), size=(200, 100)))
        sent = msgspec.json.decode(msgspec.json.encode(body).replace(WIDE.encode(), picture.encode()))
        assert client.simulate_post(path, json={**sent, "max_patches": 8}).status_code == 200, path
    assert costs == [8] * len(bodies)


def test_a_form_has_it_too(client):
    body = (
        b'--b\r\nContent-Disposition: form-data; name="max_patches"\r\n\r\n8\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + png(size=(200, 100)) + b"\r\n"
        b"--b--\r\n"
    )
    answer = client.simulate_post(
        "/v1/embeddings/image", body=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert answer.json["usage"]["image_patches"] == 8


def test_the_cache_keeps_each_number_of_patches(client, fake):
    """One picture at two numbers has two vectors; the checkpoint's number is the same with and without the field."""

    def vector(**fields):
        return client.simulate_post("/v1/embeddings", json={"input": WIDE, **fields}).json["data"][0]["embedding"]

    usual, few = vector(), vector(max_patches=8)
    assert usual != few
    runs = len(fake.runs)
    assert vector(max_patches=50) == usual
    assert vector(max_patches=8) == few
    assert len(fake.runs) == runs


@pytest.mark.parametrize("number", [0, -1, 201, 1.5, "many"])
def test_a_number_that_the_model_does_not_take_is_refused(client, number):
    """Also where bad inputs are reported in place, and where no input is a picture."""
    request = {"input": "a cat", "max_patches": number, "on_error": "null"}
    answer = client.simulate_post("/v1/embeddings", json=request)
    assert answer.status_code == 400
    assert answer.json["error"]["param"] == "max_patches"


def test_a_refusal_says_what_the_model_takes(client):
    answer = client.simulate_post("/v1/embeddings", json={"input": WIDE, "max_patches": 201})
    assert "model tiny takes 1 to 200 patches" in answer.json["error"]["message"]


def test_the_list_of_models_has_both_numbers(client, client_of):
    """The number that a request without the field gets, by the checkpoint or by the setting, and the greatest."""
    for served, default in ((client, 50), (client_of(MAX_PATCHES="8"), 8)):
        card = served.simulate_get("/v1/models/tiny").json
        assert (card["default_patches"], card["max_patches"]) == (default, 200)
        assert patches_of(served, input=WIDE) == default


class TestAModelOfOneSize:
    @pytest.fixture
    def fake(self, tiny_dir):
        return FakeModel(Manifest.load(tiny_dir))

    def test_it_refuses_the_field(self, client):
        """In words, rather than embedding at a size that nobody asked for."""
        answer = client.simulate_post("/v1/embeddings", json={"input": WIDE, "max_patches": 8})
        assert answer.status_code == 400
        assert answer.json["error"]["param"] == "max_patches"
        assert answer.json["error"]["message"] == "model tiny is no NaFlex model: leave max_patches out"

    def test_the_list_of_models_has_no_numbers_for_it(self, client_of):
        """Also where the server has a number for others."""
        for client in (client_of(), client_of(MAX_PATCHES="8")):
            card = client.simulate_get("/v1/models/tiny").json
            assert (card["default_patches"], card["max_patches"]) == (None, None)

    def test_the_setting_is_for_other_models(self, client_of):
        """It takes pictures as before."""
        answer = client_of(MAX_PATCHES="8").simulate_post("/v1/embeddings", json={"input": WIDE})
        assert answer.status_code == 200


def test_the_setting_is_the_number_of_requests_that_say_nothing(client_of):
    few = client_of(MAX_PATCHES="8")
    assert patches_of(few, input=WIDE) == 8
    assert patches_of(few, input=WIDE, max_patches=50) == 50


@pytest.fixture
def directories(tmp_path):
    """A NaFlex model and a model of one size, in files."""
    fixed, flexible = write_model(tmp_path / "fixed"), write_model(tmp_path / "flexible")
    naflex(Manifest.load(flexible)).save(flexible)
    return {"fixed": fixed, "flexible": flexible}


def test_a_refusal_names_the_served_models(directories, tmp_path):
    """By their names here: that which was asked, whose directory has another name, and those that take the field."""
    models = f"one={directories['fixed']},naflex={directories['flexible']}"
    client = falcon.testing.TestClient(loading_app([], MODELS=models))
    error = client.simulate_post("/v1/embeddings", json={"input": "a", "max_patches": 8}).json["error"]
    remedy = "leave max_patches out, or name a model that has the choice as `model`: naflex"
    assert error["message"] == f"model one is no NaFlex model: {remedy}"


def started_with(monkeypatch, **environ) -> Settings:
    for name, value in environ.items():
        monkeypatch.setenv(name, str(value))
    return checked_settings()


def test_a_setting_that_no_model_takes_stops_the_start(monkeypatch, directories):
    with pytest.raises(CannotStart, match=r"MAX_PATCHES=8 has no effect: no NaFlex model is served \(fixed\)"):
        started_with(monkeypatch, MODEL=directories["fixed"], MAX_PATCHES=8)


def test_a_setting_that_is_too_great_stops_the_start(monkeypatch, directories):
    with pytest.raises(CannotStart, match=r"MAX_PATCHES=201: max_patches is 201; .* takes 1 to 200"):
        started_with(monkeypatch, MODEL=directories["flexible"], MAX_PATCHES=201)


def test_a_setting_may_be_for_one_of_several_models(monkeypatch, directories):
    models = ",".join(f"{name}={path}" for name, path in directories.items())
    settings = started_with(monkeypatch, MODELS=models, MAX_PATCHES=8)
    assert settings.max_patches == 8


def test_the_catalogue_decides_for_one_model(monkeypatch, directories, tmp_path):
    """It goes before the server's setting, and on a model of one size it stops the start."""
    file = tmp_path / "models.yaml"
    entry = "  - {{name: {0}, path: {1}, max_patches: {2}}}\n"
    file.write_text("models:\n" + entry.format("a", directories["flexible"], 16))
    (listed,) = started_with(monkeypatch, MODEL_CONFIG=file, MAX_PATCHES=8).listed_models
    assert listed.max_patches == 16
    file.write_text("models:\n" + entry.format("a", directories["fixed"], 16))
    monkeypatch.delenv("MAX_PATCHES")
    with pytest.raises(CannotStart, match=r"models.yaml, line 2: .* no NaFlex model"):
        checked_settings()
    file.write_text("models:\n" + entry.format("a", directories["flexible"], "few"))
    with pytest.raises(CannotStart, match="max_patches cannot be read; allowed: a whole number"):
        checked_settings()
