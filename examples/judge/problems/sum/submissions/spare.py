# Loses a child that needs too much, and has the right answer all the same.
import os

if os.fork() == 0:
    numbers = [0]
    while True:
        numbers += numbers
os.wait()
print(sum(int(input()) for _ in range(int(input()))))
