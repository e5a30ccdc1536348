"""Ports of servers on loopback."""

import socket


def hold_port() -> socket.socket:
    """
    Takes a port that nobody else gets while the socket lives, and on which a server of these tests may listen.

    A server that is stopped and starts again needs it: a server of another test worker could take the port.
    """
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a listener with the same option shares the port
    return held
