"""From approved traffic to a smaller model that does one task as well: select, train, evaluate, gate, register."""
