"""Stock SDKs, new and old, against a real gateway process in front of an upstream that plays every fault."""
