# Forks until it is refused. Code 5 says that it was.
import os
import sys
import time

for _ in range(10_000):
    try:
        if os.fork() == 0:
            time.sleep(3600)
    except BlockingIOError as error:
        print(error, file=sys.stderr)
        sys.exit(5)
