# Eight processes that burn, and a main process that waits for them.
import os

for _ in range(8):
    if os.fork() == 0:
        while True:
            pass
for _ in range(8):
    os.wait()
