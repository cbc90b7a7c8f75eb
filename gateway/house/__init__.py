"""The whole house on one machine: `spiritsafe up` is the parent of every process and takes them with it."""

from gateway.house.building import House, HouseError

__all__ = ["House", "HouseError"]
