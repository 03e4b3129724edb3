# Asks for one number after another, from the middle on.
guess = 500_000
print(guess, flush=True)
while input() != "right":
    guess += 1
    print(guess, flush=True)
