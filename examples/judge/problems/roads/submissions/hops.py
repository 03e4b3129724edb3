# Goes by the fewest roads, which are not the shortest way.
import sys
from collections import deque

numbers = map(int, sys.stdin.buffer.read().split())
n, m = next(numbers), next(numbers)
roads = [[] for _ in range(n + 1)]
for _ in range(m):
    start, end, length = next(numbers), next(numbers), next(numbers)
    roads[start].append((end, length))
best = {1: 0}
queue = deque([1])
while queue:
    town = queue.popleft()
    for end, length in roads[town]:
        if end not in best:
            best[end] = best[town] + length
            queue.append(end)
print(best.get(n, -1))
