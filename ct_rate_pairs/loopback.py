"""Whether a host is this machine, to which nothing need be encrypted."""

from ipaddress import ip_address


def is_here(host: str) -> bool:
    """Whether a host is this machine: `localhost`, or an address of the loopback."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name.strip("[]"))
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
