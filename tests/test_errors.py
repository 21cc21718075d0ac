"""Errors tell what happened to everybody, and to whom it happened only to those who may know."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from bridge.documents import render_health
from bridge.errors import (
    BridgeError,
    ConfigurationError,
    DirectoryError,
    DirectoryUnavailable,
    SearchIncomplete,
    ServiceError,
    summarize,
)
from bridge.mailstore import render_error
from bridge.model import EndpointHealth, Health, Secret, Status, error_problem
from tests.support.bridges import configuration, running_bridge
from tests.support.slapd import free_port

NAME = "uid=kanarie,dc=example"


def make(
    kind: type[DirectoryError] = SearchIncomplete, server: str = "ldap://a", subject: str = NAME
) -> DirectoryError:
    return kind("an entry broke", directory="d", server=server, subject=subject, diagnostic_message=f"see {NAME}")


def test_message_names_nobody_and_the_full_one_everybody() -> None:
    """The subject and the server's words come after what happened, before what to do."""
    error = DirectoryError("it broke", directory="d", subject=NAME, diagnostic_message="bad luck", remedy="Mend it.")
    assert error.message == str(error) == "The directory can't be used (directory d): it broke. Mend it."
    expected = f"The directory can't be used (directory d): it broke, bad luck ({NAME!r}). Mend it."
    assert error.full_message == error.kept().full_message == expected
    assert (error.kept().subject, error.detail) == (NAME, "it broke")


def test_error_without_a_subject_says_the_same_to_all() -> None:
    """Nothing is added where there is nothing to add."""
    for error in (
        BridgeError("it broke", remedy="Mend it"),
        DirectoryError("it broke", directory="d"),
        ConfigurationError(("one: bad", "two: worse")),
        ServiceError("internal", "The service said so.", is_temporary=True),
    ):
        assert error.full_message == error.message


@pytest.mark.parametrize(
    "kinds", [(SearchIncomplete,), (SearchIncomplete,) * 2, (SearchIncomplete, DirectoryUnavailable)]
)
def test_error_for_several_servers_names_somebody_only_in_full(kinds: tuple[type[DirectoryError], ...]) -> None:
    """Whether it stands for one, for all alike, or for each with its own trouble; as it is kept, too."""
    failures = [make(kind, f"ldap://{number}", f"{NAME},dc={number}") for number, kind in enumerate(kinds)]
    error = summarize(failures)
    for each in (error, error.kept(), summarize([error])):
        assert "kanarie" not in each.message
        assert each.full_message.count("an entry broke") == each.message.count("an entry broke")
        assert f"{NAME},dc=0" in each.full_message
    if len(set(kinds)) > 1:
        assert all(f"{NAME},dc={number}" in error.full_message for number in range(len(kinds)))


def test_health_names_somebody_at_the_control_socket_alone() -> None:
    """The same problem is shown without names to whoever asks the admin listener."""
    problem = error_problem(make(), "d", 0.0, code="server_failing", beginning="ldap://a is set aside: ")
    health = Health((EndpointHealth("/m", Status.DEGRADED, (problem,)),))
    shown, told = str(render_health(health)), str(render_health(health, with_names=True))
    assert "kanarie" not in shown
    assert "ldap://a is set aside: " in shown
    assert "kanarie" in told
    assert problem.code == "server_failing"


def test_caller_with_a_password_is_told_whom_it_is_about() -> None:
    """The administrator reads it in MailStore; a bug says nothing there."""
    assert b"kanarie" in render_error(make(), "1").body
    assert b"kanarie" not in render_error(BridgeError("odd", subject=NAME), "1").body


@pytest.mark.parametrize("asks", ["list", "auth"])
async def test_errors_that_were_answered_are_gone(tmp_path: Path, asks: str) -> None:
    """Without waiting for the collector: each error would hold the frames that it has passed through."""
    async with running_bridge(configuration(f"ldap://127.0.0.1:{free_port()}", tmp_path)) as client:
        bridge = client.service.bridge

        async def ask() -> None:
            with pytest.raises(DirectoryUnavailable):
                await (
                    bridge.list_users("/mailstore", compressed=False)
                    if asks == "list"
                    else bridge.authenticate("/mailstore", "anna", Secret(b"x"))
                )

        def count() -> int:
            return sum(isinstance(each, BridgeError) for each in gc.get_objects())

        await ask()
        gc.collect()
        before_count = count()
        gc.disable()
        try:
            for _ in range(3):
                await asyncio.gather(*(ask() for _ in range(20)))
            held_count = count()
            gc.collect()
            assert held_count == count()
            assert held_count < before_count + 10
        finally:
            gc.enable()
