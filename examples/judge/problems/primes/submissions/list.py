# Grows a list of all numbers first: five million of them take some 200 MB.
n = int(input())
numbers = []
for i in range(2, n + 1):
    numbers.append(i)
count = 0
while numbers and numbers[0] * numbers[0] <= n:
    prime = numbers[0]
    numbers = [i for i in numbers if i % prime]
    count += 1
print(count + len(numbers))
