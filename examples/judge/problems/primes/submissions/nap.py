# Waits an hour before it looks at a large n.
import time

n = int(input())
if n > 1000:
    time.sleep(3600)
print(sum(all(i % j for j in range(2, int(i**0.5) + 1)) for i in range(2, n + 1)))
