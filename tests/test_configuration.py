"""The configuration: texts of a command line become numbers and truth values; the schema's refusals are one line."""

from functools import reduce
from operator import getitem

import jsonschema
import pytest
import yaml

from ed2d.configuration import refusal, with_numbers
from ed2d.parameters import INTEGRATE, REGISTRY, SEARCH
from runs import CHECKOUT

SCHEMA = yaml.safe_load((CHECKOUT / "workflow/schemas/config.schema.yaml").read_text())
DEFAULTS = yaml.safe_load((CHECKOUT / "config/config.yaml").read_text())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        (" TRUE ", True),
        ("yes", "yes"),
        ("1", 1),
        ("-3", -3),
        ("1e-3", 1e-3),
        ("six", "six"),
        (0.5, 0.5),
        (True, True),
    ],
)
def test_texts_of_the_command_line(text, value):
    """Whole texts that are numbers or truth values become these, at every level, and nothing else does."""
    found = with_numbers({"residuals": text, "Integrate": {"ApplyErrorModel": text}})
    assert found == {"residuals": value, "Integrate": {"ApplyErrorModel": value}}
    assert type(found["residuals"]) is type(value)


def test_a_project_stays_a_text():
    """A directory may be called true or 12."""
    assert (
        with_numbers({"project": "true"}) == {"project": "true"} and with_numbers({"project": "12"})["project"] == "12"
    )


def test_the_defaults_are_complete():
    """The shipped configuration fits its schema, and has a default for every parameter that is required."""
    jsonschema.validate(DEFAULTS, SCHEMA)
    assert DEFAULTS["residuals"] is False and DEFAULTS["Integrate"] == {"ApplyErrorModel": False}
    for entry in REGISTRY + INTEGRATE:
        group, name = entry.path.split("/")
        assert type(DEFAULTS[group][name]).__name__ == entry.kind
    for entry in SEARCH:  # the program chooses
        value = reduce(getitem, entry.path.split("/"), DEFAULTS)
        assert value == 0 and type(value).__name__ == entry.kind
    assert DEFAULTS["search"] == "accept"


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"residuals": "perhaps"}, ("'perhaps' of residuals is not of the type boolean", "give true or false")),
        ({"residuals": 1}, ("'1' of residuals is not of the type boolean", "give true or false")),
        ({"search": "always"}, ("'always' of search is none of the choices", "give accept, propose or never")),
        ({"search": False}, ("'False' of search is none of the choices", "give accept, propose or never")),
        ({"Residuals": True}, ("Residuals is no key", "residuals")),
        ({"Integrate": {"ApplyErrorModel": "on"}}, ("'on' of Integrate/ApplyErrorModel", "give true or false")),
        ({"Integrate": {}}, ("Integrate: 'ApplyErrorModel' is a required property", "give all of them")),
        ({"Integrate": True}, ("of Integrate is not of the type object", "{ApplyErrorModel: true}")),
    ],
)
def test_refusals(change, parts):
    """A bad value of a new key is one line with its name, the value and the cure."""
    with pytest.raises(jsonschema.ValidationError) as caught:
        jsonschema.validate(DEFAULTS | change, SCHEMA)
    line = str(refusal(caught.value))
    assert line.startswith("config: ") and "\n" not in line and all(part in line for part in parts)
