"""Changes Samba's database, described as JSON on standard input. Run by Debian's Python, in whose modules Samba's are."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import ldb
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB

# Lets pwdLastSet be any time: DSDB_CONTROL_PASSWORD_BYPASS_LAST_SET_OID of source4/dsdb/samdb/samdb.h.
_ANY_LAST_SET = "local_oid:1.3.6.1.4.1.7165.4.3.20:0"


def open_database(folder: str) -> SamDB:
    parameters = LoadParm()
    file = f"{folder}/etc/smb.conf"
    parameters.load(file)
    return SamDB(url=f"{folder}/private/sam.ldb", session_info=system_session(), lp=parameters)


def values_of(given: list[Any]) -> list[Any]:
    return [bytes.fromhex(value["hex"]) if isinstance(value, dict) else value for value in given]


def modify(database: SamDB, dn: str, attributes: dict[str, list[Any]]) -> None:
    message = ldb.Message(ldb.Dn(database, dn))
    for name, values in attributes.items():
        message[name] = ldb.MessageElement(values_of(values), ldb.FLAG_MOD_REPLACE, name)
    needs_control = attributes.get("pwdLastSet", ["0"])[0] not in ("0", "-1")
    database.modify(message, [_ANY_LAST_SET] if needs_control else [])


def main() -> None:
    changes = json.load(sys.stdin)
    database = open_database(os.environ["SAMBA_FOLDER"])
    database.transaction_start()
    for dn, attributes in changes["modify"].items():
        modify(database, dn, attributes)
    for dn, attributes in changes["add"]:
        database.add({"dn": dn, **{name: values_of(values) for name, values in attributes.items()}})
    for dn, new_dn in changes["rename"].items():
        database.rename(dn, new_dn)
    for dn in changes["delete"]:
        database.delete(dn)
    database.transaction_commit()


if __name__ == "__main__":
    main()
