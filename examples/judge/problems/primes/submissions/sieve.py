# The sieve of Eratosthenes, by slices of a bytearray.
n = int(input())
prime = bytearray([1]) * (n + 1)
prime[0:2] = b"\0\0"
i = 2
while i * i <= n:
    if prime[i]:
        prime[i * i :: i] = bytes(len(range(i * i, n + 1, i)))
    i += 1
print(sum(prime))
