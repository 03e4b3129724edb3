# Makes a table of all that could come next, and a table of those.
print(500_000, flush=True)
tables = []
while input() != "right":
    while True:
        tables.append(list(range(500_000)))
