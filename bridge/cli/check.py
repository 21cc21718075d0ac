"""`check`: everything that the configuration names, tried, with a remedy for what is wrong."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from bridge.cli.content_checks import CERTIFICATE_WARNING_DAYS, check_contents
from bridge.cli.drafts import open_draft
from bridge.cli.file_checks import check_files, check_files_in_use, require_what_is_tried, tell_hidden, tell_unread
from bridge.cli.findings import Check
from bridge.cli.options import FINDINGS, config_option, json_option
from bridge.cli.output import is_terminal, print_json
from bridge.cli.tables import Column, show_table
from bridge.clock import SystemClock
from bridge.config.loading import load
from bridge.errors import BridgeError, DirectoryError, SecretWithheld
from bridge.ldap.account_notices import AccountNotices
from bridge.ldap.discovery import discover_servers
from bridge.ldap.messages import PAGED_RESULTS
from bridge.ldap.root_dse import read_root_dse
from bridge.ldap.service_account import ServiceAccount
from bridge.ldap.service_secrets import RefusedSecrets
from bridge.ldap.transport import open_connection
from bridge.run.build import ldap_settings, make_source, snapshot_policy
from bridge.run.permissions import permission_warnings
from bridge.run.service import ABOUT_STRANGERS
from bridge.sources.directory.listing import refuse_if_empty, take_listing
from bridge.sources.directory.lockout import budget_of, read_lockout, window_of
from bridge.sources.directory.replicas import STRANGER_REMEDY, choose_sample, count_known, describe_stranger
from bridge.syntax.filters import render_filter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bridge.config.loading import Loaded
    from bridge.config.schema import AuthSection
    from bridge.directory import RootDSE
    from bridge.ldap.connection import Connection
    from bridge.ldap.settings import LdapSettings, ServerAddress
    from bridge.model import User
    from bridge.sources.directory.listing import DirectoryListing
    from bridge.sources.directory.lockout import LockoutPolicy
    from bridge.sources.directory.source import DirectorySource

_DAY_S = 86_400
_SAMPLES_COUNT = 3
_COLORS = {"ok": "green", "warning": "yellow", "failed": "red"}
_COLUMNS = (
    Column("Check"),
    Column("Directory"),
    Column("Server"),
    Column("Result", styles=_COLORS),
    Column("What was found", is_prose=True),
)


@click.command("check")
@config_option
@click.option("--offline", is_flag=True, help="Only the configuration and its files.")
@json_option
def check_command(config_path: str, offline: bool, as_json: bool) -> None:
    """Check the configuration and what it names."""
    loaded = load(config_path, os.environ, needs=())
    found = asyncio.run(check_directories(loaded, offline=offline))
    sys.exit(FINDINGS if show_checks(found, as_json=as_json) else 0)


async def check_directories(loaded: Loaded, *, offline: bool) -> list[Check]:
    """What was found, in the order in which it was tried."""
    found = [Check("configuration", "", "", "ok", "valid")]
    warnings = (*loaded.warnings, *permission_warnings(loaded, os.environ))
    found += [Check("configuration", "", "", "warning", warning) for warning in warnings]
    if offline:
        return [*found, *tell_unread(loaded), *check_files(loaded, os.environ), *check_contents(loaded)]
    require_what_is_tried(loaded)
    found += [
        *tell_hidden(loaded),
        *check_files(loaded, os.environ),
        *check_contents(loaded),
        *await check_files_in_use(loaded, os.environ),
    ]
    # Security: shared by all that this run binds, which sends a wrong password once, to one server.
    refused = RefusedSecrets(SystemClock(), witness_count=1)
    for position in range(len(loaded.configuration.directories)):
        settings = ldap_settings(loaded, position)
        notices = AccountNotices(settings.directory, SystemClock(), lambda _event: None)
        account = ServiceAccount(settings, refused, notices)
        try:
            servers = settings.servers or await discover_servers(settings)
        except BridgeError as error:
            found.append(_failed("discovery", settings.directory, "", error))
            continue
        for server in servers:
            try:
                found += await _check_server(settings, account, server)
                found += _tell_notice(notices, server)
            except BridgeError as error:
                found.append(_failed("server", settings.directory, server.url, error))
        found += await _check_users(loaded, position, refused)
    found += await _check_state(loaded)
    return found


def _tell_notice(notices: AccountNotices, server: ServerAddress) -> Iterator[Check]:
    """What the server has said of the account's password when it took it."""
    if (problem := notices.of(server.url)) is not None:
        yield Check("account", problem.directory, server.url, "warning", problem.message, problem.remedy)


