"""The workflow's configuration: numbers that came as text, and what its schema refuses in one line."""

from collections.abc import Mapping

from .emdatainfo import INTEGER, NUMBER
from .errors import InputError
from .xmlbytes import shown

FILE = "config"


def with_numbers(config):
    """The configuration with texts that are numbers or truth values as these, except `project`.

    `snakemake --config 'LatticeExtract={BoxSize: 5}'` hands nested values over as texts, but has itself turned
    those of the top level, where the project directory may have digits for a name.
    """
    return {name: value if name == "project" else _number(value) for name, value in config.items()}


def _number(value):
    if isinstance(value, Mapping):
        return {name: _number(item) for name, item in value.items()}
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if INTEGER.fullmatch(text):
        return int(text)
    return float(text) if NUMBER.fullmatch(text) else value


def refusal(error):
    """The InputError that says what a jsonschema ValidationError means."""
    path = "/".join(map(str, error.absolute_path))
    if error.validator == "additionalProperties":
        unknown = sorted(set(error.instance) - set(error.schema["properties"]))
        keys = ", ".join(error.schema["properties"])
        problem = f"{', '.join(f'{path}/{name}'.lstrip('/') for name in unknown)} is no key of the configuration"
        return InputError(FILE, problem, f"the keys {f'of {path} ' if path else ''}are {keys}")
    if path == "project" and isinstance(error.instance, (int, float)):
        problem = f"project is the number {error.instance}"
        return InputError(FILE, problem, "write a directory whose name is a number as project=./NAME")
    if error.validator == "required":
        return InputError(FILE, f"{path}: {error.message}".lstrip(": "), "give all of them")
    cure = f"give {error.schema['description']}" if "description" in error.schema else "see config/README.md"
    return InputError(FILE, f"the value {shown(error.instance)} of {path} {_wrong(error)}", cure)


def _wrong(error):
    """What is the matter with a value, in words."""
    if error.validator == "type":
        return f"is not of the type {error.validator_value}"
    if error.validator == "enum":
        return "is none of the choices"
    limits = {"minimum": "is less than", "maximum": "is more than"}
    limits |= {"exclusiveMinimum": "is not more than", "exclusiveMaximum": "is not less than"}
    if error.validator in limits:
        return f"{limits[error.validator]} {error.validator_value}"
    return f"is refused ({error.validator} {error.validator_value})"
