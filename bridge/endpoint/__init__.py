"""One HTTP address and the directories behind it."""
