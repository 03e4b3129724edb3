# Guesses, but does not want to hear whether it was right.
import os

os.close(0)
print(500_000, flush=True)
