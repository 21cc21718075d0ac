"""The users of one listing as one unchanging block: how it is made, compared and merged."""
