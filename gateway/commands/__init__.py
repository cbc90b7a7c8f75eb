"""Sub-commands of `spiritsafe` that the gateway brings itself; each file is imported only when its command is used."""
