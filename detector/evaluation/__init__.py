"""How well the detector works: account histories from real rates and prompts, and every figure of the protocol."""
