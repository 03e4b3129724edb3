# The two primes that are closest to one another: another right answer.
def is_prime(n):
    return n >= 2 and all(n % i for i in range(2, int(n**0.5) + 1))


n = int(input())
a = n // 2
while not (is_prime(a) and is_prime(n - a)):
    a -= 1
print(n - a)
print(a)
