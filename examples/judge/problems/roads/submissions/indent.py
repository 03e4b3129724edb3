# Does not compile.
n, m = map(int, input().split())
if n > m:
print(-1)
