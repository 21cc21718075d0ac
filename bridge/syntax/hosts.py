"""Hosts with their ports as addresses write them (RFC 3986 §3.2.2)."""

from __future__ import annotations


def join_host_port(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
