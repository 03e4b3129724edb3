# Guesses without end, and listens to nothing.
while True:
    print(1, flush=True)
