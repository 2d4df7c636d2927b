"""The reference is complete: every option, counter, exception and class has its place, and is as the page says."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import override_settings
from docutils import nodes

import hybrid_layer.ipc
import hybrid_layer.remote
from hybrid_layer import HybridChannelLayer, exceptions, testing
from hybrid_layer.base import BaseLayer
from hybrid_layer.ipc import IPCChannelLayer
from hybrid_layer.remote import PostgresChannelLayer, RedisChannelLayer, RedisPubSubChannelLayer
from hybrid_layer.statistics import KEYS
from tests.docs import texts

OPTIONS, ERRORS, API = "docs/options.rst", "docs/errors.rst", "docs/api.rst"
INTERNAL = {"HybridLayerError", "Undecodable"}
PACKAGES = (hybrid_layer, hybrid_layer.ipc, hybrid_layer.remote)
AUTO = ("autoclass", "autofunction")
CLASSES: dict[str, type[Any]] = {
    layer.__name__: layer
    for layer in (
        HybridChannelLayer,
        IPCChannelLayer,
        PostgresChannelLayer,
        RedisChannelLayer,
        RedisPubSubChannelLayer,
    )
}


# Options


def documented_options() -> Iterator[tuple[list[str], str, Any]]:
    """Classes, name and default of each entry of the lists of options."""
    for title, section in texts.sections(OPTIONS):
        if not title.startswith("Of "):
            continue
        classes = list(CLASSES) if title == "Of all classes" else title.partition(": ")[2].split(", ")
        for item in section.findall(nodes.definition_list_item):
            term, *classifiers = (child for child in item if isinstance(child, nodes.term | nodes.classifier))
            assert len(classifiers) == 2, f"{term.astext()}: type and unit, then the default"
            assert classifiers[1].astext().startswith("default "), term.astext()
            yield classes, term.astext(), ast.literal_eval(classifiers[1].astext().removeprefix("default "))


@pytest.mark.parametrize("name", CLASSES)
def test_the_options_are_those_of_the_constructor(name: str) -> None:
    parameters = inspect.signature(CLASSES[name]).parameters.values()
    real = {each.name: each.default for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD}
    documented = [(option, default) for classes, option, default in documented_options() if name in classes]
    assert dict(documented) == real
    assert len(documented) == len(real), "an option is in two lists"


def test_the_lists_of_options_name_classes_that_exist() -> None:
    assert {name for classes, _, _ in documented_options() for name in classes} == set(CLASSES)


# Counters and errors


def test_every_counter_is_described(prefix: str) -> None:
    page = texts.tree(ERRORS)
    assert texts.first_cells(page)[0] == list(KEYS)
    (block,) = texts.code(page, "python")
    namespace: dict[str, Any] = {}
    exec(block, namespace)
    layers = {"default": {"BACKEND": "hybrid_layer.HybridChannelLayer", "CONFIG": {"prefix": prefix}}}
    with override_settings(CHANNEL_LAYERS=layers):
        assert set(async_to_sync(namespace["dropped"])()) == set(KEYS) - {"sent", "received"}


def test_every_error_is_described() -> None:
    errors = texts.first_cells(texts.tree(ERRORS))[1]
    assert set(errors) == set(exceptions.__all__) - INTERNAL
    for row in texts.tree(ERRORS).findall(nodes.row):
        error = getattr(exceptions, row[0].astext(), None)
        also = [word.astext() for word in row[1].findall(nodes.literal) if row[1].astext().startswith("also")]
        if error is not None and also:
            assert also[0] in {base.__name__ for base in error.__mro__}, row[0].astext()


# The page that is made from docstrings


def test_every_class_and_function_has_its_place() -> None:
    documented = {node["argument"].partition("(")[0] for directive in AUTO for node in texts.sphinx(API, directive)}
    classes = {f"{package.__name__}.{name}" for package in PACKAGES for name in package.__all__}
    assert {name for name in documented if name.endswith("ChannelLayer")} == classes
    for_tests = {f"{testing.__name__}.{name}" for name, member in vars(testing).items() if is_public(name, member)}
    assert "hybrid_layer.testing.prefix_for_tests" in for_tests
    assert for_tests | {"hybrid_layer.serializers.register_serializer"} <= documented


def is_public(name: str, member: Any) -> bool:
    return not name.startswith("_") and inspect.isfunction(member) and member.__module__.startswith(testing.__name__)


def test_everything_on_it_says_what_it_is() -> None:
    """Sphinx leaves out what has no docstring, and says nothing."""
    for name in exceptions.__all__:
        assert inspect.getdoc(getattr(exceptions, name)), name
    for name, member in vars(BaseLayer).items():
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            assert inspect.getdoc(member), name
