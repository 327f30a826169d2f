"""The effective parameters of an image: which file wins, what is refused, how they are described."""

import copy
import dataclasses

import pytest

from ed2d.emdatainfo import Document
from ed2d.errors import InputError
from ed2d.maskshapes import Circle, Extent
from ed2d.parameters import (
    INTEGRATE,
    REGISTRY,
    SEARCH,
    Parameters,
    SearchParameters,
    UnitCell,
    describe,
    described,
    effective_parameters,
    has_mask,
    unknown_items,
    unused_groups,
)

CONFIG = {
    "LatticeExtract": {"BoxSize": 6, "BoxGrowAmount": 1, "BackgroundRimSize": 2, "MinRadius": 0, "MaxRadius": 0},
    "Detector": {"Gain": 0, "ReadNoise": 0.0, "Offset": 0, "Saturation": 0},
    "Integrate": {"ApplyErrorModel": False},
}
CELL = '<UnitCell><A value="62.4" type="float"/><B value="62.5"/><Gamma value="120" type="int"/></UnitCell>'
CIRCLE = '<Circle><Center><x value="5" type="int"/><y value="6.5" type="float"/></Center><Radius value="3"/></Circle>'
EXTENT = '<Extent><Start><x value="0"/><y value="0"/></Start><End><x value="9"/><y value="9"/></End></Extent>'


@pytest.fixture
def effective(tmp_path):
    """A function from the contents of DiffProcessing in info.xml and project.xml, and the config, to Parameters."""

    def make(info="", project="", config=CONFIG):
        documents = []
        for name, content in (("info.xml", info), ("project.xml", project)):
            path = tmp_path / name
            path.write_text(f"<EMDataInfo><DiffProcessing>{content}</DiffProcessing></EMDataInfo>")
            documents.append(Document.read(path))
        return effective_parameters(*documents, config)

    return make


def item(path, value, kind="float"):
    """XML of one item below DiffProcessing."""
    *groups, name = path.split("/")
    text = f'<{name} value="{value}" type="{kind}"/>'
    for group in reversed(groups):
        text = f"<{group}>{text}</{group}>"
    return text


def changed(path, value):
    """The config with one value changed; None removes it."""
    config = copy.deepcopy(CONFIG)
    *groups, name = path.split("/")
    below = config
    for group in groups:
        below = below.setdefault(group, {})
    if value is None:
        del below[name]
    else:
        below[name] = value
    return config


def refusal(action, *parts):
    """Checks that `action` raises a one-line InputError that holds all `parts`."""
    with pytest.raises(InputError) as caught:
        action()
    assert len(str(caught.value).splitlines()) == 1
    for part in parts:
        assert str(part) in str(caught.value)


def test_defaults_come_from_the_config(effective):
    """Without a word in the XML every parameter is the config's, of the right type."""
    found = effective()
    assert found == Parameters(
        box_size=6,
        box_grow_amount=1,
        background_rim_size=2,
        min_radius=0.0,
        max_radius=0.0,
        gain=0.0,
        read_noise=0.0,
        offset=0.0,
        saturation=0.0,
        mask=(),
        unit_cell=None,
        wavelength=None,
        apply_error_model=False,
    )
    kinds = {"int": int, "float": float, "bool": bool}
    assert all(type(getattr(found, entry.field)) is kinds[entry.kind] for entry in REGISTRY + INTEGRATE)
    assert found.half == 9


@pytest.mark.parametrize("entry", REGISTRY, ids=lambda entry: entry.field)
def test_precedence(effective, entry):
    """For every parameter info.xml wins over project.xml, and that over the config; the others are not touched."""
    info, project, config = item(entry.path, 5), item(entry.path, 4), changed(entry.path, 3)
    expected = dataclasses.asdict(effective())
    for arguments, value in (((info, project, config), 5), (("", project, config), 4), (("", "", config), 3)):
        assert dataclasses.asdict(effective(*arguments)) == expected | {entry.field: value}


