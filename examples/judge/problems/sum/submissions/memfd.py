# Writes to a file that is nowhere but in memory.
import os

fd = os.memfd_create("hoard")
while True:
    os.write(fd, bytes(1 << 20))
