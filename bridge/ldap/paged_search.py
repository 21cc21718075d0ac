"""Listings: every entry of some searches, page by page, with the proof that none is missing (RFC 2696).

A listing that can't be proven complete raises; there is no other way to its end. Knows nothing of users.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.directory import Scope
from bridge.errors import SearchIncomplete
from bridge.events import ListingProgressed
from bridge.ldap import messages
from bridge.ldap.ranges import complete_ranges
from bridge.ldap.references import find_needed, server_of
from bridge.ldap.results import SUCCESS, check_entries, describe_place, search_error
from bridge.syntax.ber import BerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bridge.directory import Entry, RootDSE, SearchRequest
    from bridge.events import Observer
    from bridge.ldap.connection import Connection, Exchange
    from bridge.ldap.messages import Response
    from bridge.ldap.pace import Pace
    from bridge.ldap.settings import LdapSettings


_LOOK_INTO_LOG = "Look into the server's own log."
_OTHER_PRESET = (
    "389 Directory Server and Samba have one cookie for all pages: if it is one of them, set preset 389ds or samba. "
    "Otherwise look into the server's own log."
)


@dataclass(frozen=True, slots=True)
class _Page:
    entries: list[Entry]
    cookie: bytes
    """Empty on the last page."""


class _Progress:
    """Whether the server goes on from page to page of one search, instead of handing out the same for ever.

    Its cookies show it, each of which comes once, and each page brings something. 389 DS and Samba have one cookie for
    all pages, the number of the search: there, no page begins with the entry with which an earlier one began. Their
    pages may have gaps: at 389 DS where the database of a branch ends, at Samba where somebody was deleted meanwhile.
    """

    def __init__(self, settings: LdapSettings) -> None:
        self._repeats_cookies = settings.repeats_cookies
        self._seen: set[object] = set()

    def find_fault(self, cookie: bytes, exchange: Exchange) -> tuple[str, str] | None:
        """What is wrong with a page that is not the last one, and what to do about it; or None."""
        if self._repeats_cookies:
            mark: object = exchange.entries[0].dn if exchange.entries else None
            fault = "two pages began with the same entry", _LOOK_INTO_LOG
        elif exchange.entries or exchange.references:
            mark, fault = cookie, ("the server handed out the same cookie twice", _OTHER_PRESET)
        else:
            return "a page before the last one came without entries", _LOOK_INTO_LOG
        if mark in self._seen:
            return fault
        if mark is not None:
            self._seen.add(mark)
        return None


class PagedSearch:
    """Searches read page by page on one connection; an `EntryStream`."""

    def __init__(
        self,
        connection: Connection,
        settings: LdapSettings,
        root: RootDSE | None,
        *,
        pace: Pace,
        observe: Observer,
        page_timeout_s: float,
    ) -> None:
        """A page that takes longer than `page_timeout_s` ends the listing, so that another server can be asked."""
        self._page_timeout_s = page_timeout_s
        self._connection = connection
        self._pace = connection.pace = pace
        self._settings = settings
        self._observe = observe
        self._asks_for_pages = root is None or messages.PAGED_RESULTS in root.supported_controls
        self.server = connection.peer.server
        self.page_count = 0
        self.entry_count = 0
        self._received_bytes = 0
        self.ignored_reference_count = 0

    async def read(self, searches: Sequence[SearchRequest]) -> AsyncIterator[Sequence[Entry]]:
        """The entries of some searches, one after the other, each proven complete."""
        for search in searches:
            async for entries, entry_bytes in self._read_pages(search):
                start = 0
                while start < len(entries):
                    end = start + self._pace.portion_count(entry_bytes)
                    yield entries[start:end]
                    start = end
                    await self._pace.breathe()

    async def _read_pages(self, search: SearchRequest) -> AsyncIterator[tuple[list[Entry], float]]:
        """The entries of each page, and how many octets one of them has on average."""
        progress = _Progress(self._settings)
        exchange = self._request_page(search, b"")
        while True:
            page = await self._receive_page(search, exchange, progress)
            entry_bytes = exchange.received_bytes / max(len(page.entries), 1)
            if page.cookie:
                # The server works on the next page while this one is being mapped.
                exchange = self._request_page(search, page.cookie)
            yield await complete_ranges(page.entries, self._connection, self._settings.limits), entry_bytes
            if not page.cookie:
                return

    def _is_paged(self, search: SearchRequest) -> bool:
        """Whether the answer comes in pages. One entry at most needs none, and 389 DS sends no control without any."""
        return self._asks_for_pages and search.scope is not Scope.BASE

    def _request_page(self, search: SearchRequest, cookie: bytes) -> Exchange:
        controls = messages.write_paging(self._settings.page_size_count, cookie) if self._is_paged(search) else b""
        return self._connection.send_search(search, controls)

    async def _receive_page(self, search: SearchRequest, exchange: Exchange, progress: _Progress) -> _Page:
        """The page, once everything about it has been found in order."""
        response = await self._wait(exchange)
        if response.result_code != SUCCESS or response.referrals:
            raise search_error(response, self._connection.peer, search)
        if response.diagnostic_message:
            raise self._incomplete(search, "a page came with a message", said=response.diagnostic_message)
        self._check_references(search, exchange)
        check_entries(exchange.entries, search, self._connection)
        cookie = self._read_cookie(search, response)
        if cookie and (fault := progress.find_fault(cookie, exchange)):
            raise self._incomplete(search, *fault)
        self._count(search, exchange)
        return _Page(exchange.entries, cookie)

    async def _wait(self, exchange: Exchange) -> Response:
        try:
            async with asyncio.timeout(self._page_timeout_s):
                return await self._connection.wait(exchange)
        except TimeoutError as error:
            detail = f"a page took longer than {self._page_timeout_s:.1f} s"
            raise self._connection.peer.unavailable(detail, remedy="Check the load of the server.") from error

    def _read_cookie(self, search: SearchRequest, response: Response) -> bytes:
        if messages.PAGED_RESULTS in response.controls:
            try:
                return messages.read_paging_cookie(response.controls[messages.PAGED_RESULTS])
            except BerError as error:
                raise self._incomplete(search, f"the paged-results control can't be read: {error}") from error
        if self._is_paged(search):
            raise self._incomplete(search, "the paged-results control is missing, so the answer may have been cut")
        return b""

    def _check_references(self, search: SearchRequest, exchange: Exchange) -> None:
        if not exchange.references:
            return
        needed = find_needed(exchange.references, self._settings)
        if needed is not None:
            raise self._incomplete(
                search,
                f"the server refers to {server_of(needed)} for some of the entries",
                "Configure that server as a directory, or set `referrals: ignore` if nobody in there matters.",
                subject=needed,
            )
        self.ignored_reference_count += len(exchange.references)

    def _count(self, search: SearchRequest, exchange: Exchange) -> None:
        self.page_count += 1
        self.entry_count += len(exchange.entries)
        self._received_bytes += exchange.received_bytes
        self._observe(ListingProgressed(self._settings.directory, self.page_count, self.entry_count))
        limits = self._settings.limits
        if self.page_count > limits.page_count or self.entry_count > limits.entry_count:
            raise self._incomplete(
                search,
                f"more than {limits.page_count} pages or {limits.entry_count} entries came",
                "Narrow users.filter.",
            )
        if self._received_bytes > limits.listing_bytes:
            raise self._incomplete(search, f"more than {limits.listing_bytes} bytes came", "Narrow users.filter.")

    def _incomplete(
        self,
        search: SearchRequest,
        detail: str,
        remedy: str = _LOOK_INTO_LOG,
        *,
        said: str = "",
        subject: str = "",
    ) -> SearchIncomplete:
        """`said` are the server's own words, and `subject` whatever else may name a person."""
        peer = self._connection.peer
        where, entry = describe_place(search)
        return SearchIncomplete(
            f"{detail} ({where})",
            directory=peer.directory,
            server=peer.server,
            diagnostic_message=said,
            remedy=remedy,
            subject=", ".join(filter(None, (entry, subject))),
        )