@pytest.mark.parametrize("entry", SEARCH, ids=lambda entry: entry.field)
def test_precedence_of_the_search(effective, entry):
    """The same for what the lattice search starts from, which may be missing everywhere."""
    info, project, config = item(entry.path, 5), item(entry.path, 4), changed(entry.path, 3)
    expected = dataclasses.asdict(effective())
    for arguments, value in (((info, project, config), 5), (("", project, config), 4), (("", "", config), 3)):
        found = effective(*arguments)
        assert dataclasses.asdict(found) == expected | {"search": expected["search"] | {entry.field: value}}
        assert describe(found, "search") == describe(effective(), "search") | {entry.path: value}
        assert all(describe(found, step) == describe(effective(), step) for step in ("mask", "extract", "integrate"))


@pytest.mark.parametrize(
    ("info", "project", "config", "wanted"),
    [
        ("true", "false", False, True),
        ("0", "1", True, False),
        ("", "yes", False, True),
        ("", "No", True, False),
        ("", "", True, True),
        ("", "", "true", True),
        ("", "", "false", False),
    ],
)
def test_precedence_of_apply_error_model(effective, info, project, config, wanted):
    """A truth value in any spelling: info.xml wins over project.xml, and that over the config."""
    path = INTEGRATE[0].path
    xml = (item(path, value, "bool") if value else "" for value in (info, project))
    assert effective(*xml, changed(path, config)).apply_error_model is wanted


