# Numbers that would overflow the checker's, if it let them.
n = int(input())
print(2**64 + 3, n - 3 - 2**64)
