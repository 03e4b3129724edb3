# Says nothing on its output and everything on its error output.
exec yes "it is 500000, I know it" >&2
