# After the first answer it waits for another one, which does not come.
print(500_000, flush=True)
if input() != "right":
    input()
