"""Presets: what is known of a vendor's directory, as data in `presets/*.yaml`."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from bridge.config.yaml12 import read_yaml
from bridge.directory import Scope
from bridge.mapping import AccountState, IdForm, parse_item
from bridge.model import Rejection
from bridge.sources.directory.groups import GroupRules, GroupWay
from bridge.sources.directory.lockout import LockoutRule
from bridge.syntax.attributes import is_attribute_description
from bridge.syntax.dn import parse_dn
from bridge.syntax.filters import parse_filter, parse_filter_template
from bridge.syntax.times import IntervalForm, TimeForm

if TYPE_CHECKING:
    from collections.abc import Callable


def _parsed_by(parse: Callable[[str], object]) -> AfterValidator:
    """Takes a text only if it is one of those that `parse` reads, as the configuration does."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


def _check_attribute(text: str) -> str:
    if not is_attribute_description(text):
        raise ValueError(f"{text!r} is no name of an attribute")
    return text


_Attribute = Annotated[str, AfterValidator(_check_attribute)]
_Items = tuple[Annotated[str, _parsed_by(parse_item)], ...]


class PresetState(BaseModel):
    """An attribute that tells that an account may not be used; exactly one test, or none: the attribute is there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rejection: Literal[
        "account_disabled", "account_expired", "account_locked", "must_change_password", "not_at_this_time"
    ]
    attribute: _Attribute
    equals: str | None = None
    bit: int | None = None
    past: TimeForm | None = None
    future: TimeForm | None = None
    hint: bool = False
    """It says nothing by itself, and only explains a refused bind."""
    uncompared: bool = False
    """A server that refuses a bind for it has compared no password."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(test is not None for test in (self.equals, self.bit, self.past, self.future)) > 1:
            raise ValueError("takes one of equals, bit, past and future")
        return self

    def build(self) -> AccountState:
        """The state as the mapping tests it."""
        return AccountState(
            *(Rejection(self.rejection), self.attribute, self.equals, self.bit, self.past, self.future),
            is_hint=self.hint,
            is_uncompared=self.uncompared,
        )


class PresetGroups(BaseModel):
    """How it is found out who is in a group, and what groups are made of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    direct: GroupWay = GroupWay.MEMBERS
    """The way for members of the group itself, …"""
    nested: GroupWay = GroupWay.MEMBERS
    """… and for those of the groups inside of it, too."""
    member_of_attribute: str = "memberOf"
    """The attribute of users that holds the DNs of their groups."""
    member_attributes: tuple[str, ...] = ("member", "uniqueMember")
    """Attributes of a group that hold DNs."""
    uid_attributes: tuple[str, ...] = ("memberUid",)
    """Attributes of a group that hold the `user_uid` of users."""
    user_uid: str = "uid"
    gid_attribute: str | None = "gidNumber"
    """An attribute of groups and users alike, by which users have a primary group."""
    classes: tuple[str, ...] = ("groupOfNames", "groupOfUniqueNames", "groupOfMembers", "posixGroup", "group")
    """Object classes of groups that may be inside of others; names that a server doesn't know do no harm."""
    never_empty: tuple[str, ...] = ()
    """Object classes that have members by the server's schema: a group without any is one that can't be read."""
    primary_group: bool = False
    """Whether users are in one more group by primaryGroupID, as in Active Directory."""

    def build(self, include: tuple[str, ...], exclude: tuple[str, ...], way: GroupWay, *, nested: bool) -> GroupRules:
        """The rules for these groups."""
        return GroupRules(
            include=include,
            exclude=exclude,
            way=way,
            nested=nested,
            member_of_attribute=self.member_of_attribute,
            member_attributes=self.member_attributes,
            uid_attributes=self.uid_attributes,
            user_uid=self.user_uid,
            gid_attribute=self.gid_attribute,
            classes=self.classes,
            never_empty=self.never_empty,
            has_primary_group=self.primary_group,
        )


class PresetLockout(BaseModel):
    """Where the directory shows when it locks accounts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: _Attribute
    """The attribute with the number of failures that lock."""
    base: str = "{context}"
    """A DN, in which `{context}` is the naming context of the users, or `{users}`: their bases."""
    scope: Literal["base", "one", "subtree"] = "subtree"
    filter: Annotated[str, _parsed_by(parse_filter)] = "(objectClass=*)"
    enabled: _Attribute | None = None
    """The attribute that says whether the threshold counts."""
    window: _Attribute | None = None
    """The attribute that says how long a failure counts, …"""
    window_form: IntervalForm = IntervalForm.SECONDS
    """… and how it is written."""

    def build(self) -> LockoutRule:
        """The rule as the source reads it."""
        return LockoutRule(
            threshold=self.threshold,
            base=self.base,
            scope=Scope[self.scope.upper()],
            filter=parse_filter(self.filter),
            enabled=self.enabled,
            window=self.window,
            window_form=self.window_form,
        )


class PresetAttributes(BaseModel):
    """The three mappings, each a list of items."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_name: _Items = Field((), alias="userName")
    full_name: _Items = Field((), alias="fullName")
    email_addresses: _Items = Field((), alias="emailAddresses")


class Preset(BaseModel):
    """What a section needs not say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    users_filter: Annotated[str, _parsed_by(parse_filter)]
    users_container: Annotated[str, _parsed_by(parse_dn)] | None = None
    """Where users are below the naming context, if no base is configured; None: anywhere."""
    id: _Attribute | None = None
    """None takes the DN."""
    id_form: IdForm = IdForm.TEXT
    attributes: PresetAttributes
    login_filter: Annotated[str, _parsed_by(parse_filter_template)] | None = None
    """None makes it from userName."""
    account_states: tuple[PresetState, ...] = ()
    groups: PresetGroups = PresetGroups()
    lockout: tuple[PresetLockout, ...] = ()
    """Where the directory shows when it locks accounts: each place, the strictest counts."""
    password_changed: tuple[_Attribute, ...] = ()
    """Attributes that take another value when a password is set."""
    failure_marks: tuple[_Attribute, ...] = ()
    """Attributes that take another value when the server counts a failed bind."""
    ignored_references: tuple[Annotated[str, _parsed_by(parse_dn)], ...] = ()
    """Partitions beside the users' own in which nobody is a person, each by its first RDN: `DC=DomainDnsZones`."""
    repeats_cookies: bool = False
    """Whether every page of a listing comes with the same cookie, so that it proves nothing."""


def load_preset(name: str) -> Preset:
    """The preset of that name, which must be one of `preset_names`."""
    return Preset.model_validate(_read(name))


def _read(name: str) -> dict[str, Any]:
    """What the file says; a file that is `based_on` another one says only what is different."""
    document = read_yaml((resources.files(__package__) / "presets" / f"{name}.yaml").read_text("utf-8"))
    values: dict[str, Any] = dict(document.value)
    basis = values.pop("based_on", None)
    return values if basis is None else {**_read(basis), **values}


def preset_names() -> tuple[str, ...]:
    """The presets that there are, sorted."""
    folder = resources.files(__package__) / "presets"
    return tuple(sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")))
