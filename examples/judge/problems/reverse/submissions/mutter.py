# Has the right answer, and floods its error output.
import sys

print(input()[::-1], flush=True)
while True:
    print("and that is right, too", file=sys.stderr)
