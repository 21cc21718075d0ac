"""What each answer to a service bind is taken for, by how long nothing is sent after it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from bridge.demo import wire
from bridge.demo.server import Session
from bridge.errors import DirectoryError, DirectoryRefused, DirectoryUnavailable, SecretWithheld
from bridge.ldap.messages import PASSWORD_POLICY
from bridge.ldap.service_account import ServiceAccount
from bridge.ldap.service_secrets import RefusedSecrets
from bridge.ldap.settings import LdapSettings, SaslSettings, ServerAddress
from bridge.model import Secret
from bridge.renewal import Renewed
from bridge.syntax import ber
from tests.faults.server import FaultyServer, small_directory
from tests.support.manual_clock import ManualClock
from tests.support.slapd import READER

AD = "80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data {}, v1db1"
SECRET_S, ACCOUNT_S, SET_UP_S = 1_800.0, 300.0, 30.0


def policy_error(number: int) -> bytes:
    """The controls of an answer: draft-behera-ldap-password-policy-11 §6.2."""
    value = ber.write_element(ber.SEQUENCE, ber.write_element(0x81, bytes((number,))))
    control = ber.write_element(ber.SEQUENCE, ber.write_octets(PASSWORD_POLICY.encode()), ber.write_octets(value))
    return ber.write_element(0xA0, control)


class Refusing(FaultyServer):
    """Answers each service bind in the same way."""

    def __init__(self, code: int, message: str = "", controls: bytes = b"") -> None:
        async def on_bind(session: Session, received: wire.Message, _request: wire.ReceivedBind) -> bool:
            answer = wire.write_result(received.id, wire.BIND_RESPONSE, code, message, controls=controls)
            session._writer.write(answer)
            return code != 0

        super().__init__(small_directory("anna"), on_bind=on_bind if code else None)

    @property
    def address(self) -> ServerAddress:
        return ServerAddress("ldap", "127.0.0.1", self.port)


@asynccontextmanager
async def account(*servers: Refusing) -> AsyncIterator[tuple[ServiceAccount, ManualClock]]:
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(server)
        addresses = tuple(server.address for server in servers)
        settings = LdapSettings("company", addresses, bind_dn=READER, bind_password=Secret(b"reads-only"))
        yield ServiceAccount(settings, RefusedSecrets(clock)), clock


@pytest.mark.parametrize(
    ("code", "message", "controls", "pause_s"),
    [
        # about the password
        (49, "", b"", SECRET_S),
        (49, AD.format("52e"), b"", SECRET_S),
        (49, "Simple Bind Failed: NT_STATUS_LOGON_FAILURE", b"", SECRET_S),
        (49, "NDS error: failed authentication (-669)", b"", SECRET_S),
        # about the account
        (49, AD.format("775"), b"", ACCOUNT_S),
        (49, AD.format("533"), b"", ACCOUNT_S),
        (49, AD.format("532"), b"", ACCOUNT_S),
        (49, AD.format("701"), b"", ACCOUNT_S),
        (49, AD.format("530"), b"", ACCOUNT_S),
        (49, "", policy_error(1), ACCOUNT_S),
        (49, "", policy_error(0), ACCOUNT_S),
        (19, "Exceed password retry limit. Please try later.", policy_error(1), ACCOUNT_S),
        (19, "", b"", ACCOUNT_S),
        (53, "Entry permanently locked.", b"", ACCOUNT_S),
        # about neither
        (7, "", b"", SET_UP_S),
        (8, "BindSimple: Transport encryption required.", b"", SET_UP_S),
        (13, "confidentiality required", b"", SET_UP_S),
        (32, "", b"", SET_UP_S),
        (34, "", b"", SET_UP_S),
        (48, "", b"", SET_UP_S),
        (50, "", b"", SET_UP_S),
        (53, "unwilling to perform simple authentication", b"", SET_UP_S),
        (49, AD.format("525"), b"", SET_UP_S),
    ],
)
async def test_refusal_is_remembered_by_what_it_is_about(
    code: int, message: str, controls: bytes, pause_s: float
) -> None:
    """A wrong password for half an hour, a locked account for five minutes, the rest for 30 s."""
    server = Refusing(code, message, controls)
    async with account(server) as (found, clock):
        with pytest.raises(DirectoryRefused):
            await found.connect(server.address)
        clock.advance(pause_s - 1)
        with pytest.raises(SecretWithheld) as caught:
            await found.connect(server.address)
        assert (caught.value.result_code, caught.value.refused_at) == (code, (server.address.url,))
        assert caught.value.remedy
        assert len(server.binds) == 1
        clock.advance(2)
        with pytest.raises(DirectoryRefused):
            await found.connect(server.address)
        assert len(server.binds) == 2


@pytest.mark.parametrize("code", [1, 10, 51, 52, 80])
async def test_what_says_nothing_of_the_account_is_not_remembered(code: int) -> None:
    """Which server is asked next is no business of the account."""
    server = Refusing(code)
    async with account(server) as (found, _):
        for _ in range(3):
            with pytest.raises(DirectoryUnavailable):
                await found.connect(server.address)
        assert len(server.binds) == 3


async def test_withheld_secret_is_not_even_worth_a_connection() -> None:
    """Nothing goes over the wire; the error tells which server was meant, and which have refused."""
    first, second, third = Refusing(49), Refusing(49, AD.format("52e")), Refusing(0)
    async with account(first, second, third) as (found, _):
        for server in (first, second):
            with pytest.raises(DirectoryRefused, match="invalidCredentials"):
                await found.connect(server.address)
        third.refuses = True
        with pytest.raises(SecretWithheld) as caught:
            await found.connect(third.address)
        assert (caught.value.server, third.binds) == (third.address.url, [])
        assert AD.format("52e") not in caught.value.message
        assert caught.value.full_message == (
            f"The directory refuses the bridge (directory company, {third.address.url}): the service account is not "
            "bound before 1970-01-12 14:16:40 UTC, so that the directory does not lock it: its password was refused by "
            f"{first.address.url} at 1970-01-12 13:46:40 UTC (invalidCredentials (49)) and "
            f"{second.address.url} at 1970-01-12 13:46:40 UTC (invalidCredentials (49), {AD.format('52e')}). "
            "Check bind.dn and the password of the service account, and that the account is neither locked nor expired. "
            "A file of the password that has changed counts at once. Restart the service if the configuration itself "
            "has changed, or have the account tried at once by `mailstore-bridge refresh`."
        )


async def test_trial_costs_what_any_bind_costs() -> None:
    """A server that was set aside is tried with the same account, so the refusal there counts."""
    first, second, third = Refusing(49), Refusing(49), Refusing(49)
    async with account(first, second, third) as (found, _):
        for server in (first, second, third):
            for _ in range(2):
                with pytest.raises(DirectoryError):
                    await found.connect(server.address)
        assert [len(server.binds) for server in (first, second, third)] == [1, 1, 0]


async def test_anonymous_connections_are_never_held_back() -> None:
    """Nobody is bound, so nothing can be refused."""
    server = Refusing(49)
    async with server:
        found = ServiceAccount(LdapSettings("company", (server.address,)), RefusedSecrets(ManualClock()))
        found.forgive_refusal()
        for _ in range(2):
            (await found.connect(server.address)).close()
        assert server.binds == []


async def test_account_bound_by_a_certificate_is_tried_at_once_when_that_has_changed(tmp_path: Path) -> None:
    """What is refused is this certificate of this account; another one is another chance, and so is a key table's key."""
    file = tmp_path / "client.pem"
    file.write_text("first")
    certificate = Renewed("tls", [str(file)], lambda _contents: ssl.create_default_context())
    server = Refusing(49)
    async with server:
        settings = LdapSettings("company", (server.address,), sasl=SaslSettings("EXTERNAL"), tls=certificate)
        found = ServiceAccount(settings, RefusedSecrets(ManualClock()))
        for content in ("first", "second", "third"):
            file.write_text(content)
            with pytest.raises(DirectoryRefused) as caught:
                await found.connect(server.address)
            assert not isinstance(caught.value, SecretWithheld)
            with pytest.raises(SecretWithheld):
                await found.connect(server.address)


async def test_refusal_has_the_file_looked_at_before_anything_is_told(tmp_path: Path) -> None:
    """Password and file are changed while the bind is under way: the request goes on with the new one."""
    file = tmp_path / "password"
    file.write_text("old")
    sent: list[bytes | None] = []

    async def on_bind(session: Session, received: wire.Message, request: wire.ReceivedBind) -> bool:
        sent.append(request.password)
        if request.password == b"old":
            file.write_text("reads-only")
            session._writer.write(wire.write_result(received.id, wire.BIND_RESPONSE, 49))
        return request.password == b"old"

    async with FaultyServer(small_directory("anna"), on_bind=on_bind) as server:
        address = ServerAddress("ldap", "127.0.0.1", server.port)
        password = Renewed("bind", [str(file)], lambda contents: Secret(contents[0]))
        settings = LdapSettings("company", (address,), bind_dn=READER, bind_password=password)
        connection = await ServiceAccount(settings, RefusedSecrets(ManualClock())).connect(address)
        connection.close()
        assert sent == [b"old", b"reads-only"]
