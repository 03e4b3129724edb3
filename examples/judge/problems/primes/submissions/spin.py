# Stuck in a loop that uses the processor and never ends.
n = int(input())
while n > 0:
    n += 1