async def _check_state(loaded: Loaded) -> list[Check]:
    """Listings that are kept of directories which the configuration doesn't have any more."""
    store = open_draft(loaded)
    known = {section.name for section in loaded.configuration.directories}
    try:
        names = await store.directories()
    except BridgeError as error:
        return [_failed("state", "", "", error)]
    finally:
        await store.aclose()
    message = "a listing is kept of a directory that is not configured"
    return [Check("state", name, "", "warning", message, ABOUT_STRANGERS) for name in names if name not in known]


async def _check_server(settings: LdapSettings, account: ServiceAccount, server: ServerAddress) -> list[Check]:
    """What is found at one server. Raises a `BridgeError` where it can't be asked."""
    try:
        connection = await account.connect(server)
    except SecretWithheld as error:
        return await _check_unbound(settings, server, error)
    try:
        root = await read_root_dse(connection)
        return [
            Check("server", settings.directory, server.url, "ok", "reachable, and the service account can bind"),
            _check_encryption(connection),
            _check_paging(settings.directory, server.url, root),
        ]
    finally:
        connection.close()


async def _check_unbound(settings: LdapSettings, server: ServerAddress, withheld: SecretWithheld) -> list[Check]:
    """What is found without a bind, as the account was refused elsewhere in this run."""
    connection = await open_connection(settings, server)
    try:
        message = (
            f"reachable; the bind was not tried, as the account was refused by {' and '.join(withheld.refused_at)}"
        )
        remedy = "Mend that first: each further try might lock the account."
        return [
            Check("server", settings.directory, server.url, "warning", message, remedy),
            _check_encryption(connection),
        ]
    finally:
        connection.close()


def _check_encryption(connection: Connection) -> Check:
    directory, server, tls = connection.peer.directory, connection.peer.server, connection.ssl_object
    if tls is None:
        return Check("tls", directory, server, "warning", "nothing is encrypted", "Use ldaps:// or StartTLS.")
    return _check_certificate(directory, server, tls)


def _check_paging(directory: str, server: str, root: RootDSE | None) -> Check:
    if root is None:
        return Check("paging", directory, server, "warning", "the root DSE can't be read, so paging is assumed")
    if PAGED_RESULTS in root.supported_controls:
        return Check("paging", directory, server, "ok", f"offered by {root.vendor or 'the server'}")
    return Check("paging", directory, server, "warning", "not offered: everybody must fit into one answer")


