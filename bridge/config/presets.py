"""Presets: what is known of a vendor's directory, as data in `presets/*.yaml`."""

from __future__ import annotations

from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bridge.config.yaml12 import read_yaml
from bridge.mapping import AccountState, IdForm
from bridge.model import Rejection
from bridge.syntax.times import TimeForm


class PresetState(BaseModel):
    """An attribute that tells that an account may not be used; exactly one test, or none: the attribute is there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rejection: Literal["account_disabled", "account_expired", "account_locked", "must_change_password"]
    attribute: str
    equals: str | None = None
    bit: int | None = None
    past: TimeForm | None = None

    def build(self) -> AccountState:
        """The state as the mapping tests it."""
        return AccountState(Rejection(self.rejection), self.attribute, self.equals, self.bit, self.past)


class PresetAttributes(BaseModel):
    """The three mappings, each a list of items."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_name: tuple[str, ...] = Field((), alias="userName")
    full_name: tuple[str, ...] = Field((), alias="fullName")
    email_addresses: tuple[str, ...] = Field((), alias="emailAddresses")


class Preset(BaseModel):
    """What a section needs not say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    users_filter: str
    id: str | None = None
    """None takes the DN."""
    id_form: IdForm = IdForm.TEXT
    attributes: PresetAttributes
    login_filter: str | None = None
    """None makes it from userName."""
    account_states: tuple[PresetState, ...] = ()
    password_changed: tuple[str, ...] = ()
    """Attributes that take another value when a password is set."""


def load_preset(name: str) -> Preset:
    """The preset of that name, which must be one of `preset_names`."""
    document = read_yaml((resources.files(__package__) / "presets" / f"{name}.yaml").read_text("utf-8"))
    return Preset.model_validate(document.value)


def preset_names() -> tuple[str, ...]:
    """The presets that there are, sorted."""
    folder = resources.files(__package__) / "presets"
    return tuple(sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")))
