"""From entries to users: the items of the configuration, addresses, account states.

Pure; knows nothing of servers, of YAML or of the wire.
"""

from bridge.mapping.addresses import AddressRules
from bridge.mapping.attribute_map import AccountState, AttributeMap, IdForm, Mapped
from bridge.mapping.items import Item, MappingError, parse_item

__all__ = ["AccountState", "AddressRules", "AttributeMap", "IdForm", "Item", "Mapped", "MappingError", "parse_item"]
