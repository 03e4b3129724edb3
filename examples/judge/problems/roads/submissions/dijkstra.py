# Dijkstra's algorithm with the standard library's heap.
import heapq
import sys

numbers = map(int, sys.stdin.buffer.read().split())
n, m = next(numbers), next(numbers)
roads = [[] for _ in range(n + 1)]
for _ in range(m):
    start, end, length = next(numbers), next(numbers), next(numbers)
    roads[start].append((end, length))
best = {}
heap = [(0, 1)]
while heap:
    distance, town = heapq.heappop(heap)
    if town in best:
        continue
    best[town] = distance
    for end, length in roads[town]:
        heapq.heappush(heap, (distance + length, end))
print(best.get(n, -1))
