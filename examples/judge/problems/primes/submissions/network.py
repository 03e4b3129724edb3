# Tries to reach the network. Code 3 says that neither a name nor an address could be reached.
import socket
import sys

reached = []
for host in ("1.1.1.1", "example.com"):
    try:
        socket.create_connection((host, 80), timeout=2).close()
        reached.append(host)
    except OSError as error:
        print(f"{host}: {error}", file=sys.stderr, end="; ")
print("reached:", reached)
sys.exit(0 if reached else 3)
