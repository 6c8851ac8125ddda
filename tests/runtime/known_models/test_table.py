"""The table of known models is whole: every reference in it leads somewhere."""

from siglip_edge.runtime.known_models import table


def test_every_id_is_named_once():
    names = [model.id for model in table.known_models()]
    assert len(names) == len(set(names))
    assert all(table.named(name.rpartition("/")[2]).id == name for name in names)


def test_every_figure_names_its_source():
    """A figure whose measure has no source cannot be in the table."""
    used = {key for model in table.known_models() for key in model.scores}
    assert used == set(table.qualities())


def test_every_recommended_model_can_be_exported_and_fits_its_machine():
    """With room for the operating system: at most two thirds of the machine's memory."""
    for entry in table.advice():
        model = table.named(entry.model)
        megabytes = {"512M": 512, "1G": 1024, "2G": 2048, "4G": 4096}[entry.memory]
        assert model.refused is None
        assert table.memory_mb(model) < megabytes * 2 / 3, entry.model
        assert bool(model.image) == (entry.use == "photographs")
        assert model.languages == entry.languages


def test_every_measured_model_is_known():
    found = table.measurements()
    assert all(table.find(name) for name in found.models)
    assert not found.models or found.base in found.models


def test_an_estimate_is_near_what_was_measured():
    """Within a third: good enough to say whether a model fits."""
    for name, measured in table.measurements().models.items():
        estimated = table.named(name).estimated_mb
        assert 2 / 3 < estimated / measured.memory_mb < 3 / 2, name


def test_the_export_command_has_what_the_model_needs():
    """Calibration pictures for a model with a vision tower, and a name only where it is another."""
    assert table.export_command("BAAI/bge-m3", "models") == "siglip-edge export BAAI/bge-m3 -o models"
    assert table.export_command("google/siglip2-base-patch32-256", "models", "photos") == (
        "siglip-edge export google/siglip2-base-patch32-256 -o models --name photos --calibration-images DIR"
    )