def test_parameters_are_frozen(effective):
    """Parameters cannot be changed in passing, and have no defaults of their own: 0 leaves the choice to the search."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        effective().gain = 2.0
    defaults = {f.name for f in dataclasses.fields(Parameters) if f.default is not dataclasses.MISSING}
    assert defaults == {"found_mask", "search"} and not any(vars(SearchParameters()).values())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("LatticeExtract/BoxSize", 0),
        ("LatticeExtract/BoxSize", 201),
        ("LatticeExtract/BoxSize", 6.5),
        ("LatticeExtract/BoxGrowAmount", -1),
        ("LatticeExtract/BoxGrowAmount", 51),
        ("LatticeExtract/BackgroundRimSize", 0),
        ("LatticeExtract/BackgroundRimSize", 51),
        ("LatticeExtract/MinRadius", -0.5),
        ("LatticeExtract/MaxRadius", "far"),
        ("Detector/Gain", -1),
        ("Detector/ReadNoise", float("nan")),
        ("Detector/Offset", float("inf")),
        ("Detector/Saturation", -1.0),
        ("LatticeSearch/PixelSize", -0.1),
        ("LatticeSearch/PeakSearchParams/OuterWindowSize", 7.5),
        ("Integrate/ApplyErrorModel", 2),
        ("Integrate/ApplyErrorModel", "perhaps"),
        ("Wavelength", 0),
        ("UnitCell/A", 0.0),
        ("UnitCell/B", -1.0),
        ("UnitCell/Gamma", 0),
        ("UnitCell/Gamma", 180.0),
        ("UnitCell/C", 0),
    ],
)
@pytest.mark.parametrize("source", ["info.xml", "project.xml", "config"])
def test_bad_value(effective, path, value, source):
    """A value out of range or of the wrong kind is refused with its file, path and value, wherever it stands."""
    arguments = {
        "info.xml": (item(path, value), "", CONFIG),
        "project.xml": ("", item(path, value), CONFIG),
        "config": ("", "", changed(path, value)),
    }
    refusal(lambda: effective(*arguments[source]), source, path, f"'{value}'")


@pytest.mark.parametrize("value", [True, [6], {"value": 6}])
def test_config_of_another_type(effective, value):
    """A config value that is no number and no text is refused."""
    refusal(
        lambda: effective(config=changed("LatticeExtract/BoxSize", value)), "config", "LatticeExtract/BoxSize", value
    )


def test_config_texts_are_numbers(effective):
    """Numbers that reach the config as texts, as from a command line or 1e-3 in YAML, are taken."""
    config = changed("LatticeExtract/BoxSize", "7") | {"Detector": CONFIG["Detector"] | {"Gain": "1e-3"}}
    found = effective(config=config)
    assert (found.box_size, found.gain) == (7, 0.001)


@pytest.mark.parametrize("entry", REGISTRY, ids=lambda entry: entry.field)
def test_missing_config_value(effective, entry):
    """A value that no file has is refused with its path; one that the XML has is not missed."""
    config = changed(entry.path, None)
    refusal(lambda: effective(config=config), "config", entry.path, "missing")
    assert getattr(effective(item(entry.path, 5), "", config), entry.field) == 5


def test_missing_config_group(effective):
    """A config without a whole group, or with a number in its place, is refused."""
    refusal(lambda: effective(config={}), "config", "LatticeExtract/BoxSize")
    refusal(lambda: effective(config=CONFIG | {"Detector": 3}), "config", "Detector", "'3'")


def test_radii(effective):
    """MaxRadius exceeds MinRadius unless it is 0, also when they are from two files."""
    smaller, larger = item("LatticeExtract/MaxRadius", 20), item("LatticeExtract/MaxRadius", 21)
    config = changed("LatticeExtract/MinRadius", 20)
    refusal(lambda: effective(smaller, "", config), "info.xml", "MaxRadius 20", "MinRadius 20", "config")
    assert effective(larger, "", config).max_radius == 21
    assert effective("", "", config).max_radius == 0


def test_lattice_lengths(effective):
    """MaximalLatticeLength exceeds MinimalLatticeLength unless it is 0."""
    minimal, maximal = (item(f"LatticeSearch/{name}alLatticeLength", 20) for name in ("Minim", "Maxim"))
    refusal(lambda: effective(maximal, minimal), "info.xml", "MaximalLatticeLength 20", "MinimalLatticeLength 20")
    assert effective("", minimal).search == SearchParameters(minimal_lattice_length=20)


def test_unit_cell(effective):
    """The cell is taken as a whole from the first file that has one; c may be left out."""
    other = CELL.replace("62.4", "70").replace("</UnitCell>", '<C value="200"/></UnitCell>')
    config = CONFIG | {"UnitCell": {"A": 80, "B": 81, "Gamma": 90}}
    assert effective(CELL, other, config).unit_cell == UnitCell(a=62.4, b=62.5, gamma=120.0, c=100.0)
    assert effective("", other, config).unit_cell == UnitCell(a=70.0, b=62.5, gamma=120.0, c=200.0)
    assert effective("", "", config).unit_cell == UnitCell(a=80.0, b=81.0, gamma=90.0, c=100.0)
    assert effective("", "", CONFIG | {"UnitCell": None}).unit_cell is None


@pytest.mark.parametrize("name", ["A", "B", "Gamma"])
def test_incomplete_unit_cell(effective, name):
    """A cell that lacks a, b or gamma is not completed from another file but refused."""
    values = {"A": 80, "B": 81, "Gamma": 90}
    del values[name]
    part = "".join(item(key, value) for key, value in values.items())
    refusal(lambda: effective(f"<UnitCell>{part}</UnitCell>", CELL), "info.xml", f"UnitCell/{name} missing")
    refusal(lambda: effective(config=CONFIG | {"UnitCell": values}), "config", f"UnitCell/{name} missing")


def test_wavelength(effective):
    """The wavelength is optional and taken item by item."""
    config = CONFIG | {"Wavelength": 0.0251}
    assert effective(config=config).wavelength == 0.0251
    assert effective(item("Wavelength", 0.0197), "", config).wavelength == 0.0197


def test_mask(effective):
    """The mask of an image replaces that of the project as a whole, also by an empty one."""
    circle, extent = Circle(center=(5.0, 6.5), radius=3.0), Extent(start=(0.0, 0.0), end=(9.0, 9.0))
    assert effective("", f"<Mask>{CIRCLE}{EXTENT}</Mask>").mask == (circle, extent)
    assert effective(f"<Mask>{EXTENT}</Mask>", f"<Mask>{CIRCLE}</Mask>").mask == (extent,)
    assert effective("<Mask/>", f"<Mask>{CIRCLE}</Mask>").mask == ()


def test_found_mask(tmp_path):
    """What the program has found is in force beside the project's mask, and not beside one of the image."""
    project = Document.parse(
        f"<EMDataInfo><DiffProcessing><Mask>{EXTENT}</Mask></DiffProcessing></EMDataInfo>".encode(), "a.xml"
    )
    found = f"<DiffProcessingResults><DiffMask><Mask>{CIRCLE}</Mask></DiffMask></DiffProcessingResults>"
    for own, mask_file, number in (("", False, 1), ("", True, 0), ("<Mask/>", False, 0)):
        info = Document.parse(
            f"<EMDataInfo><DiffProcessing>{own}</DiffProcessing>{found}</EMDataInfo>".encode(), "a.xml"
        )
        parameters = effective_parameters(info, project, CONFIG, mask_file=mask_file)
        assert len(parameters.found_mask) == number and has_mask(info) == bool(own)
        assert len(parameters.mask) == (not own)
        for step in ("search", "extract", "integrate"):
            assert (describe(parameters, step)["found mask"] == "none") == (not number)
        assert "found mask" not in describe(parameters, "mask")