def _check_certificate(directory: str, server: str, tls: ssl.SSLObject) -> Check:
    certificate = tls.getpeercert()
    if not certificate:
        return Check("tls", directory, server, "ok", f"{tls.version()}, the certificate has the configured fingerprint")
    ends_s = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    days = int((ends_s - time.time()) // _DAY_S)
    message = f"{tls.version()}, the certificate is good for {days} more days"
    if days < CERTIFICATE_WARNING_DAYS:
        return Check("tls", directory, server, "warning", message, "Renew the certificate on the server.")
    return Check("tls", directory, server, "ok", message)


async def _check_users(loaded: Loaded, position: int, refused: RefusedSecrets) -> list[Check]:
    source = make_source(loaded, position, lambda _event: None, refused=refused)
    removals = snapshot_policy(loaded.configuration, position).removals
    sample = await _sample_of_kept(loaded, source)
    try:
        bases = await source.resolve_bases()
        listing = await take_listing(source, None, source.clock)
        refuse_if_empty(source, listing, allow_empty=removals.allow_empty)
        policy = await read_lockout(source)
        replicas = await check_replicas(source, sample or choose_sample(source, listing.roster, ()))
    except BridgeError as error:
        return [_failed("users", source.name, "", error), *await check_replicas(source, sample)]
    finally:
        await source.directory.aclose()
    return [
        Check("base", source.name, "", "ok", "; ".join(bases)),
        *replicas,
        *_describe_groups(source),
        *_describe_users(listing),
        describe_lockout(source.name, policy, loaded.configuration.auth),
    ]


async def _sample_of_kept(loaded: Loaded, source: DirectorySource) -> Sequence[User]:
    """A handful of those who were listed last, as far as that is known."""
    store = open_draft(loaded)
    try:
        snapshot = await store.load(source.name)
    except BridgeError:
        return ()  # what is wrong with the state is told apart
    finally:
        await store.aclose()
    return choose_sample(source, snapshot.roster, snapshot.guard.absent_ids) if snapshot is not None else ()


async def check_replicas(source: DirectorySource, users: Sequence[User]) -> list[Check]:
    """Whether each server knows a handful of listed users by their ids."""
    if not users:
        return []
    counts: dict[str, int] = {}
    found: list[Check] = []
    for server in source.directory.servers:
        try:
            counts[server] = await count_known(source, users, server)
        except DirectoryError as error:
            found.append(Check("replica", source.name, server, "warning", f"can't be asked: {error.full_detail}"))
    is_known = any(counts.values())
    return found + [
        _describe_replica(source, server, (count, len(users)), is_known=is_known) for server, count in counts.items()
    ]


def _describe_replica(source: DirectorySource, server: str, counts: tuple[int, int], *, is_known: bool) -> Check:
    """What it means that a server knows so many of so many users; `is_known`: some server knows somebody."""
    count, total = counts
    name, message = source.name, f"knows {count} of {total} listed users"
    if count == total:
        return Check("replica", name, server, "ok", message)
    if count:
        remedy = "Check its replication, unless the others were deleted a moment ago."
        return Check("replica", name, server, "warning", message, remedy)
    if is_known:
        return Check("replica", name, server, "failed", describe_stranger(source, total), STRANGER_REMEDY)
    remedy = "Nobody is known by these ids any more: look at `diff`, and whether attributes.id was another one before."
    return Check("replica", name, server, "warning", message, remedy)


def describe_lockout(directory: str, policy: LockoutPolicy | None, auth: AuthSection) -> Check:
    """When the directory locks accounts, as far as it shows that, and how many wrong passwords are tried."""
    budget, window_s = budget_of(auth.max_failures, policy), window_of(auth.window_s, policy)
    follows = f"{budget} different wrong passwords of a user are tried within {window_s / 60:g} minutes"
    if policy is None:
        message = f"the directory doesn't show when it locks accounts; {follows}"
        remedy = f"Set auth.max_failures below the directory's threshold where that is {budget} or less."
        return Check("lockout", directory, "", "ok", message, remedy)
    if policy.threshold_count == 0:
        return Check("lockout", directory, "", "ok", f"no wrong password locks an account ({policy.source}); {follows}")
    counted = "until a success" if policy.window_s is None else f"for {policy.window_s / 60:g} minutes"
    message = (
        f"wrong password number {policy.threshold_count} locks an account, each counts {counted} "
        f"({policy.source}); {follows}"
    )
    if budget < policy.threshold_count:
        return Check("lockout", directory, "", "ok", message)
    return Check("lockout", directory, "", "warning", message, _lower_budget(policy.threshold_count))


def _lower_budget(threshold_count: int) -> str:
    if threshold_count == 1:
        return "Raise the directory's threshold: every wrong password locks."
    return f"Set auth.max_failures: auto, or {threshold_count - 1} at most."


def _describe_groups(source: DirectorySource) -> Iterator[Check]:
    groups = source.resolved_groups
    for group in (*groups.included, *groups.excluded):
        count = len(group.member_keys) + len(group.member_uids)
        inside = f", and {len(group.dns) - 1} groups inside of it" if len(group.dns) > 1 else ""
        yield Check("group", source.name, "", "ok", f"{group.dn}: {count} members are named{inside}")
    for clause in groups.clauses:
        yield Check("group", source.name, "", "ok", f"the server compares {render_filter(clause.filter)}")


def _describe_users(listing: DirectoryListing) -> Iterator[Check]:
    report, roster = listing.report, listing.roster
    name, server = report.directory, report.server
    yield Check("users", name, server, "ok", f"{report.user_count} users of {report.entry_count} entries")
    for reason in report.skipped:
        examples = ", ".join(reason.examples)
        yield Check("entries", name, server, "warning", f"{reason.reason}: {reason.count}, such as {examples}")
    for user_name in report.collisions[:_SAMPLES_COUNT]:
        message = f"more than one entry claims the user name {user_name}"
        yield Check("entries", name, server, "warning", message, "Make user names unique.")
    for user in roster[:_SAMPLES_COUNT]:
        addresses = ", ".join(user.email_addresses) or "no address"
        yield Check("sample", name, server, "ok", f"{user.user_name}: {user.full_name or 'no name'}, {addresses}")
    with_name = sum(user.full_name is not None for user in roster)
    with_address = sum(bool(user.email_addresses) for user in roster)
    total = max(1, len(roster))
    filled = f"fullName {100 * with_name // total} %, emailAddresses {100 * with_address // total} %"
    yield Check("attributes", name, server, "ok" if with_address else "warning", f"filled: {filled}")


def _failed(name: str, directory: str, server: str, error: BridgeError) -> Check:
    return Check(name, directory, server, "failed", f"{error.summary}: {error.full_detail}", error.remedy)


def _row(check: Check) -> tuple[str | tuple[str, ...], ...]:
    place = (check.name, check.directory, check.server, check.result)
    return (*place, (check.message, check.remedy)) if is_terminal() else (*place, check.message, check.remedy)


def show_checks(checks: list[Check], *, as_json: bool) -> bool:
    """Prints what was found; True where something failed."""
    failed = any(check.result == "failed" for check in checks)
    if as_json:
        print_json({"ok": not failed, "checks": [asdict(check) for check in checks]})
        return failed
    show_table(_COLUMNS, list(map(_row, checks)))
    return failed
