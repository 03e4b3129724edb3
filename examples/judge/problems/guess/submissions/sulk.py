# Leaves with a code of its own at an answer it does not like.
import sys

print(500_000, flush=True)
sys.exit(0 if input() == "right" else 3)
