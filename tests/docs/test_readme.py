"""What users read is true: the options are the constructors', and the configurations work as they stand there."""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.test import override_settings
from django.utils.module_loading import import_string
from docutils import nodes

from hybrid_layer import HybridChannelLayer, exceptions
from hybrid_layer.ipc import IPCChannelLayer
from hybrid_layer.remote import PostgresChannelLayer, RedisChannelLayer, RedisPubSubChannelLayer
from hybrid_layer.statistics import KEYS
from tests.docs import texts
from tests.support.loops import Run

README, TESTING, OPTIONS, ERRORS = "README.rst", "docs/testing.rst", "docs/options.rst", "docs/errors.rst"
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


# Configurations


def settings_blocks() -> list[dict[str, Any]]:
    """What each block of settings in the README sets, and that for tests."""
    found = []
    for block in texts.code(texts.tree(README), "python") + texts.code(texts.tree(TESTING), "python"):
        if "CHANNEL_LAYERS" in block:
            namespace: dict[str, Any] = {}
            exec(block, namespace)
            found.append(namespace["CHANNEL_LAYERS"])
    return found


CONFIGURATIONS = [layers["default"] for layers in settings_blocks()]


def test_there_are_four_configurations_and_one_for_tests() -> None:
    assert len(CONFIGURATIONS) == 5
    assert {backend["BACKEND"].rpartition(".")[2] for backend in CONFIGURATIONS} >= {
        "HybridChannelLayer",
        "IPCChannelLayer",
    }
    assert any("hosts" in backend.get("CONFIG", {}) for backend in CONFIGURATIONS)
    assert CONFIGURATIONS[-1]["CONFIG"]["prefix"] != settings_blocks()[-1]["default"]["CONFIG"]["prefix"]


@pytest.mark.parametrize("backend", CONFIGURATIONS, ids=lambda backend: backend["BACKEND"].rpartition(".")[2])
def test_a_configuration_builds_as_it_stands(backend: dict[str, Any]) -> None:
    import_string(backend["BACKEND"])(**backend.get("CONFIG", {}))


@pytest.fixture(params=CONFIGURATIONS, ids=lambda backend: backend["BACKEND"].rpartition(".")[2])
def layers(request: pytest.FixtureRequest, hosts: list[str], prefix: str) -> dict[str, Any]:
    """A configuration with a prefix and servers of the test run."""
    config = {**request.param.get("CONFIG", {}), "prefix": prefix}
    if "hosts" in config:
        config["hosts"] = hosts[: len(config["hosts"])]
    return {"default": {"BACKEND": request.param["BACKEND"], "CONFIG": config}}


def test_messages_travel_through_a_configuration(layers: dict[str, Any], run: Run) -> None:
    async def travel() -> None:
        layer: Any = get_channel_layer()
        own = await layer.new_channel()
        await layer.group_add("room", own)
        async with asyncio.timeout(10):
            for normal in ("thumbnails", "video.cut"):
                await layer.send(normal, {"type": "job"})
                assert await layer.receive(normal) == {"type": "job"}
            await layer.send(own, {"type": "direct"})
            assert await layer.receive(own) == {"type": "direct"}
            await layer.group_send("room", {"type": "group"})
            assert await layer.receive(own) == {"type": "group"}
        await layer.close()

    with override_settings(CHANNEL_LAYERS=layers):
        run(travel())


def test_the_two_shells(layers: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (block for block in texts.code(texts.tree(README), "python") if '"hello"' in block)
    with override_settings(CHANNEL_LAYERS=layers):
        exec(first, {})
        exec(second, {})
    assert capsys.readouterr().out == "{'type': 'greeting', 'text': 'Good morning'}\n"


# The rest


def test_counters(layers: dict[str, Any]) -> None:
    section = texts.tree(ERRORS)
    assert texts.first_cells(section)[0] == list(KEYS)
    (block,) = texts.code(section, "python")
    namespace: dict[str, Any] = {}
    exec(block, namespace)
    with override_settings(CHANNEL_LAYERS=layers):
        assert set(async_to_sync(namespace["dropped"])().values()) == {0}


def test_errors() -> None:
    errors = texts.first_cells(texts.tree(ERRORS))[1]
    internal = {"HybridLayerError", "Undecodable"}
    assert set(errors) == set(exceptions.__all__) - internal
    for row in texts.tree(ERRORS).findall(nodes.row):
        error = getattr(exceptions, row[0].astext(), None)
        also = [word.astext() for word in row[1].findall(nodes.literal) if row[1].astext().startswith("also")]
        if error is not None and also:
            assert also[0] in {base.__name__ for base in error.__mro__}, row[0].astext()
