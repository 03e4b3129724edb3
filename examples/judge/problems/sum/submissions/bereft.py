# Waits for ever for the answer of a child that was killed for memory.
import os
import time

if os.fork() == 0:
    numbers = [0]
    while True:
        numbers += numbers
time.sleep(3600)