def test_describe(effective):
    """The description has one plain value for every parameter, the same names in the same order always."""
    plain = describe(effective(), "extract")
    full = describe(effective(CELL + item("Wavelength", 0.02) + f"<Mask>{CIRCLE}</Mask>"), "extract")
    assert list(plain) == list(full) == described("extract")
    assert [*plain][:9] == [entry.path for entry in REGISTRY]
    assert all(type(value) in (str, int, float) for value in [*plain.values(), *full.values()])
    assert plain["LatticeExtract/BoxSize"] == 6
    assert (plain["mask shapes"], plain["UnitCell/A"], plain["Wavelength"]) == ("none", "none", "none")
    assert (full["UnitCell/A"], full["UnitCell/C"], full["Wavelength"]) == (62.4, 100.0, 0.02)


def test_only_integrate_depends_on_its_own_parameters(effective):
    """`extract` has all parameters but those of the group Integrate, so that these do not make it run again."""
    off, on = effective(), effective(item("Integrate/ApplyErrorModel", "true", "bool"))
    assert describe(off, "extract") == describe(on, "extract")
    assert describe(on, "integrate") == describe(off, "integrate") | {"Integrate/ApplyErrorModel": True}
    assert set(described("integrate")) - set(described("extract")) == {entry.path for entry in INTEGRATE}
    for step in ("mask", "search"):
        assert list(describe(on, step)) == described(step) == list(describe(effective(CELL), step))
    assert list(describe(on, "integrate")) == described("integrate")


def test_description_follows_every_parameter(effective):
    """Two sets of parameters that differ anywhere differ in their descriptions, so that Snakemake runs again."""
    variants = ["", CELL, CELL.replace("120", "90"), item("Wavelength", 0.02)]
    variants += [f"<Mask>{CIRCLE}</Mask>", f"<Mask>{EXTENT}</Mask>", f"<Mask><Invert>{EXTENT}</Invert></Mask>"]
    variants += [item(entry.path, 5) for entry in REGISTRY]
    assert len({tuple(describe(effective(variant), "extract").items()) for variant in variants}) == len(variants)
    variants += [item("Integrate/ApplyErrorModel", "true", "bool")]
    assert len({tuple(describe(effective(variant), "integrate").items()) for variant in variants}) == len(variants)


def test_names_without_effect_are_found(tmp_path):
    """A misspelt item in a group of parameters is unknown; groups of other programs are unused; the rest is neither."""
    known = (
        item("LatticeExtract/BoxSize", 5)
        + "<Integrate><ApplyErrorModels/></Integrate>"
        + '<Detector><Gain value="1"/><gain value="2"/></Detector>'
        + CELL
    )
    search = (
        '<LatticeSearch><PixelSize value="1"/><PeakSearchParams><Window value="1"/></PeakSearchParams></LatticeSearch>'
    )
    other = f'{search}<ImageMask value="A"/><Unbend><BoxSiz value="1"/></Unbend><Mask/>'
    path = tmp_path / "info.xml"
    path.write_text(f"<EMDataInfo><DiffProcessing>{known}{other}</DiffProcessing></EMDataInfo>")
    unknown = ["Detector/gain", "Integrate/ApplyErrorModels", "LatticeSearch/PeakSearchParams/Window"]
    assert unknown_items(Document.read(path)) == [f"DiffProcessing/{name}" for name in unknown]
    assert unused_groups(Document.read(path)) == ["Unbend"]
    path.write_text("<EMDataInfo/>")
    assert unknown_items(Document.read(path)) == unused_groups(Document.read(path)) == []
