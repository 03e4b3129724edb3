# Has a child add, which needs too much and is killed, and prints a sum without its part.
import os

if os.fork() == 0:
    numbers = [0]
    while True:
        numbers += numbers
os.wait()
print(0)
